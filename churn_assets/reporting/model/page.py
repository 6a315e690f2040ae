"""The report as one self-contained HTML page and as a model card in Markdown, made of the report's facts alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from churn_assets.html import charts
from churn_assets.html.templating import render
from churn_assets.leakage.audit import Audit, Rung
from churn_assets.leakage.ladder import AgeBand, Figure
from churn_assets.reporting.model.card import CardSection, model_card
from churn_assets.reporting.model.curve_charts import curves, learning_chart, profit_chart, sides
from churn_assets.reporting.model.facts import Dependence, Level, Report, Segment, Side, WorkedCustomer
from churn_assets.scoring.list_money import describe_list_money
from churn_assets.training.profit import describe_profit
from churn_assets.training.select import MATERIAL

# name, title, explanation
METRICS = (
    ("pr_auc", "PR-AUC", "area under the precision-recall curve; a random list reaches the churn rate"),
    ("roc_auc", "ROC AUC", "probability that a churner ranks above a kept customer"),
    ("lift_at_10_percent", "lift at 10 %", "churn rate among the riskiest 10 %, divided by that of all"),
    ("log_loss", "log loss", "mean negative log-likelihood, natural logarithm"),
    ("brier", "Brier score", "mean squared error of the probability"),
    ("ece", "calibration error", "expected calibration error (ECE), 15 bins of equal size"),
    ("precision", "precision", "share of predicted churners that churned, at the chosen threshold"),
    ("recall", "recall", "share of churners that are predicted, at the chosen threshold"),
    ("f1", "F1", "harmonic mean of precision and recall"),
)
SHOWN_COLUMNS = 8  # in 'Each column alone'
SHOWN_FEATURES = 15
SHOWN_LEVELS = 12  # values of a column; the others are in metrics.json


def render_report(report: Report) -> str:
    """The page of `collect_report`. Parts that a run has not computed are marked as such."""
    ladder = report.ladder
    how_good, doubts = _judgement(report)
    single, more = _single_columns(report, ladder) if ladder else (None, 0)
    return render(
        "reporting/templates/model_report.html.j2",
        title=f"{report.model.title}: churn model report",
        metrics=METRICS,
        report=report,
        out_of_time="oot" in report.sides,
        sides=sides(report),
        whom_to_call=_whom_to_call(report),
        left_out=" ".join(ladder.left_out_sentences) if ladder else "",
        profit_text=describe_profit(report.profit) if report.profit else "",
        how_good=how_good,
        doubts=doubts,
        card=model_card(report, how_good, doubts),
        comparison=sorted(report.comparison, key=lambda row: -row.validation_pr_auc),
        segments=_segment_tables(report.segments),
        rungs=_rungs(report),
        ages=_age_bands(ladder.bands) if ladder and ladder.bands else None,
        single_columns=single,
        single_columns_more=more,
        curves=curves(report),
        importance=_importance_bars(report),
        dependence=_dependence(report),
        summary_plot=_summary_plot(report),
        worked=_worked(report),
        learning=learning_chart(report.learning) if report.learning else None,
        rounded_probability=_probability_form,
        profit=profit_chart(report),
        material=f"{MATERIAL:g}",
    )


def render_card(report: Report) -> str:
    """The model card in Markdown."""
    return render("reporting/templates/model_card.md.j2", report=report, sides=sides(report), card=_card(report))


def _card(report: Report) -> tuple[CardSection, ...]:
    how_good, doubts = _judgement(report)
    return model_card(report, how_good, doubts)


def _judgement(report: Report) -> tuple[str, list[str]]:
    """How good the model is, and what limits the trust in it."""
    from churn_assets.reporting.run_summary import describe_doubts, describe_quality  # which reads this package's files

    return describe_quality(report), describe_doubts(report, None)


def _whom_to_call(report: Report) -> str:
    """The call list and its money; of a bundle that knows none, the operating point on test customers."""
    if report.model.no_signal:
        return (
            "Nobody: the model is no better than random, because a random list lies within the interval of its figures."
        )
    if report.profit is None:
        return ""
    money = report.profit.call_list
    return " ".join(describe_list_money(money)) if money else describe_profit(report.profit)


def _segment_tables(segments: Iterable[Segment]) -> list[tuple[str, list[Segment], int]]:
    """Each column, its bands in order or its values, the largest first, and how many more there are."""
    tables = []
    for column, group in groupby(segments, key=lambda segment: segment.column):
        rows = sorted(group, key=lambda row: 0 if row.is_band else -row.test.rows)
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


def _summary_plot(report: Report) -> charts.SwarmRows | None:
    """The SHAP summary (Lundberg et al., 2020), the features with the largest mean absolute value first."""
    # The summary has fewer customers than the importance: where both are Shapley values, the number is that of all.
    is_exact = report.importance.method == "shapley"
    values = {row.feature: row.value for row in report.importance.features} if is_exact else {}
    rows = [
        (name := feature.feature, report.feature_docs.get(name, ""), values.get(name, feature.mean), feature.points)
        for feature in report.importance.summary
    ]
    return charts.SwarmRows(rows, ".2f") if rows else None


def _worked(report: Report) -> list[tuple[WorkedCustomer, charts.WaterfallRows]]:
    """Each worked customer with its waterfall."""
    if report.worked is None:
        return []
    start = charts.Row("mean of training customers", [charts.Mark(report.worked.base)])
    drawn = []
    for customer in report.worked.customers:
        steps = [
            charts.Row(step.name or f"{step.columns} other columns", [charts.Mark(step.contribution)])
            for step in customer.steps
        ]
        end = charts.Row("this customer", [charts.Mark(customer.log_odds)])
        drawn.append((customer, charts.WaterfallRows(start, steps, end)))
    return drawn


def _probability_form(probability: float) -> str:
    """Per cent, with decimals near 0 and 1, where they tell customers apart."""
    distance = min(probability, 1.0 - probability)
    return ".0%" if distance >= 0.1 else ".1%" if distance >= 0.001 else ".2%"


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
