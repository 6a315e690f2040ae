"""Connections to the warehouse: the published copy for readers, the file itself for one writer, plain errors."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from churn_assets.errors import ChurnError, LogUnavailable, NothingIngested, WarehouseCorrupt, WarehouseLocked
from churn_assets.settings import Settings
from churn_assets.storage.files import replacing
from churn_assets.storage.lock import file_lock

if TYPE_CHECKING:
    import duckdb

FILE, PUBLISHED = "log.duckdb", "published.duckdb"

# What counts: no trial, no shadow score, no feedback that was withdrawn. A copy from before these columns has none.
_VIEWS = """
    CREATE OR REPLACE TEMP VIEW answers AS SELECT p.*, u.id IS NOT NULL AS uncertain FROM predictions p
        LEFT JOIN (SELECT DISTINCT id FROM unacknowledged) u ON u.id = p.prediction_id
        WHERE p.test IS NOT TRUE AND p.shadow IS NOT TRUE;
    CREATE OR REPLACE TEMP VIEW outcomes AS SELECT f.* FROM feedback f WHERE coalesce((
        SELECT arg_max(d.accepted, d.seq) FROM source_decisions d
        WHERE d.source = f.source AND f.received_at >= d.since_at AND f.received_at < d.until_at), true);
    CREATE OR REPLACE TEMP VIEW decisions AS SELECT * FROM source_decisions;
"""
_OLD_VIEWS = """
    CREATE OR REPLACE TEMP VIEW answers AS SELECT *, false AS uncertain FROM predictions;
    CREATE OR REPLACE TEMP VIEW outcomes AS SELECT *, NULL::VARCHAR AS source FROM feedback;
    CREATE OR REPLACE TEMP VIEW decisions AS SELECT '' AS source, '' AS who, '' AS why, 0 AS seq LIMIT 0;
"""


@contextlib.contextmanager
def open_published(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only DuckDB connection to the log as it was ingested last; its time zone is UTC.

    Besides the tables it has the views `answers`, the predictions that count, and `outcomes`, the feedback that counts.

    The ingest replaces the file under its name: an open connection goes on reading the old one. Raises
    NothingIngested, WarehouseCorrupt, WarehouseLocked (another process has the copy open for writing).
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
        message = " ".join(str(error).split())
        if (holder := _holder_of(message)) is not None:
            raise WarehouseLocked(
                f"{path} is open for writing in {holder}, expected readers only; close it there and open it read-only "
                "(`duckdb -readonly`)"
            ) from error
        raise WarehouseCorrupt(
            f"{path} cannot be opened ({message[:200]}); make it again: `churn log ingest --rebuild`"
        ) from error
    with contextlib.closing(connection):
        connection.execute("SET TimeZone = 'UTC'")
        make_views(connection)
        yield connection


def make_views(connection: duckdb.DuckDBPyConnection) -> None:
    """The views `answers` and `outcomes`, for this connection only; again after the tables have changed."""
    tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    connection.execute(_VIEWS if ("source_decisions",) in tables else _OLD_VIEWS)


def _holder_of(error: str) -> str | None:
    """The process that has the database open, by DuckDB's message; None if that is not about its lock."""
    if "lock" not in error or "Could not set" not in error:
        return None
    process = re.search(r"PID (\d+)", error)
    return f"process {process[1]}" if process else "another process"


def ingested_names(connection: duckdb.DuckDBPyConnection, where: str = "true") -> frozenset[str]:
    """Names of the segments that were ingested, of those for which the SQL `where` is true."""
    return frozenset(name for (name,) in connection.execute(f"SELECT name FROM segments WHERE {where}").fetchall())


def publish(folder: Path) -> bool:
    """Copy the warehouse, which nobody may be writing, if the copy is older; whether that was needed."""
    source, target = folder / FILE, folder / PUBLISHED
    if not source.exists() or (target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns):
        return False
    # 0444: a process that opened it for writing would keep every reader out. The ingest's lock is held, see `alone`.
    with replacing(target, mode=0o444, reuse_name=True) as temporary:
        shutil.copyfile(source, temporary)
    return True


@contextlib.contextmanager
def alone(folder: Path, patience_s: float) -> Iterator[None]:
    """Hold the lock of the ingest over the warehouse, its copy and the archive. Raises WarehouseLocked after
    `patience_s`, LogUnavailable for an OSError in the block."""
    try:
        with file_lock(folder / ".ingest.lock", patience_s, lambda holder: _locked(folder / FILE, holder)):
            yield
    except OSError as error:
        raise LogUnavailable(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}), expected room and write "
            "access; free the disk or correct its permissions and ingest again, nothing is lost"
        ) from error


@contextlib.contextmanager
def opened(path: Path, patience_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-write connection, closed whatever happens; its time zone is UTC. Raises WarehouseLocked (another program
    has the file open), WarehouseCorrupt, LogUnavailable (a full disk)."""
    import duckdb

    end, wait = time.monotonic() + patience_s, 0.02
    while True:
        try:
            connection = duckdb.connect(str(path))
            break
        except duckdb.Error as error:
            plain = _plain_error(path, error)
            if not isinstance(plain, WarehouseLocked) or time.monotonic() + wait > end:
                raise plain from error
        time.sleep(wait)  # DuckDB does not wait for its lock
        wait = min(2 * wait, 1.0)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    except duckdb.Error as error:
        if isinstance(error, duckdb.ProgrammingError):  # a bug of this package, not a damaged file
            raise
        raise _plain_error(path, error) from error
    finally:
        with contextlib.suppress(duckdb.Error):
            connection.close()


def _plain_error(path: Path, error: Exception) -> ChurnError:
    message = " ".join(str(error).split())
    if (holder := _holder_of(message)) is not None:
        return _locked(path, holder)
    message = message[:200]
    if "No space left" in message or "not permitted" in message or "Permission denied" in message:
        return LogUnavailable(f"{path}: cannot be written ({message}); free the disk or correct its permissions")
    return WarehouseCorrupt(
        f"{path}: cannot be used ({message}); segments and archives have every row: `churn log ingest --rebuild`"
    )


def _locked(path: Path, holder: str) -> WarehouseLocked:
    return WarehouseLocked(
        f"{path} is open in {holder}, expected no other process; wait for it or close it, and read {PUBLISHED}"
    )
