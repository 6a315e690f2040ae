"""The decision: a table of situations, and what holds in every situation there can be."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.limits import Monitoring
from churn_assets.promotion.records import DecisionInputs, LedgerState, MonitoredWindow, MonitoringSummary
from churn_assets.promotion.retraining import (
    ExternalTrigger,
    RetrainingInputs,
    columns_drifting_in_a_row,
    cooldown_days,
    decide,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LIMITS = Monitoring(labels_to_retrain=1000, cooldown_days=7.0)
HAND = ExternalTrigger("hand", "now", "ana", "the offer changed")
SCHEDULE = ExternalTrigger("schedule", "20261121T0300")
DRIFTED = (MonitoredWindow(6, "drift", ("spent", "city")), MonitoredWindow(7, "drift", ("spent",)))
CALM = RetrainingInputs(
    NOW,
    "v1",
    LIMITS,
    LedgerState(),
    MonitoringSummary((MonitoredWindow(6, "stable"), MonitoredWindow(7, "stable")), labels=900, new_labels=900),
)


def having(inputs, **changes):
    """These inputs with other values, those of the monitoring summary among them."""
    names = {field.name for field in fields(MonitoringSummary)}
    monitoring = replace(inputs.monitoring, **{name: value for name, value in changes.items() if name in names})
    if "new_labels" in changes:
        monitoring = replace(monitoring, labels=max(monitoring.labels, monitoring.new_labels))
    rest = {name: value for name, value in changes.items() if name not in names}
    return replace(inputs, monitoring=monitoring, **rest)


DRIFT = having(CALM, windows=DRIFTED)
JUST_NOW = LedgerState(last_asked_at=NOW - timedelta(days=3))

TABLE = {
    "no champion": (having(DRIFT, champion="", requested=HAND), "nothing", "hand", "churn run makes the first"),
    "nothing yet": (
        RetrainingInputs(NOW, "v1", LIMITS, LedgerState()),
        "nothing",
        "",
        "no closed window is conclusive",
    ),
    "calm": (CALM, "nothing", "", "window 7 is stable"),
    "one alarm": (
        having(CALM, windows=(*CALM.monitoring.windows, MonitoredWindow(8, "drift", ("spent",)))),
        "nothing",
        "",
        "2 in a row",
    ),
    "two on other columns": (
        having(CALM, windows=(MonitoredWindow(6, "drift", ("city",)), MonitoredWindow(7, "drift", ("spent",)))),
        *("nothing", "", "2 in a row on the same column"),
    ),
    "two on one column": (DRIFT, "retrain", "drift", "spent drifted in 2 windows in a row"),
    "two around one too small": (
        having(
            DRIFT, windows=(DRIFTED[0], MonitoredWindow(65, "insufficient"), MonitoredWindow(70, "drift", ("spent",)))
        ),
        *("retrain", "drift", "spent drifted"),
    ),
    "two around one that was broken": (
        having(
            DRIFT, windows=(DRIFTED[0], MonitoredWindow(8, "drift", ("spent",), "broken"), MonitoredWindow(9, "stable"))
        ),
        *("nothing", "", "window 9 is stable"),
    ),
    "drift, broken data": (having(DRIFT, broken="sent is all zero"), "investigate_data", "", "sent is all zero"),
    "by hand, broken data": (
        having(CALM, broken="broken", requested=HAND),
        "investigate_data",
        "hand",
        "no model is trained",
    ),
    "drift, stale log": (having(DRIFT, stale="the log is stale"), "investigate_data", "", "the log is stale"),
    "asked twice, drift, stale log": (
        having(
            DRIFT,
            stale="the log is stale",
            requested=HAND,
            ledger=LedgerState(asked=frozenset({("hand", HAND.occasion, "v1")})),
        ),
        "nothing",
        "hand",
        "it already led to a retraining",
    ),
    "by hand, stale log": (
        having(CALM, stale="the log is stale", requested=HAND),
        "retrain",
        "hand",
        "ana requests it by hand",
    ),
    "drift, few labels": (having(DRIFT, new_labels=499), "wait", "drift", "only 499 labels are new"),
    "by hand, no labels": (having(CALM, new_labels=0, requested=HAND), "retrain", "hand", "the offer changed"),
    "a fall": (having(DRIFT, pr_auc_dropped=True, fall="PR-AUC fell"), "retrain", "performance", "PR-AUC fell"),
    "new labels": (having(CALM, new_labels=1000), "retrain", "labels", "1,000 new labels"),
    "labels never ask": (having(CALM, new_labels=9999, limits=Monitoring()), "nothing", "", "window 7 is stable"),
    "on schedule": (having(CALM, requested=SCHEDULE), "retrain", "schedule", "requested by the schedule"),
    "one in flight": (having(DRIFT, ledger=LedgerState(in_flight=("x", "open"))), "wait", "drift", "one at a time"),
    "by hand, one in flight": (
        having(DRIFT, requested=HAND, ledger=LedgerState(in_flight=("x", "open"))),
        *("wait", "hand", "one at a time"),
    ),
    "a challenger waits": (
        having(DRIFT, ledger=LedgerState(waiting=("v2", "waiting_approval"))),
        *("wait", "drift", "decided on first"),
    ),
    "cooldown": (having(DRIFT, ledger=JUST_NOW), "wait", "drift", "of 7 days lasts until 2026-11-25 12:00"),
    "cooldown doubled": (
        having(DRIFT, ledger=replace(JUST_NOW, rejections=1, last_asked_at=NOW - timedelta(days=8))),
        *("wait", "drift", "of 14 days after 1 rejected in a row lasts until 2026-11-27"),
    ),
    "schedule, cooldown": (having(CALM, requested=SCHEDULE, ledger=JUST_NOW), "wait", "schedule", "cooldown"),
    "by hand, cooldown": (having(CALM, requested=HAND, ledger=JUST_NOW), "retrain", "hand", "ana requests it"),
    "cooldown over": (
        having(DRIFT, ledger=LedgerState(last_asked_at=NOW - timedelta(days=7))),
        *("retrain", "drift", "spent"),
    ),
    "acted upon": (
        having(DRIFT, ledger=LedgerState(asked=frozenset({("drift", "7", "v1")}))),
        *("nothing", "", "it already led to a retraining"),
    ),
    "acted upon, another champion": (
        having(DRIFT, ledger=LedgerState(asked=frozenset({("drift", "7", "v0")}))),
        *("retrain", "drift", "spent"),
    ),
    "the next window": (
        having(DRIFT, ledger=LedgerState(asked=frozenset({("drift", "6", "v1")}))),
        *("retrain", "drift", "spent"),
    ),
    "drift acted upon, labels new": (
        having(DRIFT, new_labels=2000, ledger=LedgerState(asked=frozenset({("drift", "7", "v1")}))),
        *("retrain", "labels", "2,000 new labels"),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_situation_is_decided_as_the_table_says(name):
    situation, kind, trigger, message = TABLE[name]
    found = decide(situation)
    assert (found.kind, found.trigger) == (kind, trigger), found.message
    assert message in found.message
    assert "\n" not in found.message


def test_a_decision_by_hand_keeps_who_and_why_and_another_does_not():
    assert (decide(TABLE["by hand, cooldown"][0]).by, decide(TABLE["by hand, cooldown"][0]).why) == (HAND.by, HAND.why)
    assert decide(DRIFT).by == ""


windows = st.builds(
    MonitoredWindow,
    window=st.integers(1, 20),
    drift=st.sampled_from(["stable", "drift", "insufficient", "unknown"]),
    drifted=st.lists(st.sampled_from("abc"), unique=True).map(tuple),
    quality=st.sampled_from(["ok", "broken", "insufficient"]),
)
states = st.builds(
    LedgerState,
    in_flight=st.sampled_from([None, None, ("x", "open")]),
    waiting=st.sampled_from([None, None, ("v2", "approved")]),
    asked=st.frozensets(st.tuples(st.sampled_from(["drift", "labels"]), st.integers(1, 20).map(str), st.just("v1"))),
    last_asked_at=st.none() | st.integers(0, 400).map(lambda days: NOW - timedelta(days=days)),
    rejections=st.integers(0, 2000),
    labels_used=st.integers(0, 100),
)
summaries = st.builds(
    MonitoringSummary,
    windows=st.lists(windows, max_size=6, unique_by=lambda window: window.window).map(
        lambda drawn: tuple(sorted(drawn, key=lambda window: window.window))
    ),
    broken=st.sampled_from([None, None, "sent is all zero"]),
    stale=st.sampled_from([None, None, "the log is stale"]),
    pr_auc_dropped=st.booleans(),
    labels=st.integers(0, 100),
    new_labels=st.integers(0, 100),
)
situations = st.builds(
    RetrainingInputs,
    now=st.just(NOW),
    champion=st.sampled_from(["", "v1", "v1"]),
    limits=st.builds(
        Monitoring,
        cooldown_days=st.floats(0, 1e6),
        windows_to_retrain=st.integers(1, 4),
        labels_to_retrain=st.integers(0, 50),
        label_floor=st.integers(10, 50),
    ),
    ledger=states,
    monitoring=summaries,
    requested=st.sampled_from([None, HAND, SCHEDULE]),
)


@given(situations)
def test_broken_data_is_investigated_and_never_trained_on(situation):
    found = decide(having(situation, broken="sent is all zero", champion="v1"))
    assert found.kind == "investigate_data"


@given(situations)
def test_one_is_in_flight_at_most(situation):
    if situation.ledger.in_flight or situation.ledger.waiting or not situation.champion:
        assert decide(situation).kind != "retrain"


@given(situations)
def test_every_decision_is_told_in_one_line_with_its_situation(situation):
    found = decide(situation)
    assert found.message
    assert "\n" not in found.message
    assert DecisionInputs.from_json(json.loads(json.dumps(found.inputs.to_json()))) == found.inputs
    assert (found.kind in ("retrain", "wait")) <= bool(found.trigger and found.occasion)


@given(situations)
def test_what_was_acted_upon_asks_no_second_time(situation):
    found = decide(situation)
    if found.kind == "retrain":
        asked = situation.ledger.asked | {(found.trigger, found.occasion, found.champion)}
        again = decide(having(situation, ledger=replace(situation.ledger, asked=asked)))
        assert (again.kind, again.trigger) != ("retrain", found.trigger)


@given(situations, st.integers(0, 5))
def test_more_rejections_never_make_it_sooner(situation, more):
    later = having(situation, ledger=replace(situation.ledger, rejections=situation.ledger.rejections + more))
    assert cooldown_days(situation.limits, later.ledger.rejections) >= cooldown_days(
        situation.limits, situation.ledger.rejections
    )
    if decide(later).kind == "retrain":
        assert decide(situation).kind == "retrain"


@given(situations, st.integers(0, 400))
def test_waiting_longer_never_makes_it_too_soon(situation, days):
    later = having(situation, now=situation.now + timedelta(days=days))
    if decide(situation).kind == "retrain":
        assert decide(later).kind == "retrain"


@given(st.lists(windows, max_size=8), st.integers(1, 4), st.data())
def test_inconclusive_windows_neither_make_nor_break_a_run(drawn, needed, data):
    silent = st.sampled_from(
        [
            MonitoredWindow(0, "insufficient", ("a",)),
            MonitoredWindow(0, "unknown"),
            MonitoredWindow(0, "drift", ("a", "b"), "broken"),
        ]
    )
    among = list(drawn)
    for _ in range(data.draw(st.integers(0, 3))):
        among.insert(data.draw(st.integers(0, len(among))), data.draw(silent))
    assert columns_drifting_in_a_row(among, needed) == columns_drifting_in_a_row(drawn, needed)


@given(st.lists(windows, max_size=8), st.integers(1, 4))
def test_a_run_is_of_columns_that_drifted_each_time(drawn, needed):
    for column in columns_drifting_in_a_row(drawn, needed):
        telling = [one for one in drawn if one.drift in ("drift", "stable") and one.quality != "broken"]
        assert all(one.drift == "drift" and column in one.drifted for one in telling[-needed:])


@pytest.mark.parametrize(
    ("reports", "asks"),
    [
        ([], ()),
        ([("a",)], ()),
        ([("a",), ("a", "b")], ("a",)),
        ([("a",), ("b",)], ()),
        ([("a",), "stable", ("a",)], ()),
        ([("a",), "insufficient", ("a",)], ("a",)),
        ([("a",), "unknown", ("a",)], ("a",)),
        ([("a",), "broken", ("a",)], ("a",)),
        ([("a",), "broken"], ()),
        ([("b",), ("a",), ("a",)], ("a",)),
    ],
)
def test_drift_reports_ask_by_the_same_column_in_windows_that_say_anything(reports, asks):
    windows = []
    for number, report in enumerate(reports):
        drift = report if report in ("stable", "insufficient", "unknown") else "drift"
        columns = ("a",) if report == "broken" else tuple(report) if drift == "drift" else ()
        windows.append(MonitoredWindow(number, drift, columns, "broken" if report == "broken" else "ok"))
    assert columns_drifting_in_a_row(windows, 2) == asks


@pytest.mark.parametrize(
    ("labels", "used", "new", "unused"),
    [(700, 500, 700, 200), (700, 500, 150, 150), (500, 500, 500, 0), (300, 500, 300, 300)],
    ids=["some were used", "the champion used others", "all were used", "labels of another contract"],
)
def test_new_labels_are_those_that_neither_champion_nor_last_retraining_used(labels, used, new, unused):
    monitoring = MonitoringSummary(labels=labels, new_labels=new)
    assert RetrainingInputs(NOW, "v1", LIMITS, LedgerState(labels_used=used), monitoring).new_labels == unused


@pytest.mark.parametrize(("labels", "kind"), [(LIMITS.label_floor, "retrain"), (LIMITS.label_floor - 1, "wait")])
def test_drift_is_acted_upon_from_the_floor_of_new_labels_on(labels, kind):
    assert decide(having(DRIFT, labels=labels, new_labels=labels)).kind == kind


def test_five_windows_are_stored_with_a_decision():
    windows = tuple(MonitoredWindow(number, "stable") for number in range(1, 9))
    assert [window.window for window in having(CALM, windows=windows).summary().windows] == [4, 5, 6, 7, 8]
