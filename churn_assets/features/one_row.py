"""One JSON-like row as numbers, for /predict; a row in a rarer spelling is read by `encode_rows`.

The checks of a contract are generated as one function without calls: for one row the time is spent on calls and
objects, not on arithmetic. What it buys, by `python -m benchmarks.one_row` (benchmarks/RESULTS.md): checking
and reading a row takes 3 us, the general path 35 us.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping
from typing import Any

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.features.compile import build
from churn_assets.features.encode import EPOCH, encode_rows


class RowReader:
    """Reads rows of one contract: column -> number, days or category code, NaN for missing.

    `encode_rows` defines which rows are valid. The generated function reads the common spelling of each kind and
    returns None for anything else; such a row goes through `encode_rows`, which accepts or refuses it.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._key = contract.key.name
        self._read_common = _common_reader(contract)

    def __call__(self, row: Mapping[str, object]) -> dict[str, float]:
        """The numbers of a row. Raises RowsRejected with every violation."""
        try:
            cells = self._read_common(row)
        except (KeyError, ValueError):
            cells = None
        if cells is None:
            return self._read_any(row)
        if len(row) != len(cells):
            key = row.get(self._key)
            if len(row) != len(cells) + 1 or type(key) is not str or not key.strip():
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
        "ordinal": lambda text: dt.date.fromisoformat(text).toordinal(),
    }  # fmt: skip
    lines = ["def read(row):"]
    for i, column in enumerate(contract.scoring_columns):
        names[f"codes{i}"] = {name: float(code) for code, name in enumerate(column.choices)}
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
            return ["if type($) is not str: return", "$ = codes#[$]"]
    # Texts take no part in a score: they must be there, and their content is not read.
    return ["if type($) is not str or not $.strip(): return", "$ = NAN"]
