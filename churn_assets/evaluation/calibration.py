"""Expected calibration error over bins of equal mass (Nguyen & O'Connor, 2015), and its size by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]

BINS = 15
_CELLS = 4_000_000  # drawn labels held at once


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
    """The calibration error of perfect probabilities (n,) on so few rows; (draws,). It is never 0.

    Labels are drawn from the probabilities themselves (consistency resampling, Broecker & Smith, 2007).
    """
    generator = np.random.default_rng(seed)
    ranked = np.sort(probability, kind="stable")
    step = max(1, _CELLS // max(1, len(ranked)))
    return np.concatenate(
        [
            _binned_error((generator.random((min(step, draws - start), len(ranked))) < ranked) - ranked)
            for start in range(0, draws, step)
        ]
    )


def _binned_error(gaps: Floats) -> Floats:
    """Calibration error of rows (draws, n) in the order of their probability, in bins of equal mass."""
    count = gaps.shape[1]
    starts = np.unique([part[0] for part in np.array_split(np.arange(count), BINS) if len(part)])
    return np.asarray(np.abs(np.add.reduceat(gaps, starts, axis=1)).sum(axis=1) / count)
