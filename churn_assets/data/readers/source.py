"""What a source string names: a file with its format, a DuckDB table, or a scheme that another package registers.

Schemes such as `generated://` belong to packages above this one: an entry point (the command line, the Dagster
definitions) registers their reader with `register_scheme`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl
from zipfile import BadZipFile, ZipFile

from churn_assets.contract.model import Contract
from churn_assets.errors import SourceNotFound, SourceUnreadable, one_line, without_user_info

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = {
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), "excel"),
    **dict.fromkeys((".csv", ".tsv", ".txt"), "csv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "json"),
}
COMPRESSED, ARCHIVE = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}, ".zip"
READ_ERRORS = (ValueError, LookupError, OSError, EOFError, RuntimeError, zlib.error, BadZipFile)
DUCKDB, GENERATED = "duckdb", "generated"
GENERATED_ROWS, GENERATED_SEED = 20_000, 7


@dataclass(frozen=True)
class Location:
    """A source taken apart. `path` is None for a registered scheme; `options` are what follows '?'."""

    text: str
    format: str
    path: Path | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Short name for messages and reports."""
        if self.path is None:
            return without_user_info(self.text)
        table = self.options.get("table")
        return f"{self.path.name}, table {table}" if table else self.path.name


# (location, contract, most rows of a batch) -> record batches in order, at least one
SchemeReader = Callable[[Location, Contract, int], Iterator["pa.RecordBatch"]]
_SCHEMES: dict[str, SchemeReader] = {}


def register_scheme(scheme: str, reader: SchemeReader) -> None:
    """Let sources that begin with `scheme://` be read by `reader`; registering again replaces it."""
    _SCHEMES[scheme] = reader


def scheme_reader(location: Location) -> SchemeReader | None:
    """The registered reader of this location, None for files and DuckDB. Raises SourceUnreadable."""
    if location.path is not None:
        return None
    reader = _SCHEMES.get(location.format)
    if reader is None:
        raise SourceUnreadable(
            f"{location.text} has no reader in this process; expected one for {location.format}://; call "
            "churn_assets.synthetic.register_generated_source() first"
        )
    return reader


def locate(source: str | Path, contract: Contract) -> Location:
    """Take `source` apart: a path, `duckdb://file?table=name` or `generated://name?rows=..&seed=..`. Raises
    SourceNotFound for a file that does not exist, SourceUnreadable for one of unknown format."""
    text = str(source)
    scheme, mark, rest = text.partition("://")
    if mark and (scheme == GENERATED or scheme in _SCHEMES):
        return Location(text, scheme, None, dict(parse_qsl(rest.partition("?")[2])))
    if mark and scheme == DUCKDB:
        file, _, query = rest.rpartition("?") if "?" in rest else (rest, "", "")  # the last: a path may have one, too
        options = dict(parse_qsl(query))
        if not options.get("table"):
            raise SourceUnreadable(f"{text} names no table; write duckdb://{file or 'file'}?table=name")
        return Location(text, DUCKDB, _existing(Path(file), text), options)
    if mark and len(scheme) > 1:
        raise SourceUnreadable(f"{text} begins with {scheme}://; expected a path, duckdb:// or generated://")
    path = _existing(Path(text).expanduser(), text)
    return Location(text, _format(path, contract), path)


def generated_size(location: Location) -> tuple[int, int]:
    """(rows, seed) that a generated:// source asks for. Raises SourceUnreadable."""
    try:
        rows = int(location.options.get("rows", GENERATED_ROWS))
        seed = int(location.options.get("seed", GENERATED_SEED))
    except ValueError:
        raise SourceUnreadable(f"{location.text}: rows and seed must be whole numbers") from None
    if rows < 1 or seed < 0:
        raise SourceUnreadable(f"{location.text}: rows must be at least 1 and seed at least 0")
    return rows, seed


def _existing(path: Path, text: str) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        raise SourceNotFound(f"{text} is a folder; expected a file; name a file in it")
    folder = path.parent
    files = sorted(p.name for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
    nearby = f"files in that folder: {', '.join(files[:5])}" if files else "that folder has no files"
    raise SourceNotFound(f"no file at {text}; {nearby}; correct the path, or put a table in data/raw/")


def inner_name(path: Path) -> str:
    """The name of the table in a compressed file or an archive, of any other file its own. Raises SourceUnreadable."""
    suffix = path.suffix.lower()
    if suffix != ARCHIVE:
        return path.stem if suffix in COMPRESSED else path.name
    try:
        with ZipFile(path) as archive:
            names = [name for name in archive.namelist() if "__MACOSX" not in name and not name.endswith("/")]
    except (OSError, BadZipFile) as error:
        raise SourceUnreadable(f"{path.name} is not a zip archive ({one_line(error)}); pack it again") from None
    kinds = {name: Path(name).suffix.lower() for name in names if not Path(name).name.startswith(".")}
    tables = [name for name, kind in kinds.items() if kind in SUFFIXES]
    tables = [name for name in tables if kinds[name] != ".txt"] or tables  # a text beside a table is about it
    if len(tables) != 1:
        content = f"has several tables: {', '.join(tables)}" if tables else "has no table"
        raise SourceUnreadable(f"{path.name} {content}; expected one; unpack it and name the file of the table")
    return tables[0]


def open_stream(path: Path) -> pa.NativeFile:
    """The bytes of a file, of a compressed file unpacked, of an archive its one table. Raises one of READ_ERRORS."""
    import pyarrow as pa

    if path.suffix.lower() == ARCHIVE:
        return pa.PythonFile(ZipFile(path).open(inner_name(path)), mode="r")
    return pa.input_stream(str(path), COMPRESSED.get(path.suffix.lower()))


def _format(path: Path, contract: Contract) -> str:
    if contract.source.format not in ("auto", DUCKDB):
        return contract.source.format
    name = inner_name(path)
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        known = ", ".join(sorted((*SUFFIXES, *COMPRESSED, ARCHIVE)))
        raise SourceUnreadable(
            f"{path.name} ends in '{suffix or path.suffix}'; expected one of: {known}; rename it or set [source] format"
        )
    return SUFFIXES[suffix]
