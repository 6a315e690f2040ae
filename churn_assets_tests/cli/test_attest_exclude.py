"""A leaking table: left out, attested, excluded, or refused, each way to an honest champion or a line that says how."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest

from churn_assets.contract.load import load_contract
from churn_assets.promotion.pointer import read_champion, require_champion
from churn_assets.scoring.bundle import load_bundle, read_contract
from churn_assets_tests.cli.test_main import churn, refused

LEAK = "value_index"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a leaking table and its contract, and a home that `churn run` has filled; and that run's result."""
    folder = tmp_path_factory.mktemp("leaking")
    home, table = folder / "home", folder / "leaky.parquet"
    leak = ("--leak", "label_echo:0.95", "-o", table)
    generated = churn("generate", "--contract", "telecom", "--rows", "1200", *leak, home=home)
    assert generated.returncode == 0, generated.stderr
    result = churn("run", "--source", table, "--contract", folder / "leaky.toml", home=home)
    assert result.returncode == 0, result.stderr
    return folder, result


@pytest.fixture
def folder(made, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(made[0], copy)
    return copy


def test_the_run_ends_with_a_champion_without_the_column_and_says_how_to_put_it_back(made):
    folder, result = made
    home, contract = folder / "home", folder / "leaky.toml"
    put_back, keep_out = (
        f"`churn attest {LEAK} --contract {contract} --by NAME --why TEXT`",
        f"`churn exclude {LEAK} --contract {contract}`",
    )
    status = churn("status", home=home)
    for text in (result.stdout, status.stdout):
        assert f"'{LEAK}' is left out of the model: " in text
        assert f"put '{LEAK}' back: {put_back}, or keep it out for good: {keep_out}." in text
    machine = json.loads(churn("status", "--json", home=home).stdout)
    assert machine["refusal"] is None
    assert len(machine["left_out"]) == 2
    champion = require_champion(home).path(home)
    assert LEAK not in load_bundle(champion).program.names
    assert read_contract(champion).unread == (LEAK,)
    assert not load_contract(champion / "contract.toml").column(LEAK).excluded
    metrics = json.loads((home / "reports" / "metrics.json").read_text(encoding="utf-8"))
    with_it, without = metrics["ladder"]["complete"]["random"], metrics["ladder"]["rungs"][0]["random"]
    assert with_it["pr_auc"] > without["pr_auc"] + 0.05
    for page in ("model_report.html", "model_card.md"):
        text = (home / "reports" / page).read_text(encoding="utf-8").replace("\\_", "_")
        assert f"{LEAK}&#39; is left out of the model" in text or f"'{LEAK}' is left out of the model" in text


def test_a_table_without_the_column_is_scored_and_its_faults_do_not_block(folder):
    home, contract = folder / "home", folder / "leaky.toml"
    customers = pq.read_table(folder / "leaky.parquet")
    pq.write_table(customers.drop_columns([LEAK]), folder / "without.parquet")
    for name in ("leaky", "without"):
        scored = churn("score", folder / f"{name}.parquet", "-o", folder / f"{name}.csv", "--log", home=home)
        assert scored.returncode == 0, scored.stderr
    ingested = churn("log", "ingest", home=home, CHURN_CONTRACT=str(contract))
    assert ingested.returncode == 0, ingested.stderr
    query = f"SELECT count(*) AS rows, count(x_{LEAK}) AS known FROM predictions"
    counted = churn("log", "query", query, home=home, CHURN_CONTRACT=str(contract))
    known = customers.num_rows - customers[LEAK].null_count
    assert str(2 * customers.num_rows) in counted.stdout.replace(",", "")
    assert str(known) in counted.stdout.replace(",", "")


def test_the_audit_ends_with_one_and_takes_the_table_of_the_home(made):
    folder, _ = made
    contract = folder / "leaky.toml"
    audited = churn("audit", "--contract", contract, home=folder / "home")
    assert audited.returncode == 1
    assert "leaky.parquet" in audited.stdout
    assert f"`churn run` leaves '{LEAK}' out until somebody attests it: `churn attest {LEAK}" in audited.stderr


def test_an_attested_column_comes_back_as_a_challenger_and_an_excluded_one_stays_out(folder):
    home, contract, table = folder / "home", folder / "leaky.toml", folder / "leaky.parquet"
    first = require_champion(home)
    done = churn("exclude", LEAK, "--contract", contract, home=home)
    assert f"{contract}: column '{LEAK}' is kept out of the model. Next: churn run" in done.stdout
    assert "excluded already; nothing changed" in churn("exclude", LEAK, "--contract", contract, home=home).stdout
    words = ("attest", LEAK, "--by", "Ann Lee", "--why", 'known "on the day"', "--contract", contract)
    done = churn(*words, home=home)
    attested = f"{contract}: Ann Lee attests column '{LEAK}', and it is no longer excluded. Next: churn run"
    assert attested in done.stdout
    assert "nothing changed" in churn(*words, home=home).stdout
    assert load_contract(contract).fingerprint == first.fingerprint
    run = churn("run", "--source", table, "--contract", contract, home=home)
    assert run.returncode == 0, run.stderr
    assert "It is the challenger" in run.stdout
    assert require_champion(home) == first
    chosen = json.loads((home / "assets" / "chosen_model.json").read_text())
    assert LEAK in load_bundle(home / chosen["bundle"]).program.names
    assert churn("audit", "--contract", contract, home=home).returncode == 0


def test_with_refuse_the_run_stops_and_every_command_names_the_column_and_what_to_do(made, tmp_path):
    folder, _ = made
    home, contract = tmp_path / "home", tmp_path / "strict.toml"
    contract.write_text((folder / "leaky.toml").read_text(encoding="utf-8") + '\n[audit]\naccused = "refuse"\n')
    line = refused(churn("run", "--source", folder / "leaky.parquet", "--contract", contract, home=home))
    put_back = f"`churn attest {LEAK} --contract {contract} --by NAME --why TEXT`"
    assert put_back in line
    assert line.endswith(f"`churn exclude {LEAK} --contract {contract}`")
    shown = churn("status", home=home)
    assert "The newest model was not registered: model " in shown.stdout
    assert put_back in shown.stdout
    assert put_back in json.loads(churn("status", "--json", home=home).stdout)["refusal"]
    assert put_back in refused(churn("score", folder / "leaky.parquet", home=home))
    audited = churn("audit", "--contract", contract, home=home)
    assert audited.returncode == 1
    assert f"`churn run` registers no model with '{LEAK}' until somebody attests it: {put_back}" in audited.stderr
    assert read_champion(home) is None
    words = ("attest", LEAK, "--by", "Ann Lee", "--why", "known", "--contract", contract)
    assert churn(*words, home=home).returncode == 0
    again = churn("run", "--contract", contract, "--select", "registered_model", home=home)
    assert again.returncode == 0, again.stderr
    assert json.loads(churn("status", "--json", home=home).stdout)["refusal"] is None
