"""From reports as the assets keep them to a situation; what is missing or of another model says nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from churn_assets.contract.policy import Monitoring
from churn_assets.promotion.ledger.ledger import Ledger
from churn_assets.promotion.pointer import write_champion
from churn_assets.promotion.records import Memory
from churn_assets.promotion.retraining import Asked, MonitoredWindow
from churn_assets.promotion.retraining_inputs import Reports, decide_now, read_reports, situation_of
from churn_assets_tests.promotion.homes import AT, FINGERPRINT, champion, place

V1 = champion("v1")
QUALITY = {
    "fingerprint": FINGERPRINT,
    "status": "ok",
    "stale": False,
    "windows": [{"window": 1, "status": "broken", "words": "window 1: broken"}, {"window": 2, "status": "ok"}],
}
DRIFT = {
    "fingerprint": FINGERPRINT,
    "windows": [
        {"window": 1, "status": "drift", "drifted": ["a"], "model_version": "v0"},
        {"window": 2, "status": "drift", "drifted": ["a"], "model_version": "v1"},
        {"window": 3, "status": "stable", "drifted": [], "model_version": "v1"},
    ],
}
PERFORMANCE = {
    "fingerprint": FINGERPRINT,
    "champion": "v1",
    "labels": {"final": 900, "final_of_champion": 700, "new": 600},
    "fall": {"dropped": True, "words": "labelled PR-AUC has fallen beyond noise"},
}
ALL = Reports(QUALITY, DRIFT, PERFORMANCE)
NONE = Reports({}, {}, {})


def told(reports=ALL, model=V1, memory=Memory()):  # noqa: B008  # frozen
    return situation_of(reports, model, Monitoring(), memory, AT)


def test_what_the_reports_say_becomes_the_situation():
    found = told()
    assert found.windows == (
        MonitoredWindow(2, "drift", ("a",), "ok"),
        MonitoredWindow(3, "stable", (), "ok"),
    )  # 1 was another champion's
    assert (found.champion, found.broken, found.stale) == ("v1", "", "")
    assert (found.dropped, found.fall) == (True, "labelled PR-AUC has fallen beyond noise")
    assert (found.labels, found.new_labels) == (900, 600)


def test_a_drift_report_says_itself_that_its_data_was_broken_if_the_quality_report_has_forgotten():
    drift = {"windows": [{"window": 9, "status": "drift", "drifted": ["a"], "data": "broken"}]}
    assert told(replace(ALL, drift=drift)).windows == (MonitoredWindow(9, "drift", ("a",), "broken"),)


def test_reports_that_were_never_made_say_nothing():
    found = told(NONE)
    assert (found.windows, found.broken, found.dropped, found.labels) == ((), "", False, 0)


def test_without_a_champion_nothing_is_looked_at():
    assert told(model=None).champion == ""
    assert told(model=None).windows == ()


def test_the_newest_window_alone_says_whether_the_data_is_broken():
    newest = {"window": 3, "status": "broken", "words": "window 3: sent is all zero"}
    reports = replace(ALL, quality={**QUALITY, "windows": [newest, *QUALITY["windows"]]})
    assert told(reports).broken == "window 3: sent is all zero"
    assert told(replace(ALL, quality={"status": "broken", "words": "no window"})).broken == "no window"


def test_a_stale_log_is_told_in_its_own_words():
    stale = {**QUALITY, "stale": True, "log": {"words": "the log is stale: 60 hours"}}
    assert told(replace(ALL, quality=stale)).stale == "the log is stale: 60 hours"


@pytest.mark.parametrize("name", ["quality", "drift", "performance"])
def test_a_report_on_another_contract_or_champion_says_nothing(name):
    other = {**getattr(ALL, name), "fingerprint": "e" * 64, "champion": "v0"}
    found = told(replace(ALL, **{name: other}))
    if name == "performance":
        assert (found.dropped, found.new_labels) == (False, 0)
    elif name == "drift":
        assert found.windows == ()
    else:
        assert found.windows == told().windows


@pytest.mark.parametrize(
    ("used", "new"), [(0, 600), (250, 600), (400, 500), (900, 0), (5000, 600)], ids=lambda value: str(value)
)
def test_labels_that_a_retraining_knew_already_are_not_new(used, new):
    assert told(memory=Memory(labels_used=used)).new_labels == new


@pytest.mark.parametrize("odd", [[], {"windows": None}, {"windows": [3, {"status": "drift"}, {"window": "x"}]}])
def test_an_odd_report_is_no_reason_to_fail(odd):
    told(Reports(dict(odd), dict(odd), {"labels": [], "fall": None}))


def test_a_decision_is_kept_with_its_request_and_asked_for_once(tmp_path):
    settings = place(tmp_path)
    write_champion(tmp_path, V1)
    settings.assets_dir.mkdir()
    (settings.assets_dir / "performance_report.json").write_text(json.dumps(PERFORMANCE))
    first = decide_now(settings, Monitoring(), read_reports(settings), now=AT)
    again = decide_now(settings, Monitoring(), read_reports(settings), now=AT)
    assert (first.decision.kind, first.request) == ("retrain", "retrain-performance-900labels-v1-1")
    assert (again.decision.kind, again.request) == ("nothing", None)
    assert again.decision.words.endswith("it was acted upon already")
    assert len(Ledger(settings.ledger_path).requests()) == 1
    by_hand = decide_now(settings, Monitoring(), NONE, Asked("hand", "1", "ana", "now"), AT)
    assert (by_hand.decision.kind, by_hand.request) == ("wait", None)
