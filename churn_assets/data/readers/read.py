"""A customer table as it stands in its source: raw Arrow, whole or in batches.

Workbooks and delimited text give strings in every column (types are the contract's affair); Parquet
and DuckDB keep their types. Columns are the file's, in its order; rows too.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Contract, Role
from churn_assets.data.readers.csv import dialect, open_csv, unreadable
from churn_assets.data.readers.excel import read_excel
from churn_assets.data.readers.location import DUCKDB, GENERATED, Location, generated_size, locate
from churn_assets.errors import ColumnMissing, DuplicateColumn, EmptySource, SourceNotFound, SourceUnreadable

BATCH_ROWS = 65_536

ROW_IDS = "rows_as_ids"  # the repair that makes up for a table without ids, here where rows are counted

_Opened = tuple[pa.Schema, Iterator[pa.RecordBatch]]


def read_table(source: str | Path, contract: Contract, *, label_required: bool = True) -> pa.Table:
    """The whole source as a raw table.

    Raises SourceNotFound, SourceUnreadable, SheetNotFound, DuplicateColumn, ColumnMissing (columns
    the contract names; the label only if `label_required`), EmptySource.
    """
    location = locate(source, contract)
    schema, batches = _open(location, contract, BATCH_ROWS)
    _check_names(schema.names, contract, location, label_required)
    table = pa.Table.from_batches(list(batches), schema)
    if table.num_rows == 0:
        raise EmptySource(f"{location.name} has a header and no rows; expected customers")
    return table


def iter_batches(
    source: str | Path, contract: Contract, batch_rows: int = BATCH_ROWS, *, label_required: bool = False
) -> Iterator[pa.RecordBatch]:
    """The source as raw record batches of at most `batch_rows` rows, in order.

    Memory stays bounded for csv, Parquet, DuckDB and generated customers; a workbook is loaded
    whole. Raises what `read_table` raises, the header's errors at the first batch.
    """
    location = locate(source, contract)
    schema, batches = _open(location, contract, batch_rows)
    _check_names(schema.names, contract, location, label_required)
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        for start in range(0, batch.num_rows, batch_rows):
            yield batch.slice(start, batch_rows)
    if rows == 0:
        raise EmptySource(f"{location.name} has a header and no rows; expected customers")


def read_names(source: str | Path, contract: Contract) -> list[str]:
    """Column names of the source, without reading its rows where the format allows that."""
    location = locate(source, contract)
    if location.format == "csv" and location.path is not None:
        names = dialect(location.path, contract.source, _wanted(contract, True))[2]
        return names if contract.key.name in names or not _counts_rows(contract) else [contract.key.name, *names]
    return list(_open(location, contract, BATCH_ROWS)[0].names)


def _open(location: Location, contract: Contract, batch_rows: int) -> _Opened:
    openers: dict[str, Callable[[Location, Contract, int], _Opened]] = {
        "excel": _open_excel,
        "csv": _open_csv,
        "parquet": _open_parquet,
        DUCKDB: _open_duckdb,
        GENERATED: _open_generated,
    }
    opened = openers[location.format](location, contract, batch_rows)
    if _counts_rows(contract) and contract.key.name not in opened[0].names:
        return _with_row_ids(*opened, contract.key.name)
    return opened


def _counts_rows(contract: Contract) -> bool:
    return ROW_IDS in contract.source.repairs


def _with_row_ids(schema: pa.Schema, batches: Iterator[pa.RecordBatch], name: str) -> _Opened:
    """The stream with a first column `name`: `row-000000001` for the first row, and so on."""
    full = schema.insert(0, pa.field(name, pa.string()))

    def numbered() -> Iterator[pa.RecordBatch]:
        start = 1
        for batch in batches:
            ids = row_ids(start, batch.num_rows)
            start += batch.num_rows
            yield pa.RecordBatch.from_arrays([ids, *batch.columns], schema=full)

    return full, numbered()


def row_ids(start: int, rows: int) -> pa.Array:
    """What names the rows `start`, `start` + 1, ... (the first is 1) of a table without ids."""
    numbers = pa.array(range(start, start + rows), pa.int64()).cast(pa.string())
    return pc.binary_join_element_wise(pa.scalar("row"), pc.utf8_lpad(numbers, 9, "0"), "-")


def _open_excel(location: Location, contract: Contract, batch_rows: int) -> _Opened:
    table = read_excel(_path(location), contract.source.sheet)
    return table.schema, iter(table.to_batches(batch_rows))


def _open_csv(location: Location, contract: Contract, batch_rows: int) -> _Opened:
    path = _path(location)
    reader = open_csv(path, contract.source, _wanted(contract, True))

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except (pa.ArrowInvalid, UnicodeError) as error:
            raise unreadable(path, error) from None

    return reader.schema, batches()


def _open_parquet(location: Location, contract: Contract, batch_rows: int) -> _Opened:
    import pyarrow.parquet as pq

    path = _path(location)
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        words = " ".join(str(error).split())[:160]
        raise SourceUnreadable(f"{path.name} is not a Parquet file ({words}); write it again") from None
    return file.schema_arrow, file.iter_batches(batch_size=batch_rows)


def _open_duckdb(location: Location, contract: Contract, batch_rows: int) -> _Opened:
    import duckdb

    path, table = _path(location), location.options["table"]
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        words = " ".join(str(error).split())[:160]
        raise SourceUnreadable(f"{path.name} cannot be opened as DuckDB ({words}); is another process in it?") from None
    tables = [row[0] for row in connection.execute("SELECT table_name FROM information_schema.tables").fetchall()]
    if table not in tables:
        connection.close()
        raise SourceNotFound(f"{path.name} has no table '{table}', it has: {', '.join(sorted(tables)) or 'none'}")
    quoted = table.replace('"', '""')
    reader = connection.sql(f'SELECT * FROM "{quoted}"').to_arrow_reader(batch_rows)

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        finally:
            connection.close()

    return reader.schema, batches()


def _open_generated(location: Location, contract: Contract, batch_rows: int) -> _Opened:
    from churn_assets.synthetic.generate import generate_batches

    rows, seed = generated_size(location)
    batches = generate_batches(contract, rows, seed, batch_rows=batch_rows)
    first = next(batches)

    def all_batches() -> Iterator[pa.RecordBatch]:
        yield first
        yield from batches

    return first.schema, all_batches()


def _path(location: Location) -> Path:
    assert location.path is not None  # every format but the generated one has a file
    return location.path


def _wanted(contract: Contract, label_required: bool) -> list[str]:
    return [
        c.name for c in contract.columns if c.role is not Role.IGNORE and (label_required or c.role is not Role.LABEL)
    ]


def _check_names(names: Sequence[str], contract: Contract, location: Location, label_required: bool) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1 and name in contract.by_name]
    if twice:
        raise DuplicateColumn(f"{location.name} has the column {_quoted(twice)} more than once; keep one of each")
    check_columns(names, contract, location.name, label_required=label_required)


def check_columns(names: Sequence[str], contract: Contract, where: str, *, label_required: bool = True) -> None:
    """Raise ColumnMissing if `names` lack a column of the contract, naming the nearest found."""
    missing = [name for name in _wanted(contract, label_required) if name not in names]
    if not missing:
        return
    near = {m: difflib.get_close_matches(m, names, 1, 0.6) for m in missing}
    hints = [f"'{found[0]}' looks like '{name}'" for name, found in near.items() if found]
    label = " (the label)" if contract.label.column in missing else ""
    raise ColumnMissing(
        f"{where} lacks {_quoted(missing)}{label}; "
        + (f"{', '.join(hints)}; " if hints else "")
        + f"found: {', '.join(names) or 'no column'}; rename them or the contract's columns"
    )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
