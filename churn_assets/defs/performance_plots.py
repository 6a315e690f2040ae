"""The trend plots of the performance report; a plot that has nothing to show is not drawn."""

from typing import TYPE_CHECKING

from churn_assets.defs import plots

if TYPE_CHECKING:
    from churn_assets.monitoring.performance.realized import Figure
    from churn_assets.monitoring.performance.report import PerformanceReport
    from churn_assets.monitoring.performance.service import ServiceReport


def performance_plots(report: "PerformanceReport") -> dict[str, bytes]:
    """PNGs by name: PR-AUC and calibration over periods, volume and latency over days."""
    names = [row.period for row in report.periods]
    realized = [row.realized.metrics for row in report.periods]
    estimated = [row.estimated.metrics for row in report.periods]
    drawn = {}
    pr_auc = {
        "labelled": [_point(metrics.pr_auc) if metrics else None for metrics in realized],
        "estimated, before labels": [_point(metrics.pr_auc) if metrics else None for metrics in estimated],
    }
    if any(point for line in pr_auc.values() for point in line):
        drawn["pr_auc"] = plots.over_periods(names, pr_auc, "PR-AUC", "PR-AUC by period")
    gaps = [
        (metrics.calibration.gap, metrics.calibration.low, metrics.calibration.high) if metrics else None
        for metrics in realized
    ]
    if any(gaps):
        title = "churned share minus mean score"
        drawn["calibration"] = plots.over_periods(names, {"gap": gaps}, title, f"{title}, by period", zero=True)
    return drawn | _service(report.service)


def _service(service: "ServiceReport | None") -> dict[str, bytes]:
    if service is None or not service.by_day:
        return {}
    days = service.by_day
    names = [row.day for row in days]
    latencies = {
        "p50": [row.p50_ms for row in days],
        "p95": [row.p95_ms for row in days],
        "p99": [row.p99_ms for row in days],
    }
    lines = {name: [None if value is None else (value,) * 3 for value in values] for name, values in latencies.items()}
    drawn = {"volume": plots.columns({row.day: row.predictions for row in days[-14:]}, "predictions a day")}
    if any(point for line in lines.values() for point in line):
        drawn["latency"] = plots.over_periods(names, lines, "ms", "latency by day")
    return drawn


def _point(figure: "Figure") -> tuple[float, float, float]:
    return figure.value, figure.low, figure.high
