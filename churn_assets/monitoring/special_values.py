"""A special value that customers have more often than before, and that their other columns do not explain.

A pipeline that breaks for a part of the rows leaves a default there: zero, the lowest or highest value, a sentinel, or
nothing, which counts as a value here. So does a real change, such as more new customers; but then the other columns of
these customers say so too. For a value whose share rose beyond noise, a classifier of the reference gives the
probability that a row has it, by its other columns. What the window has beyond that belongs to no kind of customer that
the model knows; if the column's other values are as they were, the data is broken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Kind
from churn_assets.monitoring.drift.multivariate import encode

if TYPE_CHECKING:
    import pyarrow as pa

LEAST_RISE = 0.02  # of the share: less moves no model by much
UNEXPLAINED = 0.85  # of the rise: who fails by chance is like everybody, so that the other columns explain nothing
_SIGMA = 5.0  # of the rise: a report tests some hundred values of columns
_MODEL_SIGMA = 4.0
_SIGNIFICANCE, _MOVED = 1e-4, 0.05  # p-value and distance from which a column's other values have moved
_ROWS = 6000  # of the reference that the classifier learns from
_CANDIDATES = 5  # most frequent values of a column, besides its lowest and highest
_FEWEST = 20  # reference rows with the value, to learn who has it
_ROUNDS = 50
_MOST_TESTED = 20  # values, those that rose most: each costs a classifier
_MOST_OTHERS = 40  # columns that may explain a value, those that go with it most
_NUMBERS = frozenset({Kind.NUMBER, Kind.INTEGER})

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SpecialValue:
    """A number, NaN for none, that `share` of the window's rows have, `usual` of the reference's, and `expected` of
    rows with these other columns; 0 to 1 each."""

    column: str
    value: float
    share: float
    usual: float
    expected: float


def find_special_values(
    reference: pa.Table, current: pa.Table, kinds: Mapping[str, Kind], names: Sequence[str] | None = None
) -> list[SpecialValue]:
    """The value of each column of numbers among `names` (all of `kinds` by default) that rose unexplained, if any.

    The tables are samples of rows with the columns of `kinds`; those that one side lacks are left out. The cost is
    bounded however many columns there are: the values that rose most are tested.
    """
    shared = {n: k for n, k in kinds.items() if n in reference.column_names and n in current.column_names}
    if not reference.num_rows or not current.num_rows:
        return []
    risen = [
        (name, *most)
        for name, kind in shared.items()
        if kind in _NUMBERS and (names is None or name in names)
        for most in _risen(_numbers(reference, name), _numbers(current, name))
    ]
    if not risen:
        return []
    rows = encode(reference, current, shared)
    before, now = rows[: reference.num_rows], rows[reference.num_rows :]
    changed = {name for name, _, _ in risen}
    unexplained = []
    for name, value, _ in sorted(risen, key=lambda most: -most[2])[:_MOST_TESTED]:
        own = list(shared).index(name)
        # Other columns whose values rose may be broken by the same fault: they explain nothing.
        others = [i for i, other in enumerate(shared) if i != own and other not in changed]
        if _rest_moved(before[:, own], now[:, own], value):
            continue
        had, has = (_equals(_numbers(table, name), value) for table in (reference, current))
        others = _related(had, before, others)
        expected, noise = _expected(had, before[:, others], now[:, others])
        share, usual = float(np.mean(has)), float(np.mean(had))
        if share - expected > max(_MODEL_SIGMA * noise, UNEXPLAINED * (share - usual)):
            unexplained.append(SpecialValue(name, value, share, usual, expected))
    return sorted(unexplained, key=lambda special: list(shared).index(special.column))


def _numbers(table: pa.Table, name: str) -> Floats:
    values: Floats = table[name].to_numpy().astype(np.float64)
    return values


def _equals(cells: Floats, value: float) -> npt.NDArray[np.bool_]:
    return np.isnan(cells) if np.isnan(value) else cells == value


def _related(has: npt.NDArray[np.bool_], rows: Floats, others: list[int]) -> list[int]:
    """Of the columns at `others` the ones that go most with having the value, in their order."""
    if len(others) <= _MOST_OTHERS:
        return others
    known = np.nan_to_num(rows[:, others])
    ranks = np.argsort(np.argsort(known, axis=0, kind="stable"), axis=0).astype(np.float64)
    strength = np.abs((has - has.mean()) @ (ranks - ranks.mean(axis=0)))
    return sorted(others[place] for place in np.argsort(-strength, kind="stable")[:_MOST_OTHERS])


def _risen(before: Floats, now: Floats) -> list[tuple[float, float]]:
    """The special value whose share rose most beyond noise, with its rise, as a list of at most one."""
    finite = now[np.isfinite(now)]
    if not len(finite):
        return []
    values, counts = np.unique(finite, return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")[:_CANDIDATES]]
    candidates = [*np.unique([*frequent, values[0], values[-1]]), np.nan]
    share = np.array([np.mean(_equals(now, value)) for value in candidates])
    usual = np.array([np.mean(_equals(before, value)) for value in candidates])
    pooled = (share * len(now) + usual * len(before)) / (len(now) + len(before))
    noise = np.sqrt(pooled * (1.0 - pooled) * (1.0 / len(now) + 1.0 / len(before)))
    rise = share - usual
    rise[(rise < LEAST_RISE) | (rise <= _SIGMA * noise)] = 0.0
    most = int(np.argmax(rise))
    return [(float(candidates[most]), float(rise[most]))] if rise[most] else []


def _rest_moved(before: Floats, now: Floats, value: float) -> bool:
    """Whether the column's other values moved as well, as they do when customers change (Kolmogorov-Smirnov)."""
    from scipy import stats

    rest = [side[np.isfinite(side) & (side != value)] for side in (before, now)]
    if min(map(len, rest)) < _FEWEST:
        return False
    result = stats.ks_2samp(*rest, method="asymp")
    return bool(result.pvalue < _SIGNIFICANCE and result.statistic > _MOVED)


def _expected(has: npt.NDArray[np.bool_], before: Floats, now: Floats) -> tuple[float, float]:
    """The share of rows `now` that have the value by their other columns, and its standard error by chance."""
    usual = float(np.mean(has))
    if min(int(has.sum()), int((~has).sum())) < _FEWEST or not before.shape[1]:
        return usual, float(np.sqrt(usual * (1.0 - usual) * (1.0 / len(now) + 1.0 / len(before))))
    from sklearn.ensemble import HistGradientBoostingClassifier

    chosen = np.random.default_rng(0).permutation(len(has))[:_ROWS]
    model = HistGradientBoostingClassifier(
        max_iter=_ROUNDS, max_leaf_nodes=15, early_stopping=False, random_state=0
    ).fit(before[chosen], has[chosen])
    chance = model.predict_proba(now)[:, 1]
    variance = float(np.sum(chance * (1.0 - chance))) / len(now) ** 2 + usual * (1.0 - usual) / len(chosen)
    return float(np.mean(chance)), float(np.sqrt(variance))
