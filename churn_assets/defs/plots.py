"""Charts of assets as SVG files, for Dagster's metadata and MLflow: the drawing is that of html/charts.py."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from churn_assets.html.charts import STYLES, Axis, Line, Mark, bars, columns, intervals, lines, over_periods, percent

if TYPE_CHECKING:
    from churn_assets.evaluation.bootstrap import Figure
    from churn_assets.monitoring.performance.report import PerformanceReport
    from churn_assets.monitoring.performance.service import ServiceReport
    from churn_assets.promotion.records import Verdict
    from churn_assets.scoring.card import ProfitReport
    from churn_assets.training.candidate import Candidate
    from churn_assets.training.select import Choice

Curve = Sequence[tuple[float, float]]
Interval = tuple[float, float, float]  # value, low, high

POINTS = 400  # of a curve that is drawn 400 pixels wide
BINS = 40
LAST_DAYS = 14


def image(svg: str, alt: str) -> dg.MarkdownMetadataValue:
    """A chart as metadata, shown inline in the UI."""
    return dg.MetadataValue.md(f"![{alt}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})")


def images(charts: Mapping[str, str]) -> dict[str, dg.MarkdownMetadataValue]:
    """Charts by name as metadata."""
    return {name: image(svg, name.replace("_", " ")) for name, svg in charts.items()}


def missing_values(missing_share: Mapping[str, float], churned_share: float | None) -> str:
    """Bars of the share of missing values a column, with the churn rate in the title."""
    rate = "" if churned_share is None else f"{churned_share:.1%} churned; "
    return bars(f"{rate}missing values by column", missing_share, "missing", percent, "kept").svg()


def counts(numbers: Mapping[str, int], title: str, unit: str) -> str:
    """Bars of whole numbers, the largest on top."""
    return bars(title, numbers, unit, lambda value: f"{value:,.0f}", "churned").svg()


def customers_by(names: Mapping[str, int], title: str) -> str:
    """Upright bars of customers in the order given, for example by risk band."""
    return columns(title, names).svg()


def ladder(rows: Sequence[tuple[str, Mapping[str, Interval]]], title: str) -> str:
    """PR-AUC with its interval, a row a label, one colour a split; first row on top."""
    splits = dict.fromkeys(split for _, figures in rows for split in figures)
    styles = dict(zip(splits, STYLES, strict=False))
    marks = [
        (label, [Mark(*figures[split], style=style) for split, style in styles.items() if split in figures])
        for label, figures in rows
    ]
    legend = [(split.replace("_", " "), style) for split, style in styles.items()]
    return intervals(title, marks, Axis("PR-AUC", 0.0, 1.0), legend).svg()


def trend(
    series: Mapping[str, Sequence[float | None]], windows: Sequence[int], limit: float | None, title: str, unit: str
) -> str:
    """A line a name over windows, gaps where there is no figure, and the limit if there is one."""
    marks = {name: [None if value is None else Mark(value) for value in values] for name, values in series.items()}
    return over_periods(title, [f"{window}" for window in windows], marks, unit, limit=limit).svg()


def differences(draws: Mapping[str, Any], title: str) -> str:
    """Distributions of bootstrapped differences, one a set of rows, and the line where both are equal."""
    import numpy as np

    values = np.concatenate([np.zeros(1), *(np.asarray(drawn) for drawn in draws.values())])
    edges = np.linspace(values.min(), max(values.max(), values.min() + 1e-9), BINS + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    drawn = []
    for style, (name, samples) in zip(STYLES, draws.items(), strict=False):
        heights = np.histogram(np.asarray(samples), edges)[0].astype(float)
        points = list(zip(middles.tolist(), heights.tolist(), strict=True))
        drawn.append(Line(name, points, style, band=[(x, 0.0, y) for x, y in points]))
    most = max((y for line in drawn for _, _, y in line.band), default=1.0)
    x = Axis("difference", float(edges[0]), float(edges[-1]))
    return lines(title, x, Axis("bootstrap samples", 0.0, max(1.0, most)), drawn, marks=[0.0]).svg()


def precision_recall(curves: Mapping[str, Curve], base_rate: float, title: str) -> str:
    """Precision over recall, one line a model; dashed is the base rate, which a random list reaches."""
    drawn = [Line(name, curve, style) for style, (name, curve) in zip(STYLES, curves.items(), strict=False)]
    drawn.append(Line("random list", [(0.0, base_rate), (1.0, base_rate)], "base", dashed=True))
    return lines(title, Axis("recall", 0.0, 1.0), Axis("precision", 0.0, 1.0), drawn).svg()


def recall_precision(churned: Any, score: Any) -> Curve:
    """(recall, precision) at each cut of the ranking, thinned for drawing."""
    from churn_assets.evaluation.metrics import RankCurves, evenly_spaced

    curves = RankCurves.of(churned, score)
    points = evenly_spaced(curves.listed, POINTS)
    return list(zip(curves.recall[points].tolist(), curves.precision[points].tolist(), strict=True))


def choice_plots(
    choice: "Choice", candidates: Sequence["Candidate"], features: pa.Table, splits: pa.Table
) -> dict[str, str]:
    """By name: candidates on validation rows, the chosen model on test rows of both splits, its calibration."""
    from churn_assets.evaluation.metrics import calibration_bins, shortage
    from churn_assets.training.split import read_splits

    label = features["churned"].to_numpy()[read_splits(splits)["random"].learn]
    validated = {c.name: recall_precision(label, c.fitted["random"].out_of_fold[0]) for c in candidates}
    charts = {"candidates": precision_recall(validated, float(label.mean()), "candidates, validation rows")}
    churned, probability = choice.test["random"]
    if shortage(float(churned.sum()), len(churned)):
        return charts
    tested = {name.replace("_", " "): recall_precision(*scored) for name, scored in choice.test.items()}
    predicted, observed, _ = calibration_bins(churned, probability)
    calibration = [
        Line("perfect", [(0.0, 0.0), (1.0, 1.0)], "base", dashed=True),
        Line("churn rate", list(zip(predicted.tolist(), observed.tolist(), strict=True)), dots=True),
    ]
    unit = Axis("predicted probability", 0.0, 1.0), Axis("churn rate", 0.0, 1.0)
    return charts | {
        "precision_and_recall": precision_recall(tested, float(churned.mean()), f"{choice.name}, test rows"),
        "calibration": lines(f"{choice.name}, test rows", *unit, calibration).svg(),
    }


def verdict_plots(verdict: "Verdict") -> dict[str, str]:
    """By name: bootstrapped differences, and both precision-recall curves on the frozen holdout; none without rows."""
    if not verdict.draws or verdict.evidence is None:
        return {}
    rows = verdict.evidence
    curves = {
        f"champion {verdict.champion}": recall_precision(rows.churned, rows.champion),
        f"challenger {verdict.challenger}": recall_precision(rows.churned, rows.challenger),
    }
    return {
        "pr_auc_differences": differences(verdict.draws, "PR-AUC of the challenger minus the champion's"),
        "precision_and_recall": precision_recall(curves, float(rows.churned.mean()), "the frozen holdout"),
    }


def profit_plots(profit: "ProfitReport") -> dict[str, str]:
    """By name: the profit curve with its interval and the chosen list, and the effect of the assumptions; none without
    figures."""
    if profit.chosen is None:
        return {}
    ends = [0.0, *(end for point in profit.curve for end in (point.low, point.high))]
    points = [(point.contacted_share, point.profit) for point in profit.curve]
    curve = Line("profit", points, band=[(point.contacted_share, point.low, point.high) for point in profit.curve])
    zero = Line("no profit", [(0.0, 0.0), (1.0, 0.0)], "base", dashed=True)
    x = Axis("customers contacted, riskiest first", 0.0, 1.0, percent)
    y = Axis("profit per customer", min(ends), max(ends))
    swings = [(s.assumption.replace("_", " "), [Mark(None, s.profit_low, s.profit_high)]) for s in profit.tornado]
    reach = [end for swing in profit.tornado for end in (swing.profit_low, swing.profit_high)]
    effect = Axis("profit per customer", min(0.0, *reach), max(0.0, *reach))
    title, chosen = "one assumption halved, or increased by half", profit.chosen
    return {
        "profit": lines("profit on test rows", x, y, [curve, zero], [chosen.contacted_share]).svg(),
        "profit_assumptions": intervals(title, swings, effect, marks=[chosen.profit]).svg(),
    }


def performance_plots(report: "PerformanceReport") -> dict[str, str]:
    """By name: PR-AUC and calibration over periods, volume and latency over days. An empty chart is left out."""
    names = [row.period for row in report.periods]
    realized = [row.realized.metrics for row in report.periods]
    estimated = [row.estimated.metrics for row in report.periods]
    pr_auc = {
        "labelled": [_mark(metrics.pr_auc) if metrics else None for metrics in realized],
        "estimated, before labels": [_mark(metrics.pr_auc) if metrics else None for metrics in estimated],
    }
    calibration = [metrics.calibration if metrics else None for metrics in realized]
    gaps = [Mark(c.gap, c.low, c.high) if c else None for c in calibration]
    charts = {}
    if any(mark for marks in pr_auc.values() for mark in marks):
        charts["pr_auc"] = over_periods("PR-AUC by period", names, pr_auc, "PR-AUC").svg()
    if any(gaps):
        title = "churned share minus mean score"
        charts["calibration"] = over_periods(f"{title}, by period", names, {"gap": gaps}, title, zero=True).svg()
    return charts | _service_plots(report.service)


def _service_plots(service: "ServiceReport | None") -> dict[str, str]:
    if service is None or not service.by_day:
        return {}
    days = service.by_day
    series = {name: [getattr(row, f"{name}_ms") for row in days] for name in ("p50", "p95", "p99")}
    latency = {name: [None if ms is None else Mark(ms) for ms in values] for name, values in series.items()}
    volume = {row.day: row.predictions for row in days[-LAST_DAYS:]}
    charts = {"volume": columns("predictions a day", volume, "predictions").svg()}
    if any(mark for marks in latency.values() for mark in marks):
        charts["latency"] = over_periods("latency by day", [row.day for row in days], latency, "ms").svg()
    return charts


def _mark(figure: "Figure") -> Mark:
    return Mark(figure.value, figure.low, figure.high)
