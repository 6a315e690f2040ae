"""The decision: a table of situations, and what holds in every situation there can be."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.policy import Monitoring
from churn_assets.promotion.records import Memory
from churn_assets.promotion.retraining import (
    Asked,
    MonitoredWindow,
    Situation,
    columns_drifting_in_a_row,
    cooldown_days,
    decide,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LIMITS = Monitoring(labels_to_retrain=1000, cooldown_days=7.0)
HAND = Asked("hand", "now", "ana", "the offer changed")
SCHEDULE = Asked("schedule", "20261121T0300")
DRIFTED = (MonitoredWindow(6, "drift", ("spent", "city")), MonitoredWindow(7, "drift", ("spent",)))
CALM = Situation(
    NOW,
    "v1",
    LIMITS,
    Memory(),
    windows=(MonitoredWindow(6, "stable"), MonitoredWindow(7, "stable")),
    labels=900,
    new_labels=900,
)
DRIFT = replace(CALM, windows=DRIFTED)
JUST_NOW = Memory(last_asked_at=NOW - timedelta(days=3))

TABLE = {
    "no champion": (replace(DRIFT, champion="", asked=HAND), "nothing", "hand", "churn run makes the first"),
    "nothing yet": (Situation(NOW, "v1", LIMITS, Memory()), "nothing", "", "no window has closed"),
    "calm": (CALM, "nothing", "", "window 7 is stable"),
    "one alarm": (
        replace(CALM, windows=(*CALM.windows, MonitoredWindow(8, "drift", ("spent",)))),
        "nothing",
        "",
        "2 in a row",
    ),
    "two on other columns": (
        replace(CALM, windows=(MonitoredWindow(6, "drift", ("city",)), MonitoredWindow(7, "drift", ("spent",)))),
        *("nothing", "", "2 in a row on the same column"),
    ),
    "two on one column": (DRIFT, "retrain", "drift", "spent drifted in 2 windows in a row"),
    "two around one too small": (
        replace(
            DRIFT, windows=(DRIFTED[0], MonitoredWindow(65, "insufficient"), MonitoredWindow(70, "drift", ("spent",)))
        ),
        *("retrain", "drift", "spent drifted"),
    ),
    "two around one that was broken": (
        replace(
            DRIFT, windows=(DRIFTED[0], MonitoredWindow(8, "drift", ("spent",), "broken"), MonitoredWindow(9, "stable"))
        ),
        *("nothing", "", "window 9 is stable"),
    ),
    "drift, broken data": (replace(DRIFT, broken="sent is all zero"), "investigate_data", "", "sent is all zero"),
    "by hand, broken data": (
        replace(CALM, broken="broken", asked=HAND),
        "investigate_data",
        "hand",
        "no model is trained",
    ),
    "drift, stale log": (replace(DRIFT, stale="the log is stale"), "investigate_data", "", "the log is stale"),
    "asked twice, drift, stale log": (
        replace(
            DRIFT, stale="the log is stale", asked=HAND, memory=Memory(asked=frozenset({("hand", HAND.occasion, "v1")}))
        ),
        "nothing",
        "hand",
        "it was acted upon already",
    ),
    "by hand, stale log": (replace(CALM, stale="the log is stale", asked=HAND), "retrain", "hand", "ana asks by hand"),
    "drift, few labels": (replace(DRIFT, new_labels=499), "wait", "drift", "only 499 labels are new"),
    "by hand, no labels": (replace(CALM, new_labels=0, asked=HAND), "retrain", "hand", "the offer changed"),
    "a fall": (replace(DRIFT, dropped=True, fall="PR-AUC fell"), "retrain", "performance", "PR-AUC fell"),
    "new labels": (replace(CALM, new_labels=1000), "retrain", "labels", "1,000 new labels"),
    "labels never ask": (replace(CALM, new_labels=9999, limits=Monitoring()), "nothing", "", "window 7 is stable"),
    "on schedule": (replace(CALM, asked=SCHEDULE), "retrain", "schedule", "the schedule asks"),
    "one in flight": (replace(DRIFT, memory=Memory(in_flight="request x is open")), "wait", "drift", "one at a time"),
    "by hand, one in flight": (
        replace(DRIFT, asked=HAND, memory=Memory(in_flight="request x is open")),
        *("wait", "hand", "one at a time"),
    ),
    "a challenger waits": (
        replace(DRIFT, memory=Memory(waiting="challenger v2 is waiting approval")),
        *("wait", "drift", "decided upon first"),
    ),
    "cooldown": (replace(DRIFT, memory=JUST_NOW), "wait", "drift", "of 7 days lasts until 2026-11-25 12:00"),
    "cooldown doubled": (
        replace(DRIFT, memory=replace(JUST_NOW, rejections=1, last_asked_at=NOW - timedelta(days=8))),
        *("wait", "drift", "of 14 days after 1 rejected in a row lasts until 2026-11-27"),
    ),
    "schedule, cooldown": (replace(CALM, asked=SCHEDULE, memory=JUST_NOW), "wait", "schedule", "cooldown"),
    "by hand, cooldown": (replace(CALM, asked=HAND, memory=JUST_NOW), "retrain", "hand", "ana asks"),
    "cooldown over": (
        replace(DRIFT, memory=Memory(last_asked_at=NOW - timedelta(days=7))),
        *("retrain", "drift", "spent"),
    ),
    "acted upon": (
        replace(DRIFT, memory=Memory(asked=frozenset({("drift", "7", "v1")}))),
        *("nothing", "", "it was acted upon already"),
    ),
    "acted upon, another champion": (
        replace(DRIFT, memory=Memory(asked=frozenset({("drift", "7", "v0")}))),
        *("retrain", "drift", "spent"),
    ),
    "the next window": (
        replace(DRIFT, memory=Memory(asked=frozenset({("drift", "6", "v1")}))),
        *("retrain", "drift", "spent"),
    ),
    "drift acted upon, labels new": (
        replace(DRIFT, new_labels=2000, memory=Memory(asked=frozenset({("drift", "7", "v1")}))),
        *("retrain", "labels", "2,000 new labels"),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_situation_is_decided_as_the_table_says(name):
    situation, kind, trigger, words = TABLE[name]
    found = decide(situation)
    assert (found.kind, found.trigger) == (kind, trigger), found.words
    assert words in found.words
    assert "\n" not in found.words


def test_a_decision_by_hand_keeps_who_and_why_and_another_does_not():
    assert (decide(TABLE["by hand, cooldown"][0]).by, decide(TABLE["by hand, cooldown"][0]).why) == (HAND.by, HAND.why)
    assert decide(DRIFT).by == ""


seen = st.builds(
    MonitoredWindow,
    window=st.integers(1, 20),
    drift=st.sampled_from(["stable", "drift", "insufficient", "unknown"]),
    drifted=st.lists(st.sampled_from("abc"), unique=True).map(tuple),
    quality=st.sampled_from(["ok", "broken", "insufficient"]),
)
memories = st.builds(
    Memory,
    in_flight=st.sampled_from(["", "", "request x is open"]),
    waiting=st.sampled_from(["", "", "challenger v2 is approved"]),
    asked=st.frozensets(st.tuples(st.sampled_from(["drift", "labels"]), st.integers(1, 20).map(str), st.just("v1"))),
    last_asked_at=st.none() | st.integers(0, 400).map(lambda days: NOW - timedelta(days=days)),
    rejections=st.integers(0, 2000),
    labels_used=st.integers(0, 100),
)
situations = st.builds(
    Situation,
    now=st.just(NOW),
    champion=st.sampled_from(["", "v1", "v1"]),
    limits=st.builds(
        Monitoring,
        cooldown_days=st.floats(0, 1e6),
        windows_to_retrain=st.integers(1, 4),
        labels_to_retrain=st.integers(0, 50),
        label_floor=st.integers(10, 50),
    ),
    memory=memories,
    windows=st.lists(seen, max_size=6, unique_by=lambda one: one.window).map(
        lambda found: tuple(sorted(found, key=lambda one: one.window))
    ),
    broken=st.sampled_from(["", "", "sent is all zero"]),
    stale=st.sampled_from(["", "", "the log is stale"]),
    dropped=st.booleans(),
    labels=st.integers(0, 100),
    new_labels=st.integers(0, 100),
    asked=st.sampled_from([None, HAND, SCHEDULE]),
)


@given(situations)
def test_broken_data_is_investigated_and_never_trained_on(situation):
    found = decide(replace(situation, broken="sent is all zero", champion="v1"))
    assert found.kind == "investigate_data"


@given(situations)
def test_one_is_in_flight_at_most(situation):
    if situation.memory.in_flight or situation.memory.waiting or not situation.champion:
        assert decide(situation).kind != "retrain"


@given(situations)
def test_every_decision_is_told_in_one_line_with_its_situation(situation):
    found = decide(situation)
    assert found.words
    assert "\n" not in found.words
    assert json.loads(json.dumps(dict(found.situation))) == found.situation
    assert (found.kind in ("retrain", "wait")) <= bool(found.trigger and found.occasion)


@given(situations)
def test_what_was_acted_upon_asks_no_second_time(situation):
    found = decide(situation)
    if found.kind == "retrain":
        asked = situation.memory.asked | {(found.trigger, found.occasion, found.champion)}
        again = decide(replace(situation, memory=replace(situation.memory, asked=asked)))
        assert (again.kind, again.trigger) != ("retrain", found.trigger)


@given(situations, st.integers(0, 5))
def test_more_rejections_never_make_it_sooner(situation, more):
    later = replace(situation, memory=replace(situation.memory, rejections=situation.memory.rejections + more))
    assert cooldown_days(situation.limits, later.memory.rejections) >= cooldown_days(
        situation.limits, situation.memory.rejections
    )
    if decide(later).kind == "retrain":
        assert decide(situation).kind == "retrain"


@given(situations, st.integers(0, 400))
def test_waiting_longer_never_makes_it_too_soon(situation, days):
    later = replace(situation, now=situation.now + timedelta(days=days))
    if decide(situation).kind == "retrain":
        assert decide(later).kind == "retrain"


@given(st.lists(seen, max_size=8), st.integers(1, 4), st.data())
def test_windows_that_say_nothing_neither_make_nor_break_a_run(windows, needed, data):
    silent = st.sampled_from(
        [
            MonitoredWindow(0, "insufficient", ("a",)),
            MonitoredWindow(0, "unknown"),
            MonitoredWindow(0, "drift", ("a", "b"), "broken"),
        ]
    )
    among = list(windows)
    for _ in range(data.draw(st.integers(0, 3))):
        among.insert(data.draw(st.integers(0, len(among))), data.draw(silent))
    assert columns_drifting_in_a_row(among, needed) == columns_drifting_in_a_row(windows, needed)


@given(st.lists(seen, max_size=8), st.integers(1, 4))
def test_a_run_is_of_columns_that_alarmed_each_time(windows, needed):
    for column in columns_drifting_in_a_row(windows, needed):
        telling = [one for one in windows if one.drift in ("drift", "stable") and one.quality != "broken"]
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
    seen = []
    for number, told in enumerate(reports):
        drift = told if told in ("stable", "insufficient", "unknown") else "drift"
        columns = ["a"] if told == "broken" else list(told) if drift == "drift" else []
        data = "broken" if told == "broken" else "ok"
        seen.append(MonitoredWindow.of({"window": number, "status": drift, "drifted": columns, "data": data}))
    assert columns_drifting_in_a_row(seen, 2) == asks
