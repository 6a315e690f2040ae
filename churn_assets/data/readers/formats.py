"""The file formats: each opens a file as a schema and a stream of Arrow record batches.

Workbooks and delimited text give strings in every column, because the contract decides the types; Parquet and
DuckDB keep their types.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from churn_assets.contract.model import Source
from churn_assets.data.validation.parse import cell_text
from churn_assets.errors import EmptySource, SheetNotFound, SourceNotFound, SourceUnreadable

Opened = tuple[pa.Schema, Iterator[pa.RecordBatch]]

DELIMITERS = (",", ";", "\t", "|")
_SNIFF_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 22
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

# -- delimited text -----------------------------------------------------------------------------------


def open_csv(path: Path, source: Source, wanted: Iterable[str]) -> Opened:
    """A stream of record batches of strings, an empty cell being null; memory is one block.

    Encoding and delimiter are the contract's. Without them the encoding follows from the byte order mark and the
    first megabyte, the delimiter from the header (the one that yields most of the `wanted` names). Raises
    EmptySource and SourceUnreadable, the latter also while batches are read.
    """
    encoding, delimiter, names = csv_dialect(path, source, wanted)
    try:
        reader = pa_csv.open_csv(
            path,
            read_options=pa_csv.ReadOptions(
                encoding="utf-8" if encoding == "utf-8-sig" else encoding, block_size=_BLOCK_BYTES
            ),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=True, null_values=[""]
            ),
        )
    except (pa.ArrowInvalid, UnicodeError, LookupError) as error:
        raise _unreadable_text(path, error) from None

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except (pa.ArrowInvalid, UnicodeError) as error:
            raise _unreadable_text(path, error) from None

    return reader.schema, batches()


def csv_dialect(path: Path, source: Source, wanted: Iterable[str]) -> tuple[str, str, list[str]]:
    """(encoding, delimiter, header names) of a delimited file. Raises EmptySource and SourceUnreadable."""
    with path.open("rb") as file:
        head = file.read(_SNIFF_BYTES)
    encoding = source.encoding or _encoding(head)
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except (UnicodeError, LookupError) as error:
        raise _unreadable_text(path, error) from None
    if not text.strip():
        raise EmptySource(f"{path.name} is empty; expected a header and rows")
    if "\x00" in text:
        raise SourceUnreadable(f"{path.name} contains zero bytes; expected text; is it a csv file?")
    names = set(wanted)
    delimiters = (source.delimiter,) if source.delimiter else DELIMITERS
    headers = {d: next(csv.reader(io.StringIO(text), delimiter=d)) for d in delimiters}
    best = max(headers, key=lambda d: (len(names & set(headers[d])), len(headers[d])))
    return encoding, best, headers[best]


def _unreadable_text(path: Path, error: Exception) -> SourceUnreadable:
    return SourceUnreadable(
        f"{path.name} cannot be read as delimited text: {_one_line(error, 200)}; repair it, or set [source] delimiter "
        "and encoding"
    )


def _encoding(head: bytes) -> str:
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"  # what spreadsheets write where they do not write UTF-8
    return "utf-8"


# -- workbooks ----------------------------------------------------------------------------------------


def open_excel(path: Path, sheet: str | None, batch_rows: int) -> Opened:
    """A sheet as record batches; see `read_excel`. A workbook is loaded whole."""
    table = read_excel(path, sheet)
    return table.schema, iter(table.to_batches(batch_rows))


def read_excel(path: Path, sheet: str | None) -> pa.Table:
    """The sheet (the first if None) as a table of strings; its first row is the header.

    Cells are the text that a person reads in them: dates 2012-09-28, whole numbers 278734, times 00:00:00; an
    empty cell is null. Raises SourceUnreadable, SheetNotFound, EmptySource; duplicate names are left for the caller.
    """
    import python_calamine as calamine

    workbook = _workbook(path)
    names = workbook.sheet_names
    if sheet is not None and sheet not in names:
        raise SheetNotFound(
            f"{path.name} has no sheet '{sheet}'; it has: {', '.join(names)}; set [source] sheet in the contract"
        )
    if not names:
        raise EmptySource(f"{path.name} has no sheet; expected a header and rows")
    chosen = names[0] if sheet is None else sheet
    try:
        rows = workbook.get_sheet_by_name(chosen).to_python(skip_empty_area=True)
    except calamine.CalamineError as error:
        raise SourceUnreadable(
            f"{path.name}, sheet '{chosen}' cannot be read: {_one_line(error)}; save it again"
        ) from None
    if not rows:
        raise EmptySource(f"{path.name}, sheet '{chosen}' is empty; expected a header and rows")
    header = [_cell_text(cell) or "" for cell in rows[0]]
    columns = zip(*rows[1:], strict=True) if len(rows) > 1 else ([] for _ in header)
    arrays = [pa.array([_cell_text(cell) for cell in column], pa.string()) for column in columns]
    return pa.Table.from_arrays(arrays, names=header)


def sheet_names(path: Path) -> list[str]:
    """The sheets of a workbook. Raises SourceUnreadable."""
    return list(_workbook(path).sheet_names)


def _workbook(path: Path) -> Any:  # of a compiled library without type stubs
    import python_calamine as calamine

    try:
        return calamine.CalamineWorkbook.from_path(str(path))
    except (calamine.CalamineError, OSError) as error:
        raise SourceUnreadable(f"{path.name} is not a workbook ({_one_line(error)}); save it as .xlsx again") from None


def _cell_text(cell: object) -> str | None:
    if type(cell) is str:
        return cell or None
    if type(cell) is float:  # by far the most frequent after text
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**63 else repr(cell)
    return cell_text(cell)


# -- Parquet and DuckDB -------------------------------------------------------------------------------


def open_parquet(path: Path, batch_rows: int) -> Opened:
    """A Parquet file, row group by row group. Raises SourceUnreadable."""
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceUnreadable(f"{path.name} is not a Parquet file ({_one_line(error, 160)}); write it again") from None
    return file.schema_arrow, file.iter_batches(batch_size=batch_rows)


def open_duckdb(path: Path, table: str, batch_rows: int) -> Opened:
    """A table of a DuckDB file, opened read-only. Raises SourceUnreadable and SourceNotFound."""
    import duckdb

    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise SourceUnreadable(
            f"{path.name} cannot be opened as DuckDB ({_one_line(error, 160)}); close it in other processes, or "
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


def _one_line(error: Exception, length: int | None = None) -> str:
    return " ".join(str(error).split())[:length]
