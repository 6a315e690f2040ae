"""Where lines of ingested segments lie: segment files, and archives of them. Needs pyarrow for archives only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from churn_assets.errors import LogUnreadable
from churn_assets.prediction_log.segment import DONE, OPEN, READY

PARQUET = ".parquet"
NAMES_KEY = b"churn_segments"
TORN = "torn"  # the kind of a last line without its newline


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
    """The archives of a folder, oldest first. Raises LogUnreadable for one that is no archive."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == PARQUET)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LogUnreadable(f"{folder}: cannot be listed ({error.strerror}); name a folder you may read") from error
    return [found for path in paths if (found := _archive(path)) is not None]


def _archive(path: Path) -> Archive | None:
    import pyarrow.parquet as pq

    try:
        metadata: Mapping[bytes, bytes] = pq.read_schema(path).metadata or {}
        return Archive(path, tuple(json.loads(metadata[NAMES_KEY])))
    except FileNotFoundError:
        return None  # its time had come after it was listed
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from error


def open_segment(folder: Path, name: str) -> Any:
    """A segment's file for reading bytes, or None if it is not there any more. Raises LogUnreadable."""
    # The name changes twice, open to ready to done: who misses one finds the next.
    for suffix in (OPEN, READY, DONE, DONE):
        try:
            return (folder / f"{name}{suffix}").open("rb")
        except FileNotFoundError:
            continue
        except OSError as error:
            where = folder / f"{name}{suffix}"
            raise LogUnreadable(f"{where}: cannot be read ({error.strerror}); mend its permissions") from error
    return None


def _unreadable(path: Path, error: Exception) -> LogUnreadable:
    words = " ".join(str(error).split()) or type(error).__name__
    return LogUnreadable(f"{path}: no archive of segments ({words}), expected one that the ingest wrote; restore it")
