"""Curves, metrics and segments of test rows, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from churn_assets.contract.policy import Value
from churn_assets.evaluation.metrics import (
    ECE_BINS,
    Ranking,
    at_threshold,
    bootstrap_weights,
    calibration_bins,
    ece,
    interval,
)
from churn_assets.reporting.model.facts import CalibrationBin, Confusion, Curves, Estimate, SegmentFigures

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]

DRAWS = 400
POINTS = 120  # of a curve that is drawn 400 pixels wide
LIFT_SHARE = 0.10
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
        return cls(churned, probability, bootstrap_weights(churned, DRAWS, seed), seed)


def curves(tested: Scored, value: Value) -> Curves:
    """Points of the precision-recall, ROC, gains, calibration and profit curves."""
    churned, probability = np.asarray(tested.churned, dtype=np.float64), tested.probability
    order = np.argsort(-probability, kind="stable")
    hits, predicted = np.cumsum(churned[order]), np.arange(1.0, len(order) + 1)
    # Ties are one step: no threshold cuts between equal probabilities.
    ends = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
    recall, precision = hits[ends] / hits[-1], hits[ends] / predicted[ends]
    misses = predicted[ends] - hits[ends]
    false_positive_rate, share = misses / misses[-1], predicted[ends] / len(order)
    steps, flat = _thin(recall), _thin(share)
    of_roc = np.union1d(steps, _thin(false_positive_rate))
    return Curves(
        base_rate=float(churned.mean()),
        pr=_points(recall, precision, steps),
        roc=[(0.0, 0.0), *_points(false_positive_rate, recall, of_roc)],
        gains=[(0.0, 0.0), *_points(share, recall, flat)],
        calibration=_calibration(tested),
        profit=_profit(tested, order, value),
    )


def metrics(tested: Scored, threshold: float, known: Mapping[str, float], prefix: str) -> dict[str, Estimate]:
    """Each metric with its 95 % interval. Those of rank and loss are `known` from choosing the model; calibration,
    lift and those that depend on the threshold are measured here."""
    figures: dict[str, Estimate] = {}
    for name in ("pr_auc", "roc_auc", "log_loss", "brier"):
        figures[name] = _estimate(*(known[f"{prefix}_{name}{end}"] for end in ("", "_low", "_high")))
    figures["ece"] = _estimate(ece(tested.churned, tested.probability), *interval(_ece_draws(tested)))
    lift, lifts = _lift(tested)
    figures["lift_at_10_percent"] = _estimate(lift, *interval(lifts))
    point = at_threshold(tested.churned, tested.probability, threshold)
    drawn = _threshold_draws(tested, threshold)
    for name in ("precision", "recall", "f1"):
        figures[name] = _estimate(point[name], *interval(drawn[name]))
    return figures


def confusion(tested: Scored, threshold: float) -> Confusion:
    """The four counts of `probability >= threshold`."""
    counts = at_threshold(tested.churned, tested.probability, threshold)
    return Confusion(**{name: int(counts[name]) for name in Confusion.__struct_fields__})


def calibration_noise(tested: Scored, seed: int) -> tuple[float, float]:
    """The middle 95 % of the calibration error that perfect probabilities would show on so few rows.

    Labels are drawn from the probabilities themselves (consistency resampling, Broecker & Smith, 2007).
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(tested.probability, kind="stable")
    ranked = tested.probability[order]
    drawn = rng.random((DRAWS, len(ranked))) < ranked
    return interval(_binned_error(drawn - ranked))


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
    pairs = np.array([(ranking.pr_auc(w), ranking.roc_auc(w)) for w in drawn])
    return msgspec.structs.replace(
        figures,
        pr_auc=_estimate(ranking.pr_auc(), *interval(pairs[:, 0])),
        roc_auc=_estimate(ranking.roc_auc(), *interval(pairs[:, 1])),
    )


def _calibration(tested: Scored) -> list[CalibrationBin]:
    bins = zip(*(part.tolist() for part in calibration_bins(tested.churned, tested.probability)), strict=True)
    return [
        CalibrationBin(predicted, observed, *wilson(observed * rows, rows), rows) for predicted, observed, rows in bins
    ]


def wilson(hits: float, count: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927); it stays inside 0..1 and is right for few rows too."""
    if not count:
        return 0.0, 1.0
    z, p = 1.959964, hits / count
    middle, spread = p + z * z / (2 * count), z * np.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, float((middle - spread) / scale)), min(1.0, float((middle + spread) / scale))


def _profit(tested: Scored, order: npt.NDArray[np.intp], value: Value) -> list[tuple[float, float, float, float]]:
    """Share contacted, profit per customer of the table, and its interval, at `POINTS` cuts."""
    count = len(order)
    ends = np.unique(np.linspace(0, count, POINTS // 2 + 1).astype(np.int64))
    gain = value.save_rate * value.customer_value
    profit = np.asarray(tested.churned, dtype=np.float64)[order] * gain - value.offer_cost

    def at_cuts(values: Floats) -> Floats:
        padded = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
        return np.asarray(padded[..., ends] / count)

    # Not stratified, as in `profit_report`: the number of churners is part of the uncertainty of profit.
    drawn = np.random.default_rng(tested.seed).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    low, high = np.quantile(at_cuts(drawn * profit), [0.025, 0.975], axis=0)
    rows = np.round(np.stack([ends / count, at_cuts(profit), low, high], axis=1), 6)
    return [tuple(row) for row in rows.tolist()]


def _lift(tested: Scored) -> tuple[float, Floats]:
    """Churn rate among the riskiest `LIFT_SHARE` over that of all: of the rows, and of each draw's own riskiest."""
    order = np.argsort(-tested.probability, kind="stable")
    label = np.asarray(tested.churned, dtype=np.float64)[order]
    drawn = np.concatenate([np.ones((1, len(order))), tested.weights[:, order]])
    contacted = np.cumsum(drawn, axis=1)
    last = np.argmax(contacted >= LIFT_SHARE * len(order), axis=1)[:, None]
    hits = np.take_along_axis(np.cumsum(drawn * label, axis=1), last, axis=1)
    lifts = (hits / np.take_along_axis(contacted, last, axis=1))[:, 0] / label.mean()
    return float(lifts[0]), lifts[1:]


def _threshold_draws(tested: Scored, threshold: float) -> dict[str, Floats]:
    predicted, churned = tested.probability >= threshold, np.asarray(tested.churned) == 1
    counts = tested.weights @ np.stack([predicted & churned, predicted, churned], axis=1).astype(np.float64)
    true_positives, positives, churners = counts.T
    return {
        "precision": true_positives / np.maximum(positives, 1.0),
        "recall": true_positives / np.maximum(churners, 1.0),
        "f1": 2 * true_positives / np.maximum(positives + churners, 1.0),
    }


def _ece_draws(tested: Scored) -> Floats:
    order = np.argsort(tested.probability, kind="stable")
    gap = (np.asarray(tested.churned, dtype=np.float64) - tested.probability)[order]
    return _binned_error(tested.weights[:, order] * gap)


def _binned_error(gaps: Floats) -> Floats:
    """Calibration error of rows (draws, n) in the order of their probability, in bins of equal mass."""
    count = gaps.shape[1]
    starts = np.unique([part[0] for part in np.array_split(np.arange(count), ECE_BINS) if len(part)])
    return np.asarray(np.abs(np.add.reduceat(gaps, starts, axis=1)).sum(axis=1) / count)


def _estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(float(value), float(low), float(high))


def _thin(values: Floats) -> npt.NDArray[np.int64]:
    """Positions at which `values`, rising from 0 to 1, pass equal steps; first and last among them."""
    positions = np.searchsorted(values, np.linspace(values[0], values[-1], POINTS))
    return np.unique(np.append(positions, [0, len(values) - 1])).astype(np.int64)


def _points(x: Floats, y: Floats, some: npt.NDArray[np.int64]) -> list[tuple[float, float]]:
    return [(a, b) for a, b in np.round(np.stack([x[some], y[some]], axis=1), 5).tolist()]
