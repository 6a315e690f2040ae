"""Shapley values of trees for many rows: what a leaf adds is looked up by which of its conditions a row fulfils.

XGBoost's TreeSHAP walks every tree for every row; 210 trees of depth 10 take 12 ms a row. Here the conditions on the
way to a leaf are merged to one interval for each feature, of which there are few. A leaf of value v with the features 1
to d contributes to feature i: v (o_i - z_i) times the integral from 0 to 1 over t of the product of z_j (1 - t) + o_j t
of the other features j. There o_j is 1 for a row within the interval, else 0, and z_j is the share of the training
weight that follows the conditions on j (Lundberg et al. 2020, with the Shapley weights as Beta integrals). The product
is a polynomial, so that Gauss-Legendre quadrature is exact, and o has only 2^d values: one table for each leaf.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.scoring.models.leaf_masks import base_margin, trees_of
from churn_assets.scoring.models.xgboost_c import Booster

MOST_FEATURES = 12  # on the way to one leaf
MOST_VALUES = 24 * 2**20  # of all tables
_ROWS = 1024  # at a time, so that a tree's arrays stay in the processor's cache
_CELLS = 2**22  # of an array while tables are made

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class _Leaf:
    """A leaf's value and, for each feature on the way to it, the interval from `low` to below `high`, whether a missing
    value comes here, and the share of the training weight that does."""

    value: float
    conditions: dict[int, tuple[float, float, bool, float]]


@dataclass(frozen=True)
class _Tree:
    """Pairs of a leaf and a feature on the way to it, leaf after leaf: `features`, `low`, `high`, `missing` and `bit`
    (pairs, 1); `starts` are the first pairs of the leaves. In a second order, feature after feature, `leaves`, `widths`
    and `places` (pairs, ...) lead to the table, and `of` and `ends` name the features and their first pairs."""

    features: Indices
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    missing: npt.NDArray[np.bool_]
    bit: npt.NDArray[np.int32]
    starts: Indices
    leaves: Indices
    widths: npt.NDArray[np.int32]
    places: npt.NDArray[np.int32]
    of: Indices
    ends: Indices

    def add(self, columns: npt.NDArray[np.float32], absent: npt.NDArray[np.bool_], table: Any, to: Floats) -> None:
        """Add the values of rows, given as `columns` (k, n), to `to` (k, n)."""
        own = columns[self.features]
        inside = (own >= self.low) & (own < self.high)  # false for a missing value
        if absent.any():
            inside |= absent[self.features] & self.missing
        codes = np.add.reduceat(inside * self.bit, self.starts, axis=0)
        values = table.take(codes[self.leaves] * self.widths + self.places)
        to[self.of] += np.add.reduceat(values, self.ends, axis=0)


@dataclass(frozen=True)
class TreeShapley:
    """The trees of a bag of `boosters`, whose mean it explains, the tables of their leaves, and the base value."""

    trees: tuple[_Tree, ...]
    table: npt.NDArray[np.float32] = field(repr=False)
    base: float
    boosters: int

    def probe_rows(self, rows: int, width: int) -> npt.NDArray[np.float32]:
        """Feature rows (rows, width) at the thresholds, some values missing; always the same."""
        rng = np.random.default_rng(0)
        matrix = np.zeros((rows, width), dtype=np.float32)
        features = np.concatenate([np.repeat(tree.features, 2) for tree in self.trees] or [np.empty(0, dtype=np.intp)])
        ends = np.concatenate(
            [np.hstack([tree.low, tree.high]).ravel() for tree in self.trees] or [np.empty(0, dtype=np.float32)]
        )
        for feature in np.unique(features).tolist():
            own = ends[features == feature]
            matrix[:, feature] = rng.choice(np.array([*own[np.isfinite(own)], np.nan], dtype=np.float32), rows)
        return matrix

    def contributions(self, matrix: npt.NDArray[np.float32]) -> Floats:
        """Shapley values (n, k) of feature rows (n, k), in log-odds."""
        out = np.zeros(matrix.shape)
        for start in range(0, len(matrix), _ROWS):
            columns = np.ascontiguousarray(matrix[start : start + _ROWS].T)
            absent, part = np.isnan(columns), np.zeros(columns.shape)
            for tree in self.trees:
                tree.add(columns, absent, self.table, part)
            out[start : start + _ROWS] = part.T / self.boosters
        return out


def build_tree_shapley(boosters: Sequence[Booster]) -> TreeShapley | None:
    """The tables of these boosters; None if they are too large or their trees unusual."""
    trees: list[list[_Leaf]] = []
    base = 0.0
    for booster in boosters:
        model = json.loads(booster.as_json())["learner"]
        if model["gradient_booster"].get("name") != "gbtree":
            return None
        base += float(base_margin(model))
        for tree in trees_of(model, booster.iterations):
            if any(tree.get("split_type", ())) or min(tree["sum_hessian"]) <= 0.0:
                return None
            trees.append(_leaves(tree))
    leaves = [leaf for tree in trees for leaf in tree]
    widths = np.array([len(leaf.conditions) for leaf in leaves], dtype=np.int64)
    sizes = widths << widths
    if widths.max(initial=0) > MOST_FEATURES or sizes.sum() > MOST_VALUES:
        return None
    offsets = np.cumsum(sizes) - sizes
    table = _tables(leaves, widths, offsets, int(sizes.sum()))
    base += sum(leaf.value * float(np.prod([c[3] for c in leaf.conditions.values()])) for leaf in leaves)
    firsts = np.cumsum([0, *map(len, trees)])
    arranged = (_arranged(own, offsets[first:]) for own, first in zip(trees, firsts, strict=False))
    return TreeShapley(tuple(tree for tree in arranged if tree is not None), table, base / len(boosters), len(boosters))


def _leaves(tree: dict[str, Any]) -> list[_Leaf]:
    left, right, weight = tree["left_children"], tree["right_children"], tree["sum_hessian"]
    leaves: list[_Leaf] = []
    waiting: list[tuple[int, dict[int, tuple[float, float, bool, float]]]] = [(0, {})]
    while waiting:
        node, conditions = waiting.pop()
        threshold = float(np.float32(tree["split_conditions"][node]))
        if left[node] < 0:
            leaves.append(_Leaf(threshold, conditions))
            continue
        feature, default_left = tree["split_indices"][node], bool(tree["default_left"][node])
        low, high, missing, share = conditions.get(feature, (-np.inf, np.inf, True, 1.0))
        for child, ends, is_default in (
            (left[node], (low, min(high, threshold)), default_left),
            (right[node], (max(low, threshold), high), not default_left),
        ):
            follows = share * weight[child] / weight[node]
            waiting.append((child, {**conditions, feature: (*ends, missing and is_default, follows)}))
    return leaves


def _tables(leaves: Sequence[_Leaf], widths: Indices, offsets: Indices, size: int) -> npt.NDArray[np.float32]:
    """What each leaf contributes by fulfilled conditions and feature: (2^d, d) a leaf, one behind another."""
    table = np.zeros(size, dtype=np.float32)
    for width in np.unique(widths[widths > 0]).tolist():
        own = np.flatnonzero(widths == width)
        shares = np.array([[c[3] for c in leaves[i].conditions.values()] for i in own.tolist()])
        values = np.array([leaves[i].value for i in own.tolist()])
        fulfilled = (np.arange(1 << width)[:, None] >> np.arange(width)) & 1
        at_a_time = max(1, _CELLS // fulfilled.size)
        for start in range(0, len(own), at_a_time):
            part = slice(start, start + at_a_time)
            block = _contributed(values[part], shares[part], fulfilled.astype(np.float64))
            table[offsets[own[part], None] + np.arange(fulfilled.size)] = block.reshape(len(block), -1)
    return table


def _contributed(values: Floats, shares: Floats, fulfilled: Floats) -> Floats:
    """(leaves, 2^d, d) for leaf `values` (leaves,), `shares` (leaves, d) and all combinations `fulfilled` (2^d, d)."""
    nodes, weights = np.polynomial.legendre.leggauss((fulfilled.shape[1] + 1) // 2)
    total = np.zeros((len(values), *fulfilled.shape))
    for at, weight in zip((nodes + 1.0) / 2.0, weights / 2.0, strict=True):
        factors = shares[:, None, :] * (1.0 - at) + fulfilled * at
        total += weight * factors.prod(axis=2, keepdims=True) / factors
    return np.asarray(values[:, None, None] * (fulfilled - shares[:, None, :]) * total)


def _arranged(leaves: Sequence[_Leaf], offsets: Indices) -> _Tree | None:
    """The pairs of one tree; None for a tree without a split."""
    pairs = [(n, j, f, c) for n, leaf in enumerate(leaves) for j, (f, c) in enumerate(leaf.conditions.items())]
    if not pairs:
        return None
    leaf, place, feature = (np.array([pair[i] for pair in pairs], dtype=np.intp) for i in range(3))
    low, high, missing, _ = (np.array([pair[3][i] for pair in pairs]) for i in range(4))
    order = np.argsort(feature, kind="stable")
    of, ends = np.unique(feature[order], return_index=True)
    widths = np.array([len(own.conditions) for own in leaves])[leaf]
    return _Tree(
        features=feature,
        low=low.astype(np.float32)[:, None],
        high=high.astype(np.float32)[:, None],
        missing=missing.astype(bool)[:, None],
        bit=(1 << place).astype(np.int32)[:, None],
        starts=np.flatnonzero(place == 0),
        leaves=leaf[order],
        widths=widths[order].astype(np.int32)[:, None],
        places=(offsets[leaf] + place)[order].astype(np.int32)[:, None],
        of=of,
        ends=ends,
    )
