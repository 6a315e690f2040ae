"""A window that is full is reported on at once; one that is not waits for the daily run."""

from __future__ import annotations

import json

import dagster as dg
import pytest

from churn_assets.defs.prediction_log.sensors import window_sensor
from churn_assets.errors import WindowUnreadable
from churn_assets.monitoring.open_window import DECISION, OPEN, WINDOW
from churn_assets.monitoring.windows import full_window, record_open_window
from churn_assets.settings import Settings
from churn_assets_tests.strategies import ROOT, STORE

FINGERPRINT = "ab" * 32


@pytest.fixture
def settings(tmp_path):
    return Settings.from_environ({"CHURN_HOME": str(tmp_path)}, ROOT)


def write_record(settings, **changes):
    value = {"fingerprint": FINGERPRINT, "window": 1, "customers": 2000, "wanted": 2000, **changes}
    settings.monitoring_dir.mkdir(parents=True, exist_ok=True)
    (settings.monitoring_dir / OPEN).write_text(json.dumps(value))


def closed(settings, number):
    folder = settings.monitoring_dir / FINGERPRINT[:12] / f"{number:04d}"
    folder.mkdir(parents=True)
    window = {
        **{"window": number, "fingerprint": FINGERPRINT, "from_seq": 1, "to_seq": 9, "customers": 9, "rows": 9},
        **{"other_rows": 0, "first_scored_at": "2026-01-01", "last_scored_at": "2026-01-02", "closed_by": "customers"},
    }
    (folder / WINDOW).write_text(json.dumps(window))


def decided(settings):
    settings.assets_dir.mkdir(exist_ok=True)
    (settings.assets_dir / DECISION).write_text("{}")


def tick(settings):
    with dg.DagsterInstance.ephemeral() as instance:
        return window_sensor(settings)(dg.build_sensor_context(instance=instance))


def test_before_the_first_prediction_nothing_is_full(settings):
    assert record_open_window(settings, STORE) is None
    assert full_window(settings) is None
    assert tick(settings).skip_message == "no window is complete"


@pytest.mark.parametrize(("customers", "wanted"), [(1999, 2000), (0, 2000), (5000, 0)])
def test_a_window_that_waits_for_customers_or_days_asks_for_no_run(settings, customers, wanted):
    write_record(settings, customers=customers, wanted=wanted)
    assert full_window(settings) is None


def test_a_full_window_asks_for_one_run_until_it_is_closed(settings):
    write_record(settings)
    first, second = tick(settings), tick(settings)
    assert first.run_key == second.run_key
    assert first.run_key.startswith(f"window-{FINGERPRINT[:12]}-0001")
    closed(settings, 1)
    decided(settings)
    assert tick(settings).skip_message == "no window is complete"
    write_record(settings, window=2)
    assert tick(settings).run_key.startswith(f"window-{FINGERPRINT[:12]}-0002")


@pytest.mark.parametrize("number", [1, 2], ids=["before the next ingest", "after it"])
def test_a_window_that_was_closed_and_not_decided_on_is_monitored_again(settings, number):
    closed(settings, 1)
    write_record(settings, window=number, customers=2000 if number == 1 else 5)
    assert tick(settings).run_key.startswith(f"window-{FINGERPRINT[:12]}-0001"), "monitor was killed between the two"
    decided(settings)
    assert tick(settings).skip_message == "no window is complete"


def test_a_monitor_that_failed_is_repeated_at_once_and_after_three_times_with_the_hour(settings):
    @dg.job(name="monitor")
    def monitor():
        pass

    write_record(settings)
    keys = []
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(5):
            keys.append(window_sensor(settings)(dg.build_sensor_context(instance=instance)).run_key)
            instance.create_run_for_job(monitor, status=dg.DagsterRunStatus.FAILURE)
    assert len(set(keys[:3])) == 3
    assert keys[2:] == keys[2:3] * 3, "Dagster runs a key once"


def test_a_full_window_waits_for_the_monitor_that_is_under_way(settings):
    write_record(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_run(dg.DagsterRun("monitor", "run1", status=dg.DagsterRunStatus.STARTED))
        sensor = window_sensor(settings)
        assert sensor(dg.build_sensor_context(instance=instance)).skip_message == "monitor is under way"


def test_a_file_that_cannot_be_read_is_a_reason_to_skip(settings):
    settings.monitoring_dir.mkdir(parents=True)
    (settings.monitoring_dir / OPEN).write_text("{")
    with pytest.raises(WindowUnreadable):
        full_window(settings)
    assert "open.json" in tick(settings).skip_message
