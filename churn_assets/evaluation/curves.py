"""Curves of a ranking: precision and recall, ROC, cumulative gains, lift. Equal scores are one step of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.evaluation.metrics import Ranking

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]
Labels = npt.NDArray[Any]


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


def evenly_spaced(values: Floats, points: int) -> Positions:
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
