"""Alerts on the dashboard: those of the store; a person acknowledges or mutes them, once they are open."""

from __future__ import annotations

import datetime as dt

import pytest

from churn_assets.access.keys import KeyStore
from churn_assets.alerting.alerts import all_alerts, open_alerts, raise_alert, recover_alert
from churn_assets.alerting.destinations import AlertSettings
from churn_assets_tests.cli.test_main import churn
from churn_assets_tests.dashboard.browser import NOW, visit


def test_open_and_past_alerts_are_those_of_the_store(visitor, made):
    page, entries = visitor.json("/alerts.json"), all_alerts(AlertSettings(made.home))
    shown = [(entry["number"], entry["title"], entry["times"]) for entry in (*page["open"], *page["past"])]
    is_open = [entry for entry in entries if entry.closed_at is None]
    ended = [entry for entry in entries if entry.closed_at is not None]
    assert shown == [(entry.number, entry.title, entry.times) for entry in (*is_open, *ended)]
    assert is_open


def handled(visitor, number, **fields):
    path = f"/alerts/{number}"
    return path, {**visitor.get("/alerts").form(path), "by": "Ana", **fields}


def test_an_alert_is_acknowledged_by_the_first_and_muted_for_hours(settings):
    visitor, alerts = visit(settings), AlertSettings(settings.home)
    first, second = (entry.number for entry in open_alerts(alerts)[:2])
    assert "is acknowledged, by Ana" in visitor.post(*handled(visitor, first, action="acknowledge"), status=200).text
    again = handled(visitor, first, action="acknowledge", by="Ben")
    assert "Ana had acknowledged" in visitor.post(*again, status=200).text
    visitor.post(*handled(visitor, second, action="mute", hours="8"), status=200)
    known = {entry.number: entry for entry in open_alerts(alerts)}
    assert (known[first].acknowledged_by, known[first].acknowledged_at) == ("Ana", NOW)
    assert (known[second].muted_by, known[second].muted_until) == ("Ana", NOW + dt.timedelta(hours=8))
    assert set(visitor.json("/alerts.json")["silent"]) == {first, second}
    assert "Acknowledged by Ana" in visitor.get("/alerts").text
    printed = churn("alerts", home=settings.home).stdout
    assert "acknowledged by Ana" in printed
    assert "muted by Ana until 2026-11-26 20:00 UTC" in printed
    sent = raise_alert(alerts, _as_alert(known[second]), NOW + dt.timedelta(hours=7))
    assert sent.action == ""


def _as_alert(entry):
    from churn_assets.alerting.alerts import Alert

    return Alert(entry.key, entry.kind, entry.title, entry.message)


def test_an_alert_that_has_ended_meanwhile_is_said(settings):
    visitor, alerts = visit(settings), AlertSettings(settings.home)
    entry = open_alerts(alerts)[0]
    form = handled(visitor, entry.number, action="acknowledge")
    recover_alert(alerts, entry.key, "It is over.", NOW)
    assert "is not open any more" in visitor.post(*form, status=409).text


@pytest.mark.parametrize(
    "fields", [{"action": "mute", "hours": "9999"}, {"action": ""}, {"action": "acknowledge", "by": ""}]
)
def test_a_form_that_says_nothing_changes_nothing(settings, fields):
    visitor, alerts = visit(settings), AlertSettings(settings.home)
    number = open_alerts(alerts)[0].number
    visitor.post(*handled(visitor, number, **fields), status=422)
    assert not any(entry.acknowledged_by or entry.muted_by for entry in open_alerts(alerts))


def test_who_may_only_look_handles_nothing(settings):
    _, token = KeyStore(settings.home).create("ben", ("view",), None, dt.datetime.now(dt.UTC))
    client, number = visit(settings).client, open_alerts(AlertSettings(settings.home))[0].number
    headers = {"X-API-Key": token}
    assert client.post(f"/alerts/{number}", data={"action": "acknowledge"}, headers=headers).status_code == 403
    assert "Acknowledge" not in client.get("/alerts", headers=headers).text


def test_texts_of_an_alert_come_out_as_text(settings):
    from churn_assets.alerting.alerts import Alert

    evil = "<script>alert(1)</script>"
    raise_alert(AlertSettings(settings.home), Alert("evil", "drift", evil, evil), NOW)
    for path in ("/alerts", "/"):
        text = visit(settings).client.get(path).text
        assert evil not in text
        assert "&lt;script&gt;alert(1)" in text
