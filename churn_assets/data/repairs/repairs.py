"""Named repairs: known damage that is undone before validation; each is counted and reported.

A repair is declared in the contract ([source] repairs) and run in the declared order. It changes
cells, never the number or the order of rows.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.data.repairs.excel_1904 import SHIFT_DAYS, ShiftedBlock, find_shifted_block
from churn_assets.data.validation.parse import as_days, as_text, parse_column, to_numpy
from churn_assets.features.encode import days_since_epoch

# The 1904 system has no day before its first, so a date below this was never shifted.
_FIRST_SHIFTED_DAY = days_since_epoch(dt.date(1904, 1, 1)) + SHIFT_DAYS

# Excel's serial 0 as text: a time without a day, the day before 1 January 1900, or the first day of
# another reader's epoch.
SERIAL_ZERO = (
    r"^\s*(?:0?0:00(?::00(?:\.0+)?)?|0?1/0?0/(?:00|1900)|0?0/0?1/(?:00|1900)"
    r"|(?:1899-12-30|1899-12-31|1900-01-00|1904-01-01)(?:[T ]0?0:00(?::00(?:\.0+)?)?)?)\s*$"
)
# The exponent needs its sign, as spreadsheets write it (9.69E+10): 99E568 may well be an id.
_NUMERIC_ID = r"^\s*[0-9]+(?:\.[0-9]+)?(?:[eE]\+[0-9]+)?\s*$"


Mask = npt.NDArray[np.bool_]
Details = dict[str, str | int | float]


class RepairReport(msgspec.Struct, frozen=True, omit_defaults=True, rename={"name": "repair", "message": "words"}):
    """The result of one repair: numbers of changed `rows` and `cells`, a `message` for people, cells `by_column`.

    `details` are figures and texts that a report may show (the evidence for `excel_1904`). Neither of the last two is
    kept with the table.
    """

    name: str
    rows: int
    cells: int
    message: str
    by_column: dict[str, int] = {}
    details: Details = {}


Repair = Callable[[pa.Table, Contract], tuple[pa.Table, RepairReport]]


def apply_repairs(table: pa.Table, contract: Contract) -> tuple[pa.Table, tuple[RepairReport, ...]]:
    """Run the contract's repairs over a raw table, in the contract's order."""
    reports = []
    for name in contract.source.repairs:
        table, report = REPAIRS[name](table, contract)
        reports.append(report)
    return table, tuple(reports)


def excel_1904(table: pa.Table, contract: Contract) -> tuple[pa.Table, RepairReport]:
    """Find the block of rows shifted by +1462 days and undo it; see the module `excel_1904` for the method."""
    ids = as_text(table.column(contract.key.name)).to_pylist() if contract.key.name in table.column_names else None
    return undo_shift(table, contract, find_shifted_block(date_matrix(table, contract), ids))


def undo_shift(
    table: pa.Table, contract: Contract, block: ShiftedBlock | None, start: int = 0
) -> tuple[pa.Table, RepairReport]:
    """Subtract 1462 days from the dates of `block` in `table`, whose first row is row `start` of the file."""
    if block is None:
        message = "no block of rows is shifted by 1462 days; nothing changed"
        return table, RepairReport("excel_1904", 0, 0, message)
    rows = np.arange(start, start + table.num_rows)
    inside = (rows >= block.first) & (rows < block.end)
    changed: dict[str, Mask] = {}
    for column in _dates_in(table, contract):
        days = _column_days(column, table)
        with np.errstate(invalid="ignore"):
            changed[column.name] = change = inside & (days >= _FIRST_SHIFTED_DAY)
        repaired = np.where(change, days - SHIFT_DAYS, 0.0).astype("datetime64[D]")
        table = _replace(table, column.name, change, pa.array(repaired))
    return table, _report("excel_1904", changed, *_shift_evidence(block, int(np.sum(_any(changed)))))


def excel_serial_zero(table: pa.Table, contract: Contract) -> tuple[pa.Table, RepairReport]:
    """Dates that are Excel's serial 0 ('1/0/00', 00:00, 1899-12-31, ...) become null."""
    changed: dict[str, Mask] = {}
    spellings: set[str] = set()
    for column in _dates_in(table, contract):
        text = as_text(table.column(column.name))
        changed[column.name] = zero = _matches(text, SERIAL_ZERO)
        spellings.update(pc.unique(text.filter(pa.array(zero))).to_pylist())
        table = _replace(table, column.name, zero, pa.nulls(table.num_rows, pa.string()))
    counts = {name: int(zero.sum()) for name, zero in changed.items() if zero.any()}
    columns = ", ".join(f"{name} {cells}" for name, cells in counts.items())
    damage = f"{sum(counts.values())} dates that are Excel's serial 0 became missing ({columns})"
    message = damage if counts else "no date is Excel's serial 0"
    return table, _report("excel_serial_zero", changed, message, {"spellings": ", ".join(sorted(spellings))})


def ids_as_text(table: pa.Table, contract: Contract) -> tuple[pa.Table, RepairReport]:
    """Ids that were read as numbers become text without '.0' or exponent.

    Counted are ids that look numeric among ids that mostly do not (a workbook took them for
    numbers), or, where ids are numbers anyway, those whose spelling changed.
    """
    changed: dict[str, Mask] = {}
    examples: list[str] = []
    for column in (c for c in contract.kept_columns if c.kind is Kind.ID and c.name in table.column_names):
        text = as_text(table.column(column.name))
        numeric = _matches(text, _NUMERIC_ID)
        plain = pa.array([_plain_digits(value) for value in text.filter(pa.array(numeric)).to_pylist()], pa.string())
        fixed = pc.replace_with_mask(text, pa.array(numeric), plain)
        rewritten = to_numpy(pc.fill_null(pc.not_equal(fixed, text), False))
        counted = numeric if numeric.sum() < (len(text) - text.null_count) / 2 else rewritten
        table = table.set_column(table.column_names.index(column.name), column.name, fixed)
        changed[column.name] = counted
        examples += fixed.filter(pa.array(counted)).to_pylist()[:10]
    cells = sum(int(counted.sum()) for counted in changed.values())
    message = "no id was read as a number"
    if cells:
        message = f"{cells} ids that were read as numbers are text again ({', '.join(examples[:5])}); an id such as "
        message += "12E3 that a workbook took for a number cannot be told from 12000"
    return table, _report("ids_as_text", changed, message, {"ids": ", ".join(examples)})


def rows_as_ids(table: pa.Table, contract: Contract) -> tuple[pa.Table, RepairReport]:
    """The table has no ids: the reader has named each row by its number; this repair only reports it."""
    message = f"the table has no ids: '{contract.key.name}' is the number of the row; in another table it differs"
    return table, RepairReport("rows_as_ids", 0, 0, message)


def _rewriting(name: str, what_changed: str) -> Repair:
    """The repair that rewrites numbers by `NUMBER_READERS[name]`."""

    def repair(table: pa.Table, contract: Contract) -> tuple[pa.Table, RepairReport]:
        changed: dict[str, Mask] = {}
        for column, change, cells in rewrite_numbers(table, contract, name):
            changed[column] = to_numpy(change)
            table = _replace(table, column, changed[column], cells)
        count = sum(int(change.sum()) for change in changed.values())
        return table, _report(name, changed, f"{count:,} {what_changed}" if count else "no number needed this repair")

    return repair


_SIGN, _GAPS = "[-+]?", " \u00a0\u202f'\u2019"
_COMMA = re.compile(rf"{_SIGN}(?:\d+|[1-9]\d{{0,2}}(?:[.{_GAPS}]\d{{3}})+)(?:,\d*)?")
_POINT = re.compile(rf"{_SIGN}(?:\d+|[1-9]\d{{0,2}}(?:[,{_GAPS}]\d{{3}})+)(?:\.\d*)?")
_NUMBER_MARKS = re.compile(r"^(?:[A-Z]{3}(?=[\s\d])|[$€£¥₹₽]|kr\.?)|(?:%|[$€£¥₹₽]|(?<=[\s\d])[A-Z]{3}|kr\.?|zł)$")


def from_comma(text: str) -> str | None:
    """A number with a decimal comma (dots are thousands separators) as one with a point; None for other text.

    >>> from_comma("1.234,5"), from_comma("12,5"), from_comma("12.50")
    ('1234.5', '12.5', None)
    """
    plain = _unmarked(text)
    return re.sub(rf"[.{_GAPS}]", "", plain).replace(",", ".") if _COMMA.fullmatch(plain) else None


def from_marks(text: str) -> str | None:
    """A number without currency, percent sign and thousands separators; None for other text.

    >>> from_marks("$1,234.50"), from_marks("45 %"), from_marks("about 3")
    ('1234.50', '45', None)
    """
    plain = _unmarked(text)
    return re.sub(rf"[,{_GAPS}]", "", plain) if _POINT.fullmatch(plain) else None


def _unmarked(text: str) -> str:
    """`text` without currency, percent and blanks around it, and with a plain minus sign."""
    plain = text.strip()
    for _ in range(2):  # a currency sign before and a percent sign after
        plain = _NUMBER_MARKS.sub("", plain, count=1).strip()
    return plain.replace("\u2212", "-")


NUMBER_READERS = {"decimal_comma": from_comma, "number_marks": from_marks}


def rewrite_numbers(table: pa.Table, contract: Contract, repair: str) -> Iterator[tuple[str, pa.Array, pa.Array]]:
    """(column, mask of changed cells, all cells) for each text column that is a number in the contract. A cell changes
    if the repair can read it and its text differs then; each spelling is read once."""
    for column in contract.kept_columns:
        if column.kind not in (Kind.NUMBER, Kind.INTEGER) or column.name not in table.column_names:
            continue
        cells = table.column(column.name).combine_chunks()
        if not (pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)):
            continue
        encoded = cells.cast(pa.string()).dictionary_encode()
        spellings: list[str] = encoded.dictionary.to_pylist()
        read = [None if text in column.missing else NUMBER_READERS[repair](text) for text in spellings]
        new = pa.array([text if to is None else to for text, to in zip(spellings, read, strict=True)], pa.string())
        changed = new.take(encoded.indices)
        yield column.name, pc.fill_null(pc.not_equal(changed, cells.cast(pa.string())), False), changed


REPAIRS: Mapping[str, Repair] = {
    "excel_1904": excel_1904,
    "excel_serial_zero": excel_serial_zero,
    "ids_as_text": ids_as_text,
    "rows_as_ids": rows_as_ids,
    "decimal_comma": _rewriting("decimal_comma", "numbers with a decimal comma were rewritten"),
    "number_marks": _rewriting("number_marks", "numbers lost a currency sign, a percent sign or thousands separators"),
}


def _report(name: str, changed: Mapping[str, Mask], message: str, details: Details | None = None) -> RepairReport:
    """The report of a repair that changed these cells of each column."""
    by_column = {column: int(mask.sum()) for column, mask in changed.items()}
    return RepairReport(name, int(np.sum(_any(changed))), sum(by_column.values()), message, by_column, details or {})


def _any(changed: Mapping[str, Mask]) -> Mask:
    return np.asarray(np.logical_or.reduce(list(changed.values())))


def _shift_evidence(block: ShiftedBlock, rows: int) -> tuple[str, Details]:
    ends = (block.block_ends_day, block.others_end_day, block.block_ends_day - SHIFT_DAYS)
    block_end, others_end, undone_end = (str(np.datetime64(day, "D")) for day in ends)
    message = (
        f"{rows:,} rows with dates (file rows {block.first:,} to {block.end - 1:,}, counted from 0) lay {SHIFT_DAYS} "
        f"days in the future, Excel's 1904 date system: the block ended on {block_end}, the other rows on "
        f"{others_end}; undone, it ends on {undone_end}"
    )
    return message, {
        "first_row": block.first,
        "last_row": block.end - 1,
        "block_ended_on": block_end,
        "other_rows_end_on": others_end,
        "gap_days": block.gap_days,
        "repeated_ids_exactly_1462_days_apart": block.repeats_for,
        "repeated_ids_equal_as_found": block.repeats_against,
        "weekday_evidence_nats": round(block.weekday_nats, 2),
        "found_by": block.found_by,
        "score": round(block.score, 2),
    }


def _dates_in(table: pa.Table, contract: Contract) -> list[Column]:
    return [column for column in contract.date_columns if column.name in table.column_names]


def date_matrix(table: pa.Table, contract: Contract) -> npt.NDArray[np.float64]:
    """The kept date columns as days since 1970-01-01, shape (rows, date columns), NaN missing."""
    columns = [_column_days(column, table) for column in _dates_in(table, contract)]
    return np.column_stack(columns) if columns else np.empty((table.num_rows, 0))


def _column_days(column: Column, table: pa.Table) -> npt.NDArray[np.float64]:
    return as_days(parse_column(column, table.column(column.name)).values)


def _replace(table: pa.Table, name: str, where: Mask, values: pa.Array) -> pa.Table:
    """`table` with the cells of `name` replaced; the column keeps its type."""
    if not where.any():
        return table
    index = table.column_names.index(name)
    cells = table.column(name).combine_chunks()
    chosen = pc.if_else(pa.array(where), values.cast(cells.type), cells)
    return table.set_column(index, table.schema.field(index), chosen)


def _matches(text: pa.Array, pattern: str) -> Mask:
    return to_numpy(pc.fill_null(pc.match_substring_regex(text, pattern), False))


def _plain_digits(text: str) -> str:
    whole, _, fraction = text.strip().partition(".")
    if not re.search("[eE]", text):
        return whole if fraction.strip("0") == "" else text.strip()
    number = float(text)
    return str(int(number)) if number.is_integer() and abs(number) < 1e22 else text.strip()
