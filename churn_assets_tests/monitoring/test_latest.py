"""From the reports of a home to a summary for the retraining decision; a report on another model adds nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from churn_assets.contract.limits import Monitoring
from churn_assets.monitoring.latest import LatestReports, read_latest_reports
from churn_assets.monitoring.windows import write_report
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import write_champion
from churn_assets.promotion.records import LedgerState, MonitoredWindow
from churn_assets.promotion.retraining import ExternalTrigger, RetrainingInputs
from churn_assets.promotion.service import PromotionService
from churn_assets_tests.alerting.reports import (
    STALE,
    drift_report,
    performance_report,
    quality_report,
    window_drift,
    window_quality,
)
from churn_assets_tests.promotion.homes import AT, FINGERPRINT, champion, place

V1 = champion("v1")
BROKEN = window_quality(1, "broken", message="window 1: broken")
ALL = LatestReports(
    replace(quality_report(BROKEN, window_quality(2, "ok")), fingerprint=FINGERPRINT),
    replace(
        drift_report(
            window_drift(1, "drift", "a", model_version="v0"), window_drift(2, "drift", "a"), window_drift(3, "stable")
        ),
        fingerprint=FINGERPRINT,
    ),
    performance_report("ok", dropped=True, final=900, new=600),
)


def test_the_reports_become_a_summary():
    summary = ALL.summary(V1)
    assert summary.windows == (
        MonitoredWindow(2, "drift", ("a",), "ok"),
        MonitoredWindow(3, "stable", (), "ok"),
    )  # 1 was another champion's
    assert (summary.broken, summary.stale) == (None, None)
    assert (summary.pr_auc_dropped, summary.fall) == (True, "labelled PR-AUC has fallen")
    assert (summary.labels, summary.new_labels) == (900, 600)


def test_a_drift_report_knows_that_its_data_was_broken_if_the_quality_report_has_no_such_window():
    drift = replace(ALL.drift, windows=(window_drift(9, "drift", "a", data="broken"),))
    assert replace(ALL, drift=drift).summary(V1).windows == (MonitoredWindow(9, "drift", ("a",), "broken"),)


def test_reports_that_were_never_made_add_nothing():
    summary = LatestReports().summary(V1)
    assert (summary.windows, summary.broken, summary.pr_auc_dropped, summary.labels) == ((), None, False, 0)


def test_without_a_champion_no_report_is_summarized(tmp_path):
    def summarize(champion):
        raise AssertionError("there is no champion to summarize for")

    record = PromotionService.of(place(tmp_path)).decide_retraining(Monitoring(), summarize)
    assert (record.decision.kind, record.decision.champion, record.decision.inputs.windows) == ("nothing", "", ())


def test_the_newest_window_alone_says_whether_the_data_is_broken():
    newest = window_quality(3, "broken", message="window 3: sent is all zero")
    quality = replace(ALL.quality, windows=(*ALL.quality.windows, newest))
    assert replace(ALL, quality=quality).summary(V1).broken == "window 3: sent is all zero"


def test_a_stale_log_is_named_with_its_age():
    quality = replace(ALL.quality, stale=True, log=STALE)
    assert replace(ALL, quality=quality).summary(V1).stale == STALE.message


@pytest.mark.parametrize("name", ["quality", "drift", "performance"])
def test_a_report_on_another_contract_or_champion_adds_nothing(name):
    change = {"champion": "v0"} if name == "performance" else {"fingerprint": "e" * 64}
    summary = replace(ALL, **{name: replace(getattr(ALL, name), **change)}).summary(V1)
    if name == "performance":
        assert (summary.pr_auc_dropped, summary.new_labels) == (False, 0)
    elif name == "drift":
        assert summary.windows == ()
    else:
        assert summary.windows == ALL.summary(V1).windows


@pytest.mark.parametrize(
    ("used", "new"), [(0, 600), (250, 600), (400, 500), (900, 0), (5000, 600)], ids=lambda value: str(value)
)
def test_labels_that_a_retraining_has_used_already_are_not_new(used, new):
    inputs = RetrainingInputs(AT, "v1", Monitoring(), LedgerState(labels_used=used), ALL.summary(V1))
    assert inputs.new_labels == new


def test_labels_that_are_no_fair_sample_start_no_retraining():
    labels = replace(ALL.performance.labels, selective="only churners are reported")
    performance = replace(ALL.performance, labels=labels)
    assert replace(ALL, performance=performance).summary(V1).new_labels == 0


def test_a_decision_is_stored_with_its_request_and_made_once(tmp_path):
    settings = place(tmp_path)
    write_champion(tmp_path, V1)
    write_report(settings.assets_dir / "performance_report.json", ALL.performance)
    service = PromotionService.of(settings)
    first = service.decide_retraining(Monitoring(), read_latest_reports(settings).summary)
    again = service.decide_retraining(Monitoring(), read_latest_reports(settings).summary)
    assert (first.decision.kind, first.request) == ("retrain", "retrain-performance-900labels-v1-1")
    assert (again.decision.kind, again.request) == ("nothing", None)
    assert again.decision.message.endswith("it already led to a retraining")
    assert len(Ledger(settings.ledger_path).requests()) == 1
    by_hand = service.decide_retraining(
        Monitoring(), LatestReports().summary, ExternalTrigger("hand", "1", "ana", "now")
    )
    assert (by_hand.decision.kind, by_hand.request) == ("wait", None)
