"""A home in a real PostgreSQL: a training by Dagster and MLflow, sessions that are counted, a server that is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from churn_assets.errors import LedgerUnavailable
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import read_champion
from churn_assets.promotion.records import Decision
from churn_assets.storage.postgresql import SESSIONS
from churn_assets.storage.store import Database
from churn_assets_tests.cli.test_main import churn
from churn_assets_tests.postgresql import Server, serving
from churn_assets_tests.promotion.homes import record_decision
from churn_assets_tests.strategies import ROOT

pytestmark = pytest.mark.deploy

KILLS = 20
SOURCE = "generated://store?rows=2500&seed=7"


@pytest.fixture(scope="module")
def durable() -> Iterator[Server]:
    with serving(durable=True) as server:
        yield server


# -- a server that is killed ---------------------------------------------------------------------------

_DECIDING = """
import sys
from datetime import UTC, datetime
from churn_assets.errors import LedgerUnavailable
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.records import Decision
from churn_assets.storage.store import Database
ledger, count = Ledger(Database(sys.argv[1])), 0
while True:
    count += 1
    try:
        decision = Decision("wait", f"{sys.argv[2]}-{count}")
        number = ledger.decide(lambda _: decision, datetime.now(UTC)).number
    except LedgerUnavailable:
        continue  # as the loop does: the next tick tries again
    print(number, decision.message, flush=True)
"""


def test_a_server_that_is_killed_loses_no_decision_and_the_loop_goes_on_by_itself(durable, tmp_path):
    """Two processes decide without a pause while the server is killed and started again."""
    with durable.database() as url, contextlib.ExitStack() as stack:
        files = [stack.enter_context((tmp_path / name).open("wb+")) for name in "ab"]
        command = [sys.executable, "-c", _DECIDING, url]
        running = [
            subprocess.Popen([*command, Path(file.name).name], stdout=file, cwd=ROOT, env={**os.environ})
            for file in files
        ]
        try:
            acknowledged = 0
            for _ in range(KILLS):
                _wait_for(lambda: _lines(files) > acknowledged + 20)  # noqa: B023  # called within the turn
                durable.kill()
                with pytest.raises(LedgerUnavailable, match="cannot be used now"):
                    Ledger(Database(url)).decisions()
                durable.start()
                acknowledged = _lines(files)
            _wait_for(lambda: _lines(files) > acknowledged + 20)
        finally:
            for process in running:
                process.send_signal(signal.SIGKILL)
                process.wait()
        decisions = {record.number: record.decision.message for record in Ledger(Database(url)).decisions(10_000_000)}
        told = [line.split() for file in files for line in Path(file.name).read_text().splitlines() if line.count(" ")]
        assert len(told) > 20 * KILLS
        lost = [(number, message) for number, message in told if decisions.get(int(number)) != message]
        assert lost == []
        assert sorted(decisions) == list(range(1, len(decisions) + 1))
        assert len(set(decisions.values())) == len(decisions), "nothing was decided twice"


def _lines(files) -> int:
    return sum(Path(file.name).read_bytes().count(b"\n") for file in files)


def _wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- Dagster and MLflow -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(durable: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """A home whose first model was trained with everything in a database."""
    home = tmp_path_factory.mktemp("postgresql") / "home"
    with durable.database() as url:
        environ = {"CHURN_DATABASE_URL": url, "CHURN_SOURCE": SOURCE}
        done = churn("run", home=home, **environ)
        assert done.returncode == 0, done.stdout + done.stderr
        yield home, environ


def rows(url: str, query: str) -> list[tuple]:
    with psycopg.connect(url) as session:
        return session.execute(query).fetchall()


def test_a_training_is_in_the_database_and_no_file_has_it(trained):
    home, environ = trained
    url = environ["CHURN_DATABASE_URL"]
    assert rows(url, "SELECT status FROM dagster.runs") == [("SUCCESS",)]
    assert rows(url, "SELECT count(*) > 50 FROM dagster.event_logs") == [(True,)]
    assert rows(url, "SELECT status FROM mlflow.runs") == [("FINISHED",)]
    assert rows(url, "SELECT version FROM mlflow.model_versions") == [(1,)]
    (move,) = Ledger(Database(url)).moves("done")
    assert move.to.version == read_champion(home).version
    databases = [path.name for pattern in ("*.db", "*.sqlite*") for path in home.rglob(pattern)]
    assert databases == []
    stored = rows(url, "SELECT artifact_location FROM mlflow.experiments WHERE name <> 'Default'")
    assert stored
    assert all(location.startswith(home.as_uri()) for (location,) in stored)
    assert "s3cret" not in churn("status", home=home, **environ).stdout


def test_a_command_that_needs_a_database_which_is_away_is_one_line(tmp_path):
    away = "postgresql://churn:s3cret@127.0.0.1:1/churn"
    for command in (["run"], ["status"], ["history"], ["alerts"]):
        done = churn(*command, home=tmp_path / "home", CHURN_DATABASE_URL=away, CHURN_SOURCE=SOURCE)
        assert done.returncode == 2, (command, done.stdout, done.stderr)
        assert "cannot be used now" in done.stderr
        assert "Traceback" not in done.stderr
        assert "s3cret" not in done.stdout + done.stderr


def test_a_laptops_home_with_a_trained_model_moves_whole(durable, tmp_path):
    home = tmp_path / "home"
    assert churn("run", home=home, CHURN_SOURCE=SOURCE).returncode == 0
    before, history = churn("status", home=home).stdout, churn("history", home=home).stdout
    with durable.database() as url:
        environ = {"CHURN_DATABASE_URL": url, "CHURN_SOURCE": SOURCE}
        copied = churn("database", "copy", home=home, **environ)
        assert copied.returncode == 0, copied.stderr
        assert "mlflow: copied: " in copied.stdout
        again = churn("database", "copy", home=home, **environ)
        assert again.stdout.count("there already") + again.stdout.count("nothing to copy") == 3
        assert churn("status", home=home, **environ).stdout == before
        assert churn("history", home=home, **environ).stdout == history
        assert rows(url, "SELECT version FROM mlflow.model_versions") == [(1,)]
        trained = churn("run", home=home, **environ)  # MLflow goes on with its numbers
        assert trained.returncode == 0, trained.stdout + trained.stderr


def test_the_sessions_of_a_home_are_few_and_their_number_is_that_of_the_page(trained):
    home, environ = trained
    url = environ["CHURN_DATABASE_URL"]
    base = {name: value for name, value in os.environ.items() if not name.startswith(("CHURN_", "DAGSTER_"))}
    command = [str(Path(sys.executable).parent / "churn"), "ui", "--port", "3992"]
    ui = subprocess.Popen(
        command, env={**base, **environ, "CHURN_HOME": str(home), "CHURN_SENSOR_S": "1"}, cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    most: dict[str, int] = {}
    try:
        end = time.monotonic() + 45
        while time.monotonic() < end:
            query = (
                "SELECT CASE application_name WHEN 'churn' THEN 'churn' ELSE 'tools' END, count(*)"
                " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY 1"
            )
            counted = dict(rows(url, query))
            counted["all"] = sum(counted.values())
            most = {name: max(most.get(name, 0), counted.get(name, 0)) for name in {*most, *counted}}
            time.sleep(0.05)
        beats = rows(url, "SELECT count(*) FROM dagster.daemon_heartbeats")
    finally:
        ui.send_signal(signal.SIGINT)
        ui.wait(60)
    print("sessions of `churn ui`, at most:", most)
    assert beats[0][0] > 0, "the daemon lives in the database"
    assert most["all"] <= 12 + 4 * SESSIONS
    assert record_decision(Ledger(Database(url)), Decision("wait", "still here"), datetime.now(UTC)) > 0
