"""Raw cells of one column as the contract's kind; a cell that does not fit is marked, never guessed."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Column, Kind
from churn_assets.contract.values import canonical_id, canonical_text
from churn_assets.data.validation.dates import read_day
from churn_assets.features.functions import FIRST_DAY, LAST_DAY

Mask = npt.NDArray[np.bool_]

EXACT = 2**53  # float64 does not distinguish whole numbers beyond it
_ARROW_TYPES = {
    **dict.fromkeys((Kind.ID, Kind.TEXT, Kind.CATEGORY), pa.string()),
    Kind.NUMBER: pa.float64(),
    Kind.INTEGER: pa.int64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.DATE: pa.date32(),
}


@dataclass(frozen=True)
class ParsedColumn:
    """The cells of one column; shape (rows,) each.

    `values` has the kind's Arrow type and is null where the cell is missing, unreadable or
    infinite; `missing` marks empty cells and the contract's spellings of null, `unreadable` cells
    that are not of the kind, `infinite` infinite numbers.
    """

    values: pa.Array
    missing: Mask
    unreadable: Mask
    infinite: Mask


def arrow_type(kind: Kind) -> pa.DataType:
    """The type of a kind's column in a typed table."""
    return _ARROW_TYPES[kind]


def parse_column(column: Column, cells: pa.Array | pa.ChunkedArray) -> ParsedColumn:
    """Read `cells` (strings or any Arrow type) as `column.kind`; bounds and choices are not checked."""
    flat = flat_cells(cells)
    kind, is_instant = column.kind, pa.types.is_timestamp(flat.type)
    if kind in (Kind.NUMBER, Kind.INTEGER):
        numbers = _as_numbers(column, flat)
        if numbers is not None:
            return _numbers(column, numbers)
    elif kind is Kind.DATE and not column.missing and (pa.types.is_date(flat.type) or is_instant):
        # Without the floor, the cast refuses a time of day.
        days = pc.floor_temporal(_in_utc(flat), unit="day") if is_instant else flat
        return _days(days.cast(pa.date32(), safe=False))
    elif kind is Kind.BOOLEAN and pa.types.is_boolean(flat.type):
        return _all_readable(flat)
    return _by_distinct_text(column, as_text(flat))


def as_text(cells: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Cells as text: whole floats without a point, dates ISO 8601 and instants in UTC, booleans lower case."""
    flat = flat_cells(cells)
    if pa.types.is_timestamp(flat.type):
        return _instant_text(_in_utc(flat))
    if not (pa.types.is_floating(flat.type) or pa.types.is_duration(flat.type) or pa.types.is_nested(flat.type)):
        with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):  # e.g. bytes: cell by cell below
            return flat.cast(pa.string())
    return pa.array([cell_text(value) for value in flat.to_pylist()], pa.string())


def cell_text(value: object) -> str | None:
    """One cell as text, None for a missing one; see `as_text`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, dt.datetime) and value.tzinfo is None and value.time() == dt.time():
        return value.date().isoformat()
    if isinstance(value, dt.timedelta) and value < dt.timedelta():
        return f"-{-value}"  # Python writes minus two hours as "-1 day, 22:00:00"
    return canonical_text(value)


def _instant_text(naive: pa.Array) -> pa.Array:
    """Instants in ISO 8601 without a zone, midnights as days; also those of years that Python lacks."""
    text = pc.replace_substring_regex(naive.cast(pa.string()), r"\.0+$", "")
    return pc.replace_substring(pc.replace_substring_regex(text, " 00:00:00$", ""), " ", "T")


def _in_utc(instants: pa.Array) -> pa.Array:
    """Instants of a time zone as those of UTC without one; others, which name none, as they are."""
    return instants.cast(pa.timestamp(instants.type.unit))


def flat_cells(cells: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Cells as one array; a dictionary (a category of Parquet, an enum of DuckDB) becomes its values."""
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.combine_chunks()
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    return cells.cast(pa.string()) if pa.types.is_large_string(cells.type) else cells


def _as_numbers(column: Column, cells: pa.Array) -> pa.Array | None:
    """Cells of a number type, or strings that are all numbers or empty, by one cast; None for others."""
    type_ = cells.type
    if not column.missing and (pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)):
        return cells.cast(pa.float64(), safe=False)
    if not pa.types.is_string(type_):
        return None
    missing = pc.is_in(cells, value_set=pa.array(["", *column.missing], pa.string()))
    try:
        return pc.if_else(missing, pa.scalar(None, pa.string()), cells).cast(pa.float64())
    except pa.ArrowInvalid:
        return None


def _days(days: pa.Array) -> ParsedColumn:
    """Days of Arrow's own types; those before year 1 or after 9999, which Python lacks, are unreadable."""
    numbers = as_days(days)
    missing = np.isnan(numbers)
    inside = np.clip(numbers, FIRST_DAY, LAST_DAY)
    outside = np.abs(numbers - inside) > 1.0  # by one day only where 9999-12-31 is of another time zone
    if (inside != numbers)[~missing].any():
        days = pa.array(np.where(missing, 0, inside).astype(np.int32), pa.int32(), mask=missing | outside)
    return ParsedColumn(days.cast(pa.date32()), missing, outside, np.zeros(len(days), dtype=bool))


def _all_readable(values: pa.Array) -> ParsedColumn:
    no_rows = np.zeros(len(values), dtype=bool)
    return ParsedColumn(values, to_numpy(pc.is_null(values)), no_rows, no_rows)


def _numbers(column: Column, values: pa.Array) -> ParsedColumn:
    numbers = to_numpy(pc.fill_null(values, math.nan))
    missing, infinite = np.isnan(numbers), np.isinf(numbers)
    unreadable = np.zeros(len(numbers), dtype=bool)
    if column.kind is Kind.INTEGER:
        with np.errstate(invalid="ignore"):
            unreadable = ~missing & ~infinite & ((numbers != np.floor(numbers)) | (np.abs(numbers) > EXACT))
    typed = pa.array(np.where(missing | infinite | unreadable, np.nan, numbers), from_pandas=True)
    return ParsedColumn(typed.cast(arrow_type(column.kind)), missing, unreadable, infinite)


def _by_distinct_text(column: Column, cells: pa.Array) -> ParsedColumn:
    """Each distinct spelling is read once, in Python, and copied to its rows."""
    encoded = cells.dictionary_encode()
    codes = to_numpy(pc.fill_null(encoded.indices, -1))
    spellings = encoded.dictionary.to_pylist()
    read = _READERS[column.kind]
    values: list[object] = []
    flags = np.zeros((3, len(spellings) + 1), dtype=bool)  # missing, unreadable, infinite
    flags[0, -1] = True  # code -1 is a null cell
    for index, text in enumerate(spellings):
        value = None
        if not text.strip() or text in column.missing:
            flags[0, index] = True
        else:
            value = read(column, text)
            if isinstance(value, float) and not math.isfinite(value):
                flags[0 if math.isnan(value) else 2, index] = True
                value = None
            elif value is None:
                flags[1, index] = True
        values.append(value)
    distinct = pa.array(values, arrow_type(column.kind))
    cells_of_rows = distinct.take(pa.array(codes, mask=codes < 0))
    return ParsedColumn(cells_of_rows, flags[0][codes], flags[1][codes], flags[2][codes])


def read_number(column: Column, text: str) -> float | None:
    """A number (infinite and NaN included); None if `text` is not one."""
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def _read_integer(column: Column, text: str) -> float | int | None:
    number = read_number(column, text)
    if number is None or not math.isfinite(number):
        return number
    return int(number) if number.is_integer() and abs(number) <= EXACT else None


def read_boolean(column: Column, text: str) -> bool | None:
    """What the column's spellings of true and false say, in any case; None for another text."""
    meaning = {**dict.fromkeys(map(str.lower, column.false), False), **dict.fromkeys(map(str.lower, column.true), True)}
    return meaning.get(canonical_number(text).lower())


def read_date(column: Column, text: str) -> dt.date | None:
    """The day of an ISO 8601 text or of one in the column's formats, or None."""
    return read_day(text, column.formats)


_READERS: Mapping[Kind, Callable[[Column, str], object]] = {
    Kind.ID: lambda column, text: canonical_id(text),
    Kind.TEXT: lambda column, text: text,
    Kind.CATEGORY: lambda column, text: choice_of(text, column.choices),
    Kind.NUMBER: read_number,
    Kind.INTEGER: _read_integer,
    Kind.BOOLEAN: read_boolean,
    Kind.DATE: read_date,
}


def canonical_number(text: str) -> str:
    """`1.0` and `1e2` as `1` and `100`; any other text unchanged, without surrounding blanks."""
    stripped = text.strip()
    if stripped.isdigit() or stripped[:1] not in "+-.0123456789":
        return stripped
    try:
        return canonical_text(float(stripped))
    except ValueError:
        return stripped


def folded_choice(text: str) -> str:
    """What all spellings of a choice have in common: blanks, case and width of letters and `.0` after whole
    numbers do not matter.

    >>> folded_choice(" PLUS\u00a0 two "), folded_choice("3.0")
    ('plus two', '3')
    """
    return canonical_number(" ".join(unicodedata.normalize("NFKC", text).split()).casefold())


def choice_of(text: str, choices: tuple[str, ...]) -> str:
    """The choice of which `text` is a spelling; `text` itself if it is one, or fits none or several."""
    return text if text in choices else _spellings(choices).get(folded_choice(text), text)


@lru_cache(maxsize=512)
def _spellings(choices: tuple[str, ...]) -> dict[str, str]:
    """The choice of each folded text, without texts of two choices: those only their own spelling tells apart."""
    times = Counter(map(folded_choice, choices))
    return {folded_choice(choice): choice for choice in choices if times[folded_choice(choice)] == 1}


def to_numpy(values: pa.Array) -> npt.NDArray[Any]:
    """The values of an Arrow array without nulls, in numpy's type for them."""
    return np.asarray(values.to_numpy(zero_copy_only=False))


def as_days(dates: pa.Array) -> npt.NDArray[np.float64]:
    """Days since 1970-01-01 of dates, shape (rows,), NaN for null."""
    return to_numpy(pc.fill_null(dates.cast(pa.int32()).cast(pa.float64()), math.nan))
