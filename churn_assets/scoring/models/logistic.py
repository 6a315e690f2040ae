"""Logistic regression over piecewise-linear curves: an intercept and one curve a feature."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from churn_assets.features.compile import Array, Matrix
from churn_assets.scoring.models.base import read_arrays, write_model
from churn_assets.scoring.models.piecewise import FEW_ROWS, Group, PiecewiseEncoding, PiecewiseTables

_CHUNK = 4096  # rows at a time: the temporaries of one chunk stay in the second-level cache


class LogisticModel:
    """`intercept + basis.transform(matrix) @ weights`, with weights (basis.width,): one curve lookup a feature."""

    kind: ClassVar[str] = "logistic"

    def __init__(self, basis: PiecewiseEncoding, weights: Array, intercept: float) -> None:
        self.basis = basis
        self.weights = np.asarray(weights, dtype=np.float64)
        self.intercept = float(intercept)
        self._curves = PiecewiseTables(basis, self.weights[:, None])

    @property
    def cost(self) -> float:
        """Operations a row: a binary search and a multiply-add for each feature."""
        return float(sum(2 + np.log2(1 + max(len(g.knots), 1)) for g in self.basis.groups))

    def margin(self, matrix: Matrix) -> Array:
        """Log-odds (n,) of feature rows (n, k)."""
        if 0 < len(matrix) <= FEW_ROWS:
            return np.asarray(self._curves(matrix).sum(axis=(1, 2)) + self.intercept)
        out = np.full(len(matrix), self.intercept)
        for start in range(0, len(matrix), _CHUNK):
            values = np.ascontiguousarray(matrix[start : start + _CHUNK].T, dtype=np.float64)
            for curve, own in zip(self._whole_curves, values, strict=True):
                out[start : start + _CHUNK] += curve(own)
        return out

    def heights(self, matrix: Matrix) -> Array:
        """The part (n, k) of each feature in the log-odds; with the intercept they add up to `margin`."""
        values = np.ascontiguousarray(matrix.T, dtype=np.float64)
        parts = [curve(own) for curve, own in zip(self._whole_curves, values, strict=True)]
        return np.stack(parts, axis=1) if parts else np.zeros(matrix.shape)

    @cached_property
    def _whole_curves(self) -> list[Callable[[Array], Array]]:
        return [_curve(g, self.weights[where]) for g, where in zip(self.basis.groups, self.basis.slices, strict=True)]

    def save(self, directory: Path) -> None:
        """Write `model.json` and `weights.npz`."""
        arrays = self.basis.to_arrays() | {"weights": self.weights, "intercept": np.array(self.intercept)}
        write_model(directory, self.kind, {}, arrays)

    @classmethod
    def load(cls, directory: Path) -> LogisticModel:
        """Read what `save` wrote."""
        _, arrays = read_arrays(directory)
        basis = PiecewiseEncoding.from_arrays(arrays)
        return cls(basis, arrays["weights"].astype(np.float64), float(arrays["intercept"]))


def _curve(group: Group, weights: Array) -> Callable[[Array], Array]:
    """One feature's part (n,) in the margin as a function of its values (n,), for many at once."""
    heights, knots = group.heights(weights[:, None])[:, 0], group.nodes[:-1]
    if group.is_category:
        return lambda values: heights[np.where(np.isnan(values), len(knots), values).astype(np.intp)]
    return lambda values: np.where(np.isnan(values), heights[-1], np.interp(values, knots, heights[:-1]))
