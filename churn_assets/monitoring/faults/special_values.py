"""A special value that customers have more often than before, and that their other columns do not explain.

A pipeline that breaks for a part of the rows leaves a default there: zero, the lowest or highest value, a sentinel, or
nothing, which counts as a value here. So does a real change, such as more new customers; but then the other columns of
these customers say so too. For a value whose share rose beyond noise, a classifier of the reference gives the
probability that a row has it, by its other columns. What the window has beyond that belongs to no kind of customer that
the model knows; if the column's other values are as they were, the data is broken, unless the excess is among
customers of a kind that has become more frequent as well: a pipeline that fails makes no kind more frequent.
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
_GROWN, _OF_A_KIND = 3.0, 4.0  # standard errors from which a kind is more frequent, and has more of the excess
_KINDS = 8  # of customers by each other column: ranges of its values
_SIGNIFICANCE, _MOVED = 1e-4, 0.03  # p-value and distance from which a column's other values have moved
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
        chance, noise = _chances(had, before[:, others], now[:, others])
        share, usual, expected = float(np.mean(has)), float(np.mean(had)), float(np.mean(chance))
        is_unexplained = share - expected > max(_MODEL_SIGMA * noise, UNEXPLAINED * (share - usual))
        if not is_unexplained:
            continue
        # A value that rose in another column may be of the same fault: its rows say nothing of kinds of customers.
        known = [(side.copy(), table) for side, table in ((before, reference), (now, current))]
        for other, risen_value, _ in risen:
            for side, table in known:
                side[_equals(_numbers(table, other), risen_value), list(shared).index(other)] = np.nan
        kinds_of = [i for i in range(len(shared)) if i != own]
        if not _is_of_a_kind(has, chance, known[0][0][:, kinds_of], known[1][0][:, kinds_of]):
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


def _chances(has: npt.NDArray[np.bool_], before: Floats, now: Floats) -> tuple[Floats, float]:
    """The probability of each row `now` to have the value by its other columns, and the standard error of the mean."""
    usual = float(np.mean(has))
    if min(int(has.sum()), int((~has).sum())) < _FEWEST or not before.shape[1]:
        noise = float(np.sqrt(usual * (1.0 - usual) * (1.0 / len(now) + 1.0 / len(before))))
        return np.full(len(now), usual), noise
    from sklearn.ensemble import HistGradientBoostingClassifier

    chosen = np.random.default_rng(0).permutation(len(has))[:_ROWS]
    model = HistGradientBoostingClassifier(
        max_iter=_ROUNDS, max_leaf_nodes=15, early_stopping=False, random_state=0
    ).fit(before[chosen], has[chosen])
    chance = model.predict_proba(now)[:, 1]
    variance = float(np.sum(chance * (1.0 - chance))) / len(now) ** 2 + usual * (1.0 - usual) / len(chosen)
    return chance, float(np.sqrt(variance))


def _is_of_a_kind(has: npt.NDArray[np.bool_], chance: Floats, before: Floats, now: Floats) -> bool:
    """Whether the rows that have the value beyond their `chance` are of a kind that is more frequent now: the ranges of
    another column that have more rows than before have more of the excess too. Missing cells are left out."""
    broken = (np.mean(has) - np.mean(chance)) / max(1.0 - float(np.mean(chance)), 1e-9)
    supposed = np.clip(chance + broken * (1.0 - chance), 1e-6, 1.0 - 1e-6)  # if a random share of the rows failed
    for usual, actual in zip(before.T, now.T, strict=True):
        known, past = np.isfinite(actual), usual[np.isfinite(usual)]
        if min(len(past), int(known.sum())) < _FEWEST:
            continue
        edges = np.unique(np.quantile(past, np.linspace(0.0, 1.0, _KINDS + 1)[1:-1]))
        own = np.searchsorted(edges, actual[known], "left")
        counts = [np.bincount(np.searchsorted(edges, past, "left"), minlength=len(edges) + 1)]
        counts.append(np.bincount(own, minlength=len(edges) + 1))
        share = [side / side.sum() for side in counts]
        pooled = (counts[0] + counts[1]) / (counts[0].sum() + counts[1].sum())
        noise = np.sqrt(pooled * (1.0 - pooled) * (1.0 / len(past) + 1.0 / len(own))) + 1e-12
        grown = (share[1] - share[0]) / noise > _GROWN
        rows = grown[own]
        variance = float(np.sum((supposed * (1.0 - supposed))[known][rows]))
        if rows.any() and float(np.sum((has - supposed)[known][rows])) > _OF_A_KIND * np.sqrt(variance):
            return True
    return False
