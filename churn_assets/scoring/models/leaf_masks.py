"""Trees as bit masks of the leaves that remain: one row in a handful of NumPy calls.

It stays beside XGBoost's C library, a call of which costs some 50 us whatever the number of rows: it takes 27 % off the
CPU of a request with one client, 36 % with 16 (`python -m benchmarks.two_checkouts`, 223 trees of the real table).

After QuickScorer (Lucchese et al. 2015). Give each leaf of a tree one bit, leftmost first. A node whose
condition `x < t` fails rules out the leaves to its left; what remains after all such nodes, lowest bit
first, is the leaf. For one feature, the failing nodes are those with `t <= x`: so for each interval
between two thresholds of the feature (and for missing) the mask of every tree is known beforehand. A row
is then one binary search a feature, an AND over the features, and a lookup of leaf values. Values are
added in XGBoost's order and precision, so that both ways agree to the last bit.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.scoring.models.xgboost_c import Booster

MAX_LEAVES = 64
MAX_BYTES = 64 * 2**20

_Node = tuple[int, float, bool, int, int]  # feature, threshold, missing goes left, tree, leaves to the left


@dataclass(frozen=True)
class LeafMasks:
    """Masks (intervals, trees) of all features below one another, and where each feature's start.

    `values` (trees, leaves) are float32; `ends` are the trees' ends, booster by booster, and `bases`
    their base margins. `features` are the numbers of those that some tree splits on, of `width` in all.
    """

    masks: npt.NDArray[np.unsignedinteger]
    features: tuple[int, ...]
    thresholds: tuple[list[float], ...]
    starts: tuple[int, ...]
    values: npt.NDArray[np.float32]
    ends: tuple[int, ...]
    bases: tuple[np.float32, ...]
    path_length: float
    width: int

    def probe_rows(self, rows: int) -> npt.NDArray[np.float32]:
        """Feature rows (rows, width) at and beside the thresholds, some values missing; always the same."""
        rng = np.random.default_rng(0)
        matrix = np.zeros((rows, self.width), dtype=np.float32)
        for feature, thresholds in zip(self.features, self.thresholds, strict=True):
            values = np.array([*thresholds, -1e30, 1e30, np.nan], dtype=np.float32)
            matrix[:, feature] = rng.choice(values, rows)
        return matrix

    def margin(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Mean log-odds (n,) of a few feature rows (n, k)."""
        return np.array([self.margin_of_row(row) for row in matrix.tolist()])

    def margin_of_row(self, row: list[float]) -> float:
        """Mean log-odds of one feature row, in few NumPy calls; each costs more than its work."""
        remaining = np.bitwise_and.reduce(self.masks.take(self._intervals(row), axis=0), axis=0)
        leaf = _lowest_bit(remaining) if self._lowest is None else self._lowest.take(remaining)
        terms = self._flat.take(self._offsets + leaf)
        total, start = 0.0, 0
        for end, base in zip(self.ends, self.bases, strict=True):
            terms[start] += base
            total += float(np.add.accumulate(terms[start:end])[-1])
            start = end
        return total / len(self.ends)

    @cached_property
    def _lowest(self) -> npt.NDArray[np.uint8] | None:
        """Number of the lowest set bit of every mask, where there are few enough masks to list."""
        if self.masks.dtype.itemsize > 2:
            return None
        return _lowest_bit(np.arange(1 << 8 * self.masks.dtype.itemsize, dtype=np.uint32))

    @cached_property
    def _flat(self) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(self.values).reshape(-1)

    @cached_property
    def _offsets(self) -> npt.NDArray[np.int64]:
        return np.arange(0, self.values.size, self.values.shape[1], dtype=np.int64)

    def _intervals(self, row: list[float]) -> list[int]:
        intervals = []
        for feature, thresholds, start in zip(self.features, self.thresholds, self.starts, strict=True):
            x = row[feature]
            intervals.append(start + (bisect_right(thresholds, x) if x == x else len(thresholds) + 1))
        return intervals


def _lowest_bit(masks: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.uint8]:
    """Number of the lowest set bit of each mask."""
    return np.asarray(np.bitwise_count((masks - masks.dtype.type(1)) & ~masks), dtype=np.uint8)


def build_leaf_masks(boosters: Sequence[Booster]) -> LeafMasks | None:
    """Leaf masks of a bag of boosters, or None where they do not fit or do not give its margins."""
    nodes: list[_Node] = []
    leaves: list[list[float]] = []
    ends, bases, path_length = list[int](), list[np.float32](), 0.0
    for booster in boosters:
        model = json.loads(booster.as_json())["learner"]
        if model["gradient_booster"].get("name") != "gbtree":
            return None
        for tree in trees_of(model, booster.iterations):
            if any(tree.get("split_type", ())) or len(tree["left_children"]) > 2 * MAX_LEAVES - 1:
                return None
            values, depth = _walk(tree, len(leaves), nodes)
            leaves.append(values)
            path_length += depth
        ends.append(len(leaves))
        bases.append(base_margin(model))
    return _assemble(nodes, leaves, tuple(ends), tuple(bases), path_length, boosters[0].features)


def trees_of(model: dict[str, Any], iterations: int) -> list[dict[str, Any]]:
    """The trees of a learner in XGBoost's JSON, of `iterations` rounds, 0 for all."""
    forest = model["gradient_booster"]["model"]
    first = forest["iteration_indptr"]
    return list(forest["trees"][: first[iterations] if iterations else first[-1]])


def base_margin(model: dict[str, Any]) -> np.float32:
    """The log-odds that the trees are added to."""
    base = np.float32(json.loads(model["learner_model_param"]["base_score"].strip("[]")))
    if not model["objective"]["name"].startswith(("binary:logi", "reg:logistic")):
        return base
    return np.float32(-np.log(np.float32(1.0) / base - np.float32(1.0)))


def _walk(tree: dict[str, Any], number: int, nodes: list[_Node]) -> tuple[list[float], float]:
    """Append the tree's nodes; return its leaf values, leftmost first, and their mean depth."""
    left, right = tree["left_children"], tree["right_children"]
    feature, threshold, default = tree["split_indices"], tree["split_conditions"], tree["default_left"]
    values: list[float] = []
    depths: list[int] = []

    def visit(node: int, depth: int) -> int:
        """Bits of the leaves below a node."""
        if left[node] < 0:
            values.append(threshold[node])
            depths.append(depth)
            return 1 << (len(values) - 1)
        below = visit(left[node], depth + 1)
        nodes.append((feature[node], threshold[node], bool(default[node]), number, below))
        return below | visit(right[node], depth + 1)

    visit(0, 0)
    return values, sum(depths) / len(depths)


def _assemble(
    nodes: list[_Node],
    leaves: list[list[float]],
    ends: tuple[int, ...],
    bases: tuple[np.float32, ...],
    path_length: float,
    width: int,
) -> LeafMasks | None:
    widest = max(len(values) for values in leaves)
    dtype = np.dtype(next(f"u{size}" for size in (1, 2, 4, 8) if widest <= 8 * size))
    by_feature: dict[int, list[_Node]] = {}
    for node in nodes:
        by_feature.setdefault(node[0], []).append(node)
    by_feature = by_feature or {0: []}  # stumps without a split still need a row of masks
    thresholds = {f: sorted({float(np.float32(n[1])) for n in own}) for f, own in by_feature.items()}
    rows = sum(len(t) + 2 for t in thresholds.values())
    if widest > MAX_LEAVES or rows * len(leaves) * dtype.itemsize > MAX_BYTES:
        return None
    blocks = [_masks(by_feature[f], thresholds[f], len(leaves), dtype) for f in by_feature]
    starts = np.cumsum([0, *(len(block) for block in blocks)])[:-1]
    values = np.zeros((len(leaves), widest), dtype=np.float32)
    for tree, own in enumerate(leaves):
        values[tree, : len(own)] = own
    masks, features, cuts = np.concatenate(blocks), tuple(by_feature), tuple(thresholds.values())
    return LeafMasks(masks, features, cuts, tuple(starts.tolist()), values, ends, bases, path_length, width)


def _masks(
    nodes: list[_Node], thresholds: list[float], trees: int, dtype: np.dtype[Any]
) -> npt.NDArray[np.unsignedinteger]:
    """Masks of one feature: a row for each interval of its thresholds, and a last one for missing."""
    full = np.iinfo(dtype).max
    masks = np.full((len(thresholds) + 2, trees), full, dtype=dtype)
    for _, threshold, missing_left, tree, left_leaves in nodes:
        keep = dtype.type(full ^ left_leaves)
        masks[bisect_right(thresholds, float(np.float32(threshold))), tree] &= keep
        if not missing_left:
            masks[-1, tree] &= keep
    np.bitwise_and.accumulate(masks[:-1], axis=0, out=masks[:-1])
    return masks
