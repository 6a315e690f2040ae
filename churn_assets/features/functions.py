"""The functions of the expression language over float64 arrays, NaN being the missing value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Statistic = dict[str, list[float | None]]  # as JSON has it: no NaN

# 0001-01-01 and 9999-12-31, the range of Python's dates.
FIRST_DAY, LAST_DAY = -719_162.0, 2_932_896.0


def codes(values: npt.NDArray[Any]) -> Array:
    """Category codes as numbers, with -1 (missing) as NaN."""
    return np.where(values < 0, np.nan, values)


def _comparison(compare: np.ufunc) -> Callable[[Array, Array], Array]:
    def compared(left: Array, right: Array) -> Array:
        """1 or 0, and NaN where an operand is missing."""
        return np.where(np.isnan(left) | np.isnan(right), np.nan, compare(left, right))

    return compared


def negate(value: Array) -> Array:
    """Logical not; missing stays missing."""
    return np.where(np.isnan(value), np.nan, value == 0.0)


def both(*values: Array) -> Array:
    """Logical and as in SQL: false wins over missing.

    >>> both(np.array([1.0, 0.0, 1.0]), np.array([1.0, np.nan, np.nan])).tolist()
    [1.0, 0.0, nan]
    """
    values = np.broadcast_arrays(*values)
    false = np.logical_or.reduce([v == 0.0 for v in values])
    missing = np.logical_or.reduce([np.isnan(v) for v in values])
    return np.where(false, 0.0, np.where(missing, np.nan, 1.0))


def either(*values: Array) -> Array:
    """Logical or as in SQL: true wins over missing."""
    values = np.broadcast_arrays(*values)
    true = np.logical_or.reduce([(v != 0.0) & ~np.isnan(v) for v in values])
    missing = np.logical_or.reduce([np.isnan(v) for v in values])
    return np.where(true, 1.0, np.where(missing, np.nan, 0.0))


def divide(left: Array, right: Array) -> Array:
    """Division; by zero is missing, so that no infinity reaches a model."""
    return np.where(np.equal(right, 0.0), np.nan, np.divide(left, right))


def where(condition: Array, then: Array, otherwise: Array) -> Array:
    """`then` where the condition holds, `otherwise` where not, missing where it is missing."""
    return np.where(np.isnan(condition), np.nan, np.where(condition != 0.0, then, otherwise))


def isnull(value: Array) -> Array:
    """1 where missing, else 0."""
    return np.isnan(value) * 1.0


def fill(value: Array, other: Array) -> Array:
    """`value`, or `other` where it is missing."""
    return np.where(np.isnan(value), other, value)


def log1p(value: Array) -> Array:
    """log(1 + value); missing at -1 and below."""
    return np.where(value <= -1.0, np.nan, np.log1p(value))


def minimum(*values: Array) -> Array:
    """The smallest; missing if any is missing."""
    return np.asarray(np.minimum.reduce(np.broadcast_arrays(*values)))


def maximum(*values: Array) -> Array:
    """The largest; missing if any is missing."""
    return np.asarray(np.maximum.reduce(np.broadcast_arrays(*values)))


def month(days: Array) -> Array:
    """Month 1 to 12 of a date in days since 1970-01-01; missing outside the years 1 to 9999."""
    present = (days >= FIRST_DAY) & (days < LAST_DAY + 1.0)
    stamps = np.where(present, np.floor(days), 0.0).astype("datetime64[D]")
    months = stamps.astype("datetime64[M]").astype(np.int64) % 12 + 1
    return np.where(present, months, np.nan)


def weekday(days: Array) -> Array:
    """Weekday 0 (Monday) to 6 of a date in days since 1970-01-01, a Thursday.

    >>> weekday(np.array([0.0, 4.0])).tolist()
    [3.0, 0.0]
    """
    return np.mod(np.floor(days) + 3.0, 7.0)


def learn_typical(values: Array, by: Array, bins: int) -> Statistic:
    """The typical value at `by`: medians of the non-zero values in quantile bins, without labels.

    Returns knots: `x`, the median of `by` in each bin, ascending, and `y`, the median of the values.
    Without any value there is one knot of None, which is missing.
    """
    values, by = np.broadcast_arrays(np.asarray(values, float), np.asarray(by, float))
    use = ~np.isnan(values) & ~np.isnan(by) & (values != 0.0)
    if not use.any():
        return {"x": [0.0], "y": [None]}
    values, by = values[use], by[use]
    edges = np.unique(np.quantile(by, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    bin_of = np.searchsorted(edges, by, side="right")
    parts = [bin_of == b for b in np.unique(bin_of)]
    return {"x": [float(np.median(by[p])) for p in parts], "y": [float(np.median(values[p])) for p in parts]}


def learn_accrued(values: Array, by: Array, bins: int) -> Statistic:
    """As `learn_typical` for a count that is zero when `by` is: the first knot is the origin.

    Without that knot a cohort younger than any in training is compared with an older one's count.
    """
    knots = learn_typical(values, by, bins)
    later = [(x, y) for x, y in zip(knots["x"], knots["y"], strict=True) if x is not None and x > 0.0]
    return {"x": [0.0, *(x for x, _ in later)], "y": [0.0 if later else None, *(y for _, y in later)]}


def lookup(statistic: Statistic, by: Array) -> Array:
    """The fitted value at `by`: linear between knots, constant outside, missing where `by` is."""
    result = np.interp(by, np.asarray(statistic["x"], float), np.asarray(statistic["y"], float))
    return np.where(np.isnan(by), np.nan, result)  # with a single knot np.interp gives a value for NaN too


LEARNERS: Mapping[str, Callable[[Array, Array, int], Statistic]] = {"typical": learn_typical, "accrued": learn_accrued}

NAMESPACE: Mapping[str, Callable[..., Any]] = {
    "codes": codes,
    "less": _comparison(np.less),
    "less_equal": _comparison(np.less_equal),
    "greater": _comparison(np.greater),
    "greater_equal": _comparison(np.greater_equal),
    "equal": _comparison(np.equal),
    "not_equal": _comparison(np.not_equal),
    "negate": negate,
    "both": both,
    "either": either,
    "divide": divide,
    "lookup": lookup,
    "isnull": isnull,
    "days_": np.floor,
    "floor_": np.floor,
    "round_": np.round,
    "log1p_": log1p,
    "sqrt_": lambda value: np.where(value < 0.0, np.nan, np.sqrt(value)),
    "abs_": np.abs,
    "clip_": np.clip,
    "where_": where,
    "fill_": fill,
    "isnull_": isnull,
    "min_": minimum,
    "max_": maximum,
    "month_": month,
    "weekday_": weekday,
}
