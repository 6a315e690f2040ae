"""Which reports raise an alert, and which end one."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.alerting.rules import (
    AlertChanges,
    gate_alerts,
    loss_alerts,
    monitoring_alerts,
    release_alerts,
    waiting_alerts,
    waiting_key,
)
from churn_assets.monitoring.windows import OpenWindow
from churn_assets.prediction_log.warehouse.read import Loss
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import ChampionPointer
from churn_assets.promotion.releases import Releases
from churn_assets_tests.alerting.reports import (
    BROKEN,
    FRESH,
    GAP,
    STALE,
    drift_report,
    finding,
    performance_report,
    quality_report,
    window_drift,
    window_quality,
)
from churn_assets_tests.promotion.homes import champion, home_with, moves
from churn_assets_tests.scoring.tiny import CONTRACT


def keys(changes: AlertChanges) -> tuple[set[str], set[str]]:
    return {alert.key for alert in changes.raised}, set(changes.ended)


OK1, OK2 = window_quality(1, "ok"), window_quality(2, "ok", GAP)
BROKEN1, BROKEN2 = window_quality(1, "broken", BROKEN), window_quality(2, "broken", BROKEN)


@pytest.mark.parametrize(
    ("quality", "raised", "ended"),
    [
        (None, set(), set()),
        (quality_report(log=None), set(), set()),
        (quality_report(window_quality(1, "insufficient", BROKEN), log=None), set(), set()),
        (quality_report(window_quality(1, "broken", BROKEN, GAP), log=None), {"data_quality"}, set()),
        (quality_report(BROKEN1, OK2, log=None), set(), {"data_quality"}),
        (quality_report(OK1, BROKEN2, log=None), {"data_quality"}, set()),
        (quality_report(BROKEN1, window_quality(2, "insufficient"), log=None), {"data_quality"}, set()),
        (quality_report(BROKEN1, window_quality(2, "unknown"), log=None), {"data_quality"}, set()),
        (quality_report(log=STALE), {"stale_log"}, set()),
        (quality_report(OK1, log=STALE), {"stale_log"}, {"data_quality"}),
        (quality_report(log=FRESH), set(), {"stale_log"}),
    ],
)
def test_the_newest_window_with_a_conclusion_decides_about_the_data(quality, raised, ended):
    assert keys(monitoring_alerts(quality)) == (raised, ended)


def test_a_window_that_is_never_complete_is_named_until_it_may_be():
    def of(never_full):
        waiting = OpenWindow(1500, 30_000, "the open window has 1,500 customers", never_full)
        return monitoring_alerts(dataclasses.replace(quality_report(log=None), open=waiting))

    assert keys(of(True)) == ({"window_never_full"}, set())
    assert "the open window has 1,500 customers" in of(True).raised[0].message
    assert keys(of(False)) == (set(), {"window_never_full"})


def test_an_alert_says_what_broke_what_was_expected_and_what_to_do():
    (alert,) = monitoring_alerts(quality_report(window_quality(4, "broken", GAP, BROKEN), log=None)).raised
    assert "window 4: 'esent' is 0 in 100 % of rows" in alert.message
    assert "50 hours" not in alert.message
    assert "Expected: data like the training rows." in alert.message
    assert "What to do: docs/operations.md (The data is broken)." in alert.message
    assert (alert.kind, alert.severity) == ("data_quality", "error")


def test_of_many_findings_the_first_are_named_and_the_others_counted():
    many = [finding("missing", f"c{n}", f"c{n} is missing") for n in range(8)]
    (alert,) = monitoring_alerts(quality_report(window_quality(1, "broken", *many), log=None)).raised
    assert "c4 is missing; and 3 more" in alert.message


def test_a_decision_to_investigate_data_raises_an_alert_where_the_quality_report_has_no_conclusion():
    reason = "the log is unreadable"
    assert keys(monitoring_alerts(investigate=reason)) == ({"data_quality"}, set())
    assert keys(monitoring_alerts(quality_report(OK1, log=None), investigate=reason)) == (set(), {"data_quality"})
    assert keys(monitoring_alerts(quality_report(log=STALE), investigate=reason)) == ({"stale_log"}, set())
    assert keys(monitoring_alerts()) == (set(), set())


@pytest.mark.parametrize(
    ("windows", "raised", "ended"),
    [
        ([window_drift(1, "drift", "visits")], {"drift"}, set()),
        ([window_drift(1, "drift", "visits"), window_drift(2, "unknown")], {"drift"}, set()),
        ([window_drift(1, "drift", "visits"), window_drift(2, "stable")], set(), {"drift"}),
        ([window_drift(1, "insufficient")], set(), set()),
    ],
)
def test_the_newest_window_with_a_conclusion_decides_about_drift(windows, raised, ended):
    assert keys(monitoring_alerts(drift=drift_report(*windows))) == (raised, ended)


def test_drift_in_broken_data_is_an_alert_about_the_data_alone():
    quality = quality_report(window_quality(3, "broken", BROKEN), log=None)
    drift = drift_report(window_drift(3, "drift", "esent"))
    assert keys(monitoring_alerts(quality, drift)) == ({"data_quality"}, set())


def test_drift_names_its_columns_and_how_many_windows_in_a_row():
    windows = [window_drift(1, "stable"), *(window_drift(n, "drift", "visits", "score") for n in (2, 3))]
    (alert,) = monitoring_alerts(drift=drift_report(*windows)).raised
    assert (
        "Window 3 differs from the training data in: visits, score. It is the 2nd such window in a row."
        in alert.message
    )


def test_a_row_of_drift_is_counted_as_the_decision_counts_it():
    windows = [
        window_drift(1, "drift", "visits", model_version="old"),
        window_drift(2, "drift", "visits", model_version="new"),
        window_drift(3, "drift", "visits", model_version="new", data="broken"),
        window_drift(4, "drift", "visits", model_version="new"),
    ]
    (alert,) = monitoring_alerts(drift=drift_report(*windows)).raised
    assert "It is the 2nd such window in a row." in alert.message


@pytest.mark.parametrize(
    ("status", "dropped", "raised", "ended"),
    [
        ("ok", True, {"performance_drop"}, set()),
        ("insufficient", False, set(), set()),
        ("unknown", False, set(), set()),
        ("ok", False, set(), {"performance_drop"}),
    ],
)
def test_a_fall_of_the_labelled_figure_raises_an_alert_and_its_end_ends_it(status, dropped, raised, ended):
    changes = monitoring_alerts(performance=performance_report(status, dropped))
    assert keys(changes) == (raised, ended)
    assert all(alert.message.startswith("labelled PR-AUC has fallen. Expected: ") for alert in changes.raised)


@pytest.mark.parametrize(
    ("status", "raised", "ended"),
    [
        ("refused", {"gate_verdict:7"}, {"waiting_approval:7", "no_verdict:7"}),
        ("waiting_approval", {"waiting_approval:7"}, {"no_verdict:7"}),
        ("promoted", {"promoted:7"}, {"waiting_approval:7", "gate_verdict:*", "no_verdict:*", "performance_drop"}),
        ("rejected", set(), {"waiting_approval:7"}),
        ("undecided", {"no_verdict:7"}, set()),
        ("overtaken", set(), set()),
        ("waiting_gate", set(), set()),
    ],
)
def test_a_challenger_has_alerts_as_it_goes(status, raised, ended):
    assert keys(gate_alerts("7", status, "so it is")) == (raised, ended)


def test_a_release_that_ended_without_a_person_is_told_until_the_next_begins(tmp_path):
    settings, (old, new) = home_with(tmp_path, 2)
    moves(settings).move(champion(old), "first", "training", "the first")
    releases = Releases(settings, Ledger(settings.ledger_path), ChampionPointer(tmp_path), contract=lambda: CONTRACT)

    def done():
        return Ledger(settings.ledger_path).policy_moves("done")

    shadow = releases.shadow(new, "ana", "look")
    assert keys(release_alerts(done())) == (set(), set())
    numbers = {"checks": [{"check": "flips", "value": 0.4, "limit": 0.1, "status": "crossed"}]}
    releases.end(shadow.after.id, "rolled_back", "40 % of the decisions differ", numbers)
    (alert,) = release_alerts(done()).raised
    assert (alert.key, alert.kind, alert.severity) == ("release_rolled_back:r000003", "release_rolled_back", "error")
    assert f"The shadow of {new} was rolled back by service: 40 % of the decisions differ." in alert.message
    assert alert.message.endswith("\nflips: crossed, value 0.4, limit 0.1")
    again = releases.shadow(new, "ana", "again")
    told = {"release_waiting:r000002"}  # nobody was reminded of them
    assert keys(release_alerts(done())) == (set(), {"release_rolled_back:r000003", *told})
    releases.end(again.after.id, "inconclusive", "14 days have passed")
    told.add("release_waiting:r000004")
    assert keys(release_alerts(done())) == ({"release_inconclusive:r000005"}, {"release_rolled_back:r000003", *told})


def test_who_waits_for_approval_is_named_with_the_commands():
    (alert,) = gate_alerts("7", "waiting_approval", "it passed").raised
    assert alert.key == waiting_key("7")
    assert "`churn approve 7 --by NAME --why TEXT`" in alert.message


QUALITY = st.lists(st.sampled_from(["ok", "broken", "insufficient", "unknown"])).map(
    lambda statuses: quality_report(*(window_quality(n, status, BROKEN) for n, status in enumerate(statuses)))
)
DRIFT = st.lists(st.sampled_from(["stable", "drift", "insufficient", "unknown"])).map(
    lambda statuses: drift_report(*(window_drift(n, status, "a") for n, status in enumerate(statuses)))
)
PERFORMANCE = st.builds(performance_report, st.sampled_from(["ok", "insufficient", "unknown"]), st.booleans())


@given(st.none() | QUALITY, st.none() | DRIFT, st.none() | PERFORMANCE, st.sampled_from(["", "the log is unreadable"]))
def test_no_key_is_raised_and_ended_at_once_whatever_the_reports(quality, drift, performance, investigate):
    changes = monitoring_alerts(quality, drift, performance, investigate)
    raised, ended = keys(changes)
    assert not raised & ended
    assert len(raised) == len(changes.raised)
    assert all(alert.message.strip() and "\n" not in alert.title for alert in changes.raised)


NOW = dt.datetime(2026, 11, 20, 12)
GONE = Loss(NOW - dt.timedelta(hours=1), "20261120T10", 1200, restored=False)


@pytest.mark.parametrize(
    ("loss", "raised", "ended"),
    [
        (GONE, {"lost_rows:20261120T10"}, set()),
        (Loss(NOW, "", 0, restored=False), {"lost_rows:2026-11-20T12:00:00"}, set()),
        (Loss(GONE.noted_at, GONE.segment, 1200, restored=True), set(), {"lost_rows:20261120T10"}),
        (Loss(NOW - dt.timedelta(days=8), GONE.segment, 1200, restored=False), set(), {"lost_rows:20261120T10"}),
    ],
)
def test_rows_that_are_gone_raise_an_alert_until_they_are_back_or_a_week_has_passed(loss, raised, ended):
    assert keys(loss_alerts([loss], NOW)) == (raised, ended)


def test_the_alert_of_lost_rows_says_how_many_and_what_to_do():
    (alert,) = loss_alerts([GONE], NOW).raised
    assert "segment 20261120T10 with 1,200 acknowledged rows was deleted or moved away" in alert.message
    assert "docs/operations.md (Rows of the log are gone)" in alert.message
    assert alert.once


def test_feedback_that_waits_raises_an_alert_until_somebody_decides():
    assert keys(waiting_alerts({}, 0.5)) == (set(), {"waiting_feedback"})
    (alert,) = waiting_alerts({"crm": 1250}, 0.5).raised
    assert "counts for 50% of customers until its source is accepted: crm: 1,250 reports wait" in alert.message
    assert "churn feedback accept SOURCE" in alert.message
