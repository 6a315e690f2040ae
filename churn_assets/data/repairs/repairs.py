"""Named repairs: known damage that is undone before validation; each is counted and reported.

A repair is declared in the contract ([source] repairs) and run in the declared order. It changes
cells, never the number or the order of rows.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Iterator, Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.contract.values import NUMERIC_ID, plain_digits
from churn_assets.data.repairs.excel_1904 import SHIFT_DAYS, ShiftedBlock, find_shifted_block
from churn_assets.data.repairs.numbers import NUMBER_READERS, from_comma, from_marks
from churn_assets.data.repairs.units import read_quantity
from churn_assets.data.validation.parse import as_days, as_text, flat_cells, parse_column, to_numpy
from churn_assets.features.encode import days_since_epoch

# The 1904 system has no day before its first, so a date below this was never shifted.
_FIRST_SHIFTED_DAY = days_since_epoch(dt.date(1904, 1, 1)) + SHIFT_DAYS

# Excel's serial 0 as text: a time without a day, the day before 1 January 1900, or the first day of
# another reader's epoch.
SERIAL_ZERO = (
    r"^\s*(?:0?0:00(?::00(?:\.0+)?)?|0?1/0?0/(?:00|1900)|0?0/0?1/(?:00|1900)"
    r"|(?:1899-12-30|1899-12-31|1900-01-00|1904-01-01)(?:[T ]0?0:00(?::00(?:\.0+)?)?)?)\s*$"
)
_NUMERIC_ID = rf"^\s*{NUMERIC_ID}\s*$"


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
        spellings = text.filter(pa.array(numeric)).to_pylist()
        plain = pa.array([plain_digits(value.strip()) for value in spellings], pa.string())
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


def units(table: pa.Table, contract: Contract) -> tuple[pa.Table, RepairReport]:
    """Numbers with units become numbers of the unit that their column names in `convert_to`."""
    read_number = from_comma if "decimal_comma" in contract.source.repairs else from_marks
    changed: dict[str, Mask] = {}
    for column in (c for c in contract.kept_columns if c.convert_to and c.name in table.column_names):
        cells = table.column(column.name).combine_chunks()
        if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type):
            continue
        change, rewritten = _reread(
            column, as_text(cells), functools.partial(read_quantity, unit=column.convert_to, read_number=read_number)
        )
        changed[column.name] = to_numpy(change)
        table = table.set_column(table.column_names.index(column.name), column.name, rewritten)
    counts = {name: int(mask.sum()) for name, mask in changed.items() if mask.any()}
    columns = ", ".join(f"{name} {cells:,} to {contract.column(name).convert_to}" for name, cells in counts.items())
    message = f"{sum(counts.values()):,} numbers with units were converted ({columns})"
    return table, _report("units", changed, message if counts else "no number had a unit")


def _reread(column: Column, cells: pa.Array, read: Callable[[str], str | None]) -> tuple[pa.Array, pa.Array]:
    """(mask of changed cells, all cells): what `read` makes of each, where it reads it; each spelling is read once."""
    encoded = cells.dictionary_encode()
    spellings: list[str] = encoded.dictionary.to_pylist()
    numbers = [None if text in column.missing else read(text) for text in spellings]
    new = pa.array([text if to is None else to for text, to in zip(spellings, numbers, strict=True)], pa.string())
    changed = new.take(encoded.indices)
    return pc.fill_null(pc.not_equal(changed, cells), False), changed


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


def rewrite_numbers(table: pa.Table, contract: Contract, repair: str) -> Iterator[tuple[str, pa.Array, pa.Array]]:
    """(column, mask of changed cells, all cells) for each text column that is a number in the contract. A cell changes
    if the repair can read it and its text differs then. Columns with units have a repair of their own."""
    for column in contract.kept_columns:
        is_number = column.kind in (Kind.NUMBER, Kind.INTEGER) and not column.convert_to
        if not is_number or column.name not in table.column_names:
            continue
        cells = flat_cells(table.column(column.name))
        if pa.types.is_string(cells.type):
            yield column.name, *_reread(column, cells, NUMBER_READERS[repair])


REPAIRS: Mapping[str, Repair] = {
    "excel_1904": excel_1904,
    "excel_serial_zero": excel_serial_zero,
    "ids_as_text": ids_as_text,
    "rows_as_ids": rows_as_ids,
    "decimal_comma": _rewriting("decimal_comma", "numbers with a decimal comma were rewritten"),
    "number_marks": _rewriting("number_marks", "numbers lost a currency sign, a percent sign or thousands separators"),
    "units": units,
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
    """`table` with the cells of `name` replaced; the column keeps the type of its cells."""
    if not where.any():
        return table
    cells = flat_cells(table.column(name))
    chosen = pc.if_else(pa.array(where), values.cast(cells.type), cells)
    return table.set_column(table.column_names.index(name), name, chosen)


def _matches(text: pa.Array, pattern: str) -> Mask:
    return to_numpy(pc.fill_null(pc.match_substring_regex(text, pattern), False))
