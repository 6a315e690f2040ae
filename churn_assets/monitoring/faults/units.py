"""Numbers in another unit, in another column's place, or far beyond all numbers of training.

A fault of a unit multiplies a number by a constant and leaves the rest as it was: for everybody, or for a share of the
rows, whose numbers then lie where c times those of the reference lie. Customers who changed move a distribution by
degrees. So a share s of the rows is called foreign only if this holds: where the foreign values mostly lie, the window
has more rows than any mix of customers could have that weighs no kind of them over `_HEAVIEST` times (binomial test);
the mixture (1 - s) F + s F_foreign has the window's distribution (Kolmogorov-Smirnov); and the reference's F has not,
nor F of all numbers times any one constant: growth is drift. Two columns that are swapped are mixtures of each other
with one s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Kind

if TYPE_CHECKING:
    import pyarrow as pa

SIGNIFICANCE = 1e-4  # of a report on a window, over all tests (Bonferroni)
LEAST_SHARE = 0.03  # of the rows
LEAST_FAR = 0.005  # of the rows, beyond twice the range of training
# Decimal places, units of time, length, weight and volume; their inverses as well.
FACTORS = (10, 100, 1e3, 1e4, 1e6, 3.6, 7, 12, 24, 30.4, 60, 365.25, 1440, 3600, 3.2808, 3.7854, 4.5461, 28.35, 1024)
SMALL_FACTORS = (1.6093, 1.8, 2.2046, 2.54)  # miles, degrees, pounds, inches: only for all rows, and exactly
_ALL_FACTORS = tuple(factor for size in (*FACTORS, *SMALL_FACTORS) for factor in (size, 1.0 / size))
LARGE = 3.0  # a factor for everybody, beyond which it is a unit though none that is known
_HEAVIEST = 4.0
_FIT, _MOVED = 1e-3, 1e-8  # p-values: from which a distribution is the same, and below which it is another
_ALONE = 1e-4  # p-value of other columns, from which this one has moved alone
_UNMOVED = 0.05  # p-value from which nothing has moved that could be `LEAST_SHARE` of the rows
_ROWS = 10_000
_FEWEST, _FEWEST_POSITIVE = 300, 200
_BINS = 60
_RATIOS = (4.0, 20.0, 100.0)  # densities of foreign and usual values, from which a place is the foreign ones'
_LEAST_PARTIAL = 7.0  # the least factor of a part of the rows: a smaller one looks like growth of some customers
_GROWTH = (0.6, 0.7, 0.8, 0.9, 1.1, 1.25, 1.4, 1.6)  # factors by which numbers of customers may grow
_EXACT = 0.04  # of a logarithm: how closely the factor must be known to be taken for a small one
_MOST_SWAPPED = 20  # columns that moved, among which pairs are looked for
_NUMBERS = frozenset({Kind.NUMBER, Kind.INTEGER})

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ForeignNumbers:
    """`share` (0 to 1) of the rows have `column` times `factor`, the values of the column `other`, or, if 'far', values
    beyond `bound`, twice the range of training."""

    kind: Literal["scaled", "swapped", "far"]
    column: str
    share: float
    factor: float = 1.0
    other: str = ""
    bound: float = 0.0


def find_foreign_numbers(reference: pa.Table, current: pa.Table, kinds: Mapping[str, Kind]) -> list[ForeignNumbers]:
    """Columns of numbers in another unit, swapped, or far out, in the order of `kinds`; at most one result a column.

    The tables are samples of rows with the columns of `kinds`; those that one side lacks are left out.
    """
    shared = [n for n in kinds if n in reference.column_names and n in current.column_names and kinds[n] in _NUMBERS]
    columns = {name: _Column(*(_finite(table, name) for table in (reference, current))) for name in shared}
    columns = {name: column for name, column in columns.items() if min(column.rows) >= _FEWEST and column.varies}
    moved = {name: column for name, column in columns.items() if column.p_value < _MOVED}
    level = SIGNIFICANCE / max(1, len(columns) * (2 * len(FACTORS) + 1) * len(_RATIOS))
    results = {swap.column: swap for swap in _swaps(moved)}
    for name, column in columns.items():
        alone = all(other is column or other.p_value > _ALONE for other in columns.values())
        if name not in results and (result := _scaled(name, column, level, alone) or _far(name, column, level)):
            results[name] = result
    return [results[name] for name in columns if name in results]


def growth(before: Floats, now: Floats) -> float | None:
    """The factor by which the numbers of everybody have grown, None if they have not, or if it is one of units. Whole
    numbers stay whole: they are rounded or cut after they have grown."""
    column = _Column(*(np.sort(side[np.isfinite(side)]) for side in (before, now)))
    if min(column.rows) < _FEWEST or column.before[0] < 0.0 or column.p_value > _FIT:
        return None
    factor = _factor_for_all(column)
    if factor is None and _are_whole(column.before):
        factor = _whole_factor(column)
    return None if factor is None or _is_unit(factor, column, alone=True) else factor


def growth_of_a_part(before: Floats, now: Floats) -> tuple[float, float] | None:
    """The factor, of those that growth has, and the share of the rows whose numbers have grown by it, where that
    explains the window's distribution; None where it does not, or nothing has moved. All are sorted."""
    if _same(before, now) > _FIT or not len(before) or before[0] < 0.0:
        return None
    whole = _are_whole(before)
    fits = []
    for factor in _GROWTH:
        grown = np.rint(before * factor) if whole else before * factor
        share = min(1.0, _mixed_share(before, now, grown))
        if share > 0.0:
            fits.append((_distance(before, now, grown, share), factor, share))
    distance, factor, share = min(fits, default=(1.0, 1.0, 0.0))
    return (factor, share) if distance < _critical(len(now), len(before)) else None


def _whole_factor(column: _Column) -> float | None:
    """The constant that all whole numbers are multiplied with before they are made whole again, None without one."""
    from scipy import stats

    mean = float(column.before.mean())
    if mean <= 0.0:
        return None
    fits = []
    for whole, lost in ((np.rint, 0.0), (np.floor, 0.5)):
        factor = (float(column.now.mean()) + lost * float(np.mean(column.now > 0.0))) / mean
        # As people choose them, to the last digit: halves are rounded to even ones.
        plain = np.round(np.round(factor / 0.05) * 0.05 + np.array([-0.05, 0.0, 0.05]), 2)
        for near in (*plain[plain > 0.0], *(factor * np.linspace(0.94, 1.06, 13))):
            fits.append((stats.ks_2samp(whole(column.before * near), column.now, method="asymp").pvalue, near))
    best, factor = max(fits)
    return float(factor) if best > _FIT else None


def _finite(table: pa.Table, name: str) -> Floats:
    values = table[name].to_numpy().astype(np.float64)[:_ROWS]
    return np.sort(values[np.isfinite(values)])


class _Column:
    """The sorted finite values of both sides, and the p-value that they are of one distribution."""

    def __init__(self, before: Floats, now: Floats) -> None:
        self.before, self.now = before, now
        self.p_value = _same(before, now) if min(self.rows) else 1.0

    @property
    def rows(self) -> tuple[int, int]:
        return len(self.before), len(self.now)

    @property
    def varies(self) -> bool:
        """Whether there are distributions to compare; of two values another share is drift."""
        return len(np.unique(self.before)) > 2


def _same(before: Floats, now: Floats) -> float:
    """The p-value that two samples are of one distribution."""
    from scipy import stats

    return float(stats.ks_2samp(before, now, method="asymp").pvalue)


def _scaled(name: str, column: _Column, level: float, alone: bool) -> ForeignNumbers | None:
    before, now = column.before, column.now
    if column.p_value > _UNMOVED or before[0] < 0.0 or np.sum(before > 0.0) < _FEWEST_POSITIVE:
        return None
    fitting = _factor_for_all(column)
    if fitting is not None:
        return ForeignNumbers("scaled", name, 1.0, fitting) if _is_unit(fitting, column, alone) else None
    fits = []
    for size in FACTORS:
        if size < _LEAST_PARTIAL:
            continue
        for factor in (size, 1.0 / size):
            share = _foreign_share(before, now, before * factor, level)
            if share is not None:
                fits.append((_distance(before, now, before * factor, share), factor, share))
    if not fits:
        return None
    _, factor, share = min(fits)
    return ForeignNumbers("scaled", name, share, factor)


def _factor_for_all(column: _Column) -> float | None:
    """The constant that all numbers are multiplied with, None if there is none."""
    before, now = column.before, column.now
    logs = _logs(column)
    if column.p_value > _FIT or now[0] < 0.0 or min(map(len, logs)) < _FEWEST_POSITIVE:
        return None
    positive = abs(float(np.mean(before > 0.0) - np.mean(now > 0.0)))
    if positive > 4.0 * math.sqrt(0.25 / len(before) + 0.25 / len(now)):
        return None
    ratio, error = _log_ratio(logs)
    known = sorted(_ALL_FACTORS, key=lambda factor: abs(math.log(factor) - ratio))
    known = [factor for factor in known if abs(math.log(factor) - ratio) < max(2.5 * error, 0.005)]
    # The ratio of medians is exact where many rows share a value, that of means where none do.
    candidates = [*known, math.exp(float(np.median(logs[1]) - np.median(logs[0]))), math.exp(ratio)]
    return next((factor for factor in candidates if _same(before * factor, now) > _FIT), None)


def _is_unit(factor: float, column: _Column, alone: bool) -> bool:
    """Whether the factor of all numbers is one of units, and no growth. Customers who grow do so in several columns;
    `alone` is true if this column is the only one that moved."""
    if abs(math.log(factor)) > math.log(LARGE):
        return alone or factor in _ALL_FACTORS
    if not alone or factor not in _ALL_FACTORS or (_are_whole(column.before) and _are_whole(column.now)):
        return False  # counts in another unit would have decimals: these are more of the same
    _, error = _log_ratio(_logs(column))
    return 2.5 * error < _EXACT and column.p_value < _MOVED


def _are_whole(numbers: Floats) -> bool:
    return bool(np.array_equal(numbers, np.floor(numbers)))


def _logs(column: _Column) -> list[Floats]:
    return [np.log(side[side > 0.0]) for side in (column.before, column.now)]


def _log_ratio(logs: Sequence[Floats]) -> tuple[float, float]:
    """The logarithm of the factor between two samples of logarithms, and its standard error."""
    middles = [_middle(side) for side in logs]
    error = math.sqrt(sum(middle.var() / (0.8 * len(side)) for middle, side in zip(middles, logs, strict=True)))
    return float(middles[1].mean() - middles[0].mean()), error


def _middle(values: Floats) -> Floats:
    """Without the outermost tenths, which a few odd values would move."""
    cut = len(values) // 10
    return values[cut : len(values) - cut]


def _foreign_share(before: Floats, now: Floats, foreign: Floats, level: float) -> float | None:
    """The share of rows whose values are `foreign` ones, None unless the three conditions hold."""
    shares = [share for share in _excess(before, now, foreign, level) if share >= LEAST_SHARE]
    if not shares:
        return None
    best = min(shares, key=lambda share: _distance(before, now, foreign, share))
    limit = _critical(len(now), len(before))
    return best if _distance(before, now, foreign, best) < limit else None


def _excess(before: Floats, now: Floats, foreign: Floats, level: float) -> Iterator[float]:
    """Estimates of the share, one for each region in which foreign values are clearly too many. All are sorted."""
    from scipy import stats

    edges = np.unique(np.concatenate([_thinned(side, _BINS) for side in (before, foreign)]))
    counts = [
        np.diff(np.searchsorted(side, edges, "right"), prepend=0, append=len(side)) for side in (before, now, foreign)
    ]
    usual, strange = counts[0] / len(before), counts[2] / len(foreign)
    for ratio in _RATIOS:
        region = strange > ratio * (usual + 0.5 / len(before))
        if not region.any():
            continue
        known, there, own = int(counts[0][region].sum()), int(counts[1][region].sum()), float(strange[region].sum())
        # An upper bound of what is usual there, three standard errors above the reference's own count.
        bound = min(1.0, _HEAVIEST * (known + 3.0 * math.sqrt(known + 1.0)) / len(before))
        if stats.binom.sf(there - 1, len(now), bound) < level:
            part = known / len(before)
            yield float(min(1.0, (there / len(now) - part) / max(own - part, 1e-9)))


def _thinned(values: Floats, count: int) -> Floats:
    """About `count` of the sorted values, evenly spread over their ranks."""
    return values[:: max(1, len(values) // count)]


def _distance(before: Floats, now: Floats, foreign: Floats, share: float) -> float:
    """Kolmogorov-Smirnov distance of the window from the mixture of usual and foreign values. All are sorted."""
    places = np.concatenate([_thinned(before, 2000), now, _thinned(foreign, 2000)])
    usual, actual, strange = (np.searchsorted(side, places, "right") / len(side) for side in (before, now, foreign))
    return float(np.abs(actual - (1.0 - share) * usual - share * strange).max())


def _critical(first: int, second: int) -> float:
    """The distance beyond which two samples of one distribution lie with probability `_FIT`."""
    return math.sqrt(-0.5 * math.log(_FIT / 2.0) * (1.0 / first + 1.0 / second))


def _swaps(moved: Mapping[str, _Column]) -> Iterator[ForeignNumbers]:
    """Both columns of each pair whose values are in each other's place."""
    names = sorted(moved, key=lambda name: moved[name].p_value)[:_MOST_SWAPPED]
    taken: set[str] = set()
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            if taken & {first, second}:
                continue
            a, b = moved[first], moved[second]
            share = _swapped_share(a, b)
            if share is not None:
                taken |= {first, second}
                yield ForeignNumbers("swapped", first, share, other=second)
                yield ForeignNumbers("swapped", second, share, other=first)


def _swapped_share(first: _Column, second: _Column) -> float | None:
    """The share of rows in which two columns have each other's values, None if no one share fits both."""
    if _same(first.before, second.before) > _MOVED:
        return None  # of one distribution: by themselves they cannot be told apart
    pairs = ((first, second), (second, first))
    share = float(np.mean([_mixed_share(own.before, own.now, other.before) for own, other in pairs]))
    if share < LEAST_SHARE:
        return None
    share = min(share, 1.0)
    fits = all(
        _distance(own.before, own.now, other.before, share) < _critical(len(own.now), len(own.before))
        for own, other in pairs
    )
    return share if fits else None


def _mixed_share(before: Floats, now: Floats, foreign: Floats) -> float:
    """The share of foreign values by least squares between the distribution functions."""
    places = np.sort(np.concatenate([_thinned(side, 200) for side in (before, foreign)]))
    usual, actual, strange = (np.searchsorted(side, places, "right") / len(side) for side in (before, now, foreign))
    apart = strange - usual
    return float((actual - usual) @ apart / max(float(apart @ apart), 1e-12))


def _far(name: str, column: _Column, level: float) -> ForeignNumbers | None:
    """Whether more rows than by chance lie beyond twice the range of training."""
    from scipy import stats

    low, middle, high = np.quantile(column.before, [0.0005, 0.5, 0.9995])
    for bound, side in ((2.0 * high - middle, 1.0), (2.0 * low - middle, -1.0)):
        beyond = [int(np.sum(side * values > side * bound)) for values in (column.before, column.now)]
        usual = min(1.0, _HEAVIEST * (beyond[0] + 3.0) / len(column.before))
        share = beyond[1] / len(column.now)
        if share >= LEAST_FAR and high > low and stats.binom.sf(beyond[1] - 1, len(column.now), usual) < level:
            return ForeignNumbers("far", name, share, bound=float(bound))
    return None
