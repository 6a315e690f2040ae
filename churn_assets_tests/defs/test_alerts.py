"""A run that fails is told once, with its step and its error; the job's next success ends it."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import dagster as dg
import pytest

from churn_assets.alerting.alerts import Alert, all_alerts, open_alerts
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.rules import AlertChanges
from churn_assets.defs.alerts import HomeAlerts, failed_run, failure_sensors
from churn_assets.defs.policy import STATUS_TICKS
from churn_assets_tests.alerting.receiver import Receiver, receiving
from churn_assets_tests.defs.home import ROOT, settings


@pytest.fixture(scope="module")
def server():
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def receiver(server: Receiver, monkeypatch) -> Receiver:
    server.got.clear()
    monkeypatch.setenv("CHURN_ALERT_URLS", server.url())
    return server


@pytest.fixture
def home(tmp_path):
    return settings(tmp_path)


def run_of(instance: dg.DagsterInstance, fails: bool):
    """A run of the job `training`, and the event it ended with."""

    @dg.op
    def fit() -> None:
        if fails:
            raise ValueError("rows are short\nand the rest of a long story")

    @dg.job
    def training() -> None:
        fit()

    run = training.execute_in_process(instance=instance, raise_on_error=False).dagster_run
    events = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
    return run, next(e for e in events if e.event_type_value == ("PIPELINE_FAILURE" if fails else "PIPELINE_SUCCESS"))


def tick(home, instance: dg.DagsterInstance, fails: bool):
    run, event = run_of(instance, fails)
    on_failure, on_recovery = failure_sensors(home)
    context = dg.build_run_status_sensor_context("alerts", event, instance, run)
    return run, (on_failure(context.for_run_failure()) if fails else on_recovery(context))


def test_a_failed_run_is_sent_once_and_its_next_success_ends_it(receiver, home):
    where = AlertSettings(home.home)
    with dg.DagsterInstance.ephemeral() as instance:
        run, skip = tick(home, instance, fails=True)
        assert "sent to json://127.0.0.1/…" in skip.skip_message
        (entry,) = open_alerts(where)
        assert entry.title == "Job training failed"
        assert entry.message.splitlines()[0] == "step fit: ValueError: rows are short"
        assert f"`churn ui`, Runs, {run.run_id[:8]}" in entry.message
        tick(home, instance, fails=True)
        assert [entry.times for entry in open_alerts(where)] == [2]
        tick(home, instance, fails=False)
        assert open_alerts(where) == []
        assert tick(home, instance, fails=False)[1] is None
    assert receiver.titles() == ["Job training failed", "Over: Job training failed"]


def test_a_success_tries_again_what_was_not_delivered(receiver, home):
    with dg.DagsterInstance.ephemeral() as instance:
        receiver.bad = True
        assert "it answered 500" in tick(home, instance, fails=True)[1].skip_message
        receiver.bad = False
        tick(home, instance, fails=False)
    assert receiver.titles() == ["Over: Job training failed"]


def test_a_run_by_hand_and_one_without_a_failed_step_are_described():
    run = dg.DagsterRun(job_name="__ASSET_JOB")
    alert = failed_run(run, [], "the run's process is gone\nsomewhere")
    assert alert.title == "A run by hand failed"
    assert alert.message.startswith("the run's process is gone\nLook closer")
    many = failed_run(run, [(f"s{n}", "no") for n in range(5)], "")
    assert many.message.startswith("step s0: no; step s1: no; step s2: no; and 2 more steps\n")
    assert failed_run(run, [], "").message.startswith("Dagster names no error")


def test_telling_never_fails_the_asset_that_tells(home, monkeypatch):
    monkeypatch.setenv("CHURN_ALERT_URLS", "no url")
    alert = Alert("drift", "drift", "Drift", "visits moved.")
    with dg.build_asset_context() as context:
        metadata = HomeAlerts(home.home).update(context.log, AlertChanges((alert,)), datetime(2026, 11, 1, tzinfo=UTC))
    assert metadata["alerts"] == "Drift"
    assert "CHURN_ALERT_URLS: entry 1" in metadata["alerts_told"]
    assert [entry.key for entry in all_alerts(AlertSettings(home.home))] == ["drift"]


def test_nothing_to_tell_makes_no_file(home, receiver):
    with dg.build_asset_context() as context:
        assert HomeAlerts(home.home).update(context.log, AlertChanges(ended={"drift": "Stable."})) == {"alerts": "none"}
    assert not AlertSettings(home.home).path.exists()


def test_the_sensors_are_on_and_load_nothing_heavy(home):
    assert all(s.default_status is dg.DefaultSensorStatus.RUNNING for s in failure_sensors(home))
    assert {s.minimum_interval_seconds for s in failure_sensors(home)} == {STATUS_TICKS * home.sensor_s}
    heavy = ("apprise", "requests", "mlflow", "pandas", "duckdb", "numpy", "evidently", "pyarrow")
    code = f"import sys, churn_assets.defs.sensors; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
