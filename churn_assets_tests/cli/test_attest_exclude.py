"""`churn attest` and `churn exclude`: the two ways on from a model that was refused, each to a champion."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest

from churn_assets.contract.load import load_contract
from churn_assets.promotion.pointer import require_champion
from churn_assets.scoring.bundle import load_bundle
from churn_assets_tests.cli.test_main import churn, refused

LEAK = "value_index"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with a leaking table, its contract, and a home in which the model was refused; and that run's result."""
    folder = tmp_path_factory.mktemp("leaking")
    home, table = folder / "home", folder / "leaky.parquet"
    leak = ("--leak", "label_echo:0.95", "-o", table)
    made = churn("generate", "--contract", "telecom", "--rows", "1200", *leak, home=home)
    assert made.returncode == 0, made.stderr
    result = churn("run", "--source", table, "--contract", folder / "leaky.toml", home=home)
    return folder, result


@pytest.fixture
def folder(stopped, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(stopped[0], copy)
    return copy


def test_a_refusal_names_the_column_and_both_commands_wherever_one_looks(stopped):
    folder, result = stopped
    home, contract = folder / "home", folder / "leaky.toml"
    line = refused(result)
    commands = f"`churn attest {LEAK} --contract {contract} --by NAME --why TEXT`"
    assert commands in line
    assert line.endswith(f"`churn exclude {LEAK} --contract {contract}`")
    shown = churn("status", home=home)
    assert "The newest model was not registered: model " in shown.stdout
    assert commands in shown.stdout
    assert commands in json.loads(churn("status", "--json", home=home).stdout)["refusal"]
    assert commands in refused(churn("score", folder / "leaky.parquet", home=home))
    audited = churn("audit", "--source", folder / "leaky.parquet", "--contract", contract, home=home)
    assert audited.returncode == 1
    assert f"registration refuses a model with '{LEAK}' until somebody attests it: {commands}" in audited.stderr


def test_an_attested_column_is_registered_without_training_again(folder):
    home, contract = folder / "home", folder / "leaky.toml"
    words = ("attest", LEAK, "--by", "Ann Lee", "--why", 'known "on the day"', "--contract", contract)
    done = churn(*words, home=home)
    assert f"{contract}: Ann Lee attests column '{LEAK}'. Next: churn run" in done.stdout
    assert "nothing changed" in churn(*words, home=home).stdout
    run = ("--source", folder / "leaky.parquet", "--contract", contract)
    made = churn("run", *run, "--select", "registered_model", home=home)
    assert made.returncode == 0, made.stderr
    assert LEAK in load_bundle(require_champion(home).path(home)).program.names
    assert json.loads(churn("status", "--json", home=home).stdout)["refusal"] is None


def test_an_excluded_column_is_no_input_of_the_champion_and_stays_in_the_log(folder):
    home, contract, table = folder / "home", folder / "leaky.toml", folder / "leaky.parquet"
    done = churn("exclude", LEAK, "--contract", contract, home=home)
    assert f"{contract}: column '{LEAK}' is kept out of the model. Next: churn run" in done.stdout
    assert "excluded already; nothing changed" in churn("exclude", LEAK, "--contract", contract, home=home).stdout
    made = churn("run", "--source", table, "--contract", contract, home=home)
    assert made.returncode == 0, made.stderr
    card = (home / "reports" / "model_card.md").read_text(encoding="utf-8")
    assert LEAK not in card
    assert json.loads(churn("status", "--json", home=home).stdout)["refusal"] is None
    assert LEAK in pq.read_schema(home / "assets" / "validated_customers.parquet").names
    champion = require_champion(home).path(home)
    assert LEAK not in load_bundle(champion).program.names
    assert load_contract(champion / "contract.toml").column(LEAK).role == "excluded"
    customers = pq.read_table(table)
    pq.write_table(customers.drop_columns([LEAK]), folder / "without.parquet")
    for name in ("leaky", "without"):
        scored = churn(
            *("score", folder / f"{name}.parquet", "-o", folder / f"{name}.csv", "--log"),
            home=home,
            CHURN_CONTRACT=str(contract),
        )
        assert scored.returncode == 0, scored.stderr
    ingested = churn("log", "ingest", home=home, CHURN_CONTRACT=str(contract))
    assert ingested.returncode == 0, ingested.stderr
    query = f"SELECT count(*) AS rows, count(x_{LEAK}) AS known FROM predictions"
    counted = churn("log", "query", query, home=home, CHURN_CONTRACT=str(contract))
    scored = (customers.num_rows, customers[LEAK].length() - customers[LEAK].null_count)
    assert str(2 * scored[0]) in counted.stdout.replace(",", "")
    assert str(scored[1]) in counted.stdout.replace(",", "")
