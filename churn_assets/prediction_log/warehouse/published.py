"""Queries of the published copy of the log, whose results are kept until the ingest has replaced it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from churn_assets.errors import LogUnreadable, NothingIngested, one_line
from churn_assets.prediction_log.warehouse.connection import PUBLISHED, open_published
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")

MOST_KEPT = 64  # results of queries on one copy of the log


class PublishedLog:
    """Queries of the published copy of the log. A result is kept until the ingest has replaced the copy."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._path = settings, settings.warehouse_dir / PUBLISHED
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._kept: dict[Hashable, Any] = {}

    def ask(self, key: Hashable, question: Callable[[duckdb.DuckDBPyConnection], T]) -> T | None:
        """What `question` finds, None where nothing was ingested; the result for a `key` is kept. Raises as
        `open_published`, and LogUnreadable for a copy that lacks what is asked."""
        import duckdb

        stamp = file_stamp(self._path)
        if stamp is None:
            return None
        with self._lock:
            if stamp != self._stamp or len(self._kept) >= MOST_KEPT:
                self._stamp, self._kept = stamp, {}
            if key in self._kept:
                return cast(T, self._kept[key])
        try:
            with open_published(self._settings) as connection:
                result = question(connection)
        except NothingIngested:  # removed since
            return None
        except duckdb.Error as error:
            text = f"{self._path}: cannot be read ({one_line(error, 200)}), expected the copy that an ingest made"
            raise LogUnreadable(f"{text}; make it again: `churn log ingest --rebuild`") from error
        with self._lock:
            if stamp == self._stamp:
                self._kept[key] = result
        return result


def file_stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
