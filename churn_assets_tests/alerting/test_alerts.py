"""Alerts against a receiver that listens: once, again after the cooldown, over; and whatever goes wrong on the way."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from churn_assets.alerting import alerts as alerts_module
from churn_assets.alerting.alerts import (
    Alert,
    acknowledge_alert,
    all_alerts,
    mute_alert,
    open_alerts,
    raise_alert,
    recover_alert,
    send_test,
    send_waiting,
)
from churn_assets.alerting.destinations import AlertSettings, Destination
from churn_assets.errors import AlertsUnreadable
from churn_assets.storage.store import Place
from churn_assets_tests.alerting.receiver import Receiver, receiving
from churn_assets_tests.strategies import ROOT

NOW = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DRIFT = Alert("drift", "drift", "Drift", "visits moved.")


@pytest.fixture(scope="module")
def server():
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def file_receiver(server: Receiver) -> Receiver:
    """Its settings are those of a home whose alerts are in a file."""
    server.got.clear()
    server.bad = False
    server.environ = {}
    return server


@pytest.fixture
def receiver(file_receiver: Receiver, place: Place) -> Receiver:
    """Its settings are those of a home whose alerts are in a file, then in a database."""
    file_receiver.environ = {} if isinstance(place, Path) else {"CHURN_DATABASE_URL": place.url}
    return file_receiver


# -- once, again, over -------------------------------------------------------------------------------


def test_an_open_alert_is_sent_once_then_again_after_the_cooldown_then_its_end(receiver, tmp_path):
    where = receiver.settings(tmp_path)
    made = [raise_alert(where, DRIFT, NOW + hours * HOUR).action for hours in (0, 1, 5, 6, 7)]
    assert made == ["raised", "", "", "repeated", ""]
    assert recover_alert(where, "drift", "Stable.", NOW + 8 * HOUR).action == "recovered"
    assert recover_alert(where, "drift", "Stable.", NOW + 9 * HOUR).action == ""
    assert receiver.titles() == ["Drift", "Still: Drift", "Over: Drift"]
    _, again, over = (message for _, _, message, _ in receiver.got)
    assert "Open since 2026-11-01 08:00 UTC, raised 4 times." in again
    assert "Stable.\nIt was open from 2026-11-01 08:00 UTC, raised 5 times: visits moved." in over
    assert [kind for *_, kind in receiver.got] == ["warning", "warning", "success"]
    assert str(tmp_path) in over


def test_an_alert_that_comes_back_is_a_new_one(receiver, tmp_path):
    where = receiver.settings(tmp_path)
    for minute in range(4):
        at = NOW + timedelta(minutes=minute)
        raise_alert(where, DRIFT, at) if minute % 2 == 0 else recover_alert(where, "drift", "Stable.", at)
    assert receiver.titles() == ["Drift", "Over: Drift"] * 2
    assert len(all_alerts(where)) == 2
    assert open_alerts(where) == []


def test_the_cooldown_is_a_setting(receiver, tmp_path):
    where = receiver.settings(tmp_path, CHURN_ALERT_COOLDOWN_S="0")
    assert [raise_alert(where, DRIFT, NOW).action for _ in range(3)] == ["raised", "repeated", "repeated"]


def test_a_clock_that_was_set_back_silences_nothing(receiver, tmp_path):
    where = receiver.settings(tmp_path)
    raise_alert(where, DRIFT, NOW)
    assert raise_alert(where, DRIFT, NOW - 100 * HOUR).action == "repeated"


def test_an_event_is_sent_once_and_is_never_open(receiver, tmp_path):
    where = receiver.settings(tmp_path)
    event = Alert("promoted:7", "gate_verdict", "Challenger 7 is champion", "It holds.", "info")
    assert [raise_alert(where, event, NOW + n * 10 * HOUR).action for n in range(3)] == ["raised", "", ""]
    assert open_alerts(where) == []
    assert receiver.got[0][3] == "info"


def test_an_alert_that_is_sent_once_stays_open_and_is_not_reminded_of(receiver, tmp_path):
    where = receiver.settings(tmp_path)
    verdict = Alert("gate_verdict:7", "gate_verdict", "Refused", "Worse.", once=True)
    assert [raise_alert(where, verdict, NOW + n * 10 * HOUR).action for n in range(3)] == ["raised", "", ""]
    assert [entry.times for entry in open_alerts(where)] == [3]
    recover_alert(where, verdict.key, "A better one came.", NOW)
    assert raise_alert(where, verdict, NOW).action == ""


def test_a_star_ends_every_alert_whose_key_begins_so_and_no_other(receiver, tmp_path):
    where = receiver.settings(tmp_path)
    for key in ("gate:1", "gate:2", "gate", "gat%", "drift"):
        raise_alert(where, Alert(key, "gate_verdict", key, "Words."), NOW)
    recover_alert(where, "gate:*", "Over.", NOW)
    recover_alert(where, "gat%*", "Over.", NOW)
    assert {entry.key for entry in open_alerts(where)} == {"gate", "drift"}


def test_the_end_of_an_alert_that_never_was_is_nothing_and_makes_no_file(receiver, tmp_path):
    where = receiver.settings(tmp_path / "home")
    assert recover_alert(where, "drift", "Stable.", NOW).summary == ""
    assert (send_waiting(where, NOW).summary, open_alerts(where), all_alerts(where)) == ("", [], [])
    assert list(tmp_path.iterdir()) == []


def test_without_a_destination_alerts_are_logged_and_stored(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "churn.alerts"):
        result = raise_alert(AlertSettings(tmp_path), DRIFT, NOW)
        recover_alert(AlertSettings(tmp_path), "drift", "Stable.", NOW)
    assert (result.action, result.delivered, result.failed) == ("raised", (), {})
    assert [(r.levelname, r.getMessage().split(":")[0]) for r in caplog.records] == [
        ("WARNING", "Drift"),
        ("INFO", "Over"),
    ]


def test_an_instant_without_a_zone_is_refused(tmp_path):
    with pytest.raises(ValueError, match="time zone"):
        raise_alert(AlertSettings(tmp_path), DRIFT, datetime(2026, 11, 1))


# -- what goes wrong on the way ----------------------------------------------------------------------


def refused_url() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"json://127.0.0.1:{taken.getsockname()[1]}/"


def test_a_destination_that_fails_stops_no_other_and_is_tried_again(receiver, tmp_path):
    where = receiver.settings(tmp_path, "bad", "token")
    where = replace(where, destinations=(*where.destinations, Destination("closed", refused_url())))
    result = raise_alert(where, DRIFT, NOW)
    bad, good = (place.name for place in where.destinations[:2])
    assert result.delivered == (good,)
    assert result.failed == {
        bad: "it answered 500",
        "closed": "no connection, no answer in time, or refused without a status",
    }
    assert "tried again" in result.summary
    assert set(open_alerts(where)[0].undelivered) == {bad, "closed"}
    mended = replace(where, destinations=(Destination(bad, receiver.url("mended")), *where.destinations[1:2]))
    assert send_waiting(mended, NOW).delivered == (bad,)
    assert receiver.titles("mended") == receiver.titles() == ["Drift"]
    assert set(open_alerts(where)[0].undelivered) == {"closed"}


def test_a_destination_that_hangs_is_left_alone_after_the_timeout(file_receiver, tmp_path):
    where = file_receiver.settings(tmp_path, "hang", "token", CHURN_ALERT_TIMEOUT_S="1")
    hanging, good = (place.name for place in where.destinations)
    result = raise_alert(where, DRIFT, NOW)
    assert result.delivered == (good,)
    assert result.failed[hanging] in (
        "no answer within 1 s",
        "no connection, no answer in time, or refused without a status",
    )


def test_what_waits_is_replaced_by_a_newer_message_and_given_up_after_three_days(receiver, tmp_path):
    where = receiver.settings(tmp_path)
    receiver.bad = True
    raise_alert(where, DRIFT, NOW)
    raise_alert(where, DRIFT, NOW + 7 * HOUR)
    raise_alert(where, Alert("old", "stale_log", "Old", "Words."), NOW - 100 * HOUR)
    recover_alert(where, "drift", "Stable.", NOW + 8 * HOUR)
    receiver.bad = False
    send_waiting(where, NOW + 9 * HOUR)
    assert receiver.titles() == ["Over: Drift"]
    assert "visits moved." in receiver.got[0][2]
    assert [entry.key for entry in all_alerts(where) if entry.undelivered] == ["old"]


def test_a_damaged_database_does_not_fail_the_caller_and_keeps_no_alert_back(file_receiver, tmp_path, caplog):
    where = file_receiver.settings(tmp_path)
    where.path.write_text("this is no database, whatever it is" * 100)
    assert raise_alert(where, DRIFT, NOW).action == "raised"
    assert recover_alert(where, "drift", "Stable.", NOW).summary == ""
    assert send_waiting(where, NOW).summary == ""
    assert file_receiver.titles() == ["Drift"]
    assert "without memory" in caplog.text
    with pytest.raises(AlertsUnreadable, match="move it away"):
        open_alerts(where)


def test_a_locked_database_does_not_fail_the_caller(file_receiver, tmp_path, monkeypatch):
    where = file_receiver.settings(tmp_path)
    raise_alert(where, DRIFT, NOW)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0.05}))
    held = connect(where.path)
    held.execute("BEGIN EXCLUSIVE")
    try:
        assert raise_alert(where, Alert("other", "stale_log", "Other", "Words."), NOW).action == "raised"
    finally:
        held.close()
    assert file_receiver.titles() == ["Drift", "Other"]


def test_apprise_missing_is_reported_and_the_alert_waits(receiver, tmp_path, monkeypatch):
    where = receiver.settings(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "apprise", None)
        assert raise_alert(where, DRIFT, NOW).failed == {
            where.destinations[0].name: "apprise cannot be imported (apprise)"
        }
    assert send_waiting(where, NOW).delivered
    assert receiver.titles() == ["Drift"]


def test_a_test_message_says_who_takes_it(file_receiver, tmp_path):
    where = file_receiver.settings(tmp_path, "token", "bad")
    where = replace(where, destinations=(*where.destinations, Destination("odd", "nobody://knows/this")))
    answers = list(send_test(where).values())
    assert answers[:2] == [None, "it answered 500"]
    assert "knows no such URL" in str(answers[2])
    assert not where.path.exists()


def test_no_secret_is_logged_stored_or_shown(receiver, tmp_path, caplog):
    where = receiver.settings(tmp_path, "t0ken", "bad-t0ken")
    where = replace(where, destinations=(*where.destinations, Destination("closed", refused_url() + "t0ken")))
    alert = Alert("failed", "failed_run", "Failed", "cannot reach http://me:hunter2@mlflow/api")
    with caplog.at_level(logging.DEBUG):
        result = raise_alert(where, alert, NOW)
    shown = "\n".join((caplog.text, result.summary, repr(result), repr(where), where.summary, repr(all_alerts(where))))
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir()).decode(errors="replace")
    for secret in ("hunter2", "t0ken"):
        assert secret not in shown + kept + repr(receiver.got).replace("/t0ken", "")


# -- killed in between, and at the same time ---------------------------------------------------------

_KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from churn_assets.alerting import alerts
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.alerts import Alert
send_all = alerts.send
def send(messages, timeout_s):
    for result in send_all(messages, timeout_s) if sys.argv[2] == "after" else ():
        pass
    os.kill(os.getpid(), signal.SIGKILL)
alerts.send = send
where = AlertSettings.from_environ(os.environ, Path(sys.argv[1]))
alerts.raise_alert(where, Alert("drift", "drift", "Drift", "visits moved."), datetime(2026, 11, 1, 8, tzinfo=UTC))
"""


@pytest.mark.parametrize(("when", "received"), [("before", 1), ("after", 2)])
def test_a_kill_between_record_and_mark_repeats_a_message_and_loses_none(receiver, tmp_path, when, received):
    """At least once: killed before the send it comes once, killed after it, and before the mark, twice."""
    environ = {**os.environ, **receiver.environ, "CHURN_ALERT_URLS": receiver.url(), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), when], env=environ, check=False)
    assert done.returncode == -signal.SIGKILL
    where = receiver.settings(tmp_path)
    assert [entry.title for entry in open_alerts(where)] == ["Drift"]
    assert raise_alert(where, DRIFT, NOW + HOUR).action == ""
    raise_alert(where, DRIFT, NOW + 2 * HOUR)
    assert receiver.titles() == ["Drift"] * received


_AT_ONCE = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.alerts import Alert, raise_alert
where = AlertSettings.from_environ(os.environ, Path(sys.argv[1]))
for n in range(5):
    raise_alert(where, Alert(f"drift:{n}", "drift", f"Drift {n}", "Moved."), datetime(2026, 11, 1, 8, tzinfo=UTC))
"""


def test_processes_that_raise_the_same_at_once_send_it_once(receiver, tmp_path):
    environ = {**os.environ, **receiver.environ, "CHURN_ALERT_URLS": receiver.url(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _AT_ONCE, str(tmp_path)]
    running = [subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    assert sorted(receiver.titles()) == [f"Drift {n}" for n in range(5)]


# -- whatever the order ------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(["raise", "raise", "recover", "wait", "down", "up", "retry"]), st.sampled_from("ab")),
    max_size=14,
)


@contextmanager
def _new_database(kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    with request.getfixturevalue("postgresql").database() if kind == "postgresql" else nullcontext("") as url:
        yield url


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_at_most_one_message_an_open_period_and_cooldown_and_the_last_message_arrives(
    steps, kind, request
):
    cooldown, sent, up, now = 3, [], True, NOW

    def send(messages, timeout_s):
        for message in messages:
            if up:
                sent.append((now, message.title.removeprefix("churn: ")))
            yield message, None if up else "down"

    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        _new_database(kind, request) as url,
    ):
        patch.setattr(alerts_module, "send", send)
        where = AlertSettings(Path(folder), (Destination("here", "json://here"),), cooldown, database_url=url)
        for step, key in steps:
            now += timedelta(seconds=1)
            if step == "raise":
                raise_alert(where, Alert(key, "drift", key, "Words."), now)
            elif step == "recover":
                recover_alert(where, key, "Over.", now)
            elif step == "retry":
                send_waiting(where, now)
            elif step in ("up", "down"):
                up = step == "up"
        up, now = True, now + timedelta(seconds=1)
        send_waiting(where, now)
        periods, still = all_alerts(where), {entry.key for entry in open_alerts(where)}
    for key in "ab":
        mine = [(at, title) for at, title in sent if title.removeprefix("Still: ").removeprefix("Over: ") == key]
        assert bool(mine) == any(entry.key == key for entry in periods)
        if mine:
            assert mine[-1][1].startswith("Over: ") == (key not in still)
        for entry in periods:
            if entry.key == key:
                until = entry.closed_at or now
                during = [t for at, t in mine if entry.opened_at <= at <= until and not t.startswith("Over: ")]
                assert len(during) <= 1 + (until - entry.opened_at).total_seconds() // cooldown
        overs = [title for _, title in mine if title.startswith("Over: ")]
        assert len(overs) <= sum(entry.key == key and entry.closed_at is not None for entry in periods)


# -- people --------------------------------------------------------------------------------------------


def test_who_acknowledges_an_alert_wants_no_reminder_but_its_end(receiver, tmp_path):
    where = receiver.settings(tmp_path)
    raise_alert(where, DRIFT, NOW)
    (entry,) = open_alerts(where)
    assert acknowledge_alert(where, entry.number, "Ana", NOW).acknowledged_by == "Ana"
    assert acknowledge_alert(where, entry.number, "Ben", NOW + HOUR).acknowledged_by == "Ana"
    assert raise_alert(where, DRIFT, NOW + 30 * HOUR).action == ""
    assert open_alerts(where)[0].times == 2
    assert recover_alert(where, "drift", "Stable.", NOW + 31 * HOUR).action == "recovered"
    assert acknowledge_alert(where, entry.number, "Ben", NOW + 32 * HOUR) is None
    assert raise_alert(where, DRIFT, NOW + 33 * HOUR).action == "raised"


def test_a_muted_alert_is_sent_again_after_its_hours(receiver, tmp_path):
    where = receiver.settings(tmp_path)
    raise_alert(where, DRIFT, NOW)
    (entry,) = open_alerts(where)
    muted = mute_alert(where, entry.number, "Ana", NOW + 10 * HOUR)
    assert (muted.muted_by, muted.muted_until) == ("Ana", NOW + 10 * HOUR)
    made = [raise_alert(where, DRIFT, NOW + hours * HOUR).action for hours in (7, 9, 10)]
    assert made == ["", "", "repeated"]


def test_alerts_of_an_earlier_release_are_read_as_they_are_and_handled(tmp_path):
    where = AlertSettings(tmp_path)
    raise_alert(where, DRIFT, NOW)
    with sqlite3.connect(where.path) as db:
        for column in ("acknowledged_s", "acknowledged_by", "muted_until_s", "muted_by"):
            db.execute(f"ALTER TABLE alerts DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 1")
    db.close()
    (entry,) = open_alerts(where)
    assert (entry.title, entry.acknowledged_by) == ("Drift", "")
    assert mute_alert(where, entry.number, "Ana", NOW + HOUR).muted_by == "Ana"
    assert open_alerts(where)[0].muted_until == NOW + HOUR
