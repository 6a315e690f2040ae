"""Everything known about a customer besides one column, as a ready-made out-of-fold regression.

An audit asks the same of every column: how well do all the others predict this? The normal equations of
a ridge regression are summed up once, by fold and by label; leaving columns out is taking rows and
columns from a small matrix, so that forty columns cost little more than one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from churn_assets.features.compile import FeatureSpec, Matrix

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

RIDGE = 30.0  # against columns of variance 1: holds back what a few hundred rows would make up


class Others:
    """Out-of-fold ridge predictions from the model's matrix, without the features named.

    Numbers enter as their ranks (0 to 1) to the first, second and third power, categories as one
    indicator a choice, missing values as an indicator; all scaled to variance 1.
    """

    def __init__(
        self, matrix: Matrix, specs: Sequence[FeatureSpec], churned: npt.NDArray[np.int8], fold: npt.NDArray[np.int64]
    ) -> None:
        parts = [_expanded(matrix[:, index].astype(np.float64), spec) for index, spec in enumerate(specs)]
        self.owner = np.repeat(np.arange(-1, len(specs)), [1, *(part.shape[1] for part in parts)])
        wide = np.column_stack([np.ones(len(matrix)), *parts])
        self.design = wide
        self.rows = [[np.flatnonzero((churned == c) & (fold == f)) for f in range(fold.max() + 1)] for c in (0, 1)]
        self.grams = [[wide[r].T @ wide[r] for r in by_fold] for by_fold in self.rows]

    def without(self, features: Sequence[int]) -> Flags:
        """Which columns of the design stay when these features of the matrix are left out."""
        return ~np.isin(self.owner, features)

    def predict(self, target: Floats, keep: Flags, labels: Sequence[int] = (0, 1)) -> Floats:
        """Predictions of `target`, shape (rows,), each by a fit on the other folds of customers with one of
        `labels`; NaN for the rest. The intercept is not shrunk."""
        found = np.full(len(target), np.nan)
        design = self.design[:, keep]
        penalty = RIDGE * np.eye(design.shape[1])
        penalty[0, 0] = 1e-9
        folds = range(len(self.rows[0]))
        by_fold = [np.concatenate([self.rows[c][f] for c in labels]) for f in folds]
        products = [design[r].T @ target[r] for r in by_fold]
        grams = [np.sum([self.grams[c][f] for c in labels], axis=0)[np.ix_(keep, keep)] for f in folds]
        for held_out in folds:
            gram = np.sum([grams[f] for f in folds if f != held_out], axis=0) + penalty
            product = np.sum([products[f] for f in folds if f != held_out], axis=0)
            found[by_fold[held_out]] = design[by_fold[held_out]] @ np.linalg.solve(gram, product)
        return found


def ranked(values: Floats) -> Floats:
    """Ranks of `values` from -0.5 to 0.5, ties at their middle; 0 for missing ones."""
    known = ~np.isnan(values)
    found = np.zeros(len(values))
    if known.any():
        _, place, count = np.unique(values[known], return_inverse=True, return_counts=True)
        found[known] = ((np.cumsum(count) - count / 2) / count.sum())[place] - 0.5
    return found


def _expanded(values: Floats, spec: FeatureSpec) -> Floats:
    known = ~np.isnan(values)
    if spec.choices:
        columns = [(values == code).astype(np.float64) for code in range(len(spec.choices))]
    else:
        rank = ranked(values)
        columns = [rank, np.where(known, rank**2 - 1 / 12, 0.0), rank**3]
    columns.append((~known).astype(np.float64))
    wide = np.column_stack(columns)
    wide = wide - wide.mean(axis=0)
    spread = wide.std(axis=0)
    return np.asarray(wide[:, spread > 1e-9] / spread[spread > 1e-9], dtype=np.float64)
