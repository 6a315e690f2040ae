"""The `churn` command as a user meets it: a real process, its exit code, its words."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from churn_assets.synthetic.generate import generate
from churn_assets_tests.strategies import ROOT, STORE

SOURCE = "generated://store?rows=2500&seed=5"
COMMANDS = (
    ["run"],
    ["score"],
    ["audit"],
    ["monitor"],
    ["status"],
    ["budget"],
    ["ui"],
    ["contract", "check"],
    ["contract", "show"],
    ["contract", "init"],
    ["generate"],
)


def churn(*words, home, **environ):
    environ = {"CHURN_HOME": str(home), **environ}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CHURN_", "DAGSTER_"))}
    command = [str(Path(sys.executable).parent / "churn"), *map(str, words)]
    return subprocess.run(
        command, env={**clean, "COLUMNS": "160", **environ}, cwd=ROOT, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"OMP_NUM_THREADS": "3"}, "3")])
def test_libraries_use_one_thread_unless_the_user_says_otherwise(given, expected):
    script = "import atexit, os, sys; atexit.register(lambda: print('threads', os.environ['OMP_NUM_THREADS']))\n"
    script += "sys.argv[1:] = ['--version']\nfrom churn_assets.cli.main import main\nmain()"
    environ = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", script], env={**environ, **given}, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == f"threads {expected}", done.stderr


def refused(result):
    """The one line of a user's mistake; nothing else may stand on standard error but progress."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, result.stderr
    state = "The champion and the call list are as they were|There is no champion yet"
    progress = rf"\d+ steps?|[ \d]*\d of \d+ (made|failed) |error:|  |{state}"
    assert [line for line in result.stderr.splitlines() if not re.match(progress, line)] == []
    assert "Not executing" not in result.stderr  # what Dagster says of each step that never began
    return lines[0]


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A home after one `churn run` on generated customers, and what it printed."""
    home = tmp_path_factory.mktemp("home")
    result = churn("run", home=home, CHURN_SOURCE=SOURCE)
    assert result.returncode == 0, result.stderr + result.stdout
    return home, result


def test_the_version_is_the_one_of_the_package(tmp_path):
    result = churn("--version", home=tmp_path)
    assert (result.returncode, result.stdout) == (0, f"churn-assets {version('churn-assets')}\n")


def test_the_main_job_ends_with_a_summary_and_the_next_commands(made):
    home, result = made
    said = result.stdout
    assert "generated, not real" in said
    assert "2,500 rows in; repaired: " in said
    assert "Chosen: " in said
    assert "It is the champion" in said
    for word in ("logistic", "boosted", "network", "churn serve", "churn score FILE"):
        assert word in said
    heads = [line.split(":")[0] for line in said.splitlines()]
    for head in ("How good", "Whom to call", "What to doubt", "Where things are", "Next"):
        assert head in heads
    assert f"call list        {home / 'reports' / 'call_list.xlsx'}\n" in said
    assert (home / "reports" / "risk_list.csv").is_file()
    assert f"report           {home / 'reports' / 'model_report.html'}\n" in said
    assert "generated, not real" in (home / "reports" / "model_report.html").read_text(encoding="utf-8")
    steps = re.findall(r"^( ?\d+) of (\d+) made   (\w+) [\d.]+ s(.*)$", result.stderr, re.M)
    assert [int(number) for number, *_ in steps] == list(range(1, len(steps) + 1))
    assert {int(total) for _, total, *_ in steps} == {len(steps)}
    assert "network_candidate" in [step for _, _, step, _ in steps]
    assert re.fullmatch(r", about \d+ s left", steps[-2][3])
    assert steps[-1][3] == ""
    printed = result.stderr + said
    assert {c for c in printed if not c.isprintable()} == {"\n"}


def test_status_has_the_figures_that_scripts_read(made):
    home, _ = made
    found = json.loads(churn("status", "--json", home=home).stdout)
    assert {"test_pr_auc", "test_roc_auc", "test_ece", "oot_pr_auc"} <= found["metrics"].keys()
    assert found["contract"] == "store"
    assert len(found["version"]) == 16
    assert found["generated"] is True
    assert all(Path(path).exists() for path in found["paths"].values())
    assert found["version"] in churn("status", home=home).stdout


def test_a_run_that_is_stopped_and_resumed_makes_the_same_model_and_stays_in_its_home(made, tmp_path):
    home, _ = made
    other = tmp_path / "50% o?f #1 kündé"  # no URL can hold that
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    stopped = stop_at("made   splits", home=other, CHURN_SOURCE=SOURCE)
    assert stopped.returncode == 130, stopped.stderr
    assert stopped.stderr.splitlines()[-1] == "stopped; finished steps are kept. Go on: churn run --resume"
    assert mlflow_statuses(other) == ["KILLED"]
    assert list(other.rglob("*.tmp")) == []
    again = churn("run", "--resume", home=other, CHURN_SOURCE=SOURCE)
    assert again.returncode == 0, again.stderr
    assert re.match(r"goes on with run \w{8}: \d+ steps are finished\n", again.stderr)
    assert "made   splits" not in again.stderr
    assert "made   network_candidate" in again.stderr
    assert mlflow_statuses(other) == ["FINISHED"]  # of the same run
    first, second = (json.loads(churn("status", "--json", home=h).stdout) for h in (home, other))
    assert first["version"] == second["version"]
    assert first["metrics"] == second["metrics"]
    assert before == {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}


def stop_at(text, home, **environ):
    """`churn run`, and ctrl-c as soon as a line of its progress has this text."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CHURN_", "DAGSTER_"))}
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "churn"), "run"],
        env={**clean, "CHURN_HOME": str(home), **environ},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            process.send_signal(signal.SIGINT)
            break
    stdout, stderr = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, "".join(lines) + stderr)


def mlflow_statuses(home):
    with sqlite3.connect(home / "mlflow" / "mlflow.db") as db:
        return [status for (status,) in db.execute("SELECT status FROM runs")]


def test_one_asset_can_be_made_again(made):
    home, _ = made
    result = churn("run", "--select", "risk_list", home=home, CHURN_SOURCE=SOURCE)
    assert result.returncode == 0, result.stderr
    assert "made   risk_list" in result.stderr
    assert "network_candidate" not in result.stderr


@pytest.mark.parametrize("command", ["ui", "serve"])
def test_a_server_on_a_taken_port_or_a_strange_address_is_one_line(tmp_path, command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = churn(command, "--port", port, "--host", "127.0.0.1", home=tmp_path)
        assert refused(result) == (
            f"error: port {port} of 127.0.0.1 is taken by another process, expected a free one; "
            "end that process, or use another port: --port"
        )
        assert result.stdout == ""
    line = refused(churn(command, "--host", "192.0.2.1", home=tmp_path))
    assert ", port 300" in line
    assert "expected an address of this machine" in line


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


def test_a_file_is_judged_and_the_exit_code_says_how(made, tmp_path):
    home, _ = made
    whole = generate(STORE, rows=700, seed=9).drop_columns([STORE.label.column])
    place = whole.column_names.index("esent")
    zeroed = whole.set_column(place, "esent", pa.array([0] * 140 + whole["esent"].to_pylist()[140:]))
    pq.write_table(whole, tmp_path / "whole.parquet")
    pq.write_table(zeroed, tmp_path / "zeroed.parquet")
    result = churn("monitor", tmp_path / "whole.parquet", home=home)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ok: the data is whole, and nothing drifts in 700 customers" in result.stdout
    result = churn("monitor", tmp_path / "zeroed.parquet", "--json", home=home)
    assert result.returncode == 1, result.stdout + result.stderr
    report = json.loads(result.stdout)
    assert report["verdict"] == "broken"
    assert {finding["column"] for finding in report["findings"]} == {"esent"}


def test_a_call_list_of_a_file_says_why(made, tmp_path):
    home, _ = made
    pq.write_table(generate(STORE, rows=300, seed=9), tmp_path / "new.parquet")
    result = churn("score", tmp_path / "new.parquet", "-o", tmp_path / "scores.csv", "--reasons", home=home)
    assert result.returncode == 0, result.stderr
    calls = pa.csv.read_csv(tmp_path / "scores.calls.csv")
    assert all(calls["reason_1"].to_pylist())
    named = churn("score", tmp_path / "new.parquet", "-o", tmp_path / "calls.csv", home=home)
    assert "marked as churned in 'retained': " in named.stdout, named.stderr
    sheet = pa.csv.read_csv(tmp_path / "calls.csv")
    assert sheet["customer"].to_pylist() == calls["customer_id"].to_pylist()
    assert sheet["reason 1"].to_pylist() == calls["reason_1"].to_pylist()
    assert not (tmp_path / "scores.parquet").exists()
    assert "edited since" not in named.stdout
    (tmp_path / "edited.toml").write_text(STORE.text.replace("offer_cost = 10.0", "offer_cost = 20.0"))
    contract = ("--contract", tmp_path / "edited.toml")
    edited = churn("score", tmp_path / "new.parquet", "--calls", tmp_path / "c.csv", *contract, home=home)
    assert "edited.toml, edited since the model was trained" in edited.stdout, edited.stderr
    assert "less the offer of 20" in (tmp_path / "c.notes.txt").read_text(encoding="utf-8")


def test_a_budget_is_turned_into_a_list_and_what_it_brings(made):
    home, _ = made
    result = churn("budget", "50", home=home)
    assert result.returncode == 0, result.stderr
    assert "Contact the first 5 of " in result.stdout
    assert "the budget is spent" in result.stdout
    assert "95 % of outcomes" in result.stdout
    assert "the contract's [value]" in result.stdout
    assert "the interval is chance and calibration, not a wrong save rate" in result.stdout
    everybody = churn("budget", "1e9", "--beyond-capacity", home=home).stdout
    assert "a further contact would cost more than it is expected to bring" in everybody
    assert "expected an amount of at least 0" in refused(churn("budget", "--", "-1", home=home))
    (home / "assets" / "risk_list.parquet").rename(home / "assets" / "kept.parquet")
    assert "expected the call list of this home" in refused(churn("budget", "50", home=home))
    (home / "assets" / "kept.parquet").rename(home / "assets" / "risk_list.parquet")


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
    "a home that is below a file": (["run"], {"CHURN_HOME": "/dev/null/home"}, "cannot be written"),
    "no such asset": (["run", "--select", "call_list"], {}, "there is no asset 'call_list'; expected one of: boosted_"),
    "nothing to spend on": (["budget", "100"], {}, "no model has been promoted"),
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


def test_too_few_rows_are_said_in_figures(tmp_path):
    pq.write_table(generate(STORE, rows=20, seed=5), tmp_path / "few.parquet")
    line = refused(churn("run", "--source", tmp_path / "few.parquet", home=tmp_path / "home"))
    assert "20 rows, expected at least 200 ([quality] min_rows); give a larger table" in line


def test_a_file_of_which_no_row_can_be_scored_is_a_mistake_and_its_rows_are_kept(made, tmp_path):
    home, _ = made
    customers = generate(STORE, rows=50, seed=9)
    place = customers.column_names.index("city")
    unknown = customers.set_column(place, "city", pa.array(["Mars"] * 50))
    pq.write_table(unknown, tmp_path / "new.parquet")
    result = churn("score", tmp_path / "new.parquet", "-o", tmp_path / "scores.csv", home=home)
    assert result.returncode == 2
    assert "no row of " in result.stderr
    assert "reasons of rejection: choices 50" in result.stdout
    assert pq.read_table(tmp_path / "scores.rejected.parquet").num_rows == 50


def test_scores_that_cannot_be_written_are_a_mistake(made, tmp_path):
    home, _ = made
    pq.write_table(generate(STORE, rows=50, seed=9), tmp_path / "new.parquet")
    (tmp_path / "file").touch()
    line = refused(churn("score", tmp_path / "new.parquet", "-o", tmp_path / "file" / "scores.csv", home=home))
    assert "scores.csv cannot be written" in line


@pytest.mark.skipif(os.name == "nt", reason="Windows has no flock")
def test_a_second_run_in_a_home_at_work_is_refused(tmp_path):
    import fcntl

    with (tmp_path / ".run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert f"another `churn run` is at work in {tmp_path}" in refused(churn("run", home=tmp_path))
    assert not (tmp_path / "assets").exists()


def test_the_module_is_the_command():
    """A module that does nothing when it is run looks like a command that succeeds."""
    done = subprocess.run([sys.executable, "-m", "churn_assets.cli", "nonsense"], cwd=ROOT, capture_output=True)
    assert done.returncode == 2


def test_a_leak_that_a_contract_refuses_is_one_line_and_the_report_is_there_all_the_same(tmp_path):
    home, table = tmp_path / "home", tmp_path / "leaky.parquet"
    made = churn(
        "generate", "--contract", "telecom", "--rows", "1200", "--leak", "label_echo:0.95", "-o", table, home=home
    )
    assert made.returncode == 0, made.stderr
    contract = tmp_path / "leaky.toml"
    contract.write_text(contract.read_text() + '\n[audit]\naccused = "refuse"\n')
    result = churn("run", "--source", table, "--contract", contract, home=home)
    line = refused(result)
    assert "value_index" in line
    assert "churn attest value_index" in line
    report = home / "reports" / "model_report.html"
    assert f"The report of this run was made before it stopped: {report}" in result.stdout
    assert "value_index" in report.read_text(encoding="utf-8")
    assert not (home / "champion.json").exists()
