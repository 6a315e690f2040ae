"""The newest monitoring reports of a home."""

from __future__ import annotations

from dataclasses import dataclass

from churn_assets.monitoring.data_quality.report import QualityReport
from churn_assets.monitoring.drift.report import DriftReport
from churn_assets.monitoring.performance.report import PerformanceReport
from churn_assets.monitoring.report_files import R, read_report
from churn_assets.settings import Settings


@dataclass(frozen=True)
class LatestReports:
    """The reports as their assets left them; None if one was never made."""

    quality: QualityReport | None = None
    drift: DriftReport | None = None
    performance: PerformanceReport | None = None


def read_latest_reports(settings: Settings) -> LatestReports:
    """The reports of this home. Raises WindowUnreadable for a file that is damaged."""
    return LatestReports(
        _read(settings, "data_quality_report", QualityReport),
        _read(settings, "drift_report", DriftReport),
        _read(settings, "performance_report", PerformanceReport),
    )


def _read(settings: Settings, asset: str, kind: type[R]) -> R | None:
    return read_report(settings.assets_dir / f"{asset}.json", kind, remedy="run `monitor`: it is made again")
