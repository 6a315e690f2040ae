"""Gradient-boosted trees that XGBoost trained: many rows by its C library, a few by leaf masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from churn_assets.errors import BundleCorrupt, one_line
from churn_assets.features.compile import Array, Matrix
from churn_assets.scoring.models.base import read_settings, write_model
from churn_assets.scoring.models.leaf_masks import LeafMasks, build_leaf_masks
from churn_assets.scoring.models.tree_file import check_trees
from churn_assets.scoring.models.tree_shapley import TreeShapley, build_tree_shapley
from churn_assets.scoring.models.xgboost_c import Booster
from churn_assets.storage.files import read_file

# Up to here leaf masks are faster than the C library's fixed cost of a call (`python -m benchmarks.few_rows`).
FEW_ROWS = 6
# From here on it pays to make the tables of Shapley values, which takes about a second for a large model.
MANY_ROWS = 300
_PROBE_ROWS, _PROBE_TOLERANCE = 64, 1e-9
_SHAPLEY_ROWS, _SHAPLEY_TOLERANCE = 16, 1e-4


class BoostedModel:
    """The mean log-odds of one or more boosters, as `Booster.save_raw("ubj")` gives them.

    `iterations` says how many rounds of each are used (0: all; best_iteration + 1 after early stopping).
    """

    kind: ClassVar[str] = "boosted"

    def __init__(self, boosters: Sequence[bytes], iterations: Sequence[int] | None = None) -> None:
        rounds = list(iterations) if iterations is not None else [0] * len(boosters)
        if not boosters or len(rounds) != len(boosters):
            raise ValueError(f"{len(boosters)} boosters and {len(rounds)} iterations, expected equally many")
        self.boosters = tuple(Booster(bytes(raw), n) for raw, n in zip(boosters, rounds, strict=True))

    def at(self, rounds: int) -> BoostedModel:
        """The same trees up to `rounds`, or all where there are fewer."""
        own = [min(rounds, booster.rounds) for booster in self.boosters]
        return BoostedModel([booster.raw for booster in self.boosters], own)

    @cached_property
    def leaf_masks(self) -> LeafMasks | None:
        """The boosters as leaf masks; None if their trees are too large or unusual for that, or if the C library gives
        other margins on rows made of their own thresholds: a later XGBoost may read its format as it likes."""
        try:
            masks = build_leaf_masks(self.boosters)
        except (KeyError, TypeError, ValueError, IndexError):  # a model format this package does not know
            return None
        if masks is None:
            return None
        probe = masks.probe_rows(_PROBE_ROWS)
        same = np.abs(masks.margin(probe) - self._many(probe)) <= _PROBE_TOLERANCE
        return masks if same.all() else None

    @cached_property
    def cost(self) -> float:
        """Operations a row: about four for each node on the way from root to leaf."""
        if self.leaf_masks is not None:
            return self.leaf_masks.path_length * 4.0
        return float(sum(len(booster.raw) for booster in self.boosters)) / 8.0

    def margin(self, matrix: Matrix) -> Array:
        """Log-odds (n,) of feature rows (n, k)."""
        if 0 < len(matrix) <= FEW_ROWS and (masks := self.leaf_masks) is not None:
            return masks.margin(matrix)
        return self._many(matrix)

    @cached_property
    def tree_shapley(self) -> TreeShapley | None:
        """The boosters' Shapley values as tables; None if their trees are too large or unusual for that, or if the C
        library gives other values on rows at their own thresholds."""
        try:
            tables = build_tree_shapley(self.boosters)
        except (KeyError, TypeError, ValueError, IndexError):  # a model format this package does not know
            return None
        if tables is None:
            return None
        probe = tables.probe_rows(_SHAPLEY_ROWS, self.boosters[0].features)
        values, base = self._library_contributions(probe)
        same = np.abs(tables.contributions(probe) - values) <= _SHAPLEY_TOLERANCE * (1.0 + np.abs(values))
        return tables if same.all() and abs(tables.base - base) <= _SHAPLEY_TOLERANCE * (1.0 + abs(base)) else None

    def contributions(self, matrix: Matrix) -> tuple[Array, float]:
        """Shapley values (n, k) of feature rows (n, k) and the base value; exact, to float32."""
        inputs = np.ascontiguousarray(matrix, dtype=np.float32)
        if len(inputs) >= MANY_ROWS and (tables := self.tree_shapley) is not None:
            return tables.contributions(inputs), tables.base
        return self._library_contributions(inputs)

    def _library_contributions(self, inputs: Matrix) -> tuple[Array, float]:
        each = np.array([booster.contributions(inputs) for booster in self.boosters], dtype=np.float64)
        mean: Array = each.mean(axis=0)
        return mean[:, :-1], float(mean[0, -1]) if len(mean) else 0.0

    def _many(self, matrix: Matrix) -> Array:
        inputs = np.ascontiguousarray(matrix, dtype=np.float32)
        out = self.boosters[0].margin(inputs).astype(np.float64)
        for booster in self.boosters[1:]:
            out += booster.margin(inputs)
        return np.divide(out, len(self.boosters), out=out)

    def save(self, directory: Path) -> None:
        """Write `model.json`, and `model.ubj` (further boosters: `model_1.ubj` and on)."""
        iterations = [booster.iterations for booster in self.boosters]
        # "columns" has always been null; it stays, so that the same training gives the same version as before.
        write_model(directory, self.kind, {"iterations": iterations, "columns": None})
        for i, booster in enumerate(self.boosters):
            _file(directory, i).write_bytes(booster.raw)

    @classmethod
    def load(cls, directory: Path) -> BoostedModel:
        """Read what `save` wrote; BundleCorrupt if XGBoost cannot."""
        iterations = read_settings(directory)["iterations"]
        files = [_file(directory, i) for i in range(len(iterations))]
        try:
            raws = [read_file(file) for file in files]
        except OSError as error:
            raise BundleCorrupt(f"{error.filename}: cannot be read ({error}); make the bundle again") from error
        for file, raw, rounds in zip(files, raws, iterations, strict=True):
            try:
                check_trees(raw, rounds)
            except ValueError as error:
                raise BundleCorrupt(f"{file}: {one_line(error)}; take the bundle from its source again") from error
        return cls(raws, iterations)


def _file(directory: Path, index: int) -> Path:
    return directory / ("model.ubj" if index == 0 else f"model_{index}.ubj")
