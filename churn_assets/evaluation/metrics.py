"""Metrics, calibration and curves of scores against labels, churn positive. They agree with scikit-learn.

Average precision is the step-wise sum of Davis & Goadrich (2006) with ties taken together; it is written for
sorted, weighted rows because a bootstrap then costs one cumulative sum a draw. The calibration error is over bins of
equal mass (Nguyen & O'Connor, 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.evaluation.bootstrap import interval, statistics_under

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]

BINS = 15
FEWEST = 10  # churned or kept customers; a figure of fewer says nothing, and is not given
_CELLS = 4_000_000  # drawn labels held at once


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


def shortage(churners: float, rows: float) -> str:
    """Why `rows` customers give no figure, '' if they give one.

    >>> shortage(6, 450), shortage(448, 450), shortage(60, 450)
    ('not enough churned customers (6)', 'not enough kept customers (2)', '')
    """
    for count, kind in ((churners, "churned"), (rows - churners, "kept")):
        if count < FEWEST:
            return f"not enough {kind} customers ({count:,.0f})"
    return ""


def shortage_in(metrics: Mapping[str, float | None], prefix: str) -> str:
    """The same of the customers behind the metrics `<prefix>_...` of a model; '' without such customers."""
    rows = round(metrics.get(f"{prefix}_rows") or 0.0)
    return shortage(round((metrics.get(f"{prefix}_churn_rate") or 0.0) * rows), rows) if rows else ""


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
    ranking, row_losses = Ranking(churned, probability), losses(churned, probability)
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
    values |= {"ece": ece(churned, probability), "churn_rate": float(np.mean(churned)), "rows": float(len(probability))}
    return values | at_threshold(churned, probability, threshold)


def calibration_bins(churned: Labels, probability: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean probability, churn rate and row count of each of `BINS` bins of equal mass, (bins,) each."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    labels = np.asarray(churned, dtype=np.float64)
    return (
        np.array([probability[part].mean() for part in parts]),
        np.array([labels[part].mean() for part in parts]),
        np.array([float(len(part)) for part in parts]),
    )


def ece(churned: Labels, probability: Floats) -> float:
    """Expected calibration error: mean distance of probability and churn rate over the bins."""
    predicted, observed, count = calibration_bins(churned, probability)
    return float(np.sum(np.abs(predicted - observed) * count) / np.sum(count))


def ece_under(churned: Labels, probability: Floats, weights: Floats) -> Floats:
    """The calibration error under bootstrap samples (draws, n); (draws,)."""
    order = np.argsort(probability, kind="stable")
    gap = (np.asarray(churned, dtype=np.float64) - probability)[order]
    return _binned_error(weights[:, order] * gap)


def ece_by_chance(probability: Floats, draws: int, seed: int) -> Floats:
    """The calibration error of perfect probabilities (n,) on so few rows; (draws,). It is never 0. Labels are drawn
    from the probabilities themselves (consistency resampling, Broecker & Smith, 2007)."""
    generator, ranked = np.random.default_rng(seed), np.sort(probability, kind="stable")
    step = max(1, _CELLS // max(1, len(ranked)))
    blocks = [(min(step, draws - start), len(ranked)) for start in range(0, draws, step)]
    return np.concatenate([_binned_error((generator.random(block) < ranked) - ranked) for block in blocks])


def _binned_error(gaps: Floats) -> Floats:
    """Calibration error of rows (draws, n) in the order of their probability, in bins of equal mass."""
    count = gaps.shape[1]
    starts = np.unique([part[0] for part in np.array_split(np.arange(count), BINS) if len(part)])
    return np.asarray(np.abs(np.add.reduceat(gaps, starts, axis=1)).sum(axis=1) / count)


@dataclass(frozen=True)
class RankCurves:
    """One value (cuts,) for each distinct score, highest first: the values of a list that ends there.

    `false_positive_rate` is the share of kept customers on it, `listed` the share of all customers.
    """

    threshold: Floats
    recall: Floats
    precision: Floats
    false_positive_rate: Floats
    listed: Floats

    @classmethod
    def of(cls, churned: Labels, score: Floats) -> RankCurves:
        """Of rows (n,) with both classes among them."""
        ranking = Ranking(churned, score)
        listed, hits = ranking.counts()
        misses = listed - hits
        return cls(ranking.cuts, hits / hits[-1], hits / listed, misses / misses[-1], listed / len(ranking.order))


def evenly_spaced(values: Floats, points: int) -> npt.NDArray[np.int64]:
    """Positions at which rising `values` pass `points` equal steps; first and last among them."""
    positions = np.searchsorted(values, np.linspace(values[0], values[-1], points))
    return np.unique(np.append(positions, [0, len(values) - 1])).astype(np.int64)


def lift(churned: Labels, score: Floats, share: float, weights: Floats) -> tuple[float, Floats]:
    """Churn rate among the riskiest `share` over that of all: of the rows, and under samples (draws, n) with
    each sample's own riskiest; (draws,)."""
    order = np.argsort(-score, kind="stable")
    label = np.asarray(churned, dtype=np.float64)[order]
    drawn = np.concatenate([np.ones((1, len(order))), weights[:, order]])
    listed = np.cumsum(drawn, axis=1)
    last = np.argmax(listed >= share * len(order), axis=1)[:, None]
    hits = np.take_along_axis(np.cumsum(drawn * label, axis=1), last, axis=1)
    lifts = (hits / np.take_along_axis(listed, last, axis=1))[:, 0] / label.mean()
    return float(lifts[0]), lifts[1:]
