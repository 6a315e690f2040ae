"""What the demo stands on: its contract, its processes, and how it fails."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import UNSCORED
from churn_assets.demo.scenes import BROKEN, CAMPAIGN, Play
from churn_assets.demo.stage import Stage
from churn_assets.demo.traffic import Client, draw
from churn_assets.errors import DemoFailed
from churn_assets.settings import Settings
from churn_assets_tests.strategies import CONTRACTS, ROOT, STORE


@pytest.fixture(params=CONTRACTS, ids=lambda contract: contract.name)
def stage(request, tmp_path):
    environ = {"CHURN_HOME": str(tmp_path), "CHURN_CONTRACT": str(request.param.path)}
    with Stage(Settings.from_environ(environ, ROOT), tmp_path / "demo") as found:
        yield found


def test_the_demos_contract_differs_in_how_models_are_watched_and_replaced_alone(stage):
    found = load_contract(stage.settings.contract_path)
    original = next(contract for contract in CONTRACTS if contract.name == found.name)
    assert found.fingerprint == original.fingerprint
    assert {name for name in UNSCORED if getattr(found, name) != getattr(original, name)} == UNSCORED
    assert found.monitoring.silent == original.monitoring.silent, "what stood in the table and is not changed is kept"
    assert found.release.approval == "automatic"


def test_a_demo_has_a_home_of_its_own_and_no_port_of_another(stage, tmp_path):
    assert stage.settings.home == tmp_path / "demo" / "home"
    assert "DAGSTER_HOME" not in stage.environ
    assert not stage.ready()


def test_what_was_left_by_an_earlier_demo_is_gone(tmp_path):
    left = tmp_path / "demo" / "home" / "champion.json"
    left.parent.mkdir(parents=True)
    left.write_text("{}")
    with Stage(Settings.from_environ({"CHURN_HOME": str(tmp_path)}, ROOT), tmp_path / "demo"):
        assert not left.exists()


def test_a_command_that_fails_ends_the_demo_with_the_log_to_read(stage):
    with pytest.raises(DemoFailed, match=r"`churn approve nobody .*` ended with 2, expected 0; read .*wrong\.log"):
        stage.run("wrong", "approve", "nobody", "--by", "a test", "--why", "to see it fail")


def test_a_process_that_dies_ends_the_demo(stage):
    stage.start("mayfly", "this")
    with pytest.raises(DemoFailed, match=r"the mayfly ended with 0, expected it to go on; read .*mayfly\.log"):
        stage.wait_for("nothing", lambda: None, 30)


def test_what_does_not_come_ends_the_demo(stage):
    with pytest.raises(DemoFailed, match=r"waited 0\.1 s for a miracle, it did not come"):
        stage.wait_for("a miracle", lambda: None, 0.1)


def test_every_process_ends_with_the_stage(tmp_path):
    with Stage(Settings.from_environ({"CHURN_HOME": str(tmp_path)}, ROOT), tmp_path / "demo") as found:
        found.start("sleeper", "http.server", "0")
        process = found._running["sleeper"]
        assert process.poll() is None
    assert process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.parametrize("drifts", [(), CAMPAIGN], ids=["usual", "campaign"])
def test_customers_of_the_demo_keep_the_contract_and_have_ids_of_their_own(drifts):
    from churn_assets.features.encode import encode_rows

    one, two = draw(STORE, 30, 1, drifts), draw(STORE, 30, 2, drifts)
    assert len(one.rows) == len(one.churned) == 30
    assert not {row["custid"] for row in one.rows} & {row["custid"] for row in two.rows}
    assert len(encode_rows(STORE, one.rows)["esent"]) == 30


def test_a_broken_pipeline_sends_zeros():
    assert {row["esent"] for row in draw(STORE, 30, 1, faults=BROKEN).rows} == {0}


def test_a_request_that_nobody_answers_is_counted(stage):
    client = Client(stage.port)
    assert client.post("/predict", {}) is None
    assert (client.asked, client.failed) == (1, 1)


def test_traffic_that_is_not_answered_ends_the_demo(tmp_path):
    with Stage(Settings.from_environ({"CHURN_HOME": str(tmp_path)}, ROOT), tmp_path / "demo") as found:
        play = Play(found, lambda words: None, lambda words, sent: [*sent])
        with pytest.raises(DemoFailed, match="1 requests were not answered, expected all"):
            play.send("customers", draw(STORE, 10, 1))


def test_no_decision_ends_the_demo(tmp_path, monkeypatch):
    with Stage(Settings.from_environ({"CHURN_HOME": str(tmp_path)}, ROOT), tmp_path / "demo") as found:
        play = Play(found, lambda words: None, lambda words, sent: [*sent])
        begun = time.monotonic()
        monkeypatch.setattr(time, "monotonic", iter([begun, begun + 1, begun + 1000]).__next__)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        with pytest.raises(DemoFailed, match="waited 120 s for the data to be looked at"):
            play.decision("investigate_data", "the data to be looked at")


def test_the_demo_is_on_the_command_line():
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "churn_assets.cli", "demo", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(Path(ROOT))},
    )
    assert "broken pipeline" in done.stdout
