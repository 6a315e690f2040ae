"""Checks a file of boosted trees before XGBoost's C library reads it.

The library trusts the sizes and numbers in a model: a wrong one reads or writes beyond an array, which ends the
process, or walks a circle for ever. So everything that it uses as a size or an index is compared with what is there.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_MAX_DEPTH = 16  # of nested values; XGBoost's files have 7
_MAX_CATEGORY = 2**24
_NO_PARENT = (-1, 2**31 - 1)
_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_CONSTANTS = {b"T": True, b"F": False, b"Z": None}
_PER_NODE = (
    "base_weights", "default_left", "left_children", "loss_changes", "parents", "right_children", "split_conditions",
    "split_indices", "split_type", "sum_hessian",
)  # fmt: skip


def check_trees(raw: bytes, rounds: int = 0) -> None:
    """Raise ValueError unless this is a whole model in UBJSON or JSON, of at least so many `rounds` of trees, whose
    arrays, children and features fit each other."""
    is_json = raw[1:2] in (b'"', b" ", b"\n", b"\r", b"\t")
    try:
        model = json.loads(raw) if is_json else _Reader(raw).document()
        _check_model(model["learner"], rounds)
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError, struct.error) as error:
        raise ValueError(f"not a model of trees: {error!r}") from None


def _check_model(learner: Mapping[str, Any], used: int) -> None:
    parameters = learner["learner_model_param"]
    features = int(parameters["num_feature"])
    _require(int(parameters.get("num_class", 0)) in (0, 1) and int(parameters.get("num_target", 1)) == 1, "one output")
    booster = learner["gradient_booster"]
    _require(booster["name"] == "gbtree", "the booster 'gbtree'")
    model = booster["model"]
    trees, count = model["trees"], int(model["gbtree_model_param"]["num_trees"])
    _require(len(trees) == len(model["tree_info"]) == count, f"{count} trees")
    _require(int(model["gbtree_model_param"].get("num_parallel_tree", 1)) == 1, "one tree a round")
    _require(not np.any(_whole(model["tree_info"])), "trees of one output")
    rounds = _whole(model.get("iteration_indptr", range(count + 1)))
    _require(np.array_equal(rounds, np.arange(count + 1)), "one tree a round")
    _require(type(used) is int and 0 <= used <= count, f"from 0 to {count} rounds")
    for tree in trees:
        _check_tree(tree, features)


def _check_tree(tree: Mapping[str, Any], features: int) -> None:
    parameters = tree["tree_param"]
    nodes = int(parameters["num_nodes"])
    _require(nodes >= 1 and int(parameters.get("size_leaf_vector", 0)) in (0, 1), "a tree of scalar leaves")
    _require(int(parameters["num_feature"]) in (0, features), f"trees of {features} features")
    for name in _PER_NODE:
        _require(len(tree[name]) == nodes, f"{nodes} values in {name}")
    left, right = _whole(tree["left_children"]), _whole(tree["right_children"])
    children = np.concatenate([left[left != -1], right[right != -1]])
    _require(bool(np.array_equal(left == -1, right == -1)), "two children or none")
    # Each node below one other at most, and the root below none: then no way from the root is a circle.
    _require(
        bool(np.all((children > 0) & (children < nodes))) and len(np.unique(children)) == len(children), "children"
    )
    _check_parents(_whole(tree["parents"]), left, right)
    split = _whole(tree["split_indices"])[left != -1]
    _require(bool(np.all((split >= 0) & (split < features))), f"splits by {features} features")
    _require(0 <= int(parameters.get("num_deleted", 0)) < nodes, "nodes that are not deleted")
    _check_categories(tree, nodes)


def _check_parents(parents: npt.NDArray[np.int64], left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> None:
    inner = np.flatnonzero(left != -1)
    _require(bool(np.all(parents[left[inner]] == inner) and np.all(parents[right[inner]] == inner)), "parents")
    others = np.delete(parents, np.concatenate([left[inner], right[inner]]))  # of the root, and of deleted nodes
    _require(int(parents[0]) in _NO_PARENT, "a root without a parent")
    _require(bool(np.all(np.isin(others, _NO_PARENT) | ((others >= 0) & (others < len(parents))))), "parents")


def _check_categories(tree: Mapping[str, Any], nodes: int) -> None:
    names = ("categories_nodes", "categories_segments", "categories_sizes", "categories")
    at, begin, size, values = (_whole(tree.get(name, ())) for name in names)
    categorical = int(np.count_nonzero(_whole(tree["split_type"])))
    _require(len(at) == len(begin) == len(size) == categorical, "a list of categories for each such split")
    _require(bool(np.all((at >= 0) & (at < nodes) & (begin >= 0) & (size >= 0))), "categories of its own nodes")
    _require(bool(np.all((begin <= len(values)) & (size <= len(values) - begin))), "categories that are there")
    _require(bool(np.all((values >= 0) & (values < _MAX_CATEGORY))), f"categories below {_MAX_CATEGORY:,}")


def _whole(values: Sequence[int] | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    return np.asarray(values, dtype=np.int64)


def _require(holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"expected {expected}")


class _Reader:
    """UBJSON as XGBoost writes it: numbers are big-endian, arrays may have a type and a length."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0

    def document(self) -> Any:
        """The one value that the bytes are."""
        value = self._value(self._take(1), 0)
        _require(self._at == len(self._raw), "nothing after the model")
        return value

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._raw):
            raise ValueError(f"{size:,} bytes at {self._at:,}, but the file has {len(self._raw):,}")
        part, self._at = self._raw[self._at : end], end
        return part

    def _value(self, mark: bytes, depth: int) -> Any:
        _require(depth < _MAX_DEPTH, f"values nested at most {_MAX_DEPTH} deep")
        if mark == b"{":
            return self._object(depth)
        if mark == b"[":
            return self._array(depth)
        if mark == b"S":
            return self._take(self._length()).decode()
        if mark in _CONSTANTS:
            return _CONSTANTS[mark]
        dtype = np.dtype(_NUMBERS[mark])
        return np.frombuffer(self._take(dtype.itemsize), dtype)[0].item()

    def _length(self) -> int:
        mark = self._take(1)
        _require(mark in (b"i", b"U", b"I", b"l", b"L"), "a length")
        return int(self._value(mark, 0))

    def _object(self, depth: int) -> dict[str, Any]:
        content = {}
        while (mark := self._take(1)) != b"}":
            self._at -= len(mark)
            name = self._take(self._length()).decode()
            _require(name not in content, f"one {name!r}")
            content[name] = self._value(self._take(1), depth + 1)
        return content

    def _array(self, depth: int) -> Any:
        kind = self._take(2)[1:] if self._raw[self._at : self._at + 1] == b"$" else b""
        if self._raw[self._at : self._at + 1] == b"#":
            self._at += 1
            count = self._length()
            if kind:
                dtype = np.dtype(_NUMBERS[kind])
                return np.frombuffer(self._take(count * dtype.itemsize), dtype)
            _require(0 <= count <= len(self._raw), "an array that fits the file")
            return [self._value(self._take(1), depth + 1) for _ in range(count)]
        values = []
        while (mark := self._take(1)) != b"]":
            values.append(self._value(mark, depth + 1))
        return values
