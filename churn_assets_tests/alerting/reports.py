"""Monitoring reports by what matters to an alert."""

from __future__ import annotations

from typing import Any, Literal

from churn_assets.monitoring.data_quality import LogAge, QualityReport, Traffic, WindowQuality
from churn_assets.monitoring.drift.report import DriftReport, ScoreSummary, WindowDrift
from churn_assets.monitoring.findings import Check, Finding
from churn_assets.monitoring.performance.estimated import TrackRecord
from churn_assets.monitoring.performance.labels import LabelCounts
from churn_assets.monitoring.performance.realized import CardComparison
from churn_assets.monitoring.performance.report import EstimateSummary, LabelSummary, PerformanceReport

FINGERPRINT = "ab" * 32
STALE = LogAge(10, 0, None, 60.0, True, "the log is stale: its newest prediction is 60 hours old")
FRESH = LogAge(10, 0, None, 1.0, False, "")


def finding(check: Check, column: str, message: str, blocks: bool = True) -> Finding:
    """A finding without figures."""
    return Finding(check, column, "", "", message, blocks)


BROKEN = finding("spike", "esent", "'esent' is 0 in 100 % of rows, usually in 3 %")
GAP = finding("gap", "(traffic)", "no prediction for 50 hours", blocks=False)


def _window(number: int) -> dict[str, Any]:
    rows = {"from_seq": 0, "to_seq": 9, "customers": 10, "rows": 10, "other_rows": 0}
    instants = {"first_scored_at": "2026-01-01", "last_scored_at": "2026-01-02"}
    return {"window": number, "fingerprint": FINGERPRINT, **rows, **instants, "closed_by": "customers"}


def window_quality(number: int, status: str, *findings: Finding, message: str = "") -> WindowQuality:
    """The quality report on a window."""
    traffic = Traffic(10, 10, 10.0, 0.0, 0.1, 0, {})
    about: dict[str, Any] = {"status": status, "message": message, "model_version": "v1"}
    return WindowQuality(**_window(number), findings=findings, missing={}, traffic=traffic, **about)


def quality_report(*windows: WindowQuality, log: LogAge | None = FRESH) -> QualityReport:
    """The quality report over windows."""
    stale = log is not None and log.stale
    status = windows[-1].status if windows else "insufficient"
    return QualityReport(
        status=status, message="", fingerprint=FINGERPRINT, model_version="v1", stale=stale, log=log, windows=windows
    )


def window_drift(number: int, status: str, *drifted: str, model_version: str = "v1", data: str = "ok") -> WindowDrift:
    """The drift report on a window."""
    about: dict[str, Any] = {
        "status": status,
        "data": data,
        "message": "",
        "score": ScoreSummary(None, None, 0),
        "scored_by_others": 0,
        "columns": (),
    }
    columns = drifted if status == "drift" else ()
    return WindowDrift(**_window(number), drifted=columns, model_version=model_version, **about)


def drift_report(*windows: WindowDrift) -> DriftReport:
    """The drift report over windows."""
    status = windows[-1].status if windows else "insufficient"
    return DriftReport(status=status, message="", fingerprint=FINGERPRINT, model_version="v1", windows=windows)


def performance_report(
    status: Literal["ok", "insufficient", "one_class", "unknown"],
    dropped: bool = False,
    champion: str | None = "v1",
    final: int = 0,
    new: int = 0,
) -> PerformanceReport:
    """A performance report with this comparison with the card."""
    return PerformanceReport(
        fingerprint=FINGERPRINT,
        champion=champion,
        champion_fingerprint=FINGERPRINT,
        made_at="2026-02-01T00:00:00+00:00",
        label_floor=500,
        labels=LabelSummary(final, final, new, 0, LabelCounts(), events=final),
        periods=(),
        versions=(),
        fall=CardComparison(status, "labelled PR-AUC has fallen", dropped=dropped),
        pr_auc_dropped=dropped,
        estimates=EstimateSummary(TrackRecord((), 0, "")),
        service=None,
        messages=(),
    )
