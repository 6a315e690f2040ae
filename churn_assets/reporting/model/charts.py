"""The charts of the model report: curves of both splits, the ladder, importance, and what the score depends on."""

from __future__ import annotations

from collections.abc import Sequence

from churn_assets.html.charts import (
    Axis,
    BarRows,
    Chart,
    IntervalRows,
    Line,
    Mark,
    Row,
    compact,
    lines,
    percent,
    scatter,
)
from churn_assets.leakage.audit import Audit, Rung
from churn_assets.leakage.ladder import AgeBand, Figure
from churn_assets.reporting.model.facts import Dependence, Report

TEST, OUT_OF_TIME = ("test", "random split", "a"), ("oot", "out of time", "b")
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SHOWN_COLUMNS = 8  # in 'Each column alone'
SHOWN_FEATURES = 15


def sides(report: Report) -> list[tuple[str, str, str]]:
    """(name, title, style) of each split that the report has."""
    return [side for side in (TEST, OUT_OF_TIME) if side[0] in report.sides]


def curves(report: Report) -> dict[str, Chart]:
    """The curves of test customers by name: for the page, Dagster's metadata and MLflow."""
    return {
        "precision_recall": precision_recall(report),
        "roc": roc(report),
        "gains": gains(report),
        "calibration": calibration(report),
    }


def precision_recall(report: Report) -> Chart:
    """Precision over recall; dashed is the precision of a random list."""
    drawn = []
    for side, title, style in sides(report):
        curve = report.sides[side].curves
        drawn.append(Line(title, curve.pr, style))
        base = curve.base_rate
        drawn.append(Line(f"random list, {title}", [(0.0, base), (1.0, base)], style, dashed=True))
    return lines("Precision over recall", _unit("recall"), _unit("precision"), drawn)


def roc(report: Report) -> Chart:
    """True positive rate (recall) over false positive rate."""
    drawn = [Line(title, report.sides[side].curves.roc, style) for side, title, style in sides(report)]
    drawn.append(Line("random list", [(0.0, 0.0), (1.0, 1.0)], "base", dashed=True))
    return lines("ROC curve", _unit("false positive rate"), _unit("true positive rate (recall)"), drawn)


def gains(report: Report) -> Chart:
    """Recall over the share of customers contacted."""
    drawn = [Line(title, report.sides[side].curves.gains, style) for side, title, style in sides(report)]
    drawn.append(Line("random list", [(0.0, 0.0), (1.0, 1.0)], "base", dashed=True))
    x = Axis("customers contacted, riskiest first", 0.0, 1.0, percent, TICKS)
    return lines("Cumulative gains", x, Axis("recall", 0.0, 1.0, percent, TICKS), drawn)


def calibration(report: Report) -> Chart:
    """Churn rate over predicted probability."""
    drawn = [Line("perfect", [(0.0, 0.0), (1.0, 1.0)], "base", dashed=True)]
    for side, title, style in sides(report):
        bins = report.sides[side].curves.calibration
        points = [(b.predicted, b.observed) for b in bins]
        band = [(b.predicted, b.low, b.high) for b in bins]
        drawn.append(Line(title, points, style, dots=True, band=band))
    return lines("Calibration", _unit("predicted probability"), _unit("churn rate"), drawn)


def profit(report: Report) -> Chart:
    """Profit per customer over the share contacted; the vertical is the chosen threshold."""
    drawn, values = [], [0.0]
    for side, title, style in sides(report):
        curve = report.sides[side].curves.profit
        values += [value for _, _, low, high in curve for value in (low, high)]
        band = [(share, low, high) for share, _, low, high in curve]
        drawn.append(Line(title, [(share, value) for share, value, _, _ in curve], style, band=band))
    drawn.append(Line("no profit", [(0.0, 0.0), (1.0, 0.0)], "base", dashed=True))
    test = report.sides["test"]
    chosen = (test.confusion.true_positives + test.confusion.false_positives) / test.rows
    x = Axis("customers contacted, riskiest first", 0.0, 1.0, percent, TICKS)
    y = Axis("profit per customer", min(values), max(values), compact)
    return lines("Profit", x, y, drawn, marks=[chosen])


def ladder_legend(report: Report) -> tuple[tuple[str, str], ...]:
    """The splits of the ladder's rows."""
    texts = {"test": "random split", "oot": "out of time: newest customers"}
    return tuple((texts[side], style) for side, _, style in sides(report))


def rungs(report: Report) -> IntervalRows:
    """The audit's rungs; without an audit the chosen model itself."""
    legend = ladder_legend(report)
    if report.ladder is not None:
        rows = [Row(rung.label, _marks(rung.random, rung.out_of_time), _left_out(rung)) for rung in report.ladder.rungs]
        return IntervalRows(rows, 0.0, 1.0, legend=legend)
    marks = []
    for side, _, style in sides(report):
        figure, base = report.sides[side].metrics["pr_auc"], report.sides[side].curves.base_rate
        marks.append(Mark(figure.value, figure.low, figure.high, style, base))
    return IntervalRows([Row("everything", marks, "the chosen model itself")], 0.0, 1.0, legend=legend)


def age_bands(bands: Sequence[AgeBand]) -> IntervalRows:
    """PR-AUC by age of the customer."""
    rows = []
    for band in bands:
        note = f"{band.rows:,} customers, {band.churners:,} churned"
        note += ": too few to say" if band.pr_auc is None else ""
        rows.append(Row(band.label, [Mark(band.pr_auc, band.low, band.high, "a", band.base_rate)], note))
    return IntervalRows(rows, 0.0, 1.0)


def single_columns(ladder: Audit, legend: tuple[tuple[str, str], ...]) -> tuple[IntervalRows | None, int]:
    """The strongest columns, each with its own features only, and how many more there are."""
    alone = {name: column for name, column in ladder.columns.items() if column.alone}
    strongest = sorted(alone, key=lambda name: -alone[name].alone["random"].pr_auc)[:SHOWN_COLUMNS]
    if not strongest:
        return None, 0
    rows = []
    for name in strongest:
        note = f"PR-AUC lift lost when removed: {alone[name].headline_loss_when_removed:.0%}"
        rows.append(Row(name, _marks(alone[name].alone["random"], alone[name].alone.get("out_of_time")), note))
    return IntervalRows(rows, 0.0, 1.0, legend=legend), len(alone) - len(strongest)


def importance_bars(report: Report) -> BarRows:
    """The most important features."""
    importance = report.importance
    rows = [
        Row(row.feature, [Mark(row.value)], report.feature_docs.get(row.feature, ""))
        for row in importance.features[:SHOWN_FEATURES]
    ]
    return BarRows(rows, ".3f" if importance.method == "shapley" else ".4f")


def dependence(report: Report) -> list[tuple[Dependence, Chart | BarRows | None]]:
    """A chart for each of the first features, on one scale; None where the value is never known."""
    features = report.importance.dependence
    shapley = report.importance.method == "shapley"
    top = max((abs(y) for d in features for _, y in [*(d.dots or []), *(d.trend or [])]), default=1.0)
    y = Axis("change of the log-odds" if shapley else "difference in log-odds", -top, top)
    return [(feature, _dependence(feature, y)) for feature in features]


def _dependence(feature: Dependence, y: Axis) -> Chart | BarRows | None:
    if feature.levels is not None:
        marks = [Mark(level.value, style="churned" if (level.value or 0.0) > 0 else "kept") for level in feature.levels]
        rows = [
            Row(level.level, [m], f"{level.rows:,} customers") for level, m in zip(feature.levels, marks, strict=True)
        ]
        return BarRows(rows, "+.3f")
    dots, trend = feature.dots or [], feature.trend or []
    values = [x for x, _ in [*dots, *trend]]
    if not values:
        return None
    x = Axis(feature.feature, min(values), max(values), compact)
    return scatter(f"Dependence on {feature.feature}", x, y, dots, trend)


def _marks(random: Figure, out_of_time: Figure | None) -> list[Mark]:
    figures = [(random, "a"), (out_of_time, "b")]
    return [Mark(f.pr_auc, f.low, f.high, style, f.base_rate) for f, style in figures if f is not None]


def _left_out(rung: Rung) -> str:
    count = len(rung.left_out)
    if not count:
        return ""
    return (
        "1 column and every feature that uses it" if count == 1 else f"{count} columns and every feature that uses them"
    )


def _unit(title: str) -> Axis:
    return Axis(title, 0.0, 1.0, ticks=TICKS)
