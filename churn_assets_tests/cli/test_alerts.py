"""`churn alerts` and the alerts in `churn status`, typed by a user."""

import json
import os
from datetime import UTC, datetime

import pytest

from churn_assets.alerting.alerts import Alert, raise_alert, recover_alert
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.promotion.heartbeat import beat
from churn_assets.settings import Settings
from churn_assets_tests.alerting.receiver import receiving
from churn_assets_tests.cli.test_main import churn, refused

NOW = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)


@pytest.fixture
def home(tmp_path):
    where = AlertSettings(tmp_path)
    raise_alert(where, Alert("drift", "drift", "Drift", "visits [bold] moved."), NOW)
    raise_alert(where, Alert("drift", "drift", "Drift", "visits [bold] moved."), NOW)
    raise_alert(where, Alert("stale_log", "stale_log", "The log is stale", "Nothing comes."), NOW)
    recover_alert(where, "stale_log", "It comes again.", NOW)
    return tmp_path


def test_open_alerts_are_listed_and_with_all_those_that_are_over(home):
    few, every = churn("alerts", home=home), churn("alerts", "--all", home=home)
    assert "alert Drift (2026-11-01 08:00 UTC, raised 2 times)\n  visits [bold] moved.\n" in few.stdout
    assert "stale" not in few.stdout
    assert "over  The log is stale (2026-11-01 08:00 to 2026-11-01 08:00 UTC)" in every.stdout
    assert "It comes again." in every.stdout
    assert "alerts go to the log only" in few.stdout


def test_alerts_are_json_for_scripts(home):
    found = json.loads(churn("alerts", "--all", "--json", home=home).stdout)
    assert [(one["key"], one["closed_at"] is None) for one in found] == [("stale_log", False), ("drift", True)]


def test_status_shows_what_is_open(home):
    assert "alert Drift" in churn("status", home=home).stdout
    (alert,) = json.loads(churn("status", "--json", home=home).stdout)["alerts"]
    assert (alert["kind"], alert["opened_at"]) == ("drift", "2026-11-01T08:00:00+00:00")


def test_a_home_without_alerts_says_so_and_is_not_made(tmp_path):
    home = tmp_path / "home"
    assert "no open alerts" in churn("alerts", home=home).stdout
    assert "no open alerts" in churn("status", home=home).stdout
    assert not home.exists()


def test_an_unreadable_file_refuses_the_list_but_not_the_status(tmp_path):
    (tmp_path / "alerts.db").write_text("no database" * 200)
    assert "alerts.db: cannot be read" in refused(churn("alerts", home=tmp_path))
    status = churn("status", "--json", home=tmp_path)
    assert (status.returncode, json.loads(status.stdout)["alerts"]) == (0, None)
    assert "alerts.db: cannot be read" in status.stderr


def test_a_test_message_says_who_took_it_and_shows_no_secret(tmp_path):
    with receiving() as receiver:
        urls = f"{receiver.url('t0ken')},{receiver.url('bad-t0ken')}"
        both = churn("alerts", "test", home=tmp_path, CHURN_ALERT_URLS=urls)
        good = churn("alerts", "test", home=tmp_path, CHURN_ALERT_URLS=receiver.url("t0ken"))
    assert (both.returncode, good.returncode) == (1, 0)
    assert both.stdout == "json://127.0.0.1/…: taken\n"
    assert both.stderr == "json://127.0.0.1/… (2): it answered 500\n"
    assert receiver.titles("t0ken") == ["A test", "A test"]
    assert "to the log only" in churn("alerts", "test", home=tmp_path).stdout
    wrong = churn("alerts", "test", home=tmp_path, CHURN_ALERT_URLS="hunter2")
    assert "hunter2" not in refused(wrong)


def test_doctor_is_a_probe_of_the_loop_and_status_names_what_is_overdue(tmp_path):
    fresh = churn("doctor", "--loop", home=tmp_path)
    assert fresh.returncode == 1
    assert fresh.stdout == "unknown daemon_down: no daemon has ever run in this home; start one: churn ui\n"
    settings = Settings(root=tmp_path, home=tmp_path, contract_path=tmp_path)
    beat(settings, datetime.now(UTC))
    alive = churn("doctor", "--loop", home=tmp_path)
    assert alive.returncode == 0
    assert [line.split()[0] for line in alive.stdout.splitlines()] == ["ok"] * 5
    os.utime(tmp_path / "daemon.json", (NOW.timestamp(), NOW.timestamp()))
    dead = churn("doctor", "--loop", home=tmp_path)
    assert dead.returncode == 1
    assert dead.stdout.startswith(
        "overdue daemon_down: its sensors were evaluated last at 2026-11-01 08:00 UTC, expected "
    )
    shown = churn("status", home=tmp_path).stdout
    assert "The loop is stuck: daemon_down: its sensors were evaluated last at 2026-11-01" in shown
    assert json.loads(churn("status", "--json", home=tmp_path).stdout)["loop"][0]["status"] == "overdue"
