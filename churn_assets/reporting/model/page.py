"""The report as one self-contained HTML page and as a model card in Markdown, made of the report's facts alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from churn_assets.html.templating import render
from churn_assets.reporting.model import charts
from churn_assets.reporting.model.facts import Report, Segment
from churn_assets.training.profit import describe_profit

CONTENTS = (
    ("short", "Summary"),
    ("ladder", "The ladder"),
    ("performance", "Performance"),
    ("figures", "All metrics"),
    ("segments", "Segments"),
    ("drivers", "Feature importance"),
    ("money", "Profit"),
    ("candidates", "Candidates"),
    ("data", "Data"),
    ("limits", "Limits"),
    ("origin", "Origin"),
)
# name, title, explanation, format, which direction is better
METRICS = (
    (
        "pr_auc",
        "PR-AUC",
        "area under the precision-recall curve; a random list reaches the churn rate",
        ".3f",
        "higher",
    ),
    ("roc_auc", "ROC AUC", "probability that a churner ranks above a kept customer", ".3f", "higher"),
    (
        "lift_at_10_percent",
        "lift at 10 %",
        "churn rate among the riskiest 10 %, divided by that of all",
        ".2f",
        "higher",
    ),
    ("log_loss", "log loss", "mean negative log-likelihood, natural logarithm", ".4f", "lower"),
    ("brier", "Brier score", "mean squared error of the probability", ".4f", "lower"),
    ("ece", "calibration error", "expected calibration error (ECE), 15 bins of equal size", ".4f", "lower"),
    ("precision", "precision", "share of predicted churners that churned, at the chosen threshold", ".3f", "higher"),
    ("recall", "recall", "share of churners that are predicted, at the chosen threshold", ".3f", "higher"),
    ("f1", "F1", "harmonic mean of precision and recall", ".3f", "higher"),
)
CURVES = {
    "precision_recall": (
        "Precision and recall",
        "Precision: share of predicted churners that churned. Recall: share of churners that are predicted. "
        "Dashed: a random list.",
    ),
    "roc": (
        "ROC",
        "False positive rate: share of kept customers that are predicted to churn. Dashed: a random list. With few "
        "churners this curve looks better than the model is: read it with precision and recall.",
    ),
    "gains": (
        "Cumulative gains and lift",
        "Gains: recall reached by contacting the riskiest customers first. Lift: the curve divided by the dashed line, "
        "a random list.",
    ),
    "calibration": (
        "Calibration",
        "Dashed: perfect calibration. 15 bins of equal size; the band is each bin's 95 % interval (Wilson).",
    ),
}
SHOWN_LEVELS = 12  # values of a column; the others are in metrics.json
CARD_FEATURES = 10


@dataclass(frozen=True)
class SegmentTable:
    """The values of one column, the largest first; `more` of them are not shown."""

    column: str
    doc: str
    rows: Sequence[Segment]
    more: int


def render_report(report: Report) -> str:
    """The page of `collect_report`. Parts that a run has not computed are marked as such."""
    ladder = report.ladder
    single, more = charts.single_columns(ladder, charts.ladder_legend(report)) if ladder else (None, 0)
    return render(
        "reporting/templates/model_report.html.j2",
        title=f"{report.model.title}: churn model report",
        contents=CONTENTS,
        metrics=METRICS,
        report=report,
        out_of_time="oot" in report.sides,
        sides=charts.sides(report),
        summary=[*(ladder.sentences if ladder else []), *([describe_profit(report.profit)] if report.profit else [])],
        comparison=sorted(report.comparison, key=lambda row: -row.validation_pr_auc),
        segments=_segment_tables(report),
        rungs=charts.rungs(report),
        ages=charts.age_bands(ladder.bands) if ladder and ladder.bands else None,
        single_columns=single,
        single_columns_more=more,
        curves=[(*CURVES[name], chart) for name, chart in charts.curves(report).items()],
        importance=charts.importance_bars(report),
        dependence=charts.dependence(report),
        profit=charts.profit(report),
    )


def render_card(report: Report) -> str:
    """The model card in the order of Mitchell et al., "Model Cards for Model Reporting" (2019)."""
    return render(
        "reporting/templates/model_card.md.j2",
        report=report,
        sides=charts.sides(report),
        metrics=METRICS,
        features=report.importance.features[:CARD_FEATURES],
    )


def _segment_tables(report: Report) -> list[SegmentTable]:
    by_column: dict[str, list[Segment]] = {}
    for segment in report.segments:
        by_column.setdefault(segment.column, []).append(segment)
    return [
        SegmentTable(
            column,
            report.feature_docs.get(column, ""),
            sorted(rows, key=lambda row: -row.test.rows)[:SHOWN_LEVELS],
            max(0, len(rows) - SHOWN_LEVELS),
        )
        for column, rows in by_column.items()
    ]
