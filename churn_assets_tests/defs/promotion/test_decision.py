"""The asset that decides: on a fresh home, by its reports, on schedule, by hand."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime

import dagster as dg
import msgspec
import pytest

from churn_assets.definitions import build
from churn_assets.defs.jobs import schedules
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import write_champion
from churn_assets.promotion.records import Person
from churn_assets_tests.alerting.reports import (
    drift_report,
    performance_report,
    quality_report,
    window_drift,
    window_quality,
)
from churn_assets_tests.defs.home import checks, failure, metadata, settings
from churn_assets_tests.promotion.homes import AT, FINGERPRINT, champion, verdict

NAME = "retraining_decision"


@pytest.fixture
def of(tmp_path):
    return settings(tmp_path / "home")


def decided(of, **config):
    """One run of the job `decide`."""
    with dg.DagsterInstance.ephemeral() as instance:
        job = build(of).resolve_job_def("decide")
        ops = {NAME: {"config": config}}
        return job.execute_in_process(instance=instance, run_config={"ops": ops}, raise_on_error=False)


def report(of, name, value):
    """A report about the champion, as its asset leaves it."""
    of.assets_dir.mkdir(parents=True, exist_ok=True)
    value = dataclasses.replace(value, fingerprint=FINGERPRINT) if hasattr(value, "fingerprint") else value
    (of.assets_dir / f"{name}.json").write_bytes(msgspec.json.encode(value))


def test_a_fresh_home_decides_nothing_and_says_why(of):
    result = decided(of)
    assert result.success
    assert metadata(result, NAME)["decision"] == "nothing"
    assert "churn run makes the first" in metadata(result, NAME)["reason"]
    assert checks(result) == {"no_retraining_on_broken_data": True}


def test_two_windows_of_drift_ask_for_a_retraining_that_is_in_the_ledger(of):
    write_champion(of.home, champion("v1"))
    report(of, "drift_report", drift_report(*(window_drift(number, "drift", "esent") for number in (1, 2))))
    report(of, "performance_report", performance_report("ok", final=5000, new=5000))
    result = decided(of)
    (request,) = Ledger(of.ledger_path).requests("open")
    told = metadata(result, NAME)
    assert (told["decision"], told["request"]) == ("retrain", request.key)
    assert request.key == "retrain-drift-2-v1-1"
    assert "esent drifted in 2 windows in a row" in told["history"]
    kept = json.loads((of.assets_dir / f"{NAME}.json").read_text())
    assert (kept["kind"], kept["request"], kept["inputs"]["labels"]) == ("retrain", request.key, 5000)


def test_broken_data_is_investigated_whoever_asks(of):
    write_champion(of.home, champion("v1"))
    words = "window 3: the data is broken: esent is 0 in every row"
    report(of, "data_quality_report", quality_report(window_quality(3, "broken", message=words)))
    result = decided(of, trigger="hand", by="ana", why="hurry")
    assert metadata(result, NAME)["decision"] == "investigate_data"
    assert metadata(result, NAME)["reason"].startswith(words)
    assert Ledger(of.ledger_path).requests() == []
    assert checks(result) == {"no_retraining_on_broken_data": True}


def test_a_trigger_that_there_is_not_is_refused_in_words(of):
    result = decided(of, trigger="whim")
    assert "trigger is 'whim', expected 'schedule', 'hand' or none" in failure(result, NAME)


def test_the_weekly_schedule_asks_once_a_tick(of):
    write_champion(of.home, champion("v1"))
    (weekly,) = (s for s in schedules(of) if s.name == "weekly_retraining")
    assert weekly.default_status is dg.DefaultScheduleStatus.STOPPED
    assert weekly.job_name == "decide"
    context = dg.build_schedule_context(scheduled_execution_time=datetime(2026, 11, 23, 3, 0, tzinfo=UTC))
    (request,) = weekly.evaluate_tick(context).run_requests
    config = request.run_config["ops"][NAME]["config"]
    assert decided(of, **config).success
    Ledger(of.ledger_path).finish_request("retrain-schedule-20261123T0300-v1-1", "done", AT)
    again = decided(of, **config)
    assert metadata(again, NAME)["decision"] == "nothing"
    assert metadata(again, NAME)["reason"] == "requested by the schedule; it already led to a retraining"


def test_whoever_is_waited_for_is_reminded_with_every_decision_until_an_answer_is_given(of):
    ledger = Ledger(of.ledger_path)
    ledger.add_challenger("v2", "bundles/v2", "aa", None, None, AT)
    assert metadata(decided(of), NAME)["alerts"] == "none"
    ledger.record_verdict("v2", verdict("v2"), needs_person=True, at=AT)
    assert metadata(decided(of), NAME)["alerts"] == "Challenger v2 waits for approval"
    ledger.approve("v2", Person("ana"), "read it", "aa", AT)
    assert metadata(decided(of), NAME)["alerts"] == "none"


def test_the_report_in_reports_follows_a_champion_that_a_release_made(of, monkeypatch):
    told = []
    monkeypatch.setattr("churn_assets.reporting.model.publish.publish_champion", told.append)
    assert decided(of).success
    assert [settings.home for settings in told] == [of.home]
