"""The report as one self-contained HTML page and as a model card in Markdown, made of the report's facts alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from churn_assets.html import charts
from churn_assets.html.templating import render
from churn_assets.leakage.audit import Audit, Rung
from churn_assets.leakage.ladder import AgeBand, Figure
from churn_assets.reporting.model.facts import Dependence, Level, Report, Segment, Side
from churn_assets.training.profit import describe_profit

# name, title, explanation, format
METRICS = (
    ("pr_auc", "PR-AUC", "area under the precision-recall curve; a random list reaches the churn rate", ".3f"),
    ("roc_auc", "ROC AUC", "probability that a churner ranks above a kept customer", ".3f"),
    ("lift_at_10_percent", "lift at 10 %", "churn rate among the riskiest 10 %, divided by that of all", ".2f"),
    ("log_loss", "log loss", "mean negative log-likelihood, natural logarithm", ".4f"),
    ("brier", "Brier score", "mean squared error of the probability", ".4f"),
    ("ece", "calibration error", "expected calibration error (ECE), 15 bins of equal size", ".4f"),
    ("precision", "precision", "share of predicted churners that churned, at the chosen threshold", ".3f"),
    ("recall", "recall", "share of churners that are predicted, at the chosen threshold", ".3f"),
    ("f1", "F1", "harmonic mean of precision and recall", ".3f"),
)
CONTACTED = charts.Axis("customers contacted, riskiest first", 0.0, 1.0, charts.percent)
RANDOM_LIST = charts.Line("random list", [(0.0, 0.0), (1.0, 1.0)], "base", dashed=True)
SHOWN_COLUMNS = 8  # in 'Each column alone'
SHOWN_FEATURES = 15
SHOWN_LEVELS = 12  # values of a column; the others are in metrics.json
CARD_FEATURES = 10


def render_report(report: Report) -> str:
    """The page of `collect_report`. Parts that a run has not computed are marked as such."""
    ladder = report.ladder
    single, more = _single_columns(report, ladder) if ladder else (None, 0)
    return render(
        "reporting/templates/model_report.html.j2",
        title=f"{report.model.title}: churn model report",
        metrics=METRICS,
        report=report,
        out_of_time="oot" in report.sides,
        sides=sides(report),
        summary=[*(ladder.sentences if ladder else []), *([describe_profit(report.profit)] if report.profit else [])],
        comparison=sorted(report.comparison, key=lambda row: -row.validation_pr_auc),
        segments=_segment_tables(report.segments),
        rungs=_rungs(report),
        ages=_age_bands(ladder.bands) if ladder and ladder.bands else None,
        single_columns=single,
        single_columns_more=more,
        curves=curves(report),
        importance=_importance_bars(report),
        dependence=_dependence(report),
        profit=_profit(report),
    )


def render_card(report: Report) -> str:
    """The model card in the order of Mitchell et al., "Model Cards for Model Reporting" (2019)."""
    return render(
        "reporting/templates/model_card.md.j2",
        report=report,
        sides=sides(report),
        metrics=METRICS,
        features=report.importance.features[:CARD_FEATURES],
    )


def sides(report: Report) -> list[tuple[str, str, str]]:
    """(name, title, style) of each split that the report has."""
    return [side for side in (("test", "random split", "a"), ("oot", "out of time", "b")) if side[0] in report.sides]


def curves(report: Report) -> dict[str, charts.Chart]:
    """The curves of test customers by name: for the page, Dagster's metadata and MLflow."""
    drawn = [(report.sides[name].curves, title, style) for name, title, style in sides(report)]
    precision, calibration = [], [charts.Line("perfect", [(0.0, 0.0), (1.0, 1.0)], "base", dashed=True)]
    for curve, title, style in drawn:
        base = [(0.0, curve.base_rate), (1.0, curve.base_rate)]
        precision.append(charts.Line(title, curve.pr, style))
        precision.append(charts.Line(f"random list, {title}", base, style, dashed=True))
        points = [(b.predicted, b.observed) for b in curve.calibration]
        band = [(b.predicted, b.low, b.high) for b in curve.calibration]
        calibration.append(charts.Line(title, points, style, dots=True, band=band))
    roc = [*(charts.Line(title, curve.roc, style) for curve, title, style in drawn), RANDOM_LIST]
    gains = [*(charts.Line(title, curve.gains, style) for curve, title, style in drawn), RANDOM_LIST]
    recall, rate = charts.Axis("recall", 0.0, 1.0, charts.percent), "true positive rate (recall)"
    return {
        "precision_recall": charts.lines("Precision over recall", _unit("recall"), _unit("precision"), precision),
        "roc": charts.lines("ROC curve", _unit("false positive rate"), _unit(rate), roc),
        "gains": charts.lines("Cumulative gains", CONTACTED, recall, gains),
        "calibration": charts.lines("Calibration", _unit("predicted probability"), _unit("churn rate"), calibration),
    }


def _unit(title: str) -> charts.Axis:
    return charts.Axis(title, 0.0, 1.0)


def _profit(report: Report) -> charts.Chart:
    """Profit per customer over the share contacted; the vertical is the chosen threshold."""
    drawn, values = [], [0.0]
    for side, title, style in sides(report):
        curve = report.sides[side].curves.profit
        values += [value for _, _, low, high in curve for value in (low, high)]
        band = [(share, low, high) for share, _, low, high in curve]
        drawn.append(charts.Line(title, [(share, value) for share, value, _, _ in curve], style, band=band))
    drawn.append(charts.Line("no profit", [(0.0, 0.0), (1.0, 0.0)], "base", dashed=True))
    test = report.sides["test"]
    chosen = (test.confusion.true_positives + test.confusion.false_positives) / test.rows
    y = charts.Axis("profit per customer", min(values), max(values), charts.compact)
    return charts.lines("Profit", CONTACTED, y, drawn, marks=[chosen])


def _segment_tables(segments: Iterable[Segment]) -> list[tuple[str, list[Segment], int]]:
    """Each column, its values, the largest first, and how many more there are."""
    tables = []
    for column, group in groupby(segments, key=lambda segment: segment.column):
        rows = sorted(group, key=lambda row: -row.test.rows)
        tables.append((column, rows[:SHOWN_LEVELS], max(0, len(rows) - SHOWN_LEVELS)))
    return tables


def _rungs(report: Report) -> charts.IntervalRows:
    """The audit's rungs; without an audit the chosen model itself."""
    if report.ladder is not None:
        rungs = report.ladder.ladder
        rows = [charts.Row(rung.label, _marks(rung.random, rung.out_of_time), _left_out(rung)) for rung in rungs]
        return charts.IntervalRows(rows, _ladder_legend(report))
    marks = [_pr_auc_mark(report.sides[side], style) for side, _, style in sides(report)]
    return charts.IntervalRows([charts.Row("everything", marks, "the chosen model itself")], _ladder_legend(report))


def _pr_auc_mark(side: Side, style: str) -> charts.Mark:
    figure = side.metrics["pr_auc"]
    return charts.Mark(figure.value, figure.low, figure.high, style, side.curves.base_rate)


def _ladder_legend(report: Report) -> tuple[tuple[str, str], ...]:
    texts = {"test": "random split", "oot": "out of time: newest customers"}
    return tuple((texts[side], style) for side, _, style in sides(report))


def _marks(random: Figure, out_of_time: Figure | None) -> list[charts.Mark]:
    figures = [(random, "a"), (out_of_time, "b")]
    return [charts.Mark(f.pr_auc, f.low, f.high, style, f.base_rate) for f, style in figures if f is not None]


def _left_out(rung: Rung) -> str:
    count = len(rung.left_out)
    if count == 1:
        return "1 column and every feature that uses it"
    return f"{count} columns and every feature that uses them" if count else ""


def _age_bands(bands: Sequence[AgeBand]) -> charts.IntervalRows:
    """PR-AUC by age of the customer."""
    rows = []
    for band in bands:
        few = ": too few to say" if band.pr_auc is None else ""
        mark = charts.Mark(band.pr_auc, band.low, band.high, "a", band.base_rate)
        rows.append(charts.Row(band.label, [mark], f"{band.rows:,} customers, {band.churners:,} churned{few}"))
    return charts.IntervalRows(rows)


def _single_columns(report: Report, ladder: Audit) -> tuple[charts.IntervalRows | None, int]:
    """The strongest columns, each with its own features only, and how many more there are."""
    alone = [(name, column) for name, column in ladder.columns.items() if column.alone]
    strongest = sorted(alone, key=lambda item: -item[1].alone["random"].pr_auc)[:SHOWN_COLUMNS]
    rows = []
    for name, column in strongest:
        note = f"PR-AUC lift lost when removed: {column.headline_loss_when_removed:.0%}"
        rows.append(charts.Row(name, _marks(column.alone["random"], column.alone.get("out_of_time")), note))
    return charts.IntervalRows(rows, _ladder_legend(report)) if rows else None, len(alone) - len(rows)


def _importance_bars(report: Report) -> charts.BarRows:
    importance = report.importance
    rows = [
        charts.Row(row.feature, [charts.Mark(row.value)], report.feature_docs.get(row.feature, ""))
        for row in importance.features[:SHOWN_FEATURES]
    ]
    return charts.BarRows(rows, ".3f" if importance.method == "shapley" else ".4f")


def _dependence(report: Report) -> list[tuple[Dependence, charts.Chart | charts.BarRows | None]]:
    """A chart for each of the first features, on one scale; None where the value is never known."""
    features = report.importance.dependence
    shapley = report.importance.method == "shapley"
    top = max((abs(y) for d in features for _, y in [*(d.dots or []), *(d.trend or [])]), default=1.0)
    y = charts.Axis("change of the log-odds" if shapley else "difference in log-odds", -top, top)
    return [(feature, _dependence_on(feature, y)) for feature in features]


def _level_row(level: Level) -> charts.Row:
    mark = charts.Mark(level.value, style="churned" if (level.value or 0.0) > 0 else "kept")
    return charts.Row(level.level, [mark], f"{level.rows:,} customers")


def _dependence_on(feature: Dependence, y: charts.Axis) -> charts.Chart | charts.BarRows | None:
    if feature.levels is not None:
        return charts.BarRows([_level_row(level) for level in feature.levels], "+.3f")
    dots, trend = feature.dots or [], feature.trend or []
    values = [x for x, _ in [*dots, *trend]]
    if not values:
        return None
    x = charts.Axis(feature.feature, min(values), max(values), charts.compact)
    return charts.scatter(f"Dependence on {feature.feature}", x, y, dots, trend)
