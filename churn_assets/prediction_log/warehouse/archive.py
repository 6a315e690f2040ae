"""Archives: old segments as Parquet files, and their deletion after the retention time.

Segments of a UTC day that ended long enough ago go into one file a day (several if they are large). The file is
complete and durable under its name before the first of its segments is deleted. Readers skip a segment that an
archive names, so that a kill in between repeats no row and hides none.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from churn_assets.errors import LogUnreadable
from churn_assets.prediction_log.records import LineHead, decode_head
from churn_assets.prediction_log.schema import ROW_TABLES
from churn_assets.prediction_log.segment import DONE, files_of, segment_path, segments_of
from churn_assets.storage.files import open_file, replacing

if TYPE_CHECKING:
    import duckdb

PARQUET = ".parquet"
NAMES_KEY = b"churn_segments"
TORN = "torn"  # the kind of a last line without its newline

MAX_BYTES = 256 * 2**20  # of segments in one archive
_ROWS = 20_000  # of a row group


@dataclass(frozen=True)
class Archive:
    """One Parquet file of whole segments: `names`, in the order they were ingested in."""

    path: Path
    names: tuple[str, ...]

    def lines(self, wanted: frozenset[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """(segment, line) in the order of the log, lines as they were; of all segments or the `wanted` ones."""
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(8192, columns=["segment", "kind", "line"]):
                    columns = (batch.column(i).to_pylist() for i in range(3))
                    for segment, kind, line in zip(*columns, strict=True):
                        if wanted is None or segment in wanted:
                            yield segment, line if kind == TORN else line + b"\n"
        except (OSError, ValueError) as error:
            raise _unreadable(self.path, error) from error


def archives(folder: Path) -> list[Archive]:
    """The archives of a folder, oldest first. Raises LogUnreadable for a file that is not an archive."""
    return [archive for path in files_of(folder, PARQUET) if (archive := read_archive(path)) is not None]


def read_archive(path: Path) -> Archive | None:
    """The archive in a file, None if it has expired since it was listed. Raises LogUnreadable."""
    import pyarrow.parquet as pq  # only if there are any

    try:
        return Archive(path, tuple(json.loads((pq.read_schema(path).metadata or {})[NAMES_KEY])))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from error


def due(connection: duckdb.DuckDBPyConnection, before: dt.datetime) -> list[tuple[str, dt.date]]:
    """Segments ingested before the day of an instant (UTC, naive) and their day, in the order of ingest."""
    return connection.execute(
        "SELECT name, ingested_at::DATE FROM segments WHERE ingested_at < ?::DATE AND NOT expired ORDER BY number",
        [before],
    ).fetchall()


def compact(folder: Path, segments: Path, old: Sequence[tuple[str, dt.date]]) -> int:
    """Archive the segments that are `old` and still in `segments`; the number of files made. Raises OSError."""
    there = {path.stem for path in segments_of(segments, DONE)}
    kept = {name for archive in archives(folder) for name in archive.names} if there else set()
    groups = list(_groups([(name, day) for name, day in old if name in there - kept], segments))
    for names in groups:
        _write(folder, segments, names)
        kept |= set(names)
    for name in sorted(there & kept):
        segment_path(segments, name, DONE).unlink()
    return len(groups)


def expire(connection: duckdb.DuckDBPyConnection, before: dt.datetime) -> int:
    """Delete the rows of segments ingested before an instant, in one transaction; how many segments."""
    connection.execute("BEGIN")
    [(count,)] = connection.execute(
        "UPDATE segments SET expired = true WHERE ingested_at < ? AND NOT expired", [before]
    ).fetchall()
    for table in ROW_TABLES if count else ():
        connection.execute(f"DELETE FROM {table} WHERE segment IN (SELECT name FROM segments WHERE expired)")
    connection.execute("COMMIT")
    return int(count)


def remove(folder: Path, segments: Path, names: frozenset[str]) -> None:
    """Delete archives that have expired segments only, and files of expired segments. Raises OSError."""
    if not names:
        return
    for archive in archives(folder):
        if names.issuperset(archive.names):
            archive.path.unlink()
    for path in segments_of(segments, DONE):
        if path.stem in names:
            path.unlink()


def _groups(old: Sequence[tuple[str, dt.date]], segments: Path) -> Iterator[list[str]]:
    """Names of one day each, at most MAX_BYTES together unless one alone is larger."""
    group: list[str] = []
    size, of = 0, None
    for name, day in old:
        more = segment_path(segments, name, DONE).stat().st_size
        if group and (day != of or size + more > MAX_BYTES):
            yield group
            group, size = [], 0
        group.append(name)
        size, of = size + more, day
    if group:
        yield group


def _write(folder: Path, segments: Path, names: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        {"segment": pa.string(), "number": pa.int64(), "kind": pa.string(), "id": pa.string(), "line": pa.binary()},
        metadata={NAMES_KEY: json.dumps(names)},
    )
    with (  # the ingest's lock is held: what a killed ingest left is overwritten
        replacing(folder / f"{names[0]}{PARQUET}", reuse_name=True) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        rows = _rows(segments, names)
        while group := list(islice(rows, _ROWS)):
            writer.write_batch(pa.record_batch(list(map(list, zip(*group, strict=True))), schema=schema))


def _rows(segments: Path, names: Sequence[str]) -> Iterator[tuple[str, int, str | None, str | None, bytes]]:
    for name in names:
        with open_file(segment_path(segments, name, DONE)) as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    yield name, number, TORN, None, line
                    continue
                head = decode_head(line) or LineHead()
                yield name, number, head.kind, head.own_id, line[:-1]


def _unreadable(path: Path, error: Exception) -> LogUnreadable:
    message = " ".join(str(error).split()) or type(error).__name__
    return LogUnreadable(
        f"{path}: not an archive of segments ({message}), expected a file that the ingest wrote; restore it"
    )
