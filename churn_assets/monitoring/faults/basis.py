"""Basis functions of columns: what linear methods need to follow relations that are not linear.

A number is its normal score in the reference (the normal quantile of its rank), the score's square and hinges, and an
indicator of each value that many rows share, such as zero; a category is an indicator of each level but the
most frequent one. All have mean 0
and deviation 1 in the reference. Of many columns each has fewer functions, so that the cost stays bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MOST = 400  # functions, beyond which a number is its score alone
_LEVELS = 12  # of a category, the most frequent ones
_ATOMS, _ATOM_SHARE = 6, 0.03
_HINGES = (-0.7, 0.0, 0.7)

RIDGE = 3e-3  # what the Gram matrix of the functions needs to be inverted

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Column:
    """One column in the reference: the sorted values of a number, and its levels or the values many rows share."""

    values: Floats | None
    levels: Floats
    rich: bool

    def functions(self, cells: Floats) -> list[Floats]:
        indicators = [(cells == level).astype(np.float64) for level in self.levels]
        if self.values is None:
            return indicators
        score = _normal_score(self.values, cells)
        if not self.rich:
            return [score]
        return [score, score**2, *(np.maximum(score - hinge, 0.0) for hinge in _HINGES), *indicators]


@dataclass(frozen=True)
class Basis:
    """`owner` (functions,) is the column of each function."""

    fitted: tuple[_Column, ...]
    owner: npt.NDArray[np.int64]
    mean: Floats
    deviation: Floats
    kept: npt.NDArray[np.bool_]

    def of(self, rows: Floats) -> Floats:
        """The functions of rows (n, columns), shape (n, functions)."""
        raw = _evaluate(self.fitted, rows)[:, self.kept]
        return np.asarray((raw - self.mean) / self.deviation)


def fit_basis(rows: Floats, numeric: Sequence[bool], *, simple: bool = False) -> Basis:
    """The basis of reference rows (n, columns), NaN for missing; a column that is not `numeric` has levels. In a
    `simple` one, as of many columns, a number is its score alone."""
    many = simple or len(numeric) * (len(_HINGES) + 3) > _MOST
    fitted = tuple(_fit(cells, is_number, not many) for cells, is_number in zip(rows.T, numeric, strict=True))
    counts = [len(column.functions(rows[:1, own])) for own, column in enumerate(fitted)]
    raw = _evaluate(fitted, rows)
    deviation = raw.std(axis=0)
    kept = deviation > 1e-6
    owner = np.repeat(np.arange(len(fitted)), counts)[kept]
    return Basis(fitted, owner, raw.mean(axis=0)[kept], deviation[kept], kept)


def _fit(cells: Floats, is_number: bool, rich: bool) -> _Column:
    finite = np.sort(cells[np.isfinite(cells)])
    values, counts = np.unique(finite, return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")]
    if is_number and len(values) > 2:
        shared = frequent[: int(np.sum(counts > _ATOM_SHARE * len(cells)))][:_ATOMS]
        return _Column(finite, shared, rich)
    return _Column(None, frequent[1 : _LEVELS if rich else 2], rich)


def _evaluate(fitted: Sequence[_Column], rows: Floats) -> Floats:
    parts = [part for own, column in enumerate(fitted) for part in column.functions(rows[:, own])]
    return np.column_stack(parts) if parts else np.empty((len(rows), 0))


def _normal_score(usual: Floats, cells: Floats) -> Floats:
    """The normal quantile of the middle rank among the sorted `usual` values; 0 for missing ones."""
    from scipy.special import ndtri

    low, high = np.searchsorted(usual, cells, "left"), np.searchsorted(usual, cells, "right")
    least = 0.5 / len(usual)
    rank = np.clip((low + high) / 2.0 / len(usual), least, 1.0 - least)
    return np.where(np.isfinite(cells), ndtri(rank), 0.0)
