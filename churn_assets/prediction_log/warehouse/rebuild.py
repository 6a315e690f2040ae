"""Rebuilding the warehouse: the order in which segments were ingested, and which of them it lacks.

The journal is a file of one JSON object a line, each a row of the table `segments`. It is written after the
commit of a segment; after a kill the next ingest appends what it lacks. After the warehouse was deleted, damaged or
restored from a copy, segments are loaded again in the order of the journal, each with the `seq` and the instant it
had, from the segment file or the archive that holds it; then those that the journal does not have. If nothing is
missing, an ingest reads one number and lists one folder for this.
"""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

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
    """A row of the table `segments`: the numbers of its lines, and how many of each kind there were.

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


def insert_row(connection: duckdb.DuckDBPyConnection, row: SegmentRow) -> None:
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


def missing_segments(
    settings: Settings, names: frozenset[str], number: int
) -> Iterator[tuple[str, Path | None, SegmentRow | None]]:
    """Each segment that was ingested once and is not among `names`; `number` is the last of those.

    Yields its name, the file that has its lines (None if there is none any more; valid until the next item) and its
    row in the journal (None if it is not there). Raises LogUnreadable for a damaged archive.
    """
    home, folder = settings.warehouse_dir, settings.predlog_dir
    done = {path.stem for path in folder.glob(f"*{DONE}")}
    if last_number(home) <= number and not done - names and number:
        return
    archived = {name: archive for archive in archives(settings.archive_dir) for name in archive.names}
    journal = {row.name: row for row in read_journal(home) if row.number > number}
    rest = [name for name in (*archived, *sorted(done)) if name not in names]
    unpacked: Archive | None = None
    with tempfile.TemporaryDirectory(dir=home) as scratch:
        for name in dict.fromkeys([*journal, *rest]):
            files = [path for suffix in (DONE, READY) if (path := folder / f"{name}{suffix}").exists()]
            if not files and name in archived:
                if archived[name] is not unpacked:
                    unpacked = archived[name]
                    _unpack(unpacked, Path(scratch))
                files = [Path(scratch) / name]
            yield name, next(iter(files), None), journal.get(name)


def _unpack(archive: Archive, folder: Path) -> None:
    """Replace the files of a folder by the segments of an archive."""
    for old in folder.iterdir():
        old.unlink()
    for name in archive.names:
        (folder / name).touch()  # a segment without lines has none in the archive
    for name, lines in groupby(archive.lines(), key=itemgetter(0)):
        (folder / name).write_bytes(b"".join(line for _, line in lines))
