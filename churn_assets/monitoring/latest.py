"""The newest monitoring reports of a home, and what they say about one champion for the retraining decision."""

from __future__ import annotations

from dataclasses import dataclass, replace

from churn_assets.monitoring.data_quality import QualityReport
from churn_assets.monitoring.drift.report import DriftReport, monitored_window
from churn_assets.monitoring.performance.report import PerformanceReport
from churn_assets.monitoring.windows import R, read_report
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
        own = performance if performance and performance.champion == champion.version else None
        newest = quality.windows[-1] if quality and quality.windows else None
        return MonitoringSummary(
            windows=self._windows(champion, quality),
            broken=newest.message if newest and newest.status == "broken" else None,
            stale=quality.log.message if quality and quality.log and quality.log.stale else None,
            pr_auc_dropped=own is not None and own.fall.dropped,
            fall=own.fall.message if own else "",
            labels=performance.labels.events if performance else 0,
            new_labels=own.labels.new if own and not own.labels.selective else 0,
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

    def read(asset: str, kind: type[R]) -> R | None:
        return read_report(settings.assets_dir / f"{asset}.json", kind, remedy="run `monitor`: it is made again")

    return LatestReports(
        read("data_quality_report", QualityReport),
        read("drift_report", DriftReport),
        read("performance_report", PerformanceReport),
    )
