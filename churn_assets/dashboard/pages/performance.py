"""Performance: metrics of labelled customers by window and version, and the estimate before labels beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from churn_assets.dashboard.sources import Sources, attempt
from churn_assets.evaluation.bootstrap import Figure
from churn_assets.html.charts import Chart, Mark, over_periods
from churn_assets.monitoring.performance.report import PerformanceReport, PeriodPerformance


@dataclass(frozen=True)
class Performance:
    """The page: the report as monitoring left it, None before the first."""

    report: PerformanceReport | None
    problems: tuple[str, ...]


def read_performance(sources: Sources, parameters: Mapping[str, str]) -> Performance:
    """The newest report."""
    problems = list[str]()
    report = attempt(problems, sources.performance)
    return Performance(report, tuple(problems))


def draw_performance(page: Performance) -> dict[str, Chart]:
    """Metrics by period with their intervals: with final labels, and estimated before them."""
    periods = page.report.periods if page.report else ()
    if not periods:
        return {}
    names = [period.period for period in periods]
    charts = {}
    for metric, title in (("pr_auc", "PR-AUC"), ("log_loss", "log-loss")):
        series = {
            "with final labels": [_mark(_realized(period, metric)) for period in periods],
            "estimated before labels": [_mark(_estimated(period, metric)) for period in periods],
        }
        charts[metric] = over_periods(title, names, series, title)
    gaps = [p.realized.metrics.calibration if p.realized.metrics else None for p in periods]
    if any(gap is not None for gap in gaps):
        marks = [None if gap is None else Mark(gap.gap, gap.low, gap.high) for gap in gaps]
        charts["calibration"] = over_periods(
            "Calibration", names, {"churned share less mean score": marks}, "gap", zero=True
        )
    capacity = [p.realized.metrics.at_capacity if p.realized.metrics else None for p in periods]
    if any(entry is not None for entry in capacity):
        marks = [None if entry is None else Mark(entry.precision, entry.low, entry.high) for entry in capacity]
        charts["capacity"] = over_periods("Precision at capacity", names, {"precision": marks}, "precision")
    return charts


def _realized(period: PeriodPerformance, metric: str) -> Figure | None:
    return getattr(period.realized.metrics, metric) if period.realized.metrics else None


def _estimated(period: PeriodPerformance, metric: str) -> Figure | None:
    return getattr(period.estimated.metrics, metric) if period.estimated.metrics else None


def _mark(figure: Figure | None) -> Mark | None:
    return None if figure is None else Mark(figure.value, figure.low, figure.high)
