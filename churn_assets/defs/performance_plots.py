"""The trend plots of the performance report; a plot that has nothing to show is not drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

from churn_assets.defs import plots


def performance_plots(found: Mapping[str, Any]) -> dict[str, bytes]:
    """PNGs by name from the report's JSON: PR-AUC and calibration over periods, volume and latency over days."""
    periods = found["periods"]
    names = [row["period"] for row in periods]
    measured = [row["measured"] if row["measured"]["status"] == "ok" else None for row in periods]
    estimated = [row["estimated"] if row["estimated"]["status"] == "estimated" else None for row in periods]
    drawn = {}
    pr_auc = {"labelled": _spread(measured, "pr_auc"), "estimated, before labels": _spread(estimated, "pr_auc")}
    if any(point for line in pr_auc.values() for point in line):
        drawn["pr_auc"] = plots.over_periods(names, pr_auc, "PR-AUC", "PR-AUC by period")
    gaps = [None if row is None else (row["calibration"]["gap"], *_ends(row["calibration"])) for row in measured]
    if any(gaps):
        title = "churned share minus mean score"
        drawn["calibration"] = plots.over_periods(names, {"gap": gaps}, title, f"{title}, by period", zero=True)
    return drawn | _service(found["service"])


def _service(service: Mapping[str, Any] | None) -> dict[str, bytes]:
    if service is None or not service["by_day"]:
        return {}
    days = service["by_day"]
    names = [row["day"] for row in days]
    lines = {
        name: [None if row[f"{name}_ms"] is None else (row[f"{name}_ms"],) * 3 for row in days]
        for name in ("p50", "p95", "p99")
    }
    drawn = {"volume": plots.columns({row["day"]: row["predictions"] for row in days[-14:]}, "predictions a day")}
    if any(point for line in lines.values() for point in line):
        drawn["latency"] = plots.over_periods(names, lines, "ms", "latency by day")
    return drawn


def _spread(rows: Sequence[Mapping[str, Any] | None], name: str) -> list[plots.Point]:
    return [None if row is None else (row[name], row[f"{name}_low"], row[f"{name}_high"]) for row in rows]


def _ends(row: Mapping[str, Any]) -> tuple[float, float]:
    return row["low"], row["high"]
