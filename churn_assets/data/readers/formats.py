"""The file formats: each opens a file as a schema and a stream of Arrow record batches.

Workbooks, JSON and delimited text give strings in every column, because the contract decides the types; Parquet and
DuckDB keep their types.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Iterator, Sized
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from churn_assets.contract.model import Source
from churn_assets.data.readers.delimited import HEAD_ROWS, Opened, header_row, marked_encoding
from churn_assets.data.readers.source import READ_ERRORS, inner_name, open_stream
from churn_assets.data.validation.parse import cell_text
from churn_assets.errors import EmptySource, SheetNotFound, SourceNotFound, SourceUnreadable, one_line

# -- workbooks ----------------------------------------------------------------------------------------


def open_excel(path: Path, sheet: str | None, wanted: Iterable[str], batch_rows: int) -> Opened:
    """The sheet (if None, the one with most `wanted` columns) as batches of strings; a workbook is loaded whole.

    Cells are the text that a person reads in them: dates 2012-09-28, whole numbers 278734, times 00:00:00; an
    empty cell is null. Raises SourceUnreadable, SheetNotFound, EmptySource; duplicate names are left for the caller.
    """
    import python_calamine as calamine

    workbook = open_workbook(path)
    sheets = workbook.sheet_names
    if sheet is not None and sheet not in sheets:
        raise SheetNotFound(
            f"{path.name} has no sheet '{sheet}'; it has: {', '.join(sheets)}; set [source] sheet in the contract"
        )
    if not sheets:
        raise EmptySource(f"{path.name} has no sheet; expected a header and rows")
    chosen = sheet or fitting_sheets(path, workbook, wanted)[0]
    try:
        rows = workbook.get_sheet_by_name(chosen).to_python(skip_empty_area=True)
    except calamine.CalamineError as error:
        raise SourceUnreadable(
            f"{path.name}, sheet '{chosen}' cannot be read: {one_line(error)}; save it again"
        ) from None
    if not rows:
        raise EmptySource(f"{path.name}, sheet '{chosen}' is empty; expected a header and rows")
    at, header = _header(rows, wanted)
    columns = zip(*rows[at + 1 :], strict=True) if len(rows) > at + 1 else ([] for _ in header)
    arrays = [pa.array([_cell_text(cell) for cell in column], pa.string()) for column in columns]
    table = pa.Table.from_arrays(arrays, names=header)
    return table.schema, iter(table.to_batches(batch_rows))


def _header(rows: list[list[object]], wanted: Iterable[str]) -> tuple[int, list[str]]:
    head = [[_cell_text(cell) or "" for cell in row] for row in rows[:HEAD_ROWS]]
    at = header_row(head, {name.strip() for name in wanted})
    return at, head[at]


def fitting_sheets(path: Path, workbook: Any, wanted: Iterable[str]) -> list[str]:
    """The sheets with most of the `wanted` columns: all if there is one sheet or no column. Raises SheetNotFound."""
    import python_calamine as calamine

    sheets, names = list(workbook.sheet_names), {name.strip() for name in wanted}
    if len(sheets) < 2 or not names:
        return sheets
    matches = dict.fromkeys(sheets, 0)
    for name in sheets:
        with contextlib.suppress(calamine.CalamineError, IndexError):  # such as a chart, or an empty sheet
            rows = workbook.get_sheet_by_name(name).to_python(skip_empty_area=True, nrows=HEAD_ROWS)
            matches[name] = len(names & {cell.strip() for cell in _header(rows, names)[1]})
    if not any(matches.values()):
        raise SheetNotFound(
            f"{path.name}: no sheet has column {', '.join(map(repr, sorted(names)[:5]))}; its sheets: "
            f"{', '.join(sheets)}; correct the name of the column, or name the sheet in --sheet or [source] sheet"
        )
    return [name for name in sheets if matches[name] == max(matches.values())]


def open_workbook(path: Path) -> Any:  # of a compiled library without type stubs
    """A workbook of calamine; its content, not its suffix, says of which kind. Raises SourceUnreadable."""
    import python_calamine as calamine

    try:
        with open_stream(path) as file:
            return calamine.CalamineWorkbook.from_filelike(io.BytesIO(file.read()))
    except (calamine.CalamineError, *READ_ERRORS) as error:
        raise SourceUnreadable(f"{path.name} is not a workbook ({one_line(error)}); save it as .xlsx again") from None


def _cell_text(cell: object) -> str | None:
    if type(cell) is str:
        return cell or None
    if type(cell) is float:  # by far the most frequent after text
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**63 else repr(cell)
    return cell_text(cell)


# -- JSON ---------------------------------------------------------------------------------------------

_LOADS = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=lambda _: None).decode  # numbers as written


def open_json(path: Path, source: Source, batch_rows: int) -> Opened:
    """Records as batches of strings, nested objects flattened with dots. Raises SourceUnreadable and EmptySource. The
    file is read twice, first for the names; one record a line is streamed, a list of records is loaded whole."""
    names = dict.fromkeys(name for record in _records(path, source) for name in record)
    if not names:
        raise EmptySource(f"{path.name} has no record; expected a list of records, or one record a line")
    schema = pa.schema([(name, pa.string()) for name in names])

    def batches() -> Iterator[pa.RecordBatch]:
        records = _records(path, source)
        while part := list(islice(records, min(batch_rows, 8192))):
            yield pa.RecordBatch.from_pylist(part, schema)

    return schema, batches()


def _records(path: Path, source: Source) -> Iterator[dict[str, str | None]]:
    number = 0
    try:
        with open_stream(path) as file:
            encoding = marked_encoding(file.read(8)) or source.encoding or "utf-8"
        with open_stream(path) as file:
            lines = filter(str.strip, io.TextIOWrapper(file, encoding))
            head = list(islice(lines, 2))
            if len(head) == 2 and head[0].startswith("{") and head[0].rstrip().endswith("}"):
                records: Iterator[Any] = map(_LOADS, chain(head, lines))
            else:
                records = iter(_records_of(_LOADS("".join(chain(head, lines)) or "[]")))
            for number, record in enumerate(records, 1):  # noqa: B007 - for the message
                yield _flat(record)
    except (*READ_ERRORS, AttributeError) as error:
        raise SourceUnreadable(
            f"{path.name} is not JSON of records (after {number:,} records: {one_line(error, 80)}); expected a list of "
            "records, or one record a line; write it again"
        ) from None


def _records_of(document: Any) -> list[Any]:
    """The records of a document: a list of them, or an object with one such list; or one of the forms of pandas, by
    columns, by rows with names (`split`), or by index."""
    if not isinstance(document, dict):
        return document if isinstance(document, list) else [document]
    parts = list(document.values())
    names, rows = document.get("columns"), document.get("data")
    if isinstance(names, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows):
        return [dict(zip(names, row, strict=True)) for row in rows]
    if _are_alike(parts, list):
        return [dict(zip(document, cells, strict=True)) for cells in zip(*parts, strict=True)]
    if _are_alike(parts, dict):
        if all(key.isdecimal() for key in parts[0]):  # the columns, by the numbers of their rows
            columns = (part.values() for part in parts)
            return [dict(zip(document, cells, strict=True)) for cells in zip(*columns, strict=True)]
        name = "index" if all(key.isdecimal() for key in document) else "id"
        return [{name: key, **record} for key, record in document.items()]
    lists = [part for part in parts if isinstance(part, list)]
    return lists[0] if len(lists) == 1 else [document]


def _are_alike(parts: list[Any], type_: type[Sized]) -> bool:
    """Whether a document's values are all of this type, with the same keys or equally many values, and several."""
    if len(parts) < 2 or not all(isinstance(part, type_) and len(part) == len(parts[0]) > 1 for part in parts):
        return False
    return type_ is list or all(part.keys() == parts[0].keys() for part in parts)


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, str | None]:
    cells: dict[str, str | None] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            cells |= _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) or value is None else json.dumps(value, ensure_ascii=False)
            if not (key.isascii() and (text is None or text.isascii())):
                f"{key}{text}".encode()  # half of a character, which JSON can spell, is an error here and not in Arrow
            cells[prefix + key] = text or None
    return cells


# -- Parquet and DuckDB -------------------------------------------------------------------------------


def open_parquet(path: Path, batch_rows: int) -> Opened:
    """A Parquet file, row group by row group. Raises SourceUnreadable."""
    import pyarrow.parquet as pq

    try:
        packed = inner_name(path) != path.name
        file = pq.ParquetFile(pa.BufferReader(open_stream(path).read()) if packed else path)
    except READ_ERRORS as error:
        raise SourceUnreadable(f"{path.name} is not a Parquet file ({one_line(error, 160)}); write it again") from None
    return file.schema_arrow, file.iter_batches(batch_size=batch_rows)


def open_duckdb(path: Path, table: str, batch_rows: int) -> Opened:
    """A table of a DuckDB file, opened read-only. Raises SourceUnreadable and SourceNotFound."""
    import duckdb

    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise SourceUnreadable(
            f"{path.name} cannot be opened as DuckDB ({one_line(error, 160)}); close it in other processes, or "
            "correct the path"
        ) from None
    tables = [row[0] for row in connection.execute("SELECT table_name FROM information_schema.tables").fetchall()]
    if table not in tables:
        connection.close()
        raise SourceNotFound(
            f"{path.name} has no table '{table}'; it has: {', '.join(sorted(tables)) or 'none'}; correct the name"
        )
    quoted = table.replace('"', '""')
    reader = connection.sql(f'SELECT * FROM "{quoted}"').to_arrow_reader(batch_rows)

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        finally:
            connection.close()

    return reader.schema, batches()
