"""The curves of a report's test customers as charts: for the page, Dagster's metadata and MLflow."""

from __future__ import annotations

from collections.abc import Sequence

from churn_assets.html import charts
from churn_assets.reporting.model.facts import Curves, Learning, Report, ScoreHistogram

CONTACTED = charts.Axis("customers contacted, riskiest first", 0.0, 1.0, charts.percent)
RANDOM_LIST = charts.Line("random list", [(0.0, 0.0), (1.0, 1.0)], "base", dashed=True)

Drawn = Sequence[tuple[Curves, str, str]]
ProfitPoints = Sequence[tuple[float, float, float, float]]


def sides(report: Report) -> list[tuple[str, str, str]]:
    """(name, title, style) of each split that the report has."""
    return [side for side in (("test", "random split", "a"), ("oot", "out of time", "b")) if side[0] in report.sides]


def measured(report: Report) -> list[tuple[str, str, str]]:
    """Those of `sides` that have figures."""
    return [side for side in sides(report) if not report.sides[side[0]].shortage]


def curves(report: Report) -> dict[str, charts.Chart]:
    """The curves by name, and the scores of each split that has a histogram as `scores_<split>`; none without a split
    that has figures."""
    drawn = [(report.sides[name].curves, title, style) for name, title, style in measured(report)]
    if not drawn:
        return {}
    roc = [*(charts.Line(title, curve.roc, style) for curve, title, style in drawn), RANDOM_LIST]
    gains = [*(charts.Line(title, curve.gains, style) for curve, title, style in drawn), RANDOM_LIST]
    recall, rate = charts.Axis("recall", 0.0, 1.0, charts.percent), "true positive rate (recall)"
    return {
        "precision_recall": precision_recall(drawn),
        "roc": charts.lines("ROC curve", _unit("false positive rate"), _unit(rate), roc),
        "gains": charts.lines("Cumulative gains", CONTACTED, recall, gains),
        "lift": _lift(drawn),
        "calibration": calibration(drawn),
        **{
            f"scores_{name}": _scores(scores, title, report.threshold.value)
            for name, title, _ in measured(report)
            if (scores := report.sides[name].scores) is not None
        },
    }


def precision_recall(drawn: Drawn) -> charts.Chart:
    """Precision over recall, beside what random lists reach."""
    precision = []
    for curve, title, style in drawn:
        base = [(0.0, curve.base_rate), (1.0, curve.base_rate)]
        precision.append(charts.Line(title, curve.pr, style))
        precision.append(charts.Line(f"random list, {title}", base, style, dashed=True))
    return charts.lines("Precision over recall", _unit("recall"), _unit("precision"), precision)


def _lift(drawn: Drawn) -> charts.Chart:
    """Lift over the length of the list; a random list is at 1."""
    top = max((lift for curve, _, _ in drawn for _, lift in curve.lift), default=1.0)
    y = charts.Axis("lift", 0.0, 1.05 * max(top, 1.0))
    lines = [charts.Line(title, curve.lift, style) for curve, title, style in drawn]
    random_list = charts.Line("random list", [(0.0, 1.0), (1.0, 1.0)], "base", dashed=True)
    return charts.lines("Lift", CONTACTED, y, [*lines, random_list])


def calibration(drawn: Drawn) -> charts.Chart:
    """Churn rate over predicted probability, both on a log-odds axis: most scores of a good model are near 0 or 1."""
    predicted = [part.predicted for curve, _, _ in drawn for part in curve.calibration]
    # An observed share of 0 or 1 has no log-odds: it is drawn at the end of the axis.
    low, high = min(0.05, *predicted), max(0.5, *predicted)
    x, y = (charts.log_odds_axis(title, low, high) for title in ("predicted probability", "churn rate"))
    lines = [charts.Line("perfect", [(x.low, x.low), (x.high, x.high)], "base", dashed=True)]
    for curve, title, style in drawn:
        points = [(part.predicted, part.observed) for part in curve.calibration]
        whiskers = [(part.predicted, part.low, part.high) for part in curve.calibration]
        lines.append(charts.Line(title, points, style, dots=True, whiskers=whiskers, joined=False))
    return charts.lines("Calibration", x, y, lines)


def _scores(scores: ScoreHistogram, title: str, threshold: float) -> charts.Chart:
    """Churned customers up, kept ones down, each as shares of its class; the vertical is the chosen threshold."""

    def shares(counts: list[int]) -> list[float]:
        return [count / max(1, sum(counts)) for count in counts]

    x = charts.log_odds_axis("predicted probability", scores.edges[0], scores.edges[-1])
    up, down = ("churned", "churned", shares(scores.churned)), ("kept", "kept", shares(scores.kept))
    return charts.mirrored(f"Scores by class, {title}", x, scores.edges, up, down, [threshold])


def _unit(title: str) -> charts.Axis:
    return charts.Axis(title, 0.0, 1.0)


def profit_chart(report: Report) -> charts.Chart | None:
    """Profit per customer over the share contacted; the vertical is the chosen threshold. None without a split that has
    figures."""
    drawn = [(report.sides[side].curves.profit, title, style) for side, title, style in measured(report)]
    if not drawn:
        return None
    test = report.sides["test"]
    chosen = (test.confusion.true_positives + test.confusion.false_positives) / test.rows
    return profit(drawn, [chosen])


def profit(drawn: Sequence[tuple[ProfitPoints, str, str]], marks: Sequence[float] = ()) -> charts.Chart:
    """Profit per customer over the share contacted, of at least one list of points with its title and style."""
    lines, values = [], [0.0]
    for points, title, style in drawn:
        values += [value for _, _, low, high in points for value in (low, high)]
        band = [(share, low, high) for share, _, low, high in points]
        lines.append(charts.Line(title, [(share, value) for share, value, _, _ in points], style, band=band))
    lines.append(charts.Line("no profit", [(0.0, 0.0), (1.0, 0.0)], "base", dashed=True))
    y = charts.Axis("profit per customer", min(values), max(values), charts.compact)
    return charts.lines("Profit", CONTACTED, y, lines, marks)


def learning_chart(learning: Learning) -> charts.Chart:
    """PR-AUC on training and test customers over the number of training customers."""
    points = learning.points
    values = [v for p in points for v in (p.train, p.test.low, p.test.high)]
    margin = 0.05 * (max(values) - min(values)) or 0.05
    y = charts.Axis("PR-AUC", max(0.0, min(values) - margin), min(1.0, max(values) + margin))
    x = charts.Axis("training customers", 0.0, float(points[-1].rows), charts.compact)
    band = [(float(point.rows), point.test.low, point.test.high) for point in points]
    test = [(float(point.rows), point.test.value) for point in points]
    train = [(float(point.rows), point.train) for point in points]
    drawn = [
        charts.Line("test customers", test, "a", dots=True, band=band),
        charts.Line("the customers trained on", train, "base", dots=True),
    ]
    return charts.lines("Learning curve", x, y, drawn)
