"""Piecewise-linear encoding of a feature matrix: what the logistic and the network models see.

Each number becomes ramps between quantile knots: ramp i is 0 up to knot i, 1 from knot i+1 on, and
linear between. Any weighted sum of ramps is a piecewise-linear curve that stays flat outside the
training range, so that a value a hundred times too large moves the score no further than the largest
value seen. Each category becomes one column a choice and one for missing.

Two forms of the same thing: `PiecewiseEncoding.transform` writes the encoded columns out, for
training; `PiecewiseTables` folds a linear map of those columns into one value a knot, for scoring.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from churn_assets.features.compile import FeatureSpec

FloatMatrix = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """The encoded columns of one feature.

    A number has `knots` (ascending, at least two, or none for a constant), the median `fill` for
    missing values, and a column for missingness if `has_missing`. `linear` adds the standardised
    value `(x - centre) / scale`, clipped to the knots. A category has `choices` and no knots.
    """

    name: str
    knots: tuple[float, ...] = ()
    fill: float = 0.0
    has_missing: bool = False
    linear: bool = False
    centre: float = 0.0
    scale: float = 1.0
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
        ramps = max(len(self.knots) - 1, 0)
        return ramps + int(self.linear and ramps > 0) + int(self.has_missing)

    def encode(self, values: FloatMatrix) -> Array:
        """Encoded columns (n, width) of one feature's values (n,); NaN is missing."""
        return self._encode_codes(values) if self.is_category else self._encode_numbers(values)

    def _encode_codes(self, values: FloatMatrix) -> Array:
        out = np.zeros((len(values), self.width))
        codes = np.where(np.isnan(values), self.choices, values).astype(np.intp)
        out[np.arange(len(values)), codes] = 1.0
        return out

    def _encode_numbers(self, values: FloatMatrix) -> Array:
        out = np.zeros((len(values), self.width))
        missing = np.isnan(values)
        if self.knots:
            knots = np.asarray(self.knots)
            ramps = len(knots) - 1
            filled = np.where(missing, self.fill, values.astype(np.float64))
            np.clip((filled[:, None] - knots[:-1]) / np.diff(knots), 0.0, 1.0, out=out[:, :ramps])
            if self.linear:
                out[:, ramps] = (np.clip(filled, knots[0], knots[-1]) - self.centre) / self.scale
        if self.has_missing:
            out[:, -1] = missing
        return out


@dataclass(frozen=True)
class PiecewiseEncoding:
    """One group of encoded columns for each feature, in the feature program's order."""

    groups: tuple[Group, ...]

    @classmethod
    def fit(
        cls, matrix: FloatMatrix, specs: Sequence[FeatureSpec], knots: int, *, linear: bool = False
    ) -> PiecewiseEncoding:
        """Learn knots, medians and missingness from training rows (n, k); labels are not needed.

        `knots` is the greatest number of knots a feature gets: quantiles, or its distinct values
        where there are no more than that.
        """
        groups = [_fit_group(matrix[:, j], spec, knots, linear) for j, spec in enumerate(specs)]
        return cls(tuple(groups))

    @cached_property
    def width(self) -> int:
        """Encoded columns of all features together."""
        return sum(group.width for group in self.groups)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each feature's columns lie in the encoded matrix."""
        ends = np.cumsum([group.width for group in self.groups]).tolist()
        return tuple(slice(end - group.width, end) for group, end in zip(self.groups, ends, strict=True))

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """A name for each encoded column, for reports: `tenure[3]`, `city[missing]`."""
        return tuple(f"{g.name}[{i}]" for g in self.groups for i in _parts(g))

    def transform(self, matrix: FloatMatrix) -> Array:
        """Encoded columns (n, width), float64, of a feature matrix (n, k) with NaN for missing."""
        out = np.zeros((len(matrix), self.width))
        for j, (group, where) in enumerate(zip(self.groups, self.slices, strict=True)):
            if group.width:
                out[:, where] = group.encode(matrix[:, j])
        return out

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Arrays that `from_arrays` reads back: no pickle, exact."""
        return {
            "encoding_names": np.array([g.name for g in self.groups]),
            "encoding_knots": np.array([x for g in self.groups for x in g.knots], dtype=np.float64),
            "encoding_counts": np.array([len(g.knots) for g in self.groups], dtype=np.int64),
            "encoding_numbers": np.array([(g.fill, g.centre, g.scale) for g in self.groups]).reshape(-1, 3),
            "encoding_flags": np.array([(g.has_missing, g.linear) for g in self.groups], bool).reshape(-1, 2),
            "encoding_choices": np.array([g.choices for g in self.groups], dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> PiecewiseEncoding:
        """The encoding that `to_arrays` wrote."""
        names = arrays["encoding_names"].tolist()
        counts = arrays["encoding_counts"].tolist()
        knots = np.split(arrays["encoding_knots"], np.cumsum(counts)[:-1]) if names else []
        columns = zip(
            names,
            knots,
            arrays["encoding_numbers"].tolist(),
            arrays["encoding_flags"].tolist(),
            arrays["encoding_choices"].tolist(),
            strict=True,
        )
        return cls(
            tuple(
                Group(name, tuple(xs.tolist()), fill, missing, linear, centre, scale, choices)
                for name, xs, (fill, centre, scale), (missing, linear), choices in columns
            )
        )


def _parts(group: Group) -> list[str]:
    plain = group.width - int(group.has_missing or group.is_category)
    return [str(i) for i in range(plain)] + ["missing"] * (group.width - plain)


def _fit_group(values: FloatMatrix, spec: FeatureSpec, knots: int, linear: bool) -> Group:
    if spec.kind == "category":
        return Group(spec.name, choices=len(spec.choices))
    missing = np.isnan(values)
    present = values[~missing].astype(np.float64)
    present = present[np.isfinite(present)]
    has_missing = bool(missing.any())
    if not len(present):
        return Group(spec.name, has_missing=has_missing)
    distinct = np.unique(present)
    if len(distinct) > knots:
        distinct = np.unique(np.quantile(present, np.linspace(0.0, 1.0, knots)))
    fill = float(np.median(present))
    if len(distinct) < 2:
        return Group(spec.name, fill=fill, has_missing=has_missing)
    scale = float(present.std()) or 1.0
    return Group(spec.name, tuple(distinct.tolist()), fill, has_missing, linear, float(present.mean()), scale)


class PiecewiseTables:
    """`transform(matrix) @ weights`, feature by feature, as curves: one node a knot or choice.

    `weights` is (encoding.width, d): each feature's block maps its own columns to d numbers. A value
    between two knots is the linear interpolation of their nodes, which is exact because every ramp is
    linear there. Cost per value: one binary search and d multiply-adds, whatever the number of knots.
    """

    def __init__(self, encoding: PiecewiseEncoding, weights: Array) -> None:
        self.depth = weights.shape[1]
        nodes, steps, self._features = [], [], []
        offset = 0
        for group, where in zip(encoding.groups, encoding.slices, strict=True):
            inputs = _node_inputs(group)
            heights = group.encode(inputs) @ weights[where]
            step = np.zeros_like(heights)
            if group.knots:
                step[: len(group.knots) - 1] = np.diff(heights[: len(group.knots)], axis=0)
            nodes.append(heights)
            steps.append(step)
            self._features.append(_NodeFinder(group, offset, offset + len(inputs) - 1))
            offset += len(inputs)
        self.nodes = np.concatenate(nodes) if nodes else np.zeros((0, self.depth))
        self.steps = np.concatenate(steps) if steps else np.zeros((0, self.depth))

    def locate(self, matrix: FloatMatrix) -> tuple[npt.NDArray[np.intp], Array]:
        """Node (n, k) below each value, and how far (0..1) it is on the way to the next."""
        if len(matrix) == 1:  # plain Python beats eight NumPy calls a feature on a single row
            pairs = [f.locate_one(x) for f, x in zip(self._features, matrix[0].tolist(), strict=True)]
            return np.array([[p[0] for p in pairs]], dtype=np.intp), np.array([[p[1] for p in pairs]])
        node = np.empty(matrix.shape, dtype=np.intp)
        share = np.zeros(matrix.shape)
        for j, feature in enumerate(self._features):
            feature.locate_many(matrix[:, j], node[:, j], share[:, j])
        return node, share

    def apply(self, matrix: FloatMatrix) -> Array:
        """Curve values (n, k, d) of a feature matrix (n, k)."""
        node, share = self.locate(matrix)
        out: Array = self.steps[node]
        out *= share[:, :, None]
        out += self.nodes[node]
        return out

    def total(self, matrix: FloatMatrix) -> Array:
        """Curve values summed over the features: (n, d)."""
        node, share = self.locate(matrix)
        if self.depth == 1:
            flat = self.nodes[:, 0][node]
            flat += share * self.steps[:, 0][node]
            return np.asarray(flat.sum(axis=1, keepdims=True))
        out = np.zeros((len(matrix), self.depth))
        for j in range(matrix.shape[1]):
            out += self.nodes[node[:, j]]
            out += share[:, j, None] * self.steps[node[:, j]]
        return out


def _node_inputs(group: Group) -> Array:
    """Values whose encodings are the nodes of a feature; the last is always missing."""
    if group.is_category:
        return np.array([*range(group.choices), np.nan])
    return np.array([*(group.knots or (group.fill,)), np.nan])


class _NodeFinder:
    """Finds the node of a value among those of one feature, one value or many: same arithmetic."""

    def __init__(self, group: Group, first: int, missing: int) -> None:
        self.first = first
        self.missing = missing
        self.is_category = group.is_category
        self.knots = list(group.knots)
        self.knots_array = np.array(group.knots, dtype=np.float64)
        self.inverse = 1.0 / np.diff(self.knots_array) if self.knots else np.zeros(0)
        self.inverse_list = self.inverse.tolist()
        self.last = max(len(self.knots) - 2, 0)

    def locate_one(self, value: float) -> tuple[int, float]:
        """Node and share of one value."""
        if value != value:
            return self.missing, 0.0
        if self.is_category:
            return self.first + int(value), 0.0
        if not self.knots:
            return self.first, 0.0
        i = min(max(bisect_right(self.knots, value) - 1, 0), self.last)
        share = (value - self.knots[i]) * self.inverse_list[i]
        return self.first + i, min(max(share, 0.0), 1.0)

    def locate_many(self, values: FloatMatrix, node: npt.NDArray[np.intp], share: Array) -> None:
        """Write nodes and shares of values (n,) into `node` and `share`."""
        missing = np.isnan(values)
        if self.is_category:
            node[:] = np.where(missing, self.missing, values).astype(np.intp)
            node[~missing] += self.first
            return
        if not self.knots:
            node[:] = np.where(missing, self.missing, self.first)
            return
        exact = np.where(missing, self.knots[0], values).astype(np.float64)
        i = np.clip(np.searchsorted(self.knots_array, exact, side="right") - 1, 0, self.last)
        np.clip((exact - self.knots_array[i]) * self.inverse[i], 0.0, 1.0, out=share)
        share[missing] = 0.0
        node[:] = np.where(missing, self.missing, self.first + i)
