"""Curves, thresholds and segments of test rows, as JSON, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.policy import Value
from churn_assets.evaluation.bootstrap import interval, intervals, samples, statistics_under, stratified_samples, wilson
from churn_assets.evaluation.calibration import calibration_bins, ece, ece_by_chance, ece_under
from churn_assets.evaluation.curves import Curves, evenly_spaced, lift
from churn_assets.evaluation.metrics import Ranking, at_threshold

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]
Estimate = dict[str, float | None]

DRAWS = 400
POINTS = 120  # of a curve that is drawn 400 pixels wide
LIFT_SHARE = 0.10
# Below so many churned or kept test customers a segment's interval is wider than anything to be told by it.
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


def curves(tested: Scored, value: Value) -> dict[str, Any]:
    """Points of the PR, ROC, lift, calibration and profit curves."""
    of = Curves.of(tested.churned, tested.probability)
    steps, flat = evenly_spaced(of.recall, POINTS), evenly_spaced(of.listed, POINTS)
    roc = np.union1d(steps, evenly_spaced(of.false_positive_rate, POINTS))
    return {
        "base_rate": float(np.mean(tested.churned)),
        "pr": _points(of.recall, of.precision, steps),
        "roc": [[0.0, 0.0], *_points(of.false_positive_rate, of.recall, roc)],
        "gains": [[0.0, 0.0], *_points(of.listed, of.recall, flat)],
        "calibration": _calibration(tested),
        "profit": _profit(tested, value),
    }


def metrics(tested: Scored, threshold: float, known: Mapping[str, float], prefix: str) -> dict[str, Estimate]:
    """Each metric with its 95 % interval. Those of rank and loss are `known` from choosing the model; calibration,
    lift and what hangs on the threshold are measured here."""
    found: dict[str, Estimate] = {}
    for name in ("pr_auc", "roc_auc", "log_loss", "brier"):
        found[name] = _estimate(*(known[f"{prefix}_{name}{end}"] for end in ("", "_low", "_high")))
    found["ece"] = _estimate(
        ece(tested.churned, tested.probability),
        *interval(ece_under(tested.churned, tested.probability, tested.weights)),
    )
    point_lift, drawn_lifts = lift(tested.churned, tested.probability, LIFT_SHARE, tested.weights)
    found["lift_at_10_percent"] = _estimate(point_lift, *interval(drawn_lifts))
    point = at_threshold(tested.churned, tested.probability, threshold)
    drawn = _threshold_draws(tested, threshold)
    for name in ("precision", "recall", "f1"):
        found[name] = _estimate(point[name], *interval(drawn[name]))
    return found


def confusion(tested: Scored, threshold: float) -> dict[str, int]:
    """The four counts of `probability >= threshold`."""
    found = at_threshold(tested.churned, tested.probability, threshold)
    names = ("true_positives", "false_positives", "false_negatives", "true_negatives")
    return {name: int(found[name]) for name in names}


def calibration_noise(tested: Scored, seed: int) -> tuple[float, float]:
    """The middle 95 % of the calibration error that perfect probabilities would show on so few rows."""
    return interval(ece_by_chance(tested.probability, DRAWS, seed))


def segment(tested: Scored, rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Figures of the test customers in `rows` (n,) bool; `pr_auc` and `roc_auc` are None if too few to say."""
    churned, probability = tested.churned[rows], tested.probability[rows]
    count, churners = len(churned), int(np.sum(churned))
    found: dict[str, Any] = {
        "rows": count,
        "churners": churners,
        "churn_rate": churners / count if count else None,
        "predicted": float(probability.mean()) if count else None,
        "enough": min(churners, count - churners) >= FEWEST,
        "pr_auc": None,
        "roc_auc": None,
    }
    if found["enough"]:
        ranking, drawn = Ranking(churned, probability), tested.weights[:, rows]
        # A draw may leave a small class of a segment empty only if it has a handful of rows; FEWEST rules that out.
        pr_draws, roc_draws = statistics_under(drawn, ranking.pr_auc, ranking.roc_auc)
        found["pr_auc"] = _estimate(ranking.pr_auc(), *interval(pr_draws))
        found["roc_auc"] = _estimate(ranking.roc_auc(), *interval(roc_draws))
    return found


def _calibration(tested: Scored) -> list[dict[str, float]]:
    said, came, count = calibration_bins(tested.churned, tested.probability)
    rows = []
    for x, y, n in zip(said.tolist(), came.tolist(), count.tolist(), strict=True):
        low, high = wilson(y * n, n)
        rows.append({"predicted": x, "observed": y, "low": low, "high": high, "rows": n})
    return rows


def _profit(tested: Scored, value: Value) -> list[list[float]]:
    """Share contacted, profit a customer of the table, and its interval, at `POINTS` cuts."""
    order = np.argsort(-tested.probability, kind="stable")
    count = len(order)
    ends = np.unique(np.linspace(0, count, POINTS // 2 + 1).astype(np.int64))
    gain = value.save_rate * value.customer_value
    worth = np.asarray(tested.churned, dtype=np.float64)[order] * gain - value.offer_cost

    def up_to(values: Floats) -> Floats:
        padded = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
        return np.asarray(padded[..., ends] / count)

    # Not stratified, as in `profit_report`: how many churn is part of what money is uncertain of.
    low, high = intervals(up_to(samples(count, DRAWS, tested.seed) * worth))
    return np.round(np.stack([ends / count, up_to(worth), low, high], axis=1), 6).tolist()  # type: ignore[no-any-return]


def _threshold_draws(tested: Scored, threshold: float) -> dict[str, Floats]:
    said, true = tested.probability >= threshold, np.asarray(tested.churned) == 1
    counts = tested.weights @ np.stack([said & true, said, true], axis=1).astype(np.float64)
    hits, named, there = counts.T
    return {
        "precision": hits / np.maximum(named, 1.0),
        "recall": hits / np.maximum(there, 1.0),
        "f1": 2 * hits / np.maximum(named + there, 1.0),
    }


def _estimate(value: float, low: float, high: float) -> Estimate:
    return {"value": float(value), "low": float(low), "high": float(high)}


def _points(x: Floats, y: Floats, some: npt.NDArray[np.int64]) -> list[list[float]]:
    return np.round(np.stack([x[some], y[some]], axis=1), 5).tolist()  # type: ignore[no-any-return]
