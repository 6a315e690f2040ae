"""The loop seen from outside of Dagster: what is overdue when, its alerts, and the service's look at it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from churn_assets.alerting.alerts import all_alerts, open_alerts
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.watchdog import NAMES, check_loop, tell
from churn_assets.monitoring.open_window import OpenWindowFile, is_closed, keep_open_window, read_open_window_file
from churn_assets.promotion.heartbeat import HEARTBEAT, beat, read_heartbeat
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.records import Decision, DecisionInputs
from churn_assets.serving.loop_watch import LoopWatch
from churn_assets.settings import Settings
from churn_assets.storage.sealed import bundle_hash
from churn_assets_tests.promotion.homes import bundle, record_decision

BEGIN = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
DAEMON, INGEST, MONITOR, REQUEST, GATE = NAMES


class Home:
    """A home whose daemon has been alive since BEGIN; `overdue(after)` are the checks that fail that much later."""

    def __init__(self, folder):
        self.settings = Settings(root=folder, home=folder, contract_path=folder / "none.toml")
        self.ledger = Ledger(self.settings.ledger_path)
        beat(self.settings, BEGIN)

    def overdue(self, after, alive=True):
        now = BEGIN + after
        if alive:
            os.utime(self.settings.home / HEARTBEAT, (now.timestamp(), now.timestamp()))
        return [check.name for check in check_loop(self.settings, now) if check.status == "overdue"]

    def segment(self, at):
        path = self.settings.predlog_dir / "20261126T080000-1-aa.ready"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"{}")
        os.utime(path, (at.timestamp(), at.timestamp()))

    def monitored(self, at):
        path = self.settings.assets_dir / "data_quality_report.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
        os.utime(path, (at.timestamp(), at.timestamp()))

    def window(self, customers, at):
        return keep_open_window(self.settings, OpenWindowFile("f" * 64, 3, customers, 2000), at)

    def ask(self):
        decision = Decision("retrain", "drifted", "drift", "7", "v1")
        record_decision(self.ledger, decision, BEGIN)
        return self.ledger.requests()[0].key

    def challenge(self):
        version = bundle(self.settings.home, "a challenger")
        sha256 = bundle_hash(self.settings.bundles_dir / version)
        return self.ledger.add_challenger(version, f"bundles/{version}", sha256, None, None, BEGIN)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def test_a_loop_that_works_is_fine_and_nothing_is_made(home):
    before = sorted(home.settings.home.iterdir())
    assert [(check.name, check.status) for check in check_loop(home.settings, BEGIN)] == [
        (name, "ok") for name in NAMES
    ]
    assert home.overdue(90 * 24 * HOUR) == [], "with nothing to do nothing is overdue"
    assert sorted(home.settings.home.iterdir()) == before


def test_a_home_without_a_daemon_cannot_be_judged(tmp_path):
    (check,) = check_loop(Settings(root=tmp_path, home=tmp_path, contract_path=tmp_path), BEGIN)
    assert (check.name, check.status, check.remedy) == (DAEMON, "unknown", "start one: churn ui")


@pytest.mark.parametrize(("sensor_s", "limit"), [(1, 5 * MINUTE), (30, 5 * MINUTE), (120, 20 * MINUTE)])
def test_a_daemon_is_down_after_ten_missed_ticks_and_five_minutes(tmp_path, sensor_s, limit):
    home = Home(tmp_path)
    object.__setattr__(home.settings, "sensor_s", sensor_s)
    assert home.overdue(limit, alive=False) == []
    assert home.overdue(limit + MINUTE, alive=False) == [DAEMON]


def test_an_ingest_is_overdue_a_quarter_of_an_hour_after_its_schedule(home):
    home.segment(BEGIN + 10 * MINUTE)  # the next hourly ingest is at 09:05
    assert home.overdue(HOUR + 20 * MINUTE) == []
    assert home.overdue(HOUR + 21 * MINUTE) == [INGEST]


def test_a_segment_that_is_gone_is_not_waited_for(home):
    home.segment(BEGIN)
    next(home.settings.predlog_dir.iterdir()).unlink()
    assert home.overdue(24 * HOUR) == []


def test_monitoring_is_overdue_an_hour_after_its_schedule(home):
    home.window(10, BEGIN)
    home.monitored(BEGIN)  # the next is at 04:30
    assert home.overdue(21 * HOUR + 30 * MINUTE) == []
    assert home.overdue(21 * HOUR + 31 * MINUTE) == [MONITOR]


def test_monitoring_that_never_ran_is_overdue_counted_from_the_first_ingest(home):
    home.window(10, BEGIN)
    home.window(20, BEGIN + 20 * HOUR)
    assert home.overdue(21 * HOUR + 31 * MINUTE) == [MONITOR]


def test_a_log_whose_windows_were_never_counted_is_monitored_by_schedule(home):
    home.settings.warehouse_dir.mkdir()
    (published := home.settings.warehouse_dir / "published.duckdb").write_bytes(b"")
    os.utime(published, (BEGIN.timestamp(), BEGIN.timestamp()))
    assert home.overdue(21 * HOUR + 30 * MINUTE) == []
    assert home.overdue(21 * HOUR + 31 * MINUTE) == [MONITOR]


def test_a_full_window_is_due_within_an_hour(home):
    home.monitored(BEGIN)
    home.window(1999, BEGIN)
    home.window(2000, BEGIN + MINUTE)
    home.window(2500, BEGIN + HOUR)  # later ingests do not move the deadline
    assert home.overdue(HOUR + MINUTE) == []
    assert home.overdue(HOUR + 2 * MINUTE) == [MONITOR]
    (closed := home.settings.monitoring_dir / "ffffffffffff" / "0003").mkdir(parents=True)
    (closed / "window.json").write_text("{}")
    assert is_closed(home.settings, read_open_window_file(home.settings))
    assert home.overdue(HOUR + 2 * MINUTE) == []


def test_an_open_request_is_due_within_a_quarter_of_an_hour_and_its_run_within_the_limit(home):
    key = home.ask()
    assert home.overdue(15 * MINUTE) == []
    assert home.overdue(16 * MINUTE) == [REQUEST]
    home.ledger.start_request(key, "run1")
    assert home.overdue(6 * HOUR) == []
    assert home.overdue(6 * HOUR + MINUTE) == [REQUEST]


def test_a_request_that_waits_for_complete_data_is_not_overdue(home):
    home.ask()
    broken = Decision("investigate_data", "mend it", inputs=DecisionInputs(broken="window 8: all zero"))
    record_decision(home.ledger, broken, BEGIN)
    assert home.overdue(24 * HOUR) == []


def test_a_challenger_is_due_within_the_limit_and_not_once_it_was_tried_three_times(home):
    challenger = home.challenge()
    assert home.overdue(6 * HOUR) == []
    assert home.overdue(6 * HOUR + MINUTE) == [GATE]
    for attempt in (1, 2, 3):
        key = challenger.run_key.removesuffix("1") + str(attempt)
        home.ledger.fail_promotion(key, "the bundle is gone", BEGIN)
    assert home.overdue(6 * HOUR + MINUTE) == [], "that has an alert of its own: the gate cannot judge it"


def test_time_in_which_the_machine_was_off_is_not_counted(home):
    home.segment(BEGIN)
    home.window(2500, BEGIN)
    home.ask()
    assert home.overdue(60 * HOUR, alive=False) == [DAEMON, INGEST, MONITOR, REQUEST]
    beat(home.settings, BEGIN + 60 * HOUR)
    assert read_heartbeat(home.settings).since_at == BEGIN + 60 * HOUR
    assert home.overdue(60 * HOUR + 15 * MINUTE) == []
    assert home.overdue(60 * HOUR + 16 * MINUTE) == [INGEST, REQUEST]
    assert home.overdue(61 * HOUR + MINUTE) == [INGEST, MONITOR, REQUEST]


def test_a_life_goes_on_while_its_ticks_are_seen(home):
    for minutes in (4, 8, 12):
        beat(home.settings, BEGIN + minutes * MINUTE)
    life = read_heartbeat(home.settings)
    assert (life.since_at, life.at) == (BEGIN, BEGIN + 12 * MINUTE)


def test_a_damaged_file_is_unknown_and_the_other_checks_go_on(home):
    home.window(10, BEGIN)
    (home.settings.monitoring_dir / "open.json").write_text("{")
    home.settings.ledger_path.write_bytes(b"not a ledger" * 100)
    statuses = {check.name: check.status for check in check_loop(home.settings, BEGIN)}
    assert statuses == {DAEMON: "ok", INGEST: "ok", MONITOR: "unknown", REQUEST: "unknown", GATE: "unknown"}


def watched(home, after, alive=True):
    """The open alerts after the checks were told."""
    alerts = AlertSettings(home.settings.home)
    home.overdue(after, alive)
    tell(home.settings, {}, check_loop(home.settings, BEGIN + after), BEGIN + after)
    return [entry.kind for entry in open_alerts(alerts)]


def test_what_is_overdue_is_an_alert_with_a_command_until_it_is_done(home):
    home.segment(BEGIN)
    assert watched(home, MINUTE) == []
    assert not (home.settings.home / "alerts.db").exists(), "while all is well nothing is written"
    assert watched(home, 3 * HOUR) == watched(home, 3 * HOUR + MINUTE) == ["ingest_overdue"]
    (entry,) = open_alerts(AlertSettings(home.settings.home))
    assert (
        "1 segments of the log wait, the oldest since 2026-11-26 08:00 UTC, due by 2026-11-26 08:20 UTC."
        in entry.message
    )
    assert "churn log ingest" in entry.message
    assert "docs/operations.md (The loop is stuck)" in entry.message
    next(home.settings.predlog_dir.iterdir()).unlink()
    assert watched(home, 4 * HOUR) == []
    assert [entry.ending for entry in all_alerts(AlertSettings(home.settings.home))] == ["No segment of the log waits."]


def test_the_service_notes_what_is_overdue_twice_in_a_row(home):
    now, told = [BEGIN + 3 * HOUR], []
    home.segment(BEGIN)
    home.overdue(3 * HOUR)
    watch = LoopWatch(home.settings, {}, told.append, lambda: now[0])
    watch.check()
    assert (watch.note, INGEST in told[-1]) == ("", False)
    watch.check()
    assert (watch.note, told[-1]) == (
        INGEST,
        {DAEMON: False, INGEST: True, MONITOR: False, REQUEST: False, GATE: False},
    )
    assert [entry.key for entry in open_alerts(AlertSettings(home.settings.home))] == [INGEST]
    next(home.settings.predlog_dir.iterdir()).unlink()
    watch.check()
    assert (watch.note, told[-1][INGEST]) == ("", False)
    assert open_alerts(AlertSettings(home.settings.home)) == []


def test_a_home_whose_daemon_is_given_up_is_not_down_for_ever(home):
    """Also by a service that was started since and has not raised the alert itself."""
    now, told = [BEGIN + HOUR], []
    for _ in range(2):
        watch = LoopWatch(home.settings, {}, told.append, lambda: now[0])
        watch.check()
        watch.check()
        assert (watch.note, told[-1][DAEMON]) == (DAEMON, True)
    (entry,) = open_alerts(AlertSettings(home.settings.home))
    assert f"if none shall run here, remove {home.settings.home / HEARTBEAT}" in entry.message
    (home.settings.home / HEARTBEAT).unlink()
    watch.check()
    assert (watch.note, told[-1]) == ("", dict.fromkeys(NAMES, False))
    assert open_alerts(AlertSettings(home.settings.home)) == []


def test_the_copy_of_a_home_never_had_a_daemon(home, tmp_path):
    copied = shutil.copytree(home.settings.home, tmp_path.parent / f"{tmp_path.name}-copy")
    settings = dataclasses.replace(home.settings, home=copied)
    assert read_heartbeat(home.settings) is not None
    assert read_heartbeat(settings) is None
    beat(settings, BEGIN + HOUR)
    assert read_heartbeat(settings).since_at == BEGIN + HOUR
    moved = copied.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    assert read_heartbeat(dataclasses.replace(settings, home=moved)) is not None
    (moved / HEARTBEAT).write_text(json.dumps({"since_at": BEGIN.isoformat()}))  # of release 0.2
    assert read_heartbeat(dataclasses.replace(settings, home=moved)).since_at == BEGIN


def test_the_service_leaves_a_home_alone_that_never_had_a_daemon(tmp_path):
    watch = LoopWatch(Settings(root=tmp_path, home=tmp_path, contract_path=tmp_path), {})
    watch.check()
    watch.check()
    assert (watch.note, list(tmp_path.iterdir())) == ("", [])


def test_a_window_file_of_release_0_2_is_read(home):
    home.settings.monitoring_dir.mkdir()
    old = {"fingerprint": "f" * 64, "window": 3, "customers": 2000, "wanted": 2000}
    (home.settings.monitoring_dir / "open.json").write_text(json.dumps(old))
    assert home.overdue(HOUR) == []
    assert home.overdue(21 * HOUR + 31 * MINUTE) == [MONITOR]
