"""The `churn` command as a user meets it: a real process, its exit code, its words."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from churn_assets.data.synthesize import generate
from churn_assets_tests.strategies import ROOT, STORE

SOURCE = "generated://store?rows=2500&seed=3"
COMMANDS = (
    ["run"],
    ["score"],
    ["audit"],
    ["status"],
    ["ui"],
    ["contract", "check"],
    ["contract", "show"],
    ["contract", "init"],
    ["generate"],
)


def churn(*words, home, **environ):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CHURN_", "DAGSTER_"))}
    command = [str(Path(sys.executable).parent / "churn"), *map(str, words)]
    return subprocess.run(
        command,
        env={**clean, "CHURN_HOME": str(home), "COLUMNS": "160", **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def refused(result):
    """The one line of a user's mistake; nothing else may stand on standard error but progress."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A home after one `churn run` on generated customers, and what it printed."""
    home = tmp_path_factory.mktemp("home")
    result = churn("run", home=home, CHURN_SOURCE=SOURCE)
    assert result.returncode == 0, result.stderr + result.stdout
    return home, result


def test_the_main_job_ends_with_a_summary_and_the_next_commands(made):
    home, result = made
    said = result.stdout
    assert "generated, not real" in said
    assert "2,500 rows in, " in said
    assert "Chosen: " in said
    assert "It is the champion" in said
    for word in ("logistic", "boosted", "network", "churn ui", "churn status --json", "churn score FILE"):
        assert word in said
    assert f"call list: {home / 'reports' / 'risk_list.csv'}" in said
    assert (home / "reports" / "risk_list.csv").is_file()
    assert "made   network_candidate" in result.stderr


def test_status_has_the_figures_that_scripts_read(made):
    home, _ = made
    found = json.loads(churn("status", "--json", home=home).stdout)
    assert {"test_pr_auc", "test_roc_auc", "test_ece", "oot_pr_auc"} <= found["metrics"].keys()
    assert found["contract"] == "store"
    assert len(found["version"]) == 16
    assert found["generated"] is True
    assert all(Path(path).exists() for path in found["paths"].values())
    assert found["version"] in churn("status", home=home).stdout


def test_a_second_run_makes_the_same_model_and_stays_in_its_home(made, tmp_path):
    home, _ = made
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    again = churn("run", home=tmp_path / "other", CHURN_SOURCE=SOURCE)
    assert again.returncode == 0, again.stderr
    first, second = (json.loads(churn("status", "--json", home=h).stdout) for h in (home, tmp_path / "other"))
    assert first["version"] == second["version"]
    assert first["metrics"] == second["metrics"]
    assert before == {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}


def test_one_asset_can_be_made_again(made):
    home, _ = made
    result = churn("run", "--select", "risk_list", home=home, CHURN_SOURCE=SOURCE)
    assert result.returncode == 0, result.stderr
    assert "made   risk_list" in result.stderr
    assert "network_candidate" not in result.stderr


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_file_without_labels_is_scored(made, tmp_path, suffix):
    home, _ = made
    customers = generate(STORE, rows=300, seed=9).drop_columns([STORE.label.column])
    source = tmp_path / f"new.{suffix}"
    (pq.write_table if suffix == "parquet" else pa.csv.write_csv)(customers, source)
    result = churn("score", source, "-o", tmp_path / f"scores.{suffix}", home=home)
    assert result.returncode == 0, result.stderr
    path = tmp_path / f"scores.{suffix}"
    scored = pq.read_table(path) if suffix == "parquet" else pa.csv.read_csv(path)
    assert scored.num_rows == 300
    probability = scored["churn_probability"].to_numpy()
    assert ((probability >= 0) & (probability <= 1)).all()


def test_a_contract_is_checked_and_shown(made):
    home, _ = made
    result = churn("contract", "check", "contracts/telecom.toml", home=home)
    assert result.returncode == 0
    assert "contracts/telecom.toml is fine: 'telecom', 10 columns" in result.stdout
    shown = churn("contract", "show", home=home).stdout
    assert "days(as_of - created)" in shown
    assert "suspect" in shown


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(words, tmp_path):
    result = churn(*words, "--help", home=tmp_path)
    assert result.returncode == 0
    assert f"Example: churn {' '.join(words)}" in " ".join(result.stdout.split())


MISTAKES = {
    "no such table": (["run", "--source", "nothing.csv"], {}, "nothing.csv"),
    "no such contract": (["contract", "check", "contracts/shop.toml"], {}, "store.toml"),
    "a switch that is no switch": (["status"], {"CHURN_TELEMETRY": "maybe"}, "CHURN_TELEMETRY is 'maybe'"),
    "an executor that is none": (["status"], {"CHURN_EXECUTOR": "threads"}, "in_process, forkserver"),
    "nothing to score with": (["score", "new.csv"], {}, "no model has been promoted"),
}


@pytest.mark.parametrize(("words", "environ", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_clear_line_and_exit_code_2(words, environ, said, tmp_path):
    assert said in refused(churn(*words, home=tmp_path, **environ))


def test_a_table_that_breaks_the_contract_too_often_stops_the_graph_with_its_causes(made, tmp_path):
    home, _ = made
    before = (home / "champion.json").read_bytes()
    customers = generate(STORE, rows=1000, seed=5)
    rates = customers["eopenrate"].to_pylist()
    place = customers.column_names.index("eopenrate")
    broken = customers.set_column(place, "eopenrate", pa.array([101.0] * 200 + rates[200:]))
    pq.write_table(broken, tmp_path / "broken.parquet")
    line = refused(churn("run", "--source", tmp_path / "broken.parquet", home=home))
    assert "rejected" in line
    assert "eopenrate" in line
    assert (home / "champion.json").read_bytes() == before
    assert json.loads(churn("status", "--json", home=home).stdout)["version"] in before.decode()
