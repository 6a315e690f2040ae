"""Workbooks, read by calamine, every cell as the text a person would read in it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa

from churn_assets.contract.load import canonical_text
from churn_assets.errors import EmptySource, SheetNotFound, SourceUnreadable


def read_excel(path: Path, sheet: str | None) -> pa.Table:
    """The sheet (the first if None) as a table of strings; its first row is the header.

    Dates read 2012-09-28, whole numbers 278734, times 00:00:00; an empty cell is null. Raises
    SourceUnreadable, SheetNotFound, EmptySource; duplicate names are left for the caller to find.
    """
    import python_calamine as calamine

    try:
        workbook = calamine.CalamineWorkbook.from_path(str(path))
    except (calamine.CalamineError, OSError) as error:
        raise unreadable_workbook(path, error) from None
    names = workbook.sheet_names
    if sheet is not None and sheet not in names:
        raise SheetNotFound(
            f"{path.name} has no sheet '{sheet}', it has: {', '.join(names)}; set [source] sheet in the contract"
        )
    if not names:
        raise EmptySource(f"{path.name} has no sheet; expected a header and rows")
    chosen = names[0] if sheet is None else sheet
    try:
        rows = workbook.get_sheet_by_name(chosen).to_python(skip_empty_area=True)
    except calamine.CalamineError as error:
        raise SourceUnreadable(f"{path.name}, sheet '{chosen}': {_one_line(error)}; save it again") from None
    if not rows:
        raise EmptySource(f"{path.name}, sheet '{chosen}' is empty; expected a header and rows")
    header = [_text(cell) or "" for cell in rows[0]]
    columns = zip(*rows[1:], strict=True) if len(rows) > 1 else ([] for _ in header)
    arrays = [_strings(column) for column in columns]
    return pa.Table.from_arrays(arrays, names=header)


def unreadable_workbook(path: Path, error: Exception) -> SourceUnreadable:
    """One line for a file that calamine does not open."""
    return SourceUnreadable(f"{path.name} is not a workbook ({_one_line(error)}); save it as .xlsx again")


def _strings(cells: object) -> pa.Array:
    return pa.array([_text(cell) for cell in cells], pa.string())  # type: ignore[attr-defined]  # any iterable


def _text(cell: object) -> str | None:
    if type(cell) is str:
        return cell or None
    if type(cell) is float:  # by far the most frequent after text
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**63 else repr(cell)
    if cell is None:
        return None
    if isinstance(cell, dt.datetime) and cell.time() == dt.time():
        return cell.date().isoformat()
    if isinstance(cell, dt.time):
        return cell.isoformat()
    return canonical_text(cell)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
