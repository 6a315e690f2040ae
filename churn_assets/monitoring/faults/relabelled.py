"""Levels of a category under each other's names: an encoder that was fitted again, a list of codes that has shifted.

The shares of the levels are the ones of training, and belong to other levels. Customers who change move shares
to new values; that four of them or more meet the old ones of other levels is no coincidence. Three may: three times
as many customers of the rarest of .45, .34 and .21 are .43, .32 and .24.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FEWEST_RENAMED = 4
_MOVED = 0.1  # half the sum of the shares' differences
_CHANGED, _SAME = 1e-6, 0.001  # p-values below and above which two tables of counts differ and are alike
_FEWEST = 300


@dataclass(frozen=True)
class RelabelledLevels:
    """`renamed` says of which level in training the rows are that now have a name; `moved` is the share of rows that
    would have to have changed otherwise, 0 to 1."""

    renamed: Mapping[str, str]
    moved: float


def find_relabelled(before: Mapping[str, int], now: Mapping[str, int]) -> RelabelledLevels | None:
    """Whether counts by level are those of `before` under other names; None if they are not, or too few."""
    names = sorted(before.keys() | now.keys())
    usual, actual = (np.array([side.get(name, 0) for name in names], dtype=np.float64) for side in (before, now))
    if min(usual.sum(), actual.sum()) < _FEWEST:
        return None
    moved = float(np.abs(usual / usual.sum() - actual / actual.sum()).sum() / 2.0)
    # Of all ways to rename, the one by rank of the shares comes nearest.
    order, order_now = np.argsort(-usual, kind="stable"), np.argsort(-actual, kind="stable")
    renamed = {names[new]: names[old] for new, old in zip(order_now, order, strict=True) if new != old}
    if len(renamed) < FEWEST_RENAMED or moved < _MOVED:
        return None
    if _p_value(usual, actual) > _CHANGED or _p_value(usual[order], actual[order_now]) < _SAME:
        return None
    return RelabelledLevels(dict(sorted(renamed.items())), moved)


def _p_value(usual: np.typing.NDArray[np.float64], actual: np.typing.NDArray[np.float64]) -> float:
    """Chi-squared test that two rows of counts are of one distribution."""
    from scipy import stats

    there = usual + actual > 0
    return float(stats.chi2_contingency(np.array([usual[there], actual[there]])).pvalue)
