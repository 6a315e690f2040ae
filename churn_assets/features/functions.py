"""The functions of the expression language over float64 arrays, NaN being the missing value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def codes(values: npt.NDArray[Any]) -> Array:
    """Category codes as numbers, with -1 (missing) as NaN."""
    return np.where(values < 0, np.nan, values)


def known(condition: npt.NDArray[np.bool_], *operands: Array) -> Array:
    """1 or 0, and NaN where an operand is missing."""
    missing = np.isnan(operands[0])
    for operand in operands[1:]:
        missing = missing | np.isnan(operand)
    return np.where(missing, np.nan, condition)


def negate(value: Array) -> Array:
    """Logical not; missing stays missing."""
    return np.where(np.isnan(value), np.nan, value == 0.0)


def both(*values: Array) -> Array:
    """Logical and as in SQL: false wins over missing."""
    false = np.logical_or.reduce([v == 0.0 for v in values])
    missing = np.logical_or.reduce([np.isnan(v) for v in values])
    return np.where(false, 0.0, np.where(missing, np.nan, 1.0))


def either(*values: Array) -> Array:
    """Logical or as in SQL: true wins over missing."""
    true = np.logical_or.reduce([(v != 0.0) & ~np.isnan(v) for v in values])
    missing = np.logical_or.reduce([np.isnan(v) for v in values])
    return np.where(true, 1.0, np.where(missing, np.nan, 0.0))


def divide(one: Array, two: Array) -> Array:
    """Division; by zero is missing, so that no infinity reaches a model."""
    return np.where(two == 0.0, np.nan, one / two)


def where(condition: Array, one: Array, two: Array) -> Array:
    """`one` where the condition holds, `two` where not, missing where it is missing."""
    return np.where(np.isnan(condition), np.nan, np.where(condition != 0.0, one, two))


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
    """Month 1 to 12 of a date in days since 1970-01-01."""
    present = ~np.isnan(days)
    stamps = np.where(present, np.floor(days), 0.0).astype("datetime64[D]")
    months = stamps.astype("datetime64[M]").astype(np.int64) % 12 + 1
    return np.where(present, months, np.nan)


def weekday(days: Array) -> Array:
    """Weekday 0 (Monday) to 6 of a date in days since 1970-01-01, a Thursday."""
    return np.mod(np.floor(days) + 3.0, 7.0)


def learn_typical(values: Array, by: Array, bins: int) -> dict[str, list[float]]:
    """Median of the non-zero `values` in quantile bins of `by`, without any label.

    Returns `edges` (inner bin borders, ascending) and `medians` (one more). A bin without a
    non-zero value takes the overall median; with no value at all every median is NaN.
    """
    values, by = np.broadcast_arrays(np.asarray(values, float), np.asarray(by, float))
    use = ~np.isnan(values) & ~np.isnan(by) & (values != 0.0)
    if not use.any():
        return {"edges": [], "medians": [float("nan")]}
    values, by = values[use], by[use]
    edges = np.unique(np.quantile(by, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    which = np.searchsorted(edges, by, side="right")
    overall = float(np.median(values))
    medians = [float(np.median(values[which == b])) if (which == b).any() else overall for b in range(len(edges) + 1)]
    return {"edges": edges.tolist(), "medians": medians}


def lookup(statistic: Mapping[str, list[float]], by: Array) -> Array:
    """The median learnt for the bin that `by` falls in; missing where it is missing."""
    edges, medians = np.asarray(statistic["edges"], float), np.asarray(statistic["medians"], float)
    found = medians[np.searchsorted(edges, by, side="right")]
    return np.where(np.isnan(by), np.nan, found)


NAMESPACE: Mapping[str, Callable[..., Any]] = {
    "codes": codes,
    "known": known,
    "negate": negate,
    "both": both,
    "either": either,
    "divide": divide,
    "lookup": lookup,
    "isnull": isnull,
    "days_": np.floor,
    "floor_": np.floor,
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
