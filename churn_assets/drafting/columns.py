"""What one column of an unknown table is: its kind, how its cells read, and what must be asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Column, Kind, Role
from churn_assets.data.repairs.repairs import SERIAL_ZERO
from churn_assets.data.validation.parse import as_text, canonical_number, read_date
from churn_assets.drafting.dates import find_formats
from churn_assets.drafting.guess import (
    DATE_NAME,
    MAX_CHOICES,
    NOTHING,
    READABLE_SHARE,
    Guess,
    seen_choices,
    with_missing,
    words_of,
)
from churn_assets.drafting.numbers import as_number

_MOST_SPELLINGS = 20  # of true and false, in upper and lower case
_TRUE_FALSE = (
    ("yes", "no"),
    ("true", "false"),
    ("1", "0"),
    ("y", "n"),
    ("t", "f"),
    ("on", "off"),
    ("ja", "nein"),
    ("oui", "non"),
    ("si", "no"),
    ("sí", "no"),
    ("sim", "não"),
    ("да", "нет"),
    ("tak", "nie"),
    ("evet", "hayır"),  # noqa: RUF001  # Turkish, not a look-alike
    ("是", "否"),
    ("はい", "いいえ"),
)


def guess_column(name: str, cells: pa.ChunkedArray) -> Guess:
    """Look at the cells of one column, shape (rows,), of any Arrow type."""
    type_ = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
    if pa.types.is_nested(type_) or pa.types.is_binary(type_) or pa.types.is_time(type_) or pa.types.is_duration(type_):
        return _ignored(name, cells, f"its cells are of type {type_}, which no kind of the contract fits")
    blank, counts = 0, Counter[str]()
    # Counted as it is stored, and only then as text: a column of numbers has fewer values than cells.
    counted = pc.value_counts(cells)
    for text, rows in zip(
        as_text(counted.field("values")).to_pylist(), counted.field("counts").to_pylist(), strict=True
    ):
        if text is None or not text.strip():
            blank += rows
        else:
            counts[text] += rows
    return _of_counts(name, type_, counts, len(cells), blank)


def _of_counts(name: str, type_: pa.DataType, counts: Mapping[str, int], rows: int, blank: int) -> Guess:
    base = Guess(Column(name, Kind.TEXT), "", len(counts), rows, blank)
    real = {value: n for value, n in counts.items() if value.strip() not in NOTHING}
    if not real:
        return base.left_out("it is empty in every row")
    if len(real) == 1 and sum(real.values()) == rows:
        return base.left_out(f"it says {next(iter(real))!r} in every row")
    base = replace(base, is_unique=len(real) >= 0.999 * sum(real.values()) and len(real) > 20)
    if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
        return _with_dates(base, counts, (), "")
    for look in (_as_boolean, _as_number_of_a_day, as_number, _as_date, _as_category):
        found = look(base, counts, real)
        if found is not None:
            return found
    if base.is_unique:
        return base.left_out(f"nearly every row has a text of its own ({len(real):,} different): an id or a name")
    return base.left_out(f"{len(real):,} different texts are too many for a category (at most {MAX_CHOICES})")


def _ignored(name: str, cells: pa.ChunkedArray, why: str) -> Guess:
    return Guess(Column(name, Kind.TEXT), "", 0, len(cells)).left_out(why)


def _as_boolean(base: Guess, counts: Mapping[str, int], real: Mapping[str, int]) -> Guess | None:
    if len(real) > _MOST_SPELLINGS:
        return None
    lowered = {canonical_number(value).lower() for value in real}
    for true, false in _TRUE_FALSE:
        if lowered == {true, false}:
            column = replace(base.column, kind=Kind.BOOLEAN)
            if true not in column.true or false not in column.false:
                column = replace(column, true=(true,), false=(false,))
            return with_missing(replace(base, column=column, seen=seen_choices(real)), counts, real)
    return None


def _as_number_of_a_day(base: Guess, counts: Mapping[str, int], real: Mapping[str, int]) -> Guess | None:
    if not all(len(v.strip()) == 8 and v.strip().isdigit() for v in real):
        return None
    dates = find_formats(real)
    if dates.formats != ("%Y%m%d",) or dates.share < 0.999 or not (DATE_NAME.search(words_of(base.name))):
        return None
    question = "eight digits, read as year, month, day; if they are a number, set kind = 'integer' and drop formats"
    return replace(_with_dates(base, counts, dates.formats, ""), questions=(question,))


def _as_date(base: Guess, counts: Mapping[str, int], real: Mapping[str, int]) -> Guess | None:
    if not any(ch.isdigit() for value in list(real)[:50] for ch in value):
        return None
    dates = find_formats(real)
    return _with_dates(base, counts, dates.formats, dates.question) if dates.share >= READABLE_SHARE else None


def _with_dates(base: Guess, counts: Mapping[str, int], formats: tuple[str, ...], question: str) -> Guess:
    column = replace(base.column, kind=Kind.DATE, formats=formats, role=Role.INPUT)
    days = {text: read_date(column, text) for text in counts}
    unread = {text: n for text, n in counts.items() if days[text] is None}
    known = [day for day in days.values() if day is not None]
    if len(set(known)) == 1 and not unread and not base.missing_rows:
        return replace(base, column=column, seen=f"{known[0]} in every row", distinct=1)
    found = replace(
        base, column=column, seen=f"{min(known)} .. {max(known)}", questions=(question,) if question else ()
    )
    # Excel's day zero is undone by a repair of its own, and is none of the contract's spellings of nothing.
    zero = sum(n for text, n in unread.items() if re.match(SERIAL_ZERO, text))
    plain = {text: n for text, n in counts.items() if not re.match(SERIAL_ZERO, text)}
    readable = {text: n for text, n in plain.items() if text not in unread}
    return with_missing(replace(found, missing_rows=found.missing_rows + zero), plain, readable)


def _as_category(base: Guess, counts: Mapping[str, int], real: Mapping[str, int]) -> Guess | None:
    if len(real) > MAX_CHOICES or len(real) > max(2.0, 0.3 * sum(real.values())):
        return None
    column = replace(base.column, kind=Kind.CATEGORY, choices=tuple(sorted(real)))
    rare = sorted(value for value, n in real.items() if n < 5)
    asked = (f"{len(rare)} of the choices stand in fewer than 5 rows: spelling mistakes?",) if rare else ()
    return with_missing(replace(base, column=column, seen=seen_choices(real), questions=asked), counts, real)
