"""Metrics of scores against labels, with bootstrap intervals.

Average precision is the step-wise sum of Davis & Goadrich (2006) with ties taken together, as in
scikit-learn (the tests compare); it is written for sorted, weighted rows because a bootstrap then
costs one cumulative sum a draw. Intervals are percentile bootstrap over rows, stratified by label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]

DRAWS = 1000
ECE_BINS = 15
_CELLS = 2_000_000  # weights looked at together: 16 MB


class Ranking:
    """Rows sorted by score once, so that weighted rank metrics are cumulative sums.

    `churned` may be probabilities: an estimate before there are labels ranks by expected churners.
    """

    def __init__(self, churned: Labels, score: Floats) -> None:
        order = np.argsort(-score, kind="stable")
        ranked = score[order]
        self.order = order
        self.churned = np.asarray(churned, dtype=np.float64)[order]
        self.ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        self.churners = np.flatnonzero(self.churned)
        tie = np.searchsorted(self.ends, self.churners)  # the group of equal scores that each churner is in
        self.counts = np.append(np.flatnonzero(np.diff(tie)), len(tie) - 1)[: len(tie)]
        self.steps = self.ends[tie[self.counts]]

    def pr_auc(self, weights: Floats | None = None) -> float:
        """Average precision under row weights (in the order of the rows given at first); NaN if nobody churned."""
        if not len(self.churners):
            return float("nan")
        weight = np.ones(len(self.churned)) if weights is None else weights[self.order]
        # Only where somebody churned is anything gained: a fraction of the rows, and most of the time of a bootstrap.
        said = np.cumsum(weight)[self.steps]
        hits = np.cumsum(weight[self.churners] * self.churned[self.churners])[self.counts]
        gained = np.diff(hits, prepend=0.0)
        return float(np.sum(gained * hits / np.maximum(said, 1e-300)) / hits[-1])

    def roc_auc(self, weights: Floats | None = None) -> float:
        """Area under the ROC curve under row weights."""
        hits, misses = self._cumulative(weights)
        area = np.trapezoid(np.append(0.0, hits), np.append(0.0, misses))
        return float(area / (hits[-1] * misses[-1]))

    def _cumulative(self, weights: Floats | None) -> tuple[Floats, Floats]:
        weight = np.ones(len(self.churned)) if weights is None else weights[self.order]
        hits = np.cumsum(weight * self.churned)[self.ends]
        return hits, np.cumsum(weight)[self.ends] - hits


def pr_auc(churned: Labels, score: Floats) -> float:
    """Average precision, churn positive.

    >>> round(pr_auc(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])), 3)
    0.833
    """
    return Ranking(churned, score).pr_auc()


def roc_auc(churned: Labels, score: Floats) -> float:
    """Area under the ROC curve."""
    return Ranking(churned, score).roc_auc()


def log_loss(churned: Labels, probability: Floats) -> float:
    """Mean negative log-likelihood, natural logarithm."""
    return float(np.mean(losses(churned, probability)))


def losses(churned: Labels, probability: Floats) -> Floats:
    """Negative log-likelihood of each row, natural logarithm."""
    p = np.clip(probability, 1e-15, 1 - 1e-15)
    return np.asarray(-np.where(churned == 1, np.log(p), np.log1p(-p)))


def brier(churned: Labels, probability: Floats) -> float:
    """Mean squared error of the probability."""
    return float(np.mean((probability - churned) ** 2))


def calibration_bins(churned: Labels, probability: Floats, bins: int = ECE_BINS) -> tuple[Floats, Floats, Floats]:
    """Mean probability, churn rate and row count of `bins` equal-mass bins."""
    order = np.argsort(probability, kind="stable")
    parts = np.array_split(order, bins)
    parts = [part for part in parts if len(part)]
    labels = np.asarray(churned, dtype=np.float64)
    return (
        np.array([probability[part].mean() for part in parts]),
        np.array([labels[part].mean() for part in parts]),
        np.array([float(len(part)) for part in parts]),
    )


def ece(churned: Labels, probability: Floats, bins: int = ECE_BINS) -> float:
    """Expected calibration error over equal-mass bins (Nguyen & O'Connor, 2015)."""
    said, came, count = calibration_bins(churned, probability, bins)
    return float(np.sum(np.abs(said - came) * count) / np.sum(count))


def at_threshold(churned: Labels, probability: Floats, threshold: float) -> dict[str, float]:
    """Confusion counts, precision, recall and F1 of `probability >= threshold`."""
    said = probability >= threshold
    true = np.asarray(churned) == 1
    tp, fp = float(np.sum(said & true)), float(np.sum(said & ~true))
    fn, tn = float(np.sum(~said & true)), float(np.sum(~said & ~true))
    return {
        "true_positives": tp,
        "false_positives": fp,
        "false_negatives": fn,
        "true_negatives": tn,
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn) if tp + fn else 0.0,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0,
    }


def bootstrap_weights(churned: Labels, draws: int, seed: int) -> npt.NDArray[np.float64]:
    """Row multiplicities of `draws` stratified bootstrap samples, shape (draws, rows)."""
    generator = np.random.default_rng(seed)
    weights = np.zeros((draws, len(churned)))
    for label in (0, 1):
        rows = np.flatnonzero(np.asarray(churned) == label)
        weights[:, rows] = generator.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=draws)
    return weights


def bootstrap_blocks(churned: Labels, draws: int, seed: int) -> Iterator[Floats]:
    """`draws` stratified bootstrap samples as blocks (some, rows) of row multiplicities, so that memory stays
    bounded at any number of rows."""
    generator = np.random.default_rng(seed)
    strata = [np.flatnonzero(np.asarray(churned) == label) for label in (0, 1)]
    step = max(1, _CELLS // max(1, len(churned)))
    for start in range(0, draws, step):
        weights = np.zeros((min(step, draws - start), len(churned)))
        for rows in strata:
            weights[:, rows] = _multiplicities(generator, len(weights), len(rows))
        yield weights


def _multiplicities(generator: np.random.Generator, draws: int, rows: int) -> npt.NDArray[np.int64]:
    if not rows:
        return np.empty((draws, 0), dtype=np.int64)
    picked = generator.integers(0, rows, size=(draws, rows)) + rows * np.arange(draws)[:, None]
    return np.bincount(picked.ravel(), minlength=draws * rows).reshape(draws, rows)


def interval(values: Floats) -> tuple[float, float]:
    """The middle 95 %."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def summary(churned: Labels, probability: Floats, threshold: float, weights: Floats) -> dict[str, float]:
    """Every metric by name; those of rank and loss with `_low` and `_high` (95 %) under `weights`,
    row multiplicities from `bootstrap_weights`."""
    ranking = Ranking(churned, probability)
    surprise = losses(churned, probability)
    errors = (probability - churned) ** 2
    weighted: Mapping[str, Callable[[Floats], float]] = {
        "pr_auc": ranking.pr_auc,
        "roc_auc": ranking.roc_auc,
        "log_loss": lambda w: float(np.average(surprise, weights=w)),
        "brier": lambda w: float(np.average(errors, weights=w)),
    }
    found: dict[str, float] = {}
    for name, metric in weighted.items():
        found[name] = metric(np.ones(len(probability)))
        found[f"{name}_low"], found[f"{name}_high"] = interval(np.array([metric(w) for w in weights]))
    found["ece"] = ece(churned, probability)
    found["churn_rate"] = float(np.mean(churned))
    found["rows"] = float(len(probability))
    return {**found, **at_threshold(churned, probability, threshold)}


@dataclass(frozen=True)
class Difference:
    """PR-AUC of one score minus that of another on the same rows, with its 95 % interval, and the
    share of bootstrap draws in which the first is better."""

    point: float
    low: float
    high: float
    share_better: float


def paired_difference(churned: Labels, one: Floats, two: Floats, weights: Floats) -> Difference:
    """Compare two scores of the same rows under the same bootstrap `weights`."""
    first, second = Ranking(churned, one), Ranking(churned, two)
    drawn = np.array([first.pr_auc(w) - second.pr_auc(w) for w in weights])
    # A draw in which both are equal speaks for neither.
    better = float(np.mean(drawn > 0) + np.mean(drawn == 0) / 2)
    return Difference(first.pr_auc() - second.pr_auc(), *interval(drawn), better)
