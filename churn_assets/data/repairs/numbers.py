"""Numbers as people write them, as numbers: decimal commas, separators of thousands, currency, percent."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Contract, Kind

_SIGN, _GAPS = "[-+\u2212]?", " \u00a0\u202f'\u2019"
_COMMA = re.compile(rf"{_SIGN}(?:\d+|[1-9]\d{{0,2}}(?:[.{_GAPS}]\d{{3}})+)(?:,\d*)?")
_POINT = re.compile(rf"{_SIGN}(?:\d+|[1-9]\d{{0,2}}(?:[,{_GAPS}]\d{{3}})+)(?:\.\d*)?")
_MARKS = re.compile(r"^(?:[A-Z]{3}(?=[\s\d])|[$€£¥₹₽]|kr\.?)|(?:%|[$€£¥₹₽]|(?<=[\s\d])[A-Z]{3}|kr\.?|zł)$")


def from_comma(text: str) -> str | None:
    """A number with a decimal comma as one with a point; None for text that is not such a number.

    >>> from_comma("1.234,5"), from_comma("12,5"), from_comma("12.50")
    ('1234.5', '12.5', None)
    """
    plain = unmarked(text)
    if not _COMMA.fullmatch(plain):
        return None
    return re.sub(rf"[.{_GAPS}]", "", plain).replace(",", ".").replace("\u2212", "-")


def from_marks(text: str) -> str | None:
    """A number without currency, percent sign and thousands separators; None for text that is not such a number.

    >>> from_marks("$1,234.50"), from_marks("45 %"), from_marks("about 3")
    ('1234.50', '45', None)
    """
    plain = unmarked(text)
    if not _POINT.fullmatch(plain):
        return None
    return re.sub(rf"[,{_GAPS}]", "", plain).replace("\u2212", "-")


def unmarked(text: str) -> str:
    """`text` without currency, percent and blanks around it."""
    found = text.strip()
    for _ in range(2):  # a sign of currency before and one of percent after
        found = _MARKS.sub("", found, count=1).strip()
    return found


READERS = {"decimal_comma": from_comma, "number_marks": from_marks}


def rewrite(table: pa.Table, contract: Contract, repair: str) -> Iterator[tuple[str, pa.Array, pa.Array]]:
    """(column, which cells change, all cells) for each text column that the contract calls a number.

    A cell changes if the repair reads it and its text is another then; each spelling is read once.
    """
    for column in contract.kept_columns:
        if column.kind not in (Kind.NUMBER, Kind.INTEGER) or column.name not in table.column_names:
            continue
        cells = table.column(column.name).combine_chunks()
        if not (pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)):
            continue
        encoded = cells.cast(pa.string()).dictionary_encode()
        spellings: list[str] = encoded.dictionary.to_pylist()
        read = [None if text in column.missing else READERS[repair](text) for text in spellings]
        new = pa.array([text if to is None else to for text, to in zip(spellings, read, strict=True)], pa.string())
        changed = new.take(encoded.indices)
        yield column.name, pc.fill_null(pc.not_equal(changed, cells.cast(pa.string())), False), changed
