"""Rebuilding the warehouse: the order in which segments were ingested, and which of them it lacks.

The journal is a file of one JSON object a line, each a row of the table `segments`, written after the commit of a
segment; after a kill the next ingest appends what it lacks. A warehouse that was deleted, damaged or restored from a
copy gets its segments in the order of the journal, each with the `seq` and the instant it had, from the segment file
or the archive that holds it; then those that the journal does not have.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import tempfile
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import astuple

from churn_assets.prediction_log.segment import DONE, READY, last_line_end, segment_path, segments_of
from churn_assets.prediction_log.warehouse.archive import Archive, archives
from churn_assets.settings import Settings
from churn_assets.storage.files import open_file, sync_directory

if TYPE_CHECKING:
    import duckdb

JOURNAL = "segments.jsonl"
SCRATCH = ".scratch-"  # begins the name of a folder that lasts for one ingest


class SegmentRow(msgspec.Struct, frozen=True):
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


COLUMNS = SegmentRow.__struct_fields__
_DECODER = msgspec.json.Decoder(SegmentRow)


def insert_row(connection: duckdb.DuckDBPyConnection, row: SegmentRow) -> None:
    """Add the row of a segment."""
    marks = ", ".join("?" * len(COLUMNS))
    connection.execute(f"INSERT INTO segments ({', '.join(COLUMNS)}) VALUES ({marks})", list(astuple(row)))


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
    return next((row.number for row in reversed(_read_journal(folder, 4096)) if row is not None), 0)


def _read_journal(folder: Path, size: int | None = None) -> list[SegmentRow | None]:
    """Every segment that was ever ingested, or those in the last `size` bytes; None for a damaged line."""
    try:
        with open_file(folder / JOURNAL) as file:
            if size is not None:
                file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return [_decoded(line) for line in file]
    except FileNotFoundError:
        return []


def _decoded(line: bytes) -> SegmentRow | None:
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        return _DECODER.decode(line) if line.endswith(b"\n") else None
    return None


def missing_segments(
    settings: Settings, names: frozenset[str], number: int
) -> Iterator[tuple[str, Path | None, SegmentRow | None]]:
    """Each segment that was ingested once and is not among `names`; `number` is the last of those.

    Yields its name, the file that has its lines (None if there is none any more; valid until the next item) and its
    row in the journal (None if it is not there). Raises LogUnreadable for a damaged archive.
    """
    home, folder = settings.warehouse_dir, settings.predlog_dir
    done = {path.stem for path in segments_of(folder, DONE)}
    if last_number(home) <= number and not done - names and number:
        return
    archived = {name: archive for archive in archives(settings.archive_dir) for name in archive.names}
    journal: dict[str, SegmentRow] = {}
    for count, row in enumerate(_read_journal(home), 1):
        if row is None or row.number != count:
            break  # what follows a damaged line has no order
        if count > number:
            journal[row.name] = row
    rest = [name for name in (*archived, *sorted(done)) if name not in names]
    unpacked: Archive | None = None
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=home) as scratch:
        for name in dict.fromkeys([*journal, *rest]):
            files = [path for suffix in (DONE, READY) if (path := segment_path(folder, name, suffix)).exists()]
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
