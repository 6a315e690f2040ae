"""Piecewise-linear encoding of a feature matrix: the input of the logistic and the network models.

Each number becomes ramps between quantile knots: ramp i is 0 up to knot i, 1 from knot i+1 on, and linear between. A
weighted sum of ramps is a curve that stays flat outside the training range, so that a value a hundred times too large
moves the score no further than the largest value seen. Each category becomes one column a choice and one for missing.

`PiecewiseEncoding.transform` writes the encoded columns out, for training and for many rows; `PiecewiseTables` folds a
linear map of those columns into one value a knot, for one row or a few.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from churn_assets.features.compile import Array, FeatureSpec, Matrix

FloatMatrix = Matrix | Array

FEW_ROWS = 6  # up to here a loop over rows in plain Python is faster than NumPy's cost of a call a feature


@dataclass(frozen=True)
class Group:
    """The encoded columns of one feature.

    A number has `knots` (ascending, at least two, or none for a constant), the median `fill` for
    missing values, and a column for missingness if `has_missing`. A category has `choices` and no knots.
    """

    name: str
    knots: tuple[float, ...] = ()
    fill: float = 0.0
    has_missing: bool = False
    choices: int = 0

    @property
    def is_category(self) -> bool:
        """Whether codes, not numbers, are encoded."""
        return self.choices > 0

    @cached_property
    def width(self) -> int:
        """How many encoded columns the feature has."""
        if self.is_category:
            return self.choices + 1
        return max(len(self.knots) - 1, 0) + int(self.has_missing)

    def encode_into(self, out: Array, values: Array) -> None:
        """Write the encoded columns, transposed (width, n), of one feature's values (n,); NaN is missing."""
        missing = np.isnan(values)
        if self.is_category:
            out[:] = 0.0
            out[np.where(missing, self.choices, values).astype(np.intp), np.arange(len(values))] = 1.0
            return
        if self.knots:
            knots = np.asarray(self.knots)[:, None]
            filled = np.where(missing, self.fill, values)
            ramps = out[: len(knots) - 1]
            np.subtract(filled, knots[:-1], out=ramps)
            ramps *= 1.0 / np.diff(knots, axis=0)
            np.clip(ramps, 0.0, 1.0, out=ramps)
        if self.has_missing:
            out[-1] = missing

    @property
    def nodes(self) -> Array:
        """Values between which any sum of the encoded columns is linear, or choices; the last is missing."""
        values = range(self.choices) if self.is_category else self.knots or (self.fill,)
        return np.array([*values, np.nan], dtype=np.float64)

    def heights(self, weights: Array) -> Array:
        """The encoded columns times `weights` (width, d) at each node: (nodes, d)."""
        encoded = np.empty((self.width, len(self.nodes)))
        self.encode_into(encoded, self.nodes)
        return np.asarray(encoded.T @ weights)


@dataclass(frozen=True)
class PiecewiseEncoding:
    """One group of encoded columns for each feature, in the feature program's order."""

    groups: tuple[Group, ...]

    @classmethod
    def fit(cls, matrix: FloatMatrix, specs: Sequence[FeatureSpec], knots: int) -> PiecewiseEncoding:
        """Learn knots, medians and missingness from training rows (n, k), without labels. A feature gets at most
        `knots` knots: quantiles, or its distinct values where there are no more than that."""
        return cls(tuple(_fit_group(matrix[:, j], spec, knots) for j, spec in enumerate(specs)))

    @cached_property
    def width(self) -> int:
        """Encoded columns of all features together."""
        return sum(group.width for group in self.groups)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each feature's columns lie in the encoded matrix."""
        ends = np.cumsum([group.width for group in self.groups]).tolist()
        return tuple(slice(end - group.width, end) for group, end in zip(self.groups, ends, strict=True))

    def transform(self, matrix: FloatMatrix) -> Array:
        """Encoded columns (n, width), float64, of a feature matrix (n, k) with NaN for missing."""
        return np.ascontiguousarray(self.transposed(matrix).T)

    def transposed(self, matrix: FloatMatrix) -> Array:
        """`transform(matrix).T` (width, n): each encoded column is contiguous, which is what scoring reads."""
        values = np.ascontiguousarray(matrix.T, dtype=np.float64)
        out = np.empty((self.width, len(matrix)))
        for group, where, own in zip(self.groups, self.slices, values, strict=True):
            if group.width:
                group.encode_into(out[where], own)
        return out

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Arrays that `from_arrays` reads back: no pickle, exact."""
        return {
            "encoding_names": np.array([g.name for g in self.groups]),
            "encoding_knots": np.array([x for g in self.groups for x in g.knots], dtype=np.float64),
            "encoding_counts": np.array([len(g.knots) for g in self.groups], dtype=np.int64),
            "encoding_numbers": np.array([g.fill for g in self.groups], dtype=np.float64)[:, None],
            "encoding_flags": np.array([g.has_missing for g in self.groups], dtype=bool)[:, None],
            "encoding_choices": np.array([g.choices for g in self.groups], dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> PiecewiseEncoding:
        """The encoding that `to_arrays` wrote; further columns of numbers and flags, of version 0.1, had no effect."""
        names = arrays["encoding_names"].tolist()
        counts = arrays["encoding_counts"].tolist()
        knots = np.split(arrays["encoding_knots"], np.cumsum(counts)[:-1]) if names else []
        fills, flags = arrays["encoding_numbers"][:, 0].tolist(), arrays["encoding_flags"][:, 0].tolist()
        columns = zip(names, knots, fills, flags, arrays["encoding_choices"].tolist(), strict=True)
        return cls(tuple(Group(name, tuple(xs.tolist()), *others) for name, xs, *others in columns))


def _fit_group(values: FloatMatrix, spec: FeatureSpec, knots: int) -> Group:
    if spec.kind == "category":
        return Group(spec.name, choices=len(spec.choices))
    missing = np.isnan(values)
    present = values[np.isfinite(values)].astype(np.float64)
    has_missing = bool(missing.any())
    if not len(present):
        return Group(spec.name, has_missing=has_missing)
    distinct = np.unique(present)
    if len(distinct) > knots:
        distinct = np.unique(np.quantile(present, np.linspace(0.0, 1.0, knots)))
    fill = float(np.median(present))
    if len(distinct) < 2:
        return Group(spec.name, fill=fill, has_missing=has_missing)
    return Group(spec.name, tuple(distinct.tolist()), fill, has_missing)


class PiecewiseTables:
    """`transform(matrix)` times weights, feature by feature, as curves: one node a knot or choice.

    `weights` is (encoding.width, d). A value between two knots is the linear interpolation of their nodes, which is
    exact because every ramp is linear there. For a few rows: many are faster as a matrix product.
    """

    def __init__(self, encoding: PiecewiseEncoding, weights: Array) -> None:
        nodes, steps, self._features = [], [], []
        offset = 0
        for group, where in zip(encoding.groups, encoding.slices, strict=True):
            heights = group.heights(weights[where])
            step = np.zeros_like(heights)
            last = max(len(group.knots) - 2, 0)
            if group.knots:
                step[: last + 1] = np.diff(heights[: last + 2], axis=0)
            nodes.append(heights)
            steps.append(step)
            inverse = (1.0 / np.diff(group.knots)).tolist() if group.knots else []
            missing = offset + len(heights) - 1
            self._features.append((group.is_category, offset, missing, list(group.knots), inverse, last))
            offset += len(heights)
        empty = np.zeros((0, weights.shape[1]))
        self.nodes, self.steps = np.concatenate([empty, *nodes]), np.concatenate([empty, *steps])

    def __call__(self, matrix: FloatMatrix) -> Array:
        """Curve values (n, k, d) of a few feature rows (n, k)."""
        located = [self._locate(row) for row in matrix.tolist()]
        node = np.array([nodes for nodes, _ in located])
        out: Array = self.steps[node]
        out *= np.array([shares for _, shares in located])[:, :, None]
        out += self.nodes[node]
        return out

    def _locate(self, row: list[float]) -> tuple[list[int], list[float]]:
        """For each value the node below it, and how far (0..1) it is on the way to the next."""
        nodes, shares = [], []
        for x, (is_category, first, missing, knots, inverse, last) in zip(row, self._features, strict=True):
            node, share = first, 0.0
            if x != x:
                node = missing
            elif is_category:
                node += int(x)
            elif (i := bisect_right(knots, x) - 1) > last:
                node, share = first + last, 1.0
            elif i >= 0:
                node, share = first + i, (x - knots[i]) * inverse[i]
            nodes.append(node)
            shares.append(share)
        return nodes, shares
