"""A customer table as it is in its source: raw Arrow, whole or in batches; and which source a run has.

Columns are the file's, in its order; rows too. See `formats` for the types of the columns.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.limits import Value
from churn_assets.contract.model import Column, Contract, Label, Role, Source, Time
from churn_assets.data.readers import source as sources
from churn_assets.data.readers.delimited import Opened, SkippedLine, find_dialect, open_csv
from churn_assets.data.readers.formats import open_duckdb, open_excel, open_json, open_parquet
from churn_assets.data.readers.source import GENERATED, Location
from churn_assets.errors import ColumnMissing, DuplicateColumn, EmptySource, SourceError
from churn_assets.settings import Settings

BATCH_ROWS = 65_536
_LISTED, _LONGEST_NAME = 40, 80  # columns in a message, and characters of each

ROW_IDS = "rows_as_ids"  # the repair for a table without ids; done here, where rows are counted


def read_table(source: str | Path, contract: Contract, *, label_required: bool = True) -> pa.Table:
    """The whole source as a raw table.

    Raises SourceNotFound, SourceUnreadable, SheetNotFound, DuplicateColumn, ColumnMissing (columns
    that the contract names; the label only if `label_required`), EmptySource.
    """
    return pa.Table.from_batches(list(iter_batches(source, contract, label_required=label_required)))


def iter_batches(
    source: str | Path,
    contract: Contract,
    batch_rows: int = BATCH_ROWS,
    *,
    label_required: bool = False,
    skipped: SkippedLine | None = None,
) -> Iterator[pa.RecordBatch]:
    """The source as raw record batches of at most `batch_rows` rows, in order; rows of empty cells are left out, and
    so are lines of a text that are no row (see `open_csv`), with which `skipped` is called.

    Memory stays bounded for csv, JSON lines, Parquet, DuckDB and generated customers; a workbook and a JSON document
    are loaded whole. Raises what `read_table` raises, the header's errors at the first batch.
    """
    location = sources.locate(source, contract)
    schema, batches = _open(location, contract, batch_rows, skipped)
    check_names_once([name for name in schema.names if name in contract.by_name], location.name)
    check_columns(schema.names, contract, location.name, label_required=label_required)
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        for start in range(0, batch.num_rows, batch_rows):
            yield batch.slice(start, batch_rows)
    if rows == 0:
        raise EmptySource(f"{location.name} has a header and no rows; expected at least 1 customer; add rows")


def reading_contract(source: Source, columns: tuple[Column, ...] = ()) -> Contract:
    """A contract for reading only: the options of reading, and the columns that are known."""
    return Contract("draft", "", source, Label("", "", "", 1), Time(), columns, (), (), Value(0.0, 1, 0.0, 0.0))


def read_names(source: str | Path, contract: Contract) -> list[str]:
    """Column names of the source, without reading its rows where the format allows that."""
    location = sources.locate(source, contract)
    if location.format == "csv" and location.path is not None:
        names = find_dialect(location.path, contract.source, _wanted(contract)).names
        return [contract.key.name, *names] if _needs_row_ids(contract, names) else names
    return list(_open(location, contract, BATCH_ROWS)[0].names)


def _open(location: Location, contract: Contract, batch_rows: int, skipped: SkippedLine | None = None) -> Opened:
    reader = sources.scheme_reader(location)
    if reader is None:
        schema, batches = _open_file(location, contract, batch_rows, skipped)
        batches = map(_without_empty_rows, batches)
    else:
        stream = reader(location, contract, batch_rows)
        first = next(stream)
        schema, batches = first.schema, chain([first], stream)
    if _needs_row_ids(contract, schema.names):
        return _with_row_ids(schema, batches, contract.key.name)
    return schema, batches


def _without_empty_rows(batch: pa.RecordBatch) -> pa.RecordBatch:
    """`batch` without rows of empty cells, which a spreadsheet leaves below a table: no customer, and no row of it."""
    empty: pa.Array | None = None
    for column in batch.columns:
        if not column.null_count:
            return batch
        empty = pc.is_null(column) if empty is None else pc.and_(empty, pc.is_null(column))
        if not pc.any(empty).as_py():
            return batch
    return batch if empty is None else batch.filter(pc.invert(empty))


def _open_file(location: Location, contract: Contract, batch_rows: int, skipped: SkippedLine | None) -> Opened:
    path = location.path
    assert path is not None  # only registered schemes have none
    match location.format:
        case "excel":
            return open_excel(path, contract.source.sheet, _wanted(contract), batch_rows)
        case "json":
            return open_json(path, contract.source, batch_rows)
        case "csv":
            return open_csv(path, contract.source, _wanted(contract), skipped)
        case "parquet":
            return open_parquet(path, batch_rows)
    return open_duckdb(path, location.options["table"], batch_rows)


def _needs_row_ids(contract: Contract, names: Sequence[str]) -> bool:
    return ROW_IDS in contract.source.repairs and contract.key.name not in names


def _with_row_ids(schema: pa.Schema, batches: Iterator[pa.RecordBatch], name: str) -> Opened:
    """The stream with a first column `name`: `row-000000001` for the first row, and so on."""
    with_ids = schema.insert(0, pa.field(name, pa.string()))

    def numbered() -> Iterator[pa.RecordBatch]:
        start = 1
        for batch in batches:
            ids = row_ids(start, batch.num_rows)
            start += batch.num_rows
            yield pa.RecordBatch.from_arrays([ids, *batch.columns], schema=with_ids)

    return with_ids, numbered()


def row_ids(start: int, rows: int) -> pa.Array:
    """Ids of the rows `start`, `start` + 1, ... (the first is 1) of a table without ids."""
    numbers = pa.array(range(start, start + rows), pa.int64()).cast(pa.string())
    return pc.binary_join_element_wise(pa.scalar("row"), pc.utf8_lpad(numbers, 9, "0"), "-")


def _wanted(contract: Contract, label_required: bool = True) -> list[str]:
    without = (Role.IGNORE,) if label_required else (Role.IGNORE, Role.LABEL)
    return [c.name for c in contract.columns if c.role not in without]


def check_names_once(names: Sequence[str], where: str) -> None:
    """Raise DuplicateColumn if one of `names` occurs twice."""
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise DuplicateColumn(
            f"{where} has column {_quoted(repeated)} more than once; expected each once; rename or remove one"
        )


def check_columns(names: Sequence[str], contract: Contract, where: str, *, label_required: bool = True) -> None:
    """Raise ColumnMissing if `names` lack a column of the contract that is not excluded; it has the most similar."""
    optional = {column.name for column in contract.excluded_columns}
    missing = [name for name in _wanted(contract, label_required) if name not in names and name not in optional]
    if not missing:
        return
    matches = [(name, match) for name in missing for match in difflib.get_close_matches(name, names, 1, 0.6)]
    hints = ", ".join(f"'{match}' looks like '{name}'" for name, match in matches)
    label = " (the label)" if contract.label.column in missing else ""
    raise ColumnMissing(
        f"{where} lacks column {_quoted(missing)}{label}; "
        + (f"{hints}; " if hints else "")
        + f"it has: {listed(names) or 'no column'}; rename them, or the contract's columns"
    )


def listed(names: Sequence[str]) -> str:
    """Names of columns in a message, at most 40 of them."""
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(name[:_LONGEST_NAME] for name in names[:_LISTED]) + more


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


# -- the source of a run ------------------------------------------------------------------------------


@dataclass(frozen=True)
class SourceRef:
    """The source of a run, for `read_table` and `iter_batches`.

    `description` is for reports. `skipped` has a line for each file in data/raw/ that does not fit the contract,
    with the reason.
    """

    source: str
    description: str
    generated: bool = False
    skipped: tuple[str, ...] = ()


def resolve_source(settings: Settings, contract: Contract) -> SourceRef:
    """CHURN_SOURCE if set, else the first file in data/raw/ with the contract's columns, else
    generated customers.

    A relative CHURN_SOURCE is relative to the project root. Raises SourceNotFound or
    SourceUnreadable if CHURN_SOURCE names a file that does not exist or whose format is unknown.
    """
    if settings.source:
        return _from_setting(settings.root, settings.source, contract)
    skipped: list[str] = []
    folder = settings.raw_dir
    files = sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
    known = (*sources.SUFFIXES, *sources.COMPRESSED, sources.ARCHIVE)
    for path in (p for p in files if p.suffix.lower() in known):
        try:
            check_columns(read_names(path, contract), contract, path.name)
        except SourceError as error:
            skipped.append(str(error))
            continue
        return SourceRef(str(path), f"{path.name} (found in data/raw/)", skipped=tuple(skipped))
    return _generated(contract, sources.GENERATED_ROWS, sources.GENERATED_SEED, tuple(skipped))


def _from_setting(root: Path, text: str, contract: Contract) -> SourceRef:
    scheme, mark, rest = text.partition("://")
    prefix, file = (f"{scheme}://", rest) if mark else ("", text)
    if prefix != f"{GENERATED}://":
        text = prefix + str(root / Path(file).expanduser())
    location = sources.locate(text, contract)
    if location.format == GENERATED:
        return _generated(contract, *sources.generated_size(location))
    return SourceRef(text, f"{location.name} (named by CHURN_SOURCE)")


def _generated(contract: Contract, rows: int, seed: int, skipped: tuple[str, ...] = ()) -> SourceRef:
    description = f"generated customers, not real ones: {rows:,} rows made for contract '{contract.name}', seed {seed}"
    source = f"{GENERATED}://{contract.name}?rows={rows}&seed={seed}"
    return SourceRef(source, description, generated=True, skipped=skipped)
