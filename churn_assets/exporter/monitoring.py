"""Windows, their data quality and drift, labels, and how well the champion does."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from churn_assets.contract.load import load_contract
from churn_assets.evaluation.bootstrap import Figure
from churn_assets.exporter.metrics import Samples
from churn_assets.monitoring.data_quality import WindowQuality
from churn_assets.monitoring.drift.report import Status as DriftStatus
from churn_assets.monitoring.drift.report import WindowDrift
from churn_assets.monitoring.findings import Finding
from churn_assets.monitoring.latest import LatestReports, read_latest_reports
from churn_assets.monitoring.open_window import WINDOW, read_open_window_file
from churn_assets.monitoring.performance.labels import STATES
from churn_assets.monitoring.performance.report import PerformanceReport
from churn_assets.monitoring.windows import DRIFT_JSON, QUALITY_JSON, QualityStatus, read_report
from churn_assets.prediction_log.warehouse.published import stamp_of
from churn_assets.promotion.pointer import read_champion
from churn_assets.settings import Settings

REPORTS = ("data_quality_report", "drift_report", "performance_report")
_METRICS = ("pr_auc", "roc_auc", "log_loss")


@dataclass(frozen=True)
class WindowResult:
    """What is counted of a window: its statuses, the columns that drift, and the rows that are outliers."""

    quality: str
    drift: str
    drifted: tuple[str, ...]
    outliers: int


@dataclass
class WindowHistory:
    """Results of every window that a home ever closed; a window's reports are read once, and again if they change."""

    settings: Settings
    _known: dict[Path, tuple[object, WindowResult]] = field(default_factory=dict)

    def results(self) -> list[WindowResult]:
        """Those with both reports. Raises WindowUnreadable."""
        return [result for path in self._folders() if (result := self._read(path)) is not None]

    def _folders(self) -> list[Path]:
        folder = self.settings.monitoring_dir
        return sorted(path.parent for path in folder.glob(f"*/*/{WINDOW}")) if folder.is_dir() else []

    def _read(self, folder: Path) -> WindowResult | None:
        stamp = stamp_of(folder / QUALITY_JSON), stamp_of(folder / DRIFT_JSON)
        if None in stamp:
            return None
        known = self._known.get(folder)
        if known is not None and known[0] == stamp:
            return known[1]
        quality = read_report(folder / QUALITY_JSON, WindowQuality)
        drift = read_report(folder / DRIFT_JSON, WindowDrift)
        if quality is None or drift is None:
            return None
        outliers = round(drift.outliers.rows * (drift.outliers.share or 0.0)) if drift.outliers else 0
        result = WindowResult(quality.status, drift.status, drift.drifted, outliers)
        self._known[folder] = stamp, result
        return result


def read_windows_part(settings: Settings, history: WindowHistory, samples: Samples) -> None:
    """The newest window, the open one, and counts over all. Raises WindowUnreadable, ContractError, PointerCorrupt."""
    for name in REPORTS:
        stamp = stamp_of(settings.assets_dir / f"{name}.json")
        samples.set("churn_report_timestamp_seconds", stamp[2] / 1e9 if stamp else None, report=name)
    _count_windows(history, samples)
    open_window = read_open_window_file(settings)
    if open_window is not None:
        samples.set("churn_open_window_customers", open_window.customers)
        samples.set("churn_open_window_wanted_customers", open_window.wanted)
    reports = read_latest_reports(settings)
    _show_newest(reports, samples)
    if read_champion(settings.home) is not None:
        limits = load_contract(settings.contract_path).monitoring
        samples.set("churn_drift_effect_limit", limits.effect)


def read_performance_part(settings: Settings, samples: Samples) -> None:
    """Labels, and the newest figures with final labels, estimated before them, and of the champion's card. Raises
    WindowUnreadable."""
    report = read_latest_reports(settings).performance
    if report is None:
        return
    for state in STATES:
        samples.set("churn_labels", report.labels.counts.states.get(state, 0), state=state)
    samples.set("churn_labels_new", report.labels.new)
    samples.set("churn_performance_dropped", report.fall.dropped)
    card = report.fall.card
    if card is not None:
        samples.set("churn_pr_auc", card.pr_auc, basis="card")
        samples.set("churn_pr_auc_low", card.low, basis="card")
        samples.set("churn_pr_auc_high", card.high, basis="card")
    _show_performance(report, samples)


def _count_windows(history: WindowHistory, samples: Samples) -> None:
    results = history.results()
    counts = Counter((result.quality, result.drift) for result in results)
    for quality in get_args(QualityStatus):
        for drift in get_args(DriftStatus):
            samples.set("churn_windows_total", counts[quality, drift], quality=quality, drift=drift)
    drifted = Counter(column for result in results for column in result.drifted)
    for column, count in drifted.items():
        samples.set("churn_drift_detected_total", count, column=column)
    if results:
        samples.set("churn_outlier_rows_total", sum(result.outliers for result in results))


def _show_newest(reports: LatestReports, samples: Samples) -> None:
    quality, drift = reports.quality, reports.drift
    newest = quality.windows[-1] if quality and quality.windows else None
    quality_status = newest.status if newest else "insufficient"
    samples.one_of("churn_window_quality", "status", get_args(QualityStatus), quality_status)
    if newest is not None:
        _show_findings(newest.findings, samples)
        for column, share in newest.missing.items():
            samples.set("churn_window_missing_ratio", share, column=column)
    window = drift.windows[-1] if drift and drift.windows else None
    drift_status = window.status if window else "insufficient"
    samples.one_of("churn_window_drift", "status", get_args(DriftStatus), drift_status)
    if window is not None:
        _show_drift(window, samples)


def _show_findings(findings: tuple[Finding, ...], samples: Samples) -> None:
    for finding in findings:
        samples.add("churn_window_findings", 1, check=finding.check, blocks=str(finding.blocks).lower())


def _show_drift(window: WindowDrift, samples: Samples) -> None:
    samples.set("churn_window", window.window)
    samples.set("churn_window_end_timestamp_seconds", dt.datetime.fromisoformat(window.last_scored_at))
    samples.set("churn_window_customers", window.customers)
    samples.set("churn_window_score_mean", window.score.mean)
    samples.set("churn_window_positive_ratio", window.score.positive_share)
    samples.set("churn_window_outlier_ratio", window.outliers.share if window.outliers else None)
    for column in window.columns:
        samples.set("churn_drift_effect", column.effect, column=column.column, measure=column.effect_measure or "")
        samples.set("churn_drift_psi", column.psi, column=column.column)
        samples.set("churn_drift_column", column.status == "drift", column=column.column)
        if column.status != "unknown":  # counted from its first window on
            samples.add("churn_drift_detected_total", 0, column=column.column)


def _show_performance(report: PerformanceReport, samples: Samples) -> None:
    """The newest period of each basis that has figures."""
    for period in report.periods:
        for basis, part in (("matured", period.realized), ("estimated", period.estimated)):
            if part.metrics is None:
                continue
            samples.set("churn_performance_customers", part.rows, basis=basis)
            for name in _METRICS:
                figure: Figure = getattr(part.metrics, name)
                samples.set(f"churn_{name}", figure.value, basis=basis)
                samples.set(f"churn_{name}_low", figure.low, basis=basis)
                samples.set(f"churn_{name}_high", figure.high, basis=basis)
