"""Metrics of scores against labels, churn positive. They agree with scikit-learn (the tests compare).

Average precision is the step-wise sum of Davis & Goadrich (2006) with ties taken together; it is written for
sorted, weighted rows because a bootstrap then costs one cumulative sum a draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.evaluation.bootstrap import interval, statistics_under
from churn_assets.evaluation.calibration import ece

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]


class Ranking:
    """Rows sorted by score once, so that weighted rank metrics are cumulative sums.

    `churned` (n,) may be probabilities: an estimate before there are labels ranks by expected churners.
    `order` sorts the rows, riskiest first; `ends` are the last positions of equal scores, because a model cannot
    cut inside a tie.
    """

    def __init__(self, churned: Labels, score: Floats) -> None:
        order = np.argsort(-score, kind="stable")
        ranked = score[order]
        self.order = order
        self.churned = np.asarray(churned, dtype=np.float64)[order]
        self.ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        self.cuts = ranked[self.ends]
        self._churners = np.flatnonzero(self.churned)
        tie = np.searchsorted(self.ends, self._churners)  # the group of equal scores that each churner is in
        self._counts = np.append(np.flatnonzero(np.diff(tie)), len(tie) - 1)[: len(tie)]
        self._steps = self.ends[tie[self._counts]]

    def pr_auc(self, weights: Floats | None = None) -> float:
        """Average precision under row weights (in the order of the rows given at first); NaN if nobody churned."""
        if not len(self._churners):
            return float("nan")
        weight = self._weight(weights)
        # The sum has a term for each churner only: a fraction of the rows, which most of a bootstrap's time depends on.
        listed = np.cumsum(weight)[self._steps]
        hits = np.cumsum(weight[self._churners] * self.churned[self._churners])[self._counts]
        gained = np.diff(hits, prepend=0.0)
        return float(np.sum(gained * hits / np.maximum(listed, 1e-300)) / hits[-1])

    def roc_auc(self, weights: Floats | None = None) -> float:
        """Area under the ROC curve under row weights."""
        listed, hits = self.counts(weights)
        misses = listed - hits
        area = np.trapezoid(np.append(0.0, hits), np.append(0.0, misses))
        return float(area / (hits[-1] * misses[-1]))

    def counts(self, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """Rows with a score of at least each of `cuts`, and churners among them, under row weights."""
        weight = self._weight(weights)
        return np.cumsum(weight)[self.ends], np.cumsum(weight * self.churned)[self.ends]

    def _weight(self, weights: Floats | None) -> Floats:
        return np.ones(len(self.churned)) if weights is None else weights[self.order]


def pr_auc(churned: Labels, score: Floats) -> float:
    """Average precision.

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
    """Negative log-likelihood of each row, natural logarithm; `churned` may be probabilities."""
    p, label = np.clip(probability, 1e-15, 1 - 1e-15), np.asarray(churned, dtype=np.float64)
    return np.asarray(-(label * np.log(p) + (1.0 - label) * np.log1p(-p)))


def at_threshold(churned: Labels, probability: Floats, threshold: float) -> dict[str, float]:
    """Confusion counts, precision, recall and F1 of `probability >= threshold`."""
    predicted = probability >= threshold
    true = np.asarray(churned) == 1
    tp, fp = float(np.sum(predicted & true)), float(np.sum(predicted & ~true))
    fn, tn = float(np.sum(~predicted & true)), float(np.sum(~predicted & ~true))
    return {
        "true_positives": tp,
        "false_positives": fp,
        "false_negatives": fn,
        "true_negatives": tn,
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn) if tp + fn else 0.0,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0,
    }


def model_metrics(churned: Labels, margin: Floats, probability: Floats) -> dict[str, float]:
    """Rank metrics of log-odds, log-loss and calibration error of the probabilities that they became."""
    ranking = Ranking(churned, margin)
    return {
        "pr_auc": ranking.pr_auc(),
        "roc_auc": ranking.roc_auc(),
        "log_loss": log_loss(churned, probability),
        "ece": ece(churned, probability),
    }


def summary(churned: Labels, probability: Floats, threshold: float, weights: Iterable[Floats]) -> dict[str, float]:
    """Every metric by name; those of rank and loss with `_low` and `_high` (95 %) under `weights`, the row
    multiplicities of bootstrap samples."""
    ranking = Ranking(churned, probability)
    row_losses = losses(churned, probability)
    errors = (probability - churned) ** 2
    weighted: Mapping[str, Callable[[Floats], float]] = {
        "pr_auc": ranking.pr_auc,
        "roc_auc": ranking.roc_auc,
        "log_loss": lambda w: float(np.average(row_losses, weights=w)),
        "brier": lambda w: float(np.average(errors, weights=w)),
    }
    everyone = np.ones(len(probability))
    values: dict[str, float] = {}
    for (name, metric), draws in zip(weighted.items(), statistics_under(weights, *weighted.values()), strict=True):
        values[name] = metric(everyone)
        values[f"{name}_low"], values[f"{name}_high"] = interval(draws)
    values["ece"] = ece(churned, probability)
    values["churn_rate"] = float(np.mean(churned))
    values["rows"] = float(len(probability))
    return {**values, **at_threshold(churned, probability, threshold)}
