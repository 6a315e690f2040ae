"""Percentile bootstrap over rows (Efron & Tibshirani, 1993): samples as row multiplicities, and their intervals.

A sample is a vector (n,) of how often each row was drawn, so that a weighted metric of the rows is that of the sample.
Two scores are compared under the same samples (paired), which removes the noise that both have from the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]

DRAWS = 1000
_CELLS = 16_000_000  # multiplicities held at once: 128 MB


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def stratified_samples(churned: Labels, draws: int, seed: int) -> Iterator[Floats]:
    """`draws` samples with as many churners as the rows have, made in blocks, so that memory is bounded."""
    generator = np.random.default_rng(seed)
    strata = [np.flatnonzero(np.asarray(churned) == label) for label in (0, 1)]
    step = max(1, _CELLS // max(1, len(churned)))
    for start in range(0, draws, step):
        block = np.zeros((min(step, draws - start), len(churned)))
        for rows in strata:
            if len(rows):
                block[:, rows] = _multiplicities(generator, len(rows), len(block))
        yield from block


def samples(rows: int, draws: int, seed: int) -> Floats:
    """`draws` samples of `rows` rows regardless of label, (draws, rows): the number of churners varies too."""
    return _multiplicities(np.random.default_rng(seed), rows, draws)


def statistics_under(weights: Iterable[Floats], *statistics: Callable[[Floats], float]) -> Floats:
    """Each statistic, a function of row weights, under each sample of `weights`: (statistics, draws)."""
    return np.array([[statistic(weight) for statistic in statistics] for weight in weights]).T


def interval(draws: Floats) -> tuple[float, float]:
    """The middle 95 % of draws (draws,)."""
    low, high = intervals(draws)
    return float(low), float(high)


def intervals(draws: Floats) -> tuple[Floats, Floats]:
    """The lower and upper ends of the middle 95 % of draws (draws, ...), each (...)."""
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return low, high


@dataclass(frozen=True)
class Difference:
    """A metric of one score minus that of another on the same rows: the point, and paired draws (draws,) of it."""

    point: float
    draws: Floats

    @property
    def interval(self) -> tuple[float, float]:
        """The middle 95 % of the draws."""
        return interval(self.draws)

    @property
    def share_better(self) -> float:
        """The share of draws in which the first score is better; a draw in which both are equal counts half."""
        return float(np.mean(self.draws > 0) + np.mean(self.draws == 0) / 2)


def paired_difference(
    weights: Iterable[Floats], first: Callable[[Floats | None], float], second: Callable[[Floats | None], float]
) -> Difference:
    """Compare a metric (a function of row weights) of two scores under the same samples."""
    (draws,) = statistics_under(weights, lambda weight: first(weight) - second(weight))
    return Difference(first(None) - second(None), draws)


def wilson(hits: float, count: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927); it stays inside 0..1 and is right for few rows too."""
    if not count:
        return 0.0, 1.0
    z, p = 1.959964, hits / count
    middle, spread = p + z * z / (2 * count), z * np.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, float((middle - spread) / scale)), min(1.0, float((middle + spread) / scale))


def _multiplicities(generator: np.random.Generator, rows: int, draws: int) -> Floats:
    counts = np.empty((draws, rows))
    for count in counts:  # a multinomial draw by its definition: many times as fast as a binomial a row
        count[:] = np.bincount(generator.integers(rows, size=rows), minlength=rows)
    return counts
