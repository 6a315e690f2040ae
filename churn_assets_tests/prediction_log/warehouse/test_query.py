"""`churn log ingest` and `churn log query`, `churn feedback import`: what is printed, and one line for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from churn_assets.errors import NothingIngested, QueryRefused
from churn_assets.prediction_log.warehouse.read import ask
from churn_assets_tests.monitoring.logs import make_home
from churn_assets_tests.prediction_log.home import prediction, settings, write

CLI = "from churn_assets.cli.main import main; main()"


def churn(home, *arguments, code=0):
    command = [sys.executable, "-c", CLI, *arguments, "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    assert "churn log ingest" in churn(home, "log", "query", "select 1", code=2)
    write(settings(home), "a", prediction("a", customer_id="[b]x"), prediction("b", customer_id=None), b"broken\n")
    assert "1 segments: 2 predictions, 0 feedback, 1 lines in quarantine" in churn(home, "log", "ingest")
    return home


def test_results_are_a_table_json_or_csv(home):
    query = "select customer_id, as_of::date as day from predictions order by seq"
    table = churn(home, "log", "query", query)
    assert "customer_id" in table
    assert "[b]x" in table
    lines = churn(home, "log", "query", query, "--json").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"customer_id": "[b]x", "day": "2014-01-20"},
        {"customer_id": None, "day": "2014-01-20"},
    ]
    assert churn(home, "log", "query", query, "--csv") == "customer_id,day\n[b]x,2014-01-20\n,2014-01-20\n"


@pytest.mark.parametrize(
    "sql",
    [
        "select nothing from nowhere",
        "selec 1",
        "delete from predictions",
        "create table t as select 1",
        "select 'a'::int",
        "",
        "select 1/",
    ],
)
def test_an_error_in_sql_is_one_line(home, sql):
    with pytest.raises(QueryRefused, match="show all tables") as caught:
        list(ask(settings(home), sql))
    assert "\n" not in str(caught.value)


def test_a_terminal_obeys_no_id(home, tmp_path):
    key = "\x1b[2J\x9b\u202eb"  # as older versions took it
    write(settings(tmp_path / "other"), "a", prediction("a", customer_id=key))
    shown = churn(tmp_path / "other", "log", "tail")
    assert "\\u001b[2J\\u009b\\u202eb" in shown
    assert json.loads(shown)["customer_id"] == key
    table = churn(home, "log", "query", "select 'x' || chr(27) || chr(155) as id")
    assert "x\\u001b\\u009b" in table
    assert not set(key) & {"\x1b", "\x9b", "\u202e"} & set(shown + table)


def test_csv_has_no_formulas(home):
    query = "select '=1+1' as id, -1.5 as number, '-2' as text"
    assert churn(home, "log", "query", query, "--csv") == "id,number,text\n'=1+1,-1.5,-2\n"


REFUSED = """
copy predictions to '{home}/out.csv'
copy (select 1) to '{home}/warehouse/published.duckdb.wal'
explain analyze copy (select 1) to '{home}/warehouse/published.duckdb.wal'
copy (select 1) to '/dev/stdout'
export database '{home}/out'
select * from read_csv('{home}/secret.csv')
select * from '{home}/secret.csv'
select * from read_blob('{home}/warehouse/published.duckdb')
select * from sniff_csv('{home}/secret.csv')
select * from glob('{home}/*')
attach '{home}/other.duckdb' as other
attach '{home}/warehouse/published.duckdb' as other (read_write)
install httpfs
load httpfs
select 1; set enable_external_access = true
reset disabled_filesystems
set lock_configuration = false
set threads = 1
"""


@pytest.mark.parametrize("sql", REFUSED.strip().splitlines())
def test_a_query_only_reads_the_log(home, sql):
    (home / "secret.csv").write_text("a,b\n1,2\n")
    before = sorted(home.rglob("*"))
    with pytest.raises(QueryRefused, match="--unsafe") as caught:
        list(ask(settings(home), sql.format(home=home)))
    assert "\n" not in str(caught.value)
    assert sorted(home.rglob("*")) == before


def test_an_unsafe_query_reaches_files_and_never_writes_the_log(home):
    target = home / "out.csv"
    assert "--unsafe" in churn(home, "log", "query", f"copy predictions to '{target}'", code=2)
    churn(home, "log", "query", f"copy predictions to '{target}'", "--unsafe")
    assert target.read_text().startswith("seq,")
    target.unlink()
    with pytest.raises(QueryRefused, match="show all tables"):
        list(ask(settings(home), "delete from predictions", unsafe=True))


def test_a_home_without_a_warehouse_names_the_command(tmp_path):
    with pytest.raises(NothingIngested, match="churn log ingest"):
        list(ask(settings(tmp_path), "select 1"))


def test_the_rebuild_prints_its_counts(home):
    assert "1 segments: 2 predictions" in churn(home, "log", "ingest", "--rebuild")


def test_the_ingest_by_command_records_the_open_window(tmp_path):
    home = tmp_path / "home"
    make_home(home)
    write(settings(home), "a", prediction("a"))
    churn(home, "log", "ingest")
    assert json.loads((home / "monitoring" / "open.json").read_text())["window"] == 1


def test_a_file_of_outcomes_is_imported_and_its_errors_are_one_line(home, tmp_path):
    (tmp_path / "outcomes.csv").write_text("prediction_id,churned,observed_at\na,1,2026-01-20\n")
    assert "1 reports are in the log" in churn(home, "feedback", "import", str(tmp_path / "outcomes.csv"))
    assert "1 were there before" in churn(home, "feedback", "import", str(tmp_path / "outcomes.csv"))
    (tmp_path / "outcomes.csv").write_text("prediction_id,churned,observed_at\na,perhaps,2026-01-20\n")
    error = churn(home, "feedback", "import", str(tmp_path / "outcomes.csv"), code=2)
    assert error == "error: row 0, column 'churned': found 'perhaps', expected true or false\n"
