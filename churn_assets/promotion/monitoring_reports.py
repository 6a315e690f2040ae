"""The monitoring reports of a home, read for the decision to retrain.

They are read from their JSON files, tolerantly: a report that was never made, or one about another champion, is
no reason to fail, it only contributes nothing. Reports of churn_assets 0.1 (`words` for `message`) are read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from churn_assets.promotion.pointer import Champion
from churn_assets.promotion.records import MonitoredWindow, MonitoringSummary
from churn_assets.promotion.status import read_asset
from churn_assets.settings import Settings

Report = Mapping[str, Any]


@dataclass(frozen=True)
class MonitoringReports:
    """The newest reports as they are stored; one that was never made is empty."""

    quality: Report
    drift: Report
    performance: Report

    def summary(self, champion: Champion) -> MonitoringSummary:
        """What they say about this champion; what they say about another is left out."""
        quality = self.quality if _of_contract(self.quality, champion) else {}
        about_champion = bool(self.performance.get("champion", champion.version) == champion.version)
        fall = _part(self.performance, "fall") if about_champion else {}
        labels = _part(self.performance, "labels")
        final = int(labels.get("final", 0))
        return MonitoringSummary(
            windows=_windows(quality, self.drift, champion),
            broken=_broken(quality),
            stale=_stale(quality),
            pr_auc_dropped=bool(fall.get("dropped")),
            fall=_message(fall),
            labels=final,
            new_labels=int(labels.get("new", final)) if about_champion else 0,
        )


def read_reports(settings: Settings) -> MonitoringReports:
    """The reports as their assets left them in this home."""
    names = ("data_quality_report", "drift_report", "performance_report")
    quality, drift, performance = (read_asset(settings, name) or {} for name in names)
    return MonitoringReports(quality, drift, performance)


def monitored_window(report: Report) -> MonitoredWindow:
    """From one window's drift report, which also knows the status of its data."""
    drifted = tuple(str(name) for name in report.get("drifted", ()))
    drift, quality = str(report.get("status", "unknown")), str(report.get("data", "ok"))
    return MonitoredWindow(int(report["window"]), drift, drifted, quality)


def _windows(quality: Report, drift: Report, champion: Champion) -> tuple[MonitoredWindow, ...]:
    """Windows whose drift was measured against this champion: an older one's reference does not apply now."""
    if not _of_contract(drift, champion):
        return ()
    statuses = {int(window["window"]): str(window.get("status")) for window in _list(quality, "windows")}
    reports = _list(drift, "windows")
    windows = [
        monitored_window(report)
        for report in reports
        if report.get("model_version", champion.version) == champion.version
    ]
    windows = [replace(window, quality=statuses.get(window.window, window.quality)) for window in windows]
    return tuple(sorted(windows, key=lambda window: window.window))


def _broken(quality: Report) -> str:
    windows = _list(quality, "windows")
    if not windows:
        return (_message(quality) or "the data is broken") if quality.get("status") == "broken" else ""
    newest = max(windows, key=lambda window: int(window["window"]))
    if newest.get("status") != "broken":
        return ""
    return _message(newest) or f"the data of window {newest['window']} is broken"


def _stale(quality: Report) -> str:
    return (_message(_part(quality, "log")) or "the log is stale") if quality.get("stale") else ""


def _message(report: Report) -> str:
    return str(report.get("message") or report.get("words") or "")


def _of_contract(report: Report, champion: Champion) -> bool:
    return bool(report.get("fingerprint", champion.fingerprint) == champion.fingerprint)


def _part(report: Report, name: str) -> Report:
    part = report.get(name)
    return part if isinstance(part, Mapping) else {}


def _list(report: Report, name: str) -> list[Report]:
    items = report.get(name)
    reports = [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    return [item for item in reports if isinstance(item.get("window"), int)]
