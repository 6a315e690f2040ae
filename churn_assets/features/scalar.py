"""One customer over Python floats, for /predict: no array, no NumPy call, bit for bit what the arrays give.

For one row the time is spent on calls and objects, not on arithmetic: a NumPy call costs about a microsecond at any
size, and one customer's features take some forty of them. So the source that `features.compile` writes is compiled a
second time, with functions of the same names over floats, which follow IEEE 754 and NumPy operation by operation (up
to the sign of zero; a property test compares them); and the checks of a contract are generated as one function without
calls. Figures by `python -m benchmarks.one_row` are in benchmarks/RESULTS.md.
"""

from __future__ import annotations

import datetime as dt
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from churn_assets.contract.expressions import parse_features, parse_rules
from churn_assets.contract.model import Column, Contract, Kind, Severity
from churn_assets.contract.values import canonical_id
from churn_assets.features.compile import FeatureProgram, Writer, build, local_name, rule_source
from churn_assets.features.encode import EPOCH, choice_named, encode_rows
from churn_assets.features.functions import FIRST_DAY, LAST_DAY

NAN = math.nan
Cells = Mapping[str, float]  # column -> number, days or category code; NaN is missing
Knots = tuple[list[float], list[float]]

_WHOLE = 2.0**52  # from here on every float is whole


def scalar_features(contract: Contract, program: FeatureProgram) -> Callable[[Cells, float], tuple[float, ...]]:
    """The features of one row, in the order of `program`, as floats before the conversion to 32 bits. The second
    argument is `as_of` in days since 1970-01-01."""
    body = [Writer(contract).assignment(expression) for expression in parse_features(contract)]
    raw = [f"columns[{column.name!r}]" for column in contract.feature_columns]
    shown = [local_name(feature.name) for feature in contract.features if feature.model]
    source = "\n".join(["def run(columns, as_of, state):", *body, f"    return ({', '.join([*raw, *shown])},)"])
    return _bound(build(source, "run", NAMESPACE), program.state)


def scalar_rules(contract: Contract, severity: Severity) -> Sequence[tuple[str, Callable[[Cells, float], float]]]:
    """(name, function) of each rule of this severity; a row breaks the rule where the function gives 0."""
    runs = {rule.name: build(rule_source(contract, rule), "run", NAMESPACE) for rule in parse_rules(contract)}
    return [(rule.name, _bound(runs[rule.name], {})) for rule in contract.rules if rule.severity is severity]


def _bound(run: Callable[..., Any], state: Mapping[str, Any]) -> Callable[[Cells, float], Any]:
    knots = {name: _knots(statistic) for name, statistic in state.items()}
    return lambda cells, as_of: run(cells, math.floor(as_of) * 1.0, knots)


def _knots(statistic: Mapping[str, Sequence[float | None]]) -> Knots:
    x, y = ([NAN if value is None else float(value) for value in statistic[axis]] for axis in ("x", "y"))
    return x, y


def _floor(value: float) -> float:
    return value if not -_WHOLE < value < _WHOLE else float(math.floor(value))


def _either(*values: float) -> float:
    if any(v == v and v != 0.0 for v in values):
        return 1.0
    return 0.0 if all(v == v for v in values) else NAN


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


# Conditional expressions, not a function of an operator: each call costs as much as the arithmetic.
NAMESPACE: Mapping[str, Callable[..., Any]] = {
    "less": lambda a, b: (1.0 if a < b else 0.0) if a == a and b == b else NAN,
    "less_equal": lambda a, b: (1.0 if a <= b else 0.0) if a == a and b == b else NAN,
    "greater": lambda a, b: (1.0 if a > b else 0.0) if a == a and b == b else NAN,
    "greater_equal": lambda a, b: (1.0 if a >= b else 0.0) if a == a and b == b else NAN,
    "equal": lambda a, b: (1.0 if a == b else 0.0) if a == a and b == b else NAN,
    "not_equal": lambda a, b: (1.0 if a != b else 0.0) if a == a and b == b else NAN,
    "codes": lambda value: value,
    "negate": lambda value: (1.0 if value == 0.0 else 0.0) if value == value else NAN,
    "both": lambda *values: 0.0 if 0.0 in values else (1.0 if all(v == v for v in values) else NAN),
    "either": _either,
    "divide": lambda left, right: NAN if right == 0.0 else left / right,
    "lookup": _lookup,
    "days_": _floor,
    "floor_": _floor,
    # Half to even, as np.round.
    "round_": lambda value: value if not -_WHOLE < value < _WHOLE else float(round(value)),
    # np.log1p, because libraries differ in the last bit of a logarithm.
    "log1p_": lambda value: float(np.log1p(value)) if value > -1.0 else NAN,
    "sqrt_": lambda value: NAN if not value >= 0.0 else math.sqrt(value),
    "abs_": abs,
    "clip_": lambda value, low, high: _minimum(_maximum(value, low), high),
    "where_": lambda condition, then, other: NAN if condition != condition else then if condition != 0.0 else other,
    "fill_": lambda value, other: value if value == value else other,
    "isnull_": lambda value: 0.0 if value == value else 1.0,
    "min_": _minimum,
    "max_": _maximum,
    "month_": lambda days: (
        float(dt.date.fromordinal(EPOCH + math.floor(days)).month) if FIRST_DAY <= days < LAST_DAY + 1.0 else NAN
    ),
    "weekday_": lambda days: (_floor(days) + 3.0) % 7.0 if days - days == 0.0 else NAN,  # neither missing nor infinite
}


# -- reading --------------------------------------------------------------------------------------------


class RowReader:
    """Reads rows of one contract: column -> number, days or category code, NaN for missing.

    `encode_rows` defines which rows are valid. The generated function reads the common spelling of each kind and
    returns None for anything else; such a row goes through `encode_rows`, which accepts or refuses it.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._key = contract.key.name
        self._excluded = [column.name for column in contract.excluded_columns]
        self._read_common = _common_reader(contract)

    def __call__(self, row: Mapping[str, object]) -> dict[str, float]:
        """The numbers of a row. Raises RowsRejected with every violation."""
        try:
            cells = self._read_common(row)
        except (KeyError, ValueError):
            cells = None
        if cells is None:
            return self._read_any(row)
        expected = len(cells) + (sum(name in row for name in self._excluded) if self._excluded else 0)
        if len(row) != expected and (len(row) != expected + 1 or canonical_id(row.get(self._key)) is None):
            return self._read_any(row)
        return cells

    def _read_any(self, row: Mapping[str, object]) -> dict[str, float]:
        columns = encode_rows(self._contract, [row])
        values = {}
        for column in self._contract.scoring_columns:
            value = columns[column.name][0]
            if column.kind is Kind.CATEGORY and value < 0:
                value = math.nan
            values[column.name] = math.nan if value is None or isinstance(value, str) else float(value)
        return values


def _common_reader(contract: Contract) -> Callable[[Mapping[str, object]], dict[str, float] | None]:
    """The generated function for the common spelling; each check returns None if it fails."""
    names: dict[str, Any] = {
        "NAN": math.nan, "type": type, "float": float, "int": int, "str": str, "len": len,
        "id_of": canonical_id, "choice": choice_named, "ordinal": lambda text: dt.date.fromisoformat(text).toordinal(),
    }  # fmt: skip
    lines = ["def read(row):"]
    for i, column in enumerate(contract.scoring_columns):
        names[f"codes{i}"] = {name: float(code) for code, name in enumerate(column.choices)}
        names[f"column{i}"] = column
        lines.append(f"    v{i} = row[{column.name!r}]")
        checks = [line.replace("$", f"v{i}").replace("#", str(i)) for line in _checks(column)]
        if column.nullable:
            lines += [f"    if v{i} is None: v{i} = NAN", "    else:", *(f"        {line}" for line in checks)]
        else:
            lines += [f"    {line}" for line in checks]
    cells = ", ".join(f"{column.name!r}: v{i}" for i, column in enumerate(contract.scoring_columns))
    return build("\n".join([*lines, f"    return {{{cells}}}"]), "read", names)


def _checks(column: Column) -> list[str]:
    """Source that checks the value $ of the column numbered # and makes it a float."""
    match column.kind:
        case Kind.NUMBER | Kind.INTEGER:
            low = -1e300 if column.low is None else max(float(column.low), -1e300)  # so that an infinity is outside
            high = 1e300 if column.high is None else min(float(column.high), 1e300)
            whole = " or $ % 1.0" if column.kind is Kind.INTEGER else ""
            return [
                f"if type($) is not float and type($) is not int or not {low!r} <= $ <= {high!r}{whole}: return",
                "$ = float($)",
            ]
        case Kind.BOOLEAN:
            return ["if $ is not True and $ is not False: return", "$ = 1.0 if $ else 0.0"]
        case Kind.DATE:
            first = dt.date.min if column.low is None else dt.date.fromisoformat(str(column.low))
            last = dt.date.max if column.high is None else dt.date.fromisoformat(str(column.high))
            return [
                "if type($) is not str or len($) != 10: return",
                "$ = ordinal($)",
                f"if not {first.toordinal()} <= $ <= {last.toordinal()}: return",
                f"$ = float($ - {EPOCH})",
            ]
        case Kind.CATEGORY:
            return ["if type($) is not str: $ = choice(column#, $)", "$ = codes#[$]"]
        case Kind.ID:
            return ["if type($) is not str or id_of($) is None: return", "$ = NAN"]
    # Texts take no part in a score: they must be there, and their content is not read.
    return ["if type($) is not str or not $.strip(): return", "$ = NAN"]
