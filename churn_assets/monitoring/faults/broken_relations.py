"""A column that no longer goes with the other columns: values of other customers, of a part of the rows at least.

A wrong join, a shuffled column or a unit that is wrong in some rows leaves values that are possible by themselves, and
not for these customers. A classifier of the reference learns to tell its rows from the same rows with the value of
another row in the column: the ratio of the joint density to that of an independent column (Lopez-Paz and Oquab 2017;
Friedman 2003). Its mean over the window says which share of the rows has a value that is not their own.

Customers who changed are no fault, so it must be clear in two comparisons. In one the reference is weighted to have the
window's mean of every basis function of its columns (entropy balancing, Hainmueller 2012), no row by more than
`_HEAVIEST` times: another mix of customers explains it. In the other each number that moved is replaced by the one of
the same rank in the reference: a change that moves everybody in order, such as higher prices, explains it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Kind
from churn_assets.monitoring.drift.multivariate import encode
from churn_assets.monitoring.faults.basis import RIDGE, fit_basis
from churn_assets.monitoring.faults.units import growth_of_a_part

if TYPE_CHECKING:
    import pyarrow as pa

LEAST_SHARE = 0.03  # of the rows: fewer foreign values move no model by much
SIGNIFICANCE = 1e-5  # of a report on a window, over all columns that are tested (Bonferroni)
_ROWS = 10_000  # of the reference: one half to learn from, one to compare with
_FEWEST = 300  # rows of the window
_SCREENED = 1.2  # standard errors by which the linear relation must have weakened before a classifier is fitted
_MOST_FITTED = 4  # classifiers at most, those of the columns whose relation weakened most
_MOST_OTHERS = 40  # columns that a classifier reads beside the tested one, those that it goes with most
_MOST_BROKEN = 4  # columns that are named
_HEAVIEST = 5.0  # times as often as before is the most that a kind of customer may be taken to be
_MOVED = 2.5  # standard errors from which a mean of the reference is balanced
_MOST_BALANCED = 60
_BEHIND = 0.8  # of the z of a column that is named late
_NO_MORE = 3.0  # standard errors up to which rows are no more foreign than supposed
_RANGES, _GROWN = 8, 3.0  # of a column's values; standard errors from which there are more customers of one
_SAME = 0.01  # p-value (Kolmogorov-Smirnov) above which a number has not moved
_PRIOR = 0.05  # share of foreign values at which the statistic is most powerful
_NUMBERS = frozenset({Kind.NUMBER, Kind.INTEGER, Kind.DATE})

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class BrokenRelation:
    """About `share` (0 to 1) of the window's rows have a value of `column` that does not go with their other columns,
    `z` standard errors from none."""

    column: str
    share: float
    z: float


def find_broken_relations(
    reference: pa.Table,
    current: pa.Table,
    kinds: Mapping[str, Kind],
    names: Sequence[str] | None = None,
    last: Collection[str] = (),
) -> list[BrokenRelation]:
    """Columns among `names` (all of `kinds` by default) whose values go with the others no more, the clearest first.

    The tables are samples of rows with the columns of `kinds`; those that one side lacks are left out. A column that is
    named explains no other: the next ones are tested without it. Of two columns that explain each other either may be
    broken; one of `last` is named only if it is clearly the worse one.
    """
    from scipy import stats

    shared = {n: k for n, k in kinds.items() if n in reference.column_names and n in current.column_names}
    tested = [own for own, name in enumerate(shared) if names is None or name in names]
    if min(reference.num_rows, current.num_rows) < _FEWEST or not tested:
        return []
    limit = float(stats.norm.isf(SIGNIFICANCE / len(tested)))
    late = [own for own, name in enumerate(shared) if name in last]
    sides = _sides(encode(reference, current, shared), reference.num_rows, [k in _NUMBERS for k in shared.values()])
    broken: list[BrokenRelation] = []
    active = list(range(len(shared)))
    while len(active) > 1 and len(broken) < _MOST_BROKEN:
        worst = _worst(sides, list(shared), active, [own for own in tested if own in active], limit, late)
        if worst is None:
            break
        broken.append(worst)
        active.remove(list(shared).index(worst.column))
    return broken


@dataclass(frozen=True)
class _Sides:
    """Rows (n, columns) of the reference, one half to `learn` from and one to `compare` with, and of the window.

    The last two are there with numbers replaced by rank as well, and `grown` are their cells in ranges that are more
    frequent now. `functions` are the basis of the three, (n, functions) each, and `owner` the column of each function.
    """

    learn: Floats
    compare: Floats
    now: Floats
    in_rank: Floats
    compare_in_rank: Floats
    grown: tuple[Flags, Flags]
    numeric: tuple[bool, ...]
    owner: Positions
    functions: tuple[Floats, Floats, Floats]


def _sides(rows: Floats, first: int, numeric: Sequence[bool]) -> _Sides:
    before, now = rows[:first], rows[first:]
    before = before[np.random.default_rng(0).permutation(len(before))[:_ROWS]]
    learn, compare = before[::2], before[1::2]
    basis = fit_basis(learn, numeric)
    functions = (basis.of(learn), basis.of(compare), basis.of(now))
    in_rank, compare_in_rank = _in_rank(now, compare, numeric)
    return _Sides(
        learn, compare, now, in_rank, compare_in_rank, _grown(compare, now), tuple(numeric), basis.owner, functions
    )


def _worst(
    sides: _Sides,
    names: Sequence[str],
    active: Sequence[int],
    tested: Sequence[int],
    limit: float,
    late: Collection[int],
) -> BrokenRelation | None:
    """The clearest broken relation among the columns at `tested`, by those at `active`; those at `late` come late."""
    used = np.isin(sides.owner, active)
    owner = sides.owner[used]
    learn, compare, now = (side[:, used] for side in sides.functions)
    gram = learn.T @ learn / len(learn)
    weakened = _weakened(gram, owner, compare, now)
    positions = sorted((own for own in tested if own in weakened), key=lambda own: -weakened[own])
    positions = [own for own in positions if weakened[own] > _SCREENED][:_MOST_FITTED]
    if not positions:
        return None
    weights = _balance(compare, now)
    relations = [
        _test(names[own], own, _related(own, owner, gram), sides, weights, sides.numeric[own]) for own in positions
    ]
    clear = [relation for relation in relations if relation.z > limit and relation.share >= LEAST_SHARE]
    behind = {names[own] for own in late}
    return max(clear, key=lambda r: r.z * (_BEHIND if r.column in behind else 1.0), default=None)


def _weakened(gram: Floats, owner: Positions, compare: Floats, now: Floats) -> dict[int, float]:
    """By how many standard errors each column's linear relation to the others is weaker in the window: the mean
    log-ratio of its conditional and its marginal normal density, both by the `gram` of other rows."""
    gram = gram + RIDGE * np.eye(len(gram))
    precision = np.linalg.inv(gram)
    compared = [(side, side @ precision) for side in (compare, now)]
    result = {}
    for own in np.unique(owner):
        block = np.flatnonzero(owner == own)
        square = np.ix_(block, block)
        marginal, conditional = np.linalg.inv(gram[square]), np.linalg.inv(precision[square])
        ratio = [
            np.clip(_form(side[:, block], marginal) - _form(residual[:, block], conditional), -10.0, 10.0)
            for side, residual in compared
        ]
        error = np.sqrt(sum(side.var() / len(side) for side in ratio))
        result[int(own)] = float((ratio[0].mean() - ratio[1].mean()) / max(error, 1e-12))
    return result


def _related(own: int, owner: Positions, gram: Floats) -> Positions:
    """Positions of the columns whose functions go most with those of the one at `own`, itself the first."""
    strongest = np.abs(gram[owner == own]).max(axis=0)
    strength = {int(other): float(strongest[owner == other].max()) for other in np.unique(owner) if other != own}
    others = sorted(strength, key=lambda other: -strength[other])[:_MOST_OTHERS]
    return np.array([own, *sorted(others)])


def _form(rows: Floats, matrix: npt.NDArray[np.floating[Any]]) -> Floats:
    values: Floats = np.einsum("ij,jk,ik->i", rows, matrix, rows)
    return values


def _test(name: str, own: int, read: Positions, sides: _Sides, weights: Floats, numeric: bool) -> BrokenRelation:
    """How many rows of the window have a foreign value of the column at `own`, by the weaker of the comparisons.
    The columns at `read` are those that the classifier reads, `own` the first of them."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    random = np.random.default_rng(own)
    learn, compare, now = (side[:, read] for side in (sides.learn, sides.compare, sides.now))
    in_rank, compare_in_rank = sides.in_rank[:, read], sides.compare_in_rank[:, read]
    model = HistGradientBoostingClassifier(
        max_iter=30, max_leaf_nodes=31, learning_rate=0.2, early_stopping=False, random_state=0
    ).fit(np.vstack([learn, _shuffled(learn, 0, random)]), np.repeat([0, 1], len(learn)))

    def foreign(rows: Floats) -> Floats:
        """The probability that the value is foreign, if one in twenty is."""
        chance = np.clip(model.predict_proba(rows)[:, 1], 0.003, 0.997)
        odds = _PRIOR / (1.0 - _PRIOR) * chance / (1.0 - chance)
        share: Floats = odds / (1.0 + odds)
        return share

    all_foreign = float(foreign(_shuffled(compare, 0, random)).mean())
    equal = np.full(len(compare), 1.0 / len(compare))
    shares, scores = [], []
    # Rows of kinds that became more frequent, by other columns than this one, are left out: these may be new customers.
    same = [~np.delete(side[:, read], 0, axis=1).any(axis=1) for side in sides.grown]
    if min(int(rows.sum()) for rows in same) < _FEWEST:
        return BrokenRelation(name, 0.0, 0.0)
    for before, after, chance in ((compare, now, weights), (compare_in_rank, in_rank, equal)):
        usual, actual = foreign(before)[same[0]], foreign(after)[same[1]]
        chance = chance[same[0]] / chance[same[0]].sum()
        expected = float(chance @ usual)
        error = np.sqrt(float(chance**2 @ (usual - expected) ** 2) + float(actual.var()) / len(actual))
        rise = float(actual.mean()) - expected
        shares.append(min(1.0, rise / max(all_foreign - expected, 1e-6)))
        scores.append(rise / max(float(error), 1e-12))
    relation = BrokenRelation(name, min(shares), min(scores))
    if relation.share >= LEAST_SHARE and numeric and _has_grown(compare, now, foreign, random):
        return BrokenRelation(name, 0.0, 0.0)
    return relation


def _has_grown(compare: Floats, now: Floats, foreign: Callable[[Floats], Floats], random: np.random.Generator) -> bool:
    """Whether the first column has grown for a part of the rows, as when prices rise within the window, and the rows
    look no more foreign than the reference does after the same growth."""
    sides = [np.sort(side[np.isfinite(side[:, 0]), 0]) for side in (compare, now)]
    grown = growth_of_a_part(*sides)
    if grown is None:
        return False
    factor, share = grown
    rows = compare.copy()
    part = random.random(len(rows)) < share
    whole = np.array_equal(sides[0], np.floor(sides[0]))
    rows[part, 0] = np.rint(rows[part, 0] * factor) if whole else rows[part, 0] * factor
    supposed, actual = foreign(rows), foreign(now)
    error = np.sqrt(supposed.var() / len(supposed) + actual.var() / len(actual))
    return bool(actual.mean() - supposed.mean() < _NO_MORE * error)


def _shuffled(rows: Floats, own: int, random: np.random.Generator) -> Floats:
    """The rows with the column at `own` of anybody. With replacement: if both sides had the very same values of each
    column, no first split of a tree would gain anything, and none would be made."""
    rows = rows.copy()
    rows[:, own] = rows[random.integers(0, len(rows), len(rows)), own]
    return rows


def _in_rank(now: Floats, before: Floats, numeric: Sequence[bool]) -> tuple[Floats, Floats]:
    """The rows of the window with each number that moved replaced by the one of the same rank in the reference; and
    those of the reference after the way there and back, which costs them as much of their detail."""
    now, before = now.copy(), before.copy()
    for own, is_number in enumerate(numeric):
        known, known_before = np.isfinite(now[:, own]), np.isfinite(before[:, own])
        actual, usual = np.sort(now[known, own]), np.sort(before[known_before, own])
        if not is_number or min(len(actual), len(usual)) < _FEWEST:
            continue
        if not _has_moved(actual, usual):
            continue
        now[known, own] = _of_same_rank(now[known, own], actual, usual)
        there = _of_same_rank(before[known_before, own], usual, actual)
        before[known_before, own] = _of_same_rank(there, actual, usual)
    return now, before


def _grown(before: Floats, now: Floats) -> tuple[Flags, Flags]:
    """The cells of both sides, each (rows, columns), whose range of the column's values is more frequent now."""
    flags = (np.zeros(before.shape, dtype=bool), np.zeros(now.shape, dtype=bool))
    for own, (usual, actual) in enumerate(zip(before.T, now.T, strict=True)):
        finite = usual[np.isfinite(usual)]
        if not len(finite):
            continue
        edges = np.unique(np.quantile(finite, np.linspace(0.0, 1.0, _RANGES + 1)[1:-1]))
        places = [np.searchsorted(edges, side, "left") for side in (usual, actual)]  # missing ones have the last place
        shares = [np.bincount(place, minlength=len(edges) + 1) / len(place) for place in places]
        pooled = (shares[0] * len(usual) + shares[1] * len(actual)) / (len(usual) + len(actual))
        noise = np.sqrt(pooled * (1.0 - pooled) * (1.0 / len(usual) + 1.0 / len(actual))) + 1e-12
        grown = (shares[1] - shares[0]) / noise > _GROWN
        for side, place in zip(flags, places, strict=True):
            side[:, own] = grown[place]
    return flags


def _has_moved(actual: Floats, usual: Floats) -> bool:
    """Whether two samples differ, or would without the most frequent value, which hides a change of the others."""
    from scipy import stats

    values, counts = np.unique(usual, return_counts=True)
    frequent = values[np.argmax(counts)]
    pairs = [(actual, usual), (actual[actual != frequent], usual[usual != frequent])]
    return any(
        min(map(len, pair)) >= _FEWEST // 3 and stats.ks_2samp(*pair, method="asymp").pvalue < _SAME for pair in pairs
    )


def _of_same_rank(values: Floats, own: Floats, other: Floats) -> Floats:
    """For each value the one with its middle rank among `own` in `other`; both are sorted."""
    rank = (np.searchsorted(own, values, "left") + np.searchsorted(own, values, "right")) / 2.0 / len(own)
    return other[np.minimum((rank * len(other)).astype(np.int64), len(other) - 1)]


def _balance(rows: Floats, after: Floats) -> Floats:
    """Weights (rows,) of the reference that give its basis `rows` the window's means; their sum is 1."""
    error = np.sqrt(rows.var(axis=0) / len(rows) + after.var(axis=0) / len(after)) + 1e-9
    moved = np.abs(rows.mean(axis=0) - after.mean(axis=0)) / error
    chosen = np.flatnonzero(moved > _MOVED)
    chosen = chosen[np.argsort(-moved[chosen], kind="stable")[:_MOST_BALANCED]]
    return _balanced(rows[:, chosen] - after[:, chosen].mean(axis=0))


def _balanced(rows: Floats, steps: int = 12) -> Floats:
    """Weights under which the mean of `rows` is zero, as close to equal ones as can be, by Newton's method."""
    weights = np.full(len(rows), 1.0 / len(rows))
    slope = np.zeros(rows.shape[1])
    for _ in range(steps if len(slope) else 0):
        mean = weights @ rows
        curvature = (rows * weights[:, None]).T @ rows - np.outer(mean, mean) + 1e-3 * np.eye(len(slope))
        step = np.linalg.solve(curvature, mean)
        largest = float(np.abs(rows @ step).max())
        slope -= step * min(1.0, 3.0 / max(largest, 1e-9))
        exponent = rows @ slope
        weights = np.exp(np.clip(exponent - exponent.max(), -30.0, 0.0))
        weights /= weights.sum()
    weights = np.minimum(weights, _HEAVIEST / len(rows))
    return np.asarray(weights / weights.sum())
