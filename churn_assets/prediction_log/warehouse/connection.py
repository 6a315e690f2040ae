"""The one way in for writing: a lock of our own, DuckDB's lock, and what its errors mean."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from churn_assets.errors import ChurnError, LogUnavailable, NothingIngested, WarehouseCorrupt, WarehouseLocked
from churn_assets.settings import Settings
from churn_assets.storage.files import replacing
from churn_assets.storage.lock import file_lock

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")

FILE, PUBLISHED = "log.duckdb", "published.duckdb"


@contextlib.contextmanager
def open_published(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only DuckDB connection to the log as it was ingested last; its time zone is UTC.

    The ingest replaces the file under its name: who has it open goes on with what they opened. Raises
    NothingIngested, WarehouseCorrupt, WarehouseLocked (somebody has the copy open for writing).
    """
    path = settings.warehouse_dir / PUBLISHED
    if not path.is_file():
        raise NothingIngested(
            f"nothing has been ingested in {settings.home}, expected {PUBLISHED}; "
            "`churn log ingest` makes it once there are predictions"
        )
    import duckdb

    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        words = " ".join(str(error).split())[:200]
        if (holder := holder_of(str(error))) is not None:
            raise WarehouseLocked(
                f"{path} is open for writing in {holder}, expected readers only; close it there and open it read-only "
                "(`duckdb -readonly`)"
            ) from error
        advice = "make it again: `churn log ingest --rebuild`"
        raise WarehouseCorrupt(f"{path} cannot be opened ({words}); {advice}") from error
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


def holder_of(error: str) -> str | None:
    """Who has the database open, by DuckDB's message; None if it is about something else than its lock."""
    if "lock" not in error or "Could not set" not in error:
        return None
    process = re.search(r"PID (\d+)", error)
    return f"process {process[1]}" if process else "another process"


def publish(folder: Path) -> bool:
    """Copy the warehouse beside and give the copy its name, if it is older; whether that was needed.

    Nobody may be writing the warehouse meanwhile.
    """
    source, target = folder / FILE, folder / PUBLISHED
    if not source.exists() or (target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns):
        return False
    # 0444: who opened it for writing would keep every reader out. The ingest's lock is held, see `alone`.
    with replacing(target, mode=0o444, reuse_name=True) as temporary:
        shutil.copyfile(source, temporary)
    return True


_LOCK = ".ingest.lock"
_LONGEST_WAIT_S = 1.0


@contextlib.contextmanager
def alone(folder: Path, patience_s: float) -> Iterator[None]:
    """Hold the warehouse against a second ingest, its copy and archive included.

    The system gives the lock back when the process ends, however it ends. Raises WarehouseLocked after
    `patience_s`, LogUnavailable for what the disk refuses in here.
    """
    try:
        with file_lock(folder / _LOCK, patience_s, lambda holder: _locked(folder / FILE, holder)):
            yield
    except OSError as error:
        raise LogUnavailable(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}), expected room and write "
            "access; mend that and ingest again, nothing is lost"
        ) from error


@contextlib.contextmanager
def opened(path: Path, patience_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-write connection, closed whatever happens; its time zone is UTC.

    Raises WarehouseLocked (another program has the file open), WarehouseCorrupt, LogUnavailable (a full
    disk).
    """
    import duckdb

    connection = _patiently(lambda: _connect(path), patience_s)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    except duckdb.Error as error:
        if isinstance(error, duckdb.ProgrammingError):  # a mistake of ours is no damage, and must not look like it
            raise
        raise _plain_error(path, error) from error
    finally:
        with contextlib.suppress(duckdb.Error):
            connection.close()


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    import duckdb

    try:
        return duckdb.connect(str(path))
    except duckdb.Error as error:
        raise _plain_error(path, error) from error


def _plain_error(path: Path, error: Exception) -> ChurnError:
    words = " ".join(str(error).split())
    if (holder := holder_of(words)) is not None:
        return _locked(path, holder)
    if "No space left" in words or "not permitted" in words or "Permission denied" in words:
        return LogUnavailable(f"{path}: cannot be written ({words[:200]}); free the disk or mend its permissions")
    return WarehouseCorrupt(
        f"{path}: cannot be used ({words[:200]}); segments and archives hold every row: `churn log ingest --rebuild`"
    )


def _locked(path: Path, who: str) -> WarehouseLocked:
    copy = path.with_name(PUBLISHED).name
    return WarehouseLocked(f"{path} is open in {who}, expected nobody; wait for it or close it, and read {copy}")


def _patiently(attempt: Callable[[], T], patience_s: float) -> T:
    """The attempt's result; a lock is waited for, ever longer."""
    end, wait = time.monotonic() + patience_s, 0.02
    while True:
        try:
            return attempt()
        except WarehouseLocked:
            if time.monotonic() + wait > end:
                raise
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)
