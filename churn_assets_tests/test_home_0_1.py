"""A home made by version 0.1.0 opens, serves, is monitored and rolls back with the present code."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest

from churn_assets.contract.load import load_contract
from churn_assets.definitions import build
from churn_assets.settings import Settings
from churn_assets_tests.cli.test_main import churn
from churn_assets_tests.serving.client import served, wait_for

ARCHIVE = Path(__file__).parent / "fixtures" / "home_0_1.tar.xz"
FIRST, CHAMPION, REFUSED, WAITING = "e78d39e6b9d884ef", "22754550501c6f4b", "36e1ef3fbb6304eb", "335e295c0b38c6cd"
FINGERPRINT = "e5e064f8e1697944ab61968d8478c739e34c571650aec9241ed2d497c25dd0ab"
INGESTED, IN_SEGMENTS, WINDOWS = 2640, 40, 8
WHO = ("--by", "ana", "--why", "complaints since noon")


def unpack(folder: Path) -> Settings:
    """A copy of the home; MLflow's absolute paths lead into the copy."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    database = sqlite3.connect(folder / "home" / "mlflow" / "mlflow.db")
    with database:
        default = database.execute("SELECT artifact_location FROM experiments WHERE name = 'Default'").fetchone()[0]
        made_in = str(Path(default).parents[1])
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", [made_in, str(folder)])
    database.close()
    return Settings.from_environ({**os.environ, **environ(folder)})


def environ(folder: Path) -> dict[str, str]:
    return {
        "CHURN_HOME": str(folder / "home"),
        "CHURN_CONTRACT": str(folder / "contract.toml"),
        "CHURN_SOURCE": "generated://store?rows=1500&seed=7",
    }


def run(settings: Settings, *command: str) -> str:
    """What `churn COMMAND` prints; it must succeed."""
    completed = churn(*command, home=settings.home, **environ(settings.home.parent))
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def run_job(settings: Settings, name: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = build(settings).resolve_job_def(name).execute_in_process(instance=instance, raise_on_error=False)
    assert result.success, [e.message for e in result.all_events if e.is_step_failure]


def predictions(settings: Settings) -> int:
    """How many predictions the published copy of the log has."""
    return int(json.loads(run(settings, "log", "query", "SELECT count(*) AS n FROM predictions", "--json"))["n"])


def customer(number: int) -> dict[str, Any]:
    """A customer of this home's contract that no other test sends."""
    return {
        **{"custid": f"new{number}", "created": "2024-01-10", "firstorder": "2024-02-01", "lastorder": "2024-06-01"},
        **{"esent": 20 + number % 17, "eopenrate": 40.0 + number % 9, "eclickrate": 5.0, "avgorder": 50.0 + number},
        **{"ordfreq": 0.1, "paperless": True, "refill": False, "doorstep": False, "favday": "Monday", "city": "DEL"},
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The home as it was, for tests that only read."""
    return unpack(tmp_path_factory.mktemp("home_0_1"))


def test_the_contract_keeps_its_fingerprint(home: Settings) -> None:
    assert load_contract(home.contract_path).fingerprint == FINGERPRINT


def test_status_history_and_alerts_show_what_the_version_before_wrote(home: Settings) -> None:
    status = json.loads(run(home, "status", "--json"))
    assert (status["version"], status["registered_version"], status["fingerprint"]) == (CHAMPION, 2, FINGERPRINT)
    assert status["metrics"]["test_pr_auc"] == 0.7313321011007304
    assert [(c["version"], c["status"]) for c in status["release"]["challengers"]] == [(WAITING, "waiting_approval")]
    assert status["release"]["last_decision"]["kind"] == "investigate_data"
    kinds = {alert["kind"] for alert in status["alerts"]}
    assert kinds == {"data_quality", "waiting_approval", "gate_verdict"}
    history = run(home, "history").splitlines()
    assert [line.split()[2:4] for line in history] == [
        ["first", FIRST],
        ["approved", CHAMPION],
        ["promotion", CHAMPION],
        ["refused", REFUSED],
    ]
    assert "esent" in run(home, "alerts")


def test_what_the_older_log_does_not_have_is_said_in_a_line(tmp_path: Path) -> None:
    settings = unpack(tmp_path)
    run(settings, "release", "shadow", WAITING, *WHO)
    completed = churn("release", "compare", home=settings.home, **environ(tmp_path))
    assert completed.returncode == 2
    assert completed.stderr.count("\n") == 1, completed.stderr
    assert "has the tables of version 1" in completed.stderr
    run(settings, "log", "ingest")
    assert "no row of r000002 has been ingested yet" in run(settings, "release", "compare")


def test_the_service_answers_logs_and_follows_a_rollback_and_new_windows_are_judged(tmp_path: Path) -> None:
    settings = unpack(tmp_path)
    as_of = "2024-12-30"
    with served(tmp_path, settings.home, environ={"CHURN_LOG_SEGMENT_S": "1"}) as (url, process):
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        answer = httpx.post(f"{url}/predict", json={**customer(0), "as_of": as_of}).json()
        assert answer["model_version"] == CHAMPION
        assert 0 < answer["churn_probability"] < 1
        batch = {"customers": [customer(n) for n in range(1, 60)], "as_of": as_of}
        assert len(httpx.post(f"{url}/predict_batch", json=batch).json()["predictions"]) == 59
        run(settings, "rollback", *WHO)

        def version() -> str:
            response = httpx.post(f"{url}/predict", json={**customer(1), "as_of": as_of})
            return str(response.json()["model_version"])

        assert any(version() == FIRST for _ in range(200))
    assert json.loads(run(settings, "status", "--json"))["version"] == FIRST
    assert "complaints since noon" in run(settings, "history").splitlines()[-1]
    run(settings, "log", "ingest")
    assert predictions(settings) > INGESTED + IN_SEGMENTS + 60
    run_job(settings, "monitor")
    folder = settings.monitoring_dir / FINGERPRINT[:12] / f"{WINDOWS + 1:04}"
    assert json.loads((folder / "quality.json").read_text())["status"] in ("ok", "broken")
    assert json.loads((folder / "drift.json").read_text())["status"] in ("stable", "drift")


def test_the_challenger_is_approved_held_to_the_gate_again_and_promoted(tmp_path: Path) -> None:
    settings = unpack(tmp_path)
    run(settings, "approve", WAITING, *WHO)
    run_job(settings, "promote")
    assert json.loads(run(settings, "status", "--json"))["version"] == WAITING
    run(settings, "rollback", "--to", FIRST, *WHO)
    assert json.loads(run(settings, "status", "--json"))["version"] == FIRST


def test_the_challenger_is_rejected_and_the_champion_stays(tmp_path: Path) -> None:
    settings = unpack(tmp_path)
    shutil.rmtree(settings.mlflow_dir)  # a home whose registry is away, too
    run(settings, "reject", WAITING, *WHO)
    status = json.loads(run(settings, "status", "--json"))
    assert (status["version"], status["release"]["challengers"]) == (CHAMPION, [])
    assert f"rejected  {WAITING}" in run(settings, "history")
