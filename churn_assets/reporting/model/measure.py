"""Curves, metrics and segments of test rows, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from churn_assets.contract.limits import Value
from churn_assets.evaluation.bootstrap import interval, statistics_under, stratified_samples, wilson
from churn_assets.evaluation.metrics import (
    Floats,
    Labels,
    RankCurves,
    Ranking,
    at_threshold,
    calibration_bins,
    ece,
    ece_under,
    evenly_spaced,
    lift,
)
from churn_assets.reporting.model.facts import CalibrationBin, Curves, Estimate, ScoreHistogram, SegmentFigures
from churn_assets.training.profit import profit_curve

DRAWS = 400
POINTS = 120  # of a curve that is drawn 400 pixels wide
LIFT_SHARE = 0.10
SHORTEST_LIST = 0.01  # share of the customers
SCORE_BINS = 24
LEAST = 1e-3  # in a histogram, probabilities beyond it and beyond 1 - it are counted as these
# With fewer churned or kept test customers the interval of a segment is too wide to compare it with another.
FEWEST = 30


@dataclass(frozen=True)
class Scored:
    """Test rows of one split: labels (n,), calibrated probabilities (n,), and bootstrap weights (DRAWS, n)."""

    churned: Labels
    probability: Floats
    weights: Floats
    seed: int

    @classmethod
    def of(cls, churned: Labels, probability: Floats, seed: int) -> Scored:
        """With `DRAWS` stratified bootstrap samples."""
        return cls(churned, probability, np.stack(list(stratified_samples(churned, DRAWS, seed))), seed)


def curves(tested: Scored, value: Value, gain: Floats | None = None) -> Curves:
    """Points of the precision-recall, ROC, gains, lift, calibration and profit curves; `gain` (n,) is what contacting
    each test customer brings if they churn, by default the constant of the contract."""
    ranked = RankCurves.of(tested.churned, tested.probability)
    recall, false_positive_rate = ranked.recall, ranked.false_positive_rate
    by_recall, by_length = evenly_spaced(recall, POINTS), evenly_spaced(ranked.listed, POINTS)
    by_either_rate = np.union1d(by_recall, evenly_spaced(false_positive_rate, POINTS))
    own_gain = np.broadcast_to(value.save_rate * value.customer_value if gain is None else gain, len(tested.churned))
    profit = profit_curve(tested.churned, tested.probability, own_gain, value.offer_cost, tested.seed)
    return Curves(
        base_rate=float(np.mean(tested.churned)),
        pr=_points(recall, ranked.precision, by_recall),
        roc=[(0.0, 0.0), *_points(false_positive_rate, recall, by_either_rate)],
        gains=[(0.0, 0.0), *_points(ranked.listed, recall, by_length)],
        calibration=_calibration(tested),
        profit=[(point.contacted_share, point.profit, point.low, point.high) for point in profit],
        lift=_lift(recall, ranked.listed),
    )


def metrics(tested: Scored, threshold: float, known: Mapping[str, float], prefix: str) -> dict[str, Estimate]:
    """Each metric with its 95 % interval. Those of rank and loss are `known` from choosing the model; calibration,
    lift and those that depend on the threshold are measured here."""
    figures = {
        name: Estimate(*(known[f"{prefix}_{name}{end}"] for end in ("", "_low", "_high")))
        for name in ("pr_auc", "roc_auc", "log_loss", "brier")
    }
    errors = ece_under(tested.churned, tested.probability, tested.weights)
    figures["ece"] = Estimate(ece(tested.churned, tested.probability), *interval(errors))
    lift_of_rows, lifts = lift(tested.churned, tested.probability, LIFT_SHARE, tested.weights)
    figures["lift_at_10_percent"] = Estimate(lift_of_rows, *interval(lifts))
    point = at_threshold(tested.churned, tested.probability, threshold)
    draws = _threshold_draws(tested, threshold)
    return figures | {name: Estimate(point[name], *interval(drawn)) for name, drawn in draws.items()}


def score_histogram(tested: Scored) -> ScoreHistogram:
    """Customers of each class by probability, in `SCORE_BINS` bins of equal width in log-odds over the middle 99 %."""
    held = np.clip(tested.probability, LEAST, 1.0 - LEAST)
    log_odds = np.log(held) - np.log1p(-held)
    low, high = np.quantile(log_odds, [0.005, 0.995])
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges, churned = np.linspace(low, high, SCORE_BINS + 1), np.asarray(tested.churned) == 1
    counts = [np.histogram(np.clip(log_odds[rows], low, high), edges)[0].tolist() for rows in (churned, ~churned)]
    return ScoreHistogram((1.0 / (1.0 + np.exp(-edges))).tolist(), *counts)


def segment(tested: Scored, rows: npt.NDArray[np.bool_]) -> SegmentFigures:
    """Figures of the test customers in `rows` (n,) bool."""
    churned, probability = tested.churned[rows], tested.probability[rows]
    count, churners = len(churned), int(np.sum(churned))
    figures = SegmentFigures(
        rows=count,
        churners=churners,
        churn_rate=churners / count if count else None,
        predicted=float(probability.mean()) if count else None,
        enough=min(churners, count - churners) >= FEWEST,
    )
    if not figures.enough:
        return figures
    ranking, drawn = Ranking(churned, probability), tested.weights[:, rows]
    # A draw may leave a small class of a segment empty only if it has a handful of rows; FEWEST rules that out.
    pr_draws, roc_draws = statistics_under(drawn, ranking.pr_auc, ranking.roc_auc)
    return msgspec.structs.replace(
        figures,
        pr_auc=Estimate(ranking.pr_auc(), *interval(pr_draws)),
        roc_auc=Estimate(ranking.roc_auc(), *interval(roc_draws)),
    )


def _lift(recall: Floats, listed: Floats) -> list[tuple[float, float]]:
    """Lift at `POINTS` lengths of the list, from `SHORTEST_LIST` on: that of a handful of customers is chance."""
    shares = np.linspace(SHORTEST_LIST, 1.0, POINTS)
    positions = np.unique(np.minimum(np.searchsorted(listed, shares), len(listed) - 1))
    return _points(listed, recall / listed, positions)


def _calibration(tested: Scored) -> list[CalibrationBin]:
    bins = zip(*(part.tolist() for part in calibration_bins(tested.churned, tested.probability)), strict=True)
    return [
        CalibrationBin(predicted, observed, *wilson(observed * rows, rows), rows) for predicted, observed, rows in bins
    ]


def _threshold_draws(tested: Scored, threshold: float) -> dict[str, Floats]:
    predicted, churned = tested.probability >= threshold, np.asarray(tested.churned) == 1
    counts = tested.weights @ np.stack([predicted & churned, predicted, churned], axis=1).astype(np.float64)
    true_positives, positives, churners = counts.T
    return {
        "precision": true_positives / np.maximum(positives, 1.0),
        "recall": true_positives / np.maximum(churners, 1.0),
        "f1": 2 * true_positives / np.maximum(positives + churners, 1.0),
    }


def _points(x: Floats, y: Floats, positions: npt.NDArray[np.int64]) -> list[tuple[float, float]]:
    return [(a, b) for a, b in np.round(np.stack([x[positions], y[positions]], axis=1), 5).tolist()]
