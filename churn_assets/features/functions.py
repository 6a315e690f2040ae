"""The functions of the expression language over float64 arrays, NaN being the missing value; see docs/contract.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Statistic = dict[str, list[float | None]]  # as JSON has it: no NaN

# 0001-01-01 and 9999-12-31, the range of Python's dates.
FIRST_DAY, LAST_DAY = -719_162.0, 2_932_896.0


def _comparison(compare: np.ufunc) -> Callable[[Array, Array], Array]:
    """1 or 0, and NaN where an operand is missing."""
    return lambda left, right: np.where(np.isnan(left) | np.isnan(right), np.nan, compare(left, right))


def _both(*values: Array) -> Array:
    """Logical and as in SQL: false wins over missing.

    >>> _both(np.array([1.0, 0.0, 1.0]), np.array([1.0, np.nan, np.nan])).tolist()
    [1.0, 0.0, nan]
    """
    values = np.broadcast_arrays(*values)
    false = np.logical_or.reduce([v == 0.0 for v in values])
    missing = np.logical_or.reduce([np.isnan(v) for v in values])
    return np.where(false, 0.0, np.where(missing, np.nan, 1.0))


def _either(*values: Array) -> Array:
    """Logical or as in SQL: true wins over missing."""
    values = np.broadcast_arrays(*values)
    true = np.logical_or.reduce([(v != 0.0) & ~np.isnan(v) for v in values])
    missing = np.logical_or.reduce([np.isnan(v) for v in values])
    return np.where(true, 1.0, np.where(missing, np.nan, 0.0))


def _where(condition: Array, then: Array, otherwise: Array) -> Array:
    return np.where(np.isnan(condition), np.nan, np.where(condition != 0.0, then, otherwise))


def _month(days: Array) -> Array:
    """Month 1 to 12 of a date in days since 1970-01-01; missing outside the years 1 to 9999."""
    present = (days >= FIRST_DAY) & (days < LAST_DAY + 1.0)
    stamps = np.where(present, np.floor(days), 0.0).astype("datetime64[D]")
    return np.where(present, stamps.astype("datetime64[M]").astype(np.int64) % 12 + 1, np.nan)


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
    """As `learn_typical` for a count that is zero when `by` is: the first knot is the origin. Without that knot a
    cohort younger than any in training is compared with an older one's count."""
    knots = learn_typical(values, by, bins)
    later = [(x, y) for x, y in zip(knots["x"], knots["y"], strict=True) if x is not None and x > 0.0]
    return {"x": [0.0, *(x for x, _ in later)], "y": [0.0 if later else None, *(y for _, y in later)]}


def lookup(statistic: Statistic, by: Array) -> Array:
    """The fitted value at `by`: linear between knots, constant outside, missing where `by` is."""
    result = np.interp(by, np.asarray(statistic["x"], float), np.asarray(statistic["y"], float))
    return np.where(np.isnan(by), np.nan, result)  # with a single knot np.interp gives a value for NaN too


LEARNERS: Mapping[str, Callable[[Array, Array, int], Statistic]] = {"typical": learn_typical, "accrued": learn_accrued}

COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
NAMESPACE: Mapping[str, Callable[..., Any]] = {
    **{name: _comparison(getattr(np, name)) for name in COMPARISONS},
    "codes": lambda values: np.where(values < 0, np.nan, values),  # of categories, -1 is missing
    "negate": lambda value: np.where(np.isnan(value), np.nan, value == 0.0),
    "both": _both,
    "either": _either,
    # By zero is missing, so that no infinity reaches a model.
    "divide": lambda left, right: np.where(np.equal(right, 0.0), np.nan, np.divide(left, right)),
    "lookup": lookup,
    "days_": np.floor,
    "floor_": np.floor,
    "round_": np.round,
    "log1p_": lambda value: np.where(value <= -1.0, np.nan, np.log1p(value)),
    "sqrt_": lambda value: np.where(value < 0.0, np.nan, np.sqrt(value)),
    "abs_": np.abs,
    "clip_": np.clip,
    "where_": _where,
    "fill_": lambda value, other: np.where(np.isnan(value), other, value),
    "isnull_": lambda value: np.isnan(value) * 1.0,
    "min_": lambda *values: np.asarray(np.minimum.reduce(np.broadcast_arrays(*values))),
    "max_": lambda *values: np.asarray(np.maximum.reduce(np.broadcast_arrays(*values))),
    "month_": _month,
    "weekday_": lambda days: np.mod(np.floor(days) + 3.0, 7.0),  # 0 is a Monday; day 0, 1970-01-01, a Thursday
}
