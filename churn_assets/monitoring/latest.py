"""The newest monitoring reports of a home, and what they say about one champion for the retraining decision."""

from __future__ import annotations

from dataclasses import dataclass, replace

from churn_assets.monitoring.data_quality.report import QualityReport
from churn_assets.monitoring.drift.report import DriftReport, monitored_window
from churn_assets.monitoring.performance.report import PerformanceReport
from churn_assets.monitoring.report_files import R, read_report
from churn_assets.promotion.pointer import Champion
from churn_assets.promotion.records import MonitoredWindow, MonitoringSummary
from churn_assets.settings import Settings


@dataclass(frozen=True)
class LatestReports:
    """The reports as their assets left them; None if one was never made."""

    quality: QualityReport | None = None
    drift: DriftReport | None = None
    performance: PerformanceReport | None = None

    def summary(self, champion: Champion) -> MonitoringSummary:
        """What they say about this champion; what they say about another is left out."""
        quality = self.quality if self.quality and self.quality.fingerprint == champion.fingerprint else None
        performance = self.performance
        about_champion = performance is not None and performance.champion == champion.version
        newest = quality.windows[-1] if quality and quality.windows else None
        stale = quality.log if quality and quality.log and quality.log.stale else None
        return MonitoringSummary(
            windows=self._windows(champion, quality),
            broken=newest.message if newest and newest.status == "broken" else None,
            stale=stale.message if stale else None,
            pr_auc_dropped=about_champion and performance is not None and performance.fall.dropped,
            fall=performance.fall.message if performance and about_champion else "",
            labels=performance.labels.final if performance else 0,
            new_labels=performance.labels.new if performance and about_champion else 0,
        )

    def _windows(self, champion: Champion, quality: QualityReport | None) -> tuple[MonitoredWindow, ...]:
        """Windows whose drift was measured against this champion: an older one's reference does not apply now."""
        if self.drift is None or self.drift.fingerprint != champion.fingerprint:
            return ()
        statuses = {window.window: window.status for window in quality.windows} if quality else {}
        windows = [
            replace(monitored_window(report), quality=statuses.get(report.window, report.data))
            for report in self.drift.windows
            if report.model_version == champion.version
        ]
        return tuple(sorted(windows, key=lambda window: window.window))


def read_latest_reports(settings: Settings) -> LatestReports:
    """The reports of this home. Raises WindowUnreadable for a file that is damaged."""
    return LatestReports(
        _read(settings, "data_quality_report", QualityReport),
        _read(settings, "drift_report", DriftReport),
        _read(settings, "performance_report", PerformanceReport),
    )


def _read(settings: Settings, asset: str, kind: type[R]) -> R | None:
    return read_report(settings.assets_dir / f"{asset}.json", kind, remedy="run `monitor`: it is made again")
