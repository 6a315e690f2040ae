"""One JSON-like row as numbers, quickly; whatever is not plainly right is left to `encode_rows`."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.features.encode import encode_rows

Reader = Callable[[object], float | None]

_EPOCH = dt.date(1970, 1, 1).toordinal()
_MISSING = object()


class RowReader:
    """Reads rows of one contract: column -> number, days or category code, NaN for missing.

    `encode_rows` says what a row may be. The readers here know the common spelling of each kind and
    answer None for anything else; such a row goes through `encode_rows`, which takes or refuses it.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._key = contract.key.name
        self._plan = [(column.name, _reader(column)) for column in contract.scoring_columns]

    def __call__(self, row: Mapping[str, object]) -> dict[str, float]:
        """The numbers of a row. Raises RowsRejected with every violation."""
        cells: dict[str, float] = {}
        get = row.get
        for name, read in self._plan:
            value = read(get(name, _MISSING))
            if value is None:
                return self._slowly(row)
            cells[name] = value
        if len(row) != len(cells):
            key = get(self._key)
            if len(row) != len(cells) + 1 or type(key) is not str or not key.strip():
                return self._slowly(row)
        return cells

    def _slowly(self, row: Mapping[str, object]) -> dict[str, float]:
        columns = encode_rows(self._contract, [row])
        found = {}
        for name, _ in self._plan:
            value = columns[name][0]
            if self._contract.by_name[name].kind is Kind.CATEGORY and value < 0:
                value = math.nan
            found[name] = math.nan if value is None or isinstance(value, str) else float(value)
        return found


def _reader(column: Column) -> Reader:
    match column.kind:
        case Kind.NUMBER | Kind.INTEGER:
            read = _number(column)
        case Kind.BOOLEAN:
            read = _boolean
        case Kind.DATE:
            read = _date(column)
        case Kind.CATEGORY:
            read = _choice(column)
        case _:
            read = _text
    if not column.nullable:
        return read
    return lambda value: math.nan if value is None else read(value)


def _number(column: Column) -> Reader:
    low = -math.inf if column.low is None else float(column.low)
    high = math.inf if column.high is None else float(column.high)
    low, high = max(low, -1e300), min(high, 1e300)  # so that an infinity is outside
    whole = column.kind is Kind.INTEGER

    def read(value: object) -> float | None:
        if type(value) is float:
            return value if low <= value <= high and not (whole and value % 1.0) else None
        return float(value) if type(value) is int and low <= value <= high else None

    return read


def _boolean(value: object) -> float | None:
    return 1.0 if value is True else 0.0 if value is False else None


def _date(column: Column) -> Reader:
    low = dt.date.min if column.low is None else dt.date.fromisoformat(str(column.low))
    high = dt.date.max if column.high is None else dt.date.fromisoformat(str(column.high))
    parse = dt.date.fromisoformat

    def read(value: object) -> float | None:
        if type(value) is not str or len(value) != 10:
            return None
        try:
            day = parse(value)
        except ValueError:
            return None
        return float(day.toordinal() - _EPOCH) if low <= day <= high else None

    return read


def _choice(column: Column) -> Reader:
    codes = {name: float(code) for code, name in enumerate(column.choices)}
    return lambda value: codes.get(value) if type(value) is str else None


def _text(value: object) -> float | None:
    # Texts take no part in a score; that they are there is all that is asked.
    return math.nan if type(value) is str and value.strip() else None
