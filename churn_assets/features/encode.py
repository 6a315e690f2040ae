"""Typed tables and JSON-like rows as Columns: one NumPy array a column.

number, integer and boolean are float64 with NaN for missing; dates are float64 whole days since
1970-01-01; categories are int32 codes, the index in the contract's choices, -1 for missing; ids and
texts are object arrays of str or None.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Column, Contract, Kind, Role
from churn_assets.contract.values import MAX_ID, MAX_INSTANT, canonical_id, iso_day, utc_day
from churn_assets.errors import RowsRejected, Violation, describe_value

if TYPE_CHECKING:
    import pyarrow as pa

Columns = dict[str, npt.NDArray[Any]]

EPOCH = dt.date(1970, 1, 1).toordinal()
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")


def days_since_epoch(day: dt.date) -> int:
    """Whole days since 1970-01-01; the time of day of an instant is dropped."""
    return day.toordinal() - EPOCH


def encode_table(contract: Contract, table: pa.Table | pa.RecordBatch) -> Columns:
    """Columns of a typed table, shape (rows,) each; those that the table lacks are left out. Raises RowsRejected for a
    category outside the contract's choices."""
    names = set(table.schema.names)
    columns = [c for c in contract.kept_columns if c.name in names]
    return {column.name: encode_column(column, table.column(column.name)) for column in columns}


def encode_column(column: Column, values: Any) -> npt.NDArray[Any]:
    """One column of a typed table, (rows,). Raises RowsRejected for a category outside the contract's choices."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if column.kind in (Kind.ID, Kind.TEXT):
        return np.asarray(values.cast(pa.string()).to_numpy(zero_copy_only=False), dtype=object)
    if column.kind is Kind.CATEGORY:
        codes = pc.index_in(values.cast(pa.string()), value_set=pa.array(column.choices, pa.string()))
        unknown = pc.indices_nonzero(pc.and_(pc.is_null(codes), pc.is_valid(values)))[:1000].to_pylist()
        if unknown:
            texts = {row: describe_value(values[row].as_py()) for row in unknown}
            raise RowsRejected([Violation(row, column.name, texts[row], expectation(column)) for row in unknown])
        return np.asarray(pc.fill_null(codes, -1).to_numpy(zero_copy_only=False), dtype=np.int32)
    if column.kind is Kind.DATE:
        values = values.cast(pa.date32()).cast(pa.int32())
    values = values.cast(pa.float64(), safe=False)
    if values.null_count:
        values = pc.fill_null(values, float("nan"))
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)


def encode_rows(contract: Contract, rows: Sequence[Mapping[str, object]]) -> Columns:
    """Columns of JSON-like rows, checked cell by cell against the contract.

    Strict: no field may be missing or unknown, no type is coerced, null only where the contract
    allows it, numbers finite and within bounds, dates ISO 8601. The key is optional, and so are excluded columns,
    which are not read. Raises RowsRejected with every violation.
    """
    violations: list[Violation] = []
    expected = (contract.key, *contract.scoring_columns)
    names = {column.name for column in (*expected, *contract.excluded_columns)}
    for index, row in enumerate(rows):
        for name in sorted(str(key) for key in row.keys() - names)[:10]:
            violations.append(Violation(index, name, "an unknown field", "only the contract's columns"))
    columns: Columns = {}
    for column in expected:
        read = READERS[column.kind]
        cells = [_cell(column, index, row, read, violations) for index, row in enumerate(rows)]
        columns[column.name] = _as_array(column, cells)
    if violations:
        raise RowsRejected(sorted(violations, key=lambda v: v.row))
    return columns


_MISSING = object()


def _cell(
    column: Column,
    index: int,
    row: Mapping[str, object],
    read: Callable[[Column, object], object],
    violations: list[Violation],
) -> object:
    value = row.get(column.name, _MISSING)
    if value is None or value is _MISSING:
        if column.role != "key" and (value is _MISSING or not column.nullable):
            actual = "null" if value is None else "no such field"
            violations.append(Violation(index, column.name, actual, expectation(column)))
        return None
    cell = read(column, value)
    if cell is None:
        violations.append(Violation(index, column.name, describe_value(value), expectation(column)))
    return cell


def _read_text(column: Column, value: object) -> object:
    return value if isinstance(value, str) and value.strip() else None


def _read_id(column: Column, value: object) -> object:
    # Only the key may be a number: other ids are logged as they were sent, and the log has texts.
    return canonical_id(value) if isinstance(value, str) or column.role is Role.KEY else None


def _read_number(column: Column, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    if column.kind is Kind.INTEGER and not number.is_integer():
        return None
    low = -math.inf if column.low is None else column.low
    high = math.inf if column.high is None else column.high
    return number if math.isfinite(number) and low <= number <= high else None  # type: ignore[operator]  # numbers


def _read_boolean(column: Column, value: object) -> object:
    return float(value) if isinstance(value, bool) or value in (0, 1) else None


def _read_date(column: Column, value: object) -> object:
    if isinstance(value, dt.datetime):
        value = utc_day(value)
    if isinstance(value, str) and len(value) <= MAX_INSTANT:
        value = iso_day(value)
    if not isinstance(value, dt.date):
        return None
    text = value.isoformat()
    within = (column.low is None or text >= str(column.low)) and (column.high is None or text <= str(column.high))
    return float(days_since_epoch(value)) if within else None


def _read_choice(column: Column, value: object) -> object:
    choice = choice_named(column, value)
    return None if choice is None else column.choices.index(choice)


def choice_named(column: Column, value: object) -> str | None:
    """The choice that a value of JSON names: a text itself, and a whole number its digits, as in a table.

    >>> region = Column("region", Kind.CATEGORY, choices=("3", "N"))
    >>> [choice_named(region, value) for value in ("3", 3, 3.0, "3.0", 3.5, True)]
    ['3', '3', '3', None, None, None]
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53 and value == int(value):
        value = str(int(value))
    return value if isinstance(value, str) and value in column.choices else None


def whole_choices(column: Column) -> list[int]:
    """The choices of a column that a whole number names."""
    return [int(choice) for choice in column.choices if _WHOLE.fullmatch(choice)]


# A value of JSON, not null, as the cell of a column, or None if the column does not accept it.
READERS: Mapping[Kind, Callable[[Column, object], object]] = {
    Kind.ID: _read_id,
    Kind.TEXT: _read_text,
    **dict.fromkeys((Kind.NUMBER, Kind.INTEGER), _read_number),
    Kind.BOOLEAN: _read_boolean,
    Kind.DATE: _read_date,
    Kind.CATEGORY: _read_choice,
}


def _as_array(column: Column, cells: list[object]) -> npt.NDArray[Any]:
    if column.kind is Kind.CATEGORY:
        return np.array([-1 if c is None else c for c in cells], dtype=np.int32)
    if column.kind in (Kind.ID, Kind.TEXT):
        return np.array(cells, dtype=object)
    return np.array([math.nan if c is None else c for c in cells], dtype=np.float64)


def expectation(column: Column) -> str:
    """A description of the cells that this column accepts."""
    or_number = " or whole number" if column.role is Role.KEY else ""
    kind = {
        Kind.ID: f"an id (text{or_number}) of at most {MAX_ID} printable characters",
        Kind.TEXT: "text",
        Kind.NUMBER: "a finite number",
        Kind.INTEGER: "a whole number",
        Kind.BOOLEAN: "true or false",
        Kind.DATE: "a date such as 2014-01-20",
        Kind.CATEGORY: f"one of: {', '.join(column.choices)}",
    }[column.kind]
    low, high = (f"{bound:g}" if isinstance(bound, float) else bound for bound in (column.low, column.high))
    if low is not None and high is not None:
        kind += f" from {low} to {high}"
    elif low is not None:
        kind += f" of at least {low}"
    elif high is not None:
        kind += f" of at most {high}"
    return f"{kind} or null" if column.nullable else kind
