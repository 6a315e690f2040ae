"""Questions to the published copy of the log.

The answers for one copy are kept. A question of a million rows takes up to some tenths of a second, so in the process
of the dashboard a follower answers those of the pages for a new copy first (`follower`); until then the pages show the
copy before it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from churn_assets.errors import LogUnreadable, NothingIngested, one_line
from churn_assets.prediction_log.warehouse.connection import PUBLISHED, HeldCopy
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")
Stamp = tuple[int, int, int]

MOST_KEPT = 256  # answers of one copy


class _Copy:
    """A copy that is open, and the answers that it gave."""

    def __init__(self, settings: Settings, stamp: Stamp) -> None:
        self.stamp, self.held = stamp, HeldCopy(settings)
        self.answers: dict[Hashable, Any] = {}


class PublishedLog:
    """The copy that questions go to: the newest one, or with a follower the one that it has handed over last."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.warehouse_dir / PUBLISHED
        self.is_followed = False
        self.asked_s = time.monotonic()  # when the last question came
        self._settings, self._copy = settings, cast(_Copy | None, None)
        self._lock = threading.Lock()

    @property
    def stamp(self) -> Stamp | None:
        """The copy that is open; None without one."""
        copy = self._copy
        return None if copy is None else copy.stamp

    def ask(self, key: Hashable, question: Callable[[duckdb.DuckDBPyConnection], T]) -> T | None:
        """What `question` finds, None where nothing was ingested; the answer for a `key` is kept. Raises as
        `open_published`, and LogUnreadable for a copy that lacks what is asked."""
        import duckdb

        self.asked_s = time.monotonic()
        copy = self._newest()
        if copy is None:
            return None
        if key in copy.answers:
            return cast(T, copy.answers[key])
        try:
            with copy.held.connection() as connection:
                answer = question(connection)
        except duckdb.Error as error:
            text = f"{self.path}: cannot be read ({one_line(error, 200)}), expected the copy that an ingest made"
            raise LogUnreadable(f"{text}; make it again: `churn log ingest --rebuild`") from error
        if len(copy.answers) >= MOST_KEPT:
            copy.answers.clear()
        copy.answers[key] = answer
        return answer

    def take_over(self, other: PublishedLog) -> None:
        """Ask the copy of `other`, which is not asked by anybody any more, from now on."""
        with self._lock:
            self._copy, other._copy = other._copy, None

    def _newest(self) -> _Copy | None:
        with self._lock:
            if self.is_followed and self._copy is not None:
                return self._copy
            stamp, before = stamp_of(self.path), self._copy
            if before is not None and stamp == before.stamp:
                return before
            self._copy = None
            if stamp is None:
                return None
            try:
                self._copy = _Copy(self._settings, stamp)
            except NothingIngested:  # removed since
                return None
            return self._copy


def stamp_of(path: Path) -> Stamp | None:
    """What changes with the content of a file that is replaced or written to; None without one."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
