"""Making the warehouse again: the order in which segments were ingested, and what is missing by it.

The journal is a file of one JSON object a line, each a row of the table `segments`. It is written after the
commit of a segment, so a kill leaves it behind by what the next ingest appends. After the warehouse was deleted,
damaged or put back from a copy, segments are loaded again in the order of the journal, each with the `seq` and the
instant it had, from the segment file or the archive that holds it; then those that the journal does not have. An
ingest that finds nothing missing reads one number and lists one folder.
"""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from churn_assets.prediction_log.segment import DONE, READY, last_line_end
from churn_assets.prediction_log.warehouse.archive import Archive, archives
from churn_assets.settings import Settings
from churn_assets.storage.files import sync_directory

if TYPE_CHECKING:
    import duckdb

JOURNAL = "segments.jsonl"


@dataclass(frozen=True)
class SegmentRow:
    """A row of the table `segments`: which numbers its lines have, and how many of each kind there were.

    `seq` counts lines over all segments; `first_seq` and `last_seq` are this segment's. `ingested_at` is UTC
    without a time zone, as DuckDB gives it. `expired`: its rows were deleted, see `[log] retention`.
    """

    name: str
    number: int
    first_seq: int
    last_seq: int
    rows: int
    predictions: int
    feedback: int
    rejections: int
    quarantined: int
    torn: int
    bytes: int
    ingested_at: dt.datetime
    expired: bool


COLUMNS = tuple(field.name for field in fields(SegmentRow))
_DECODER = msgspec.json.Decoder(SegmentRow)


def insert_segment(connection: duckdb.DuckDBPyConnection, row: SegmentRow) -> None:
    """Add the row of a segment."""
    marks = ", ".join("?" * len(COLUMNS))
    connection.execute(f"INSERT INTO segments ({', '.join(COLUMNS)}) VALUES ({marks})", list(astuple(row)))


def read_journal(folder: Path) -> list[SegmentRow]:
    """Every segment that was ever ingested, in that order, up to the first damaged line."""
    rows: list[SegmentRow] = []
    try:
        lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    for line in lines:
        row = _decoded(line)
        if row is None or row.number != len(rows) + 1:
            break
        rows.append(row)
    return rows


def append_to_journal(folder: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Append the segments that the table has and the journal has not. Raises OSError."""
    rows = connection.execute(
        f"SELECT {', '.join(COLUMNS)} FROM segments WHERE number > ? ORDER BY number", [last_number(folder)]
    ).fetchall()
    if not rows:
        return
    text = b"".join(msgspec.json.encode(SegmentRow(*row)) + b"\n" for row in rows)
    handle = os.open(folder / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        os.ftruncate(handle, last_line_end(handle))
        os.write(handle, text)
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_directory(folder)


def last_number(folder: Path) -> int:
    """The number of the last segment in the journal, 0 for none."""
    try:
        with (folder / JOURNAL).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return 0
    for line in reversed(lines):
        row = _decoded(line)
        if row is not None:
            return row.number
    return 0


def _decoded(line: bytes) -> SegmentRow | None:
    if not line.endswith(b"\n"):
        return None
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class Loader(Protocol):
    """Loads segments into the warehouse: `ingest.Session`."""

    def restore(self, name: str, path: Path, known: SegmentRow | None) -> None:
        """Load a segment from a file of its lines, with the numbers that it had if they are known."""

    def mark_lost(self, row: SegmentRow) -> None:
        """Keep the row of a segment that no file holds any more."""


def discard(database: Path) -> None:
    """Remove the warehouse, its write-ahead log first: an old one must never be applied to a new warehouse."""
    for path in (database.with_name(f"{database.name}.wal"), database):
        path.unlink(missing_ok=True)


def catch_up(settings: Settings, names: frozenset[str], number: int, loader: Loader) -> None:
    """Restore each segment that was ingested once and is not among `names`; `number` is the last of those.

    Raises LogUnreadable for a damaged archive.
    """
    home, folder = settings.warehouse_dir, settings.predlog_dir
    done = {path.stem for path in folder.glob(f"*{DONE}")}
    if last_number(home) <= number and not done - names and number:
        return
    kept = archives(settings.archive_dir)
    journal = {row.name: row for row in read_journal(home) if row.number > number}
    archived = [name for archive in kept for name in archive.names]
    rest = [name for name in (*archived, *sorted(done)) if name not in journal and name not in names]
    with tempfile.TemporaryDirectory(dir=home) as scratch:
        find = _Finder(folder, kept, Path(scratch))
        for name in dict.fromkeys([*journal, *rest]):
            path = find(name)
            if path is not None:
                loader.restore(name, path, journal.get(name))
            else:
                loader.mark_lost(journal[name])


class _Finder:
    """Files of segments; an archive is unpacked when the first of its segments is asked for."""

    def __init__(self, folder: Path, kept: list[Archive], scratch: Path) -> None:
        self._folder, self._scratch = folder, scratch
        self._archive_of = {name: archive for archive in kept for name in archive.names}
        self._unpacked: Archive | None = None

    def __call__(self, name: str) -> Path | None:
        for suffix in (DONE, READY):
            path = self._folder / f"{name}{suffix}"
            if path.exists():
                return path
        archive = self._archive_of.get(name)
        if archive is None:
            return None
        if archive is not self._unpacked:
            for old in self._scratch.iterdir():
                old.unlink()
            for segment, lines in _by_segment(archive.lines()):
                (self._scratch / segment).write_bytes(b"".join(lines))
            self._unpacked = archive
        path = self._scratch / name
        path.touch()  # a segment of no lines leaves none
        return path


def _by_segment(lines: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, list[bytes]]]:
    name = ""
    group: list[bytes] = []
    for segment, line in lines:
        if segment != name and group:
            yield name, group
            group = []
        name = segment
        group.append(line)
    if group:
        yield name, group
