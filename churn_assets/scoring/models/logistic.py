"""Logistic regression over piecewise-linear curves: an intercept and one curve a feature.

The design matrix has the ramps, choices and missing flags of `piecewise.PiecewiseEncoding`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from churn_assets.scoring.models.base import read_arrays, write_arrays
from churn_assets.scoring.models.piecewise import FEW_ROWS, Group, PiecewiseEncoding, PiecewiseTables

Array = npt.NDArray[np.float64]

_CHUNK = 4096  # rows at a time: the temporaries of one chunk stay in the second-level cache


class LogisticModel:
    """`intercept + transform(matrix) @ weights`, evaluated as one curve lookup a feature.

    `weights` is (basis.width,) float64 in the basis' column order; `training.candidates.logistic`
    fits them on `basis.transform`.
    """

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

    def margin(self, matrix: npt.NDArray[np.float32]) -> Array:
        """Log-odds (n,) of feature rows (n, k)."""
        if 0 < len(matrix) <= FEW_ROWS:
            return np.asarray(self._curves(matrix).sum(axis=(1, 2)) + self.intercept)
        out = np.full(len(matrix), self.intercept)
        for start in range(0, len(matrix), _CHUNK):
            values = np.ascontiguousarray(matrix[start : start + _CHUNK].T, dtype=np.float64)
            for curve, own in zip(self._whole_curves, values, strict=True):
                out[start : start + _CHUNK] += curve(own)
        return out

    def heights(self, matrix: npt.NDArray[np.float32]) -> Array:
        """The part (n, k) of each feature in the log-odds; with the intercept they add up to `margin`."""
        values = np.ascontiguousarray(matrix.T, dtype=np.float64)
        parts = [curve(own) for curve, own in zip(self._whole_curves, values, strict=True)]
        return np.stack(parts, axis=1) if parts else np.zeros(matrix.shape)

    @cached_property
    def _whole_curves(self) -> list[_Curve]:
        return [_Curve(g, self.weights[where]) for g, where in zip(self.basis.groups, self.basis.slices, strict=True)]

    def save(self, directory: Path) -> None:
        """Write `model.json` and `weights.npz`."""
        arrays = self.basis.to_arrays() | {"weights": self.weights, "intercept": np.array(self.intercept)}
        write_arrays(directory, self.kind, {}, arrays)

    @classmethod
    def load(cls, directory: Path) -> LogisticModel:
        """Read what `save` wrote."""
        _, arrays = read_arrays(directory)
        basis = PiecewiseEncoding.from_arrays(arrays)
        return cls(basis, arrays["weights"].astype(np.float64), float(arrays["intercept"]))


class _Curve:
    """One feature's part of the margin, for many values at once."""

    def __init__(self, group: Group, weights: Array) -> None:
        self.heights = group.heights(weights[:, None])[:, 0]
        self.knots = group.nodes[:-1]
        self.is_category = group.is_category

    def __call__(self, values: Array) -> Array:
        """Heights (n,) at values (n,)."""
        missing = np.isnan(values)
        if self.is_category:
            return self.heights[np.where(missing, len(self.knots), values).astype(np.intp)]
        return np.where(missing, self.heights[-1], np.interp(values, self.knots, self.heights[:-1]))
