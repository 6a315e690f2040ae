"""The same expressions for one customer, over Python floats: no array, no NumPy call.

A NumPy call costs about a microsecond at any size, and one customer's features take some forty of them. So the
source that `features.compile` writes is compiled a second time, with functions of the same names over floats. They
follow IEEE 754 and NumPy operation by operation, so that both agree bit for bit (up to the sign of zero); a property
test compares them. What it buys, by `python -m benchmarks.one_row` (benchmarks/RESULTS.md): the features of
one row take 3 us, as arrays 46 us; a row of the boosted model takes 18 us with checks and warnings, as arrays 84 us.
"""

from __future__ import annotations

import datetime as dt
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from churn_assets.contract.expressions import parse_features, parse_rules
from churn_assets.contract.model import Contract, Severity
from churn_assets.features.compile import FeatureProgram, Writer, build, local_name
from churn_assets.features.encode import EPOCH
from churn_assets.features.functions import FIRST_DAY, LAST_DAY

NAN = math.nan
Cells = Mapping[str, float]  # column -> number, days or category code; NaN is missing
Knots = tuple[list[float], list[float]]

_WHOLE = 2.0**52  # from here on every float is whole


def scalar_features(contract: Contract, program: FeatureProgram) -> Callable[[Cells, float], tuple[float, ...]]:
    """The features of one row, in the order of `program`, as floats before the conversion to 32 bits.

    The second argument is `as_of` in days since 1970-01-01.
    """
    writer = Writer(contract)
    body = [f"    {local_name(e.name)} = {writer.write(e.tree)}" for e in parse_features(contract)]
    raw = [f"columns[{column.name!r}]" for column in contract.feature_columns]
    shown = [local_name(feature.name) for feature in contract.features if feature.model]
    source = "\n".join(["def run(columns, as_of, state):", *body, f"    return ({', '.join([*raw, *shown])},)"])
    return _bound(build(source, "run", NAMESPACE), program.state)


def scalar_rules(contract: Contract, severity: Severity) -> Sequence[tuple[str, Callable[[Cells, float], float]]]:
    """(name, function) of each rule of this severity; a row breaks the rule where the function gives 0."""
    writer = Writer(contract)
    names = {rule.name for rule in contract.rules if rule.severity is severity}
    sources = {
        rule.name: f"def run(columns, as_of, state):\n    return {writer.write(rule.tree)}"
        for rule in parse_rules(contract)
        if rule.name in names
    }
    return [(name, _bound(build(source, "run", NAMESPACE), {})) for name, source in sources.items()]


def _bound(run: Callable[..., Any], state: Mapping[str, Any]) -> Callable[[Cells, float], Any]:
    knots = {name: _knots(statistic) for name, statistic in state.items()}
    return lambda cells, as_of: run(cells, math.floor(as_of) * 1.0, knots)


def _knots(statistic: Mapping[str, Sequence[float | None]]) -> Knots:
    x, y = ([NAN if value is None else float(value) for value in statistic[axis]] for axis in ("x", "y"))
    return x, y


def _same(value: float) -> float:
    return value


def _floor(value: float) -> float:
    return value if not -_WHOLE < value < _WHOLE else float(math.floor(value))


def _round(value: float) -> float:
    return value if not -_WHOLE < value < _WHOLE else float(round(value))  # half to even, as np.round


def _divide(left: float, right: float) -> float:
    return NAN if right == 0.0 else left / right


def _less(left: float, right: float) -> float:
    return (1.0 if left < right else 0.0) if left == left and right == right else NAN


def _less_equal(left: float, right: float) -> float:
    return (1.0 if left <= right else 0.0) if left == left and right == right else NAN


def _greater(left: float, right: float) -> float:
    return _less(right, left)


def _greater_equal(left: float, right: float) -> float:
    return _less_equal(right, left)


def _equal(left: float, right: float) -> float:
    return (1.0 if left == right else 0.0) if left == left and right == right else NAN


def _not_equal(left: float, right: float) -> float:
    return (1.0 if left != right else 0.0) if left == left and right == right else NAN


def _negate(value: float) -> float:
    return (1.0 if value == 0.0 else 0.0) if value == value else NAN


def _both(*values: float) -> float:
    return 0.0 if 0.0 in values else (1.0 if all(v == v for v in values) else NAN)


def _either(*values: float) -> float:
    if any(v == v and v != 0.0 for v in values):
        return 1.0
    return 0.0 if all(v == v for v in values) else NAN


def _where(condition: float, then: float, otherwise: float) -> float:
    return NAN if condition != condition else then if condition != 0.0 else otherwise


def _isnull(value: float) -> float:
    return 0.0 if value == value else 1.0


def _fill(value: float, other: float) -> float:
    return value if value == value else other


def _log1p(value: float) -> float:
    # np.log1p, because libraries differ in the last bit of a logarithm.
    return float(np.log1p(value)) if value > -1.0 else NAN


def _sqrt(value: float) -> float:
    return NAN if not value >= 0.0 else math.sqrt(value)


def _minimum(*values: float) -> float:
    least = values[0]
    for value in values:
        if value != value:
            return NAN
        if value < least:
            least = value
    return least


def _maximum(*values: float) -> float:
    most = values[0]
    for value in values:
        if value != value:
            return NAN
        if value > most:
            most = value
    return most


def _clip(value: float, low: float, high: float) -> float:
    return _minimum(_maximum(value, low), high)


def _month(days: float) -> float:
    if not FIRST_DAY <= days < LAST_DAY + 1.0:
        return NAN
    return float(dt.date.fromordinal(EPOCH + math.floor(days)).month)


def _weekday(days: float) -> float:
    if days - days != 0.0:  # missing or infinite
        return NAN
    return (_floor(days) + 3.0) % 7.0


def _lookup(knots: Knots, by: float) -> float:
    """np.interp, operation by operation."""
    if by != by:
        return NAN
    x, y = knots
    last = len(x) - 1
    if by > x[last]:
        return y[last]
    i = bisect_right(x, by) - 1
    if i < 0:
        return y[0]
    if i == last or x[i] == by:
        return y[i]
    return (y[i + 1] - y[i]) / (x[i + 1] - x[i]) * (by - x[i]) + y[i]


NAMESPACE: Mapping[str, Callable[..., Any]] = {
    "codes": _same,
    "less": _less,
    "less_equal": _less_equal,
    "greater": _greater,
    "greater_equal": _greater_equal,
    "equal": _equal,
    "not_equal": _not_equal,
    "negate": _negate,
    "both": _both,
    "either": _either,
    "divide": _divide,
    "lookup": _lookup,
    "isnull": _isnull,
    "days_": _floor,
    "floor_": _floor,
    "round_": _round,
    "log1p_": _log1p,
    "sqrt_": _sqrt,
    "abs_": abs,
    "clip_": _clip,
    "where_": _where,
    "fill_": _fill,
    "isnull_": _isnull,
    "min_": _minimum,
    "max_": _maximum,
    "month_": _month,
    "weekday_": _weekday,
}
