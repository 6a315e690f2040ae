"""Connections to the warehouse: the published copy for readers, the file itself for one writer, plain errors."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from churn_assets.errors import (
    ChurnError,
    LogUnavailable,
    LogUnreadable,
    NothingIngested,
    WarehouseCorrupt,
    WarehouseLocked,
    one_line,
)
from churn_assets.prediction_log.records import ANONYMOUS, IMPORT
from churn_assets.prediction_log.schema import VERSIONS, literal, stored_version
from churn_assets.prediction_log.warehouse.rebuild import JOURNAL
from churn_assets.settings import Settings
from churn_assets.storage.files import open_file, replacing
from churn_assets.storage.lock import file_lock

if TYPE_CHECKING:
    import duckdb

FILE, PUBLISHED = "log.duckdb", "published.duckdb"
_BLOCK = 2**20
_LEAST_FREE = 2**18  # bytes, the size of a block of DuckDB: with less it cannot write
_HEADERS, _MAGIC = 3 * 4096, b"DUCK"  # bytes at the beginning of a database; what begins its first header
# What the system says of a disk or a file, in DuckDB's messages.
_REFUSAL = re.compile("No space left|quota exceeded|File too large|not permitted|Permission denied|Read-only", re.I)

# What counts: no trial, no shadow score, no feedback that was withdrawn. Of reports that came over the network and that
# nobody has accepted, those on a share of the customers, always the same ones, whoever reports. A copy from before
# these columns has neither. `outcomes_of` is `outcomes` of one customer, also those that name a prediction only,
# without the join of the whole log.
_REPORTED = f"""
    SELECT f.*, (
            SELECT arg_max(d.accepted, d.seq) FROM source_decisions d
            WHERE d.source = f.source AND f.received_at >= d.since_at AND f.received_at < d.until_at) AS accepted,
        f.source IS NULL OR (f.source <> '{ANONYMOUS}' AND f.request_id = '{IMPORT}') OR CAST('0x' || substr(sha256(
            'feedback:' || coalesce(f.customer_id, p.customer_id, f.prediction_id)), 1, 8) AS BIGINT) < {{limit}}
            AS within_share
        FROM {{feedback}} f LEFT JOIN {{given}} p ON p.prediction_id = f.prediction_id
"""
_OWN = """
    CREATE OR REPLACE TEMP MACRO outcomes_of(customer) AS TABLE
        WITH own AS (SELECT * FROM given WHERE customer_id = customer),
        own_feedback AS (SELECT * FROM feedback
            WHERE customer_id = customer OR prediction_id IN (SELECT prediction_id FROM own))
"""
_VIEWS = f"""
    CREATE OR REPLACE TEMP VIEW given AS SELECT * FROM predictions WHERE shadow IS NOT TRUE;
    CREATE OR REPLACE TEMP VIEW answers AS SELECT p.*, u.id IS NOT NULL AS uncertain FROM given p
        LEFT JOIN (SELECT DISTINCT id FROM unacknowledged) u ON u.id = p.prediction_id
        WHERE p.test IS NOT TRUE;
    CREATE OR REPLACE TEMP VIEW reported AS {_REPORTED.format(limit="{limit}", feedback="feedback", given="given")};
    CREATE OR REPLACE TEMP VIEW outcomes AS SELECT * EXCLUDE (accepted, within_share) FROM reported
        WHERE coalesce(accepted, within_share);
    {_OWN} SELECT * EXCLUDE (accepted, within_share)
        FROM ({_REPORTED.format(limit="{limit}", feedback="own_feedback", given="own")})
        WHERE coalesce(accepted, within_share);
"""
_OLD_VIEWS = f"""
    CREATE OR REPLACE TEMP VIEW given AS SELECT * FROM predictions;
    CREATE OR REPLACE TEMP VIEW answers AS SELECT *, false AS uncertain FROM predictions;
    CREATE OR REPLACE TEMP VIEW outcomes AS SELECT *, NULL::VARCHAR AS source FROM feedback;
    {_OWN} SELECT *, NULL::VARCHAR AS source FROM own_feedback;
"""
_CONTACTS = "SELECT customer_id, event, contacted_at FROM contacts"
_NO_CONTACTS = (
    "SELECT NULL::VARCHAR AS customer_id, NULL::VARCHAR AS event, NULL::TIMESTAMP AS contacted_at WHERE false"
)


@contextlib.contextmanager
def open_published(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only DuckDB connection to the log as it was ingested last; its time zone is UTC.

    Besides the tables it has the views `given`, the predictions without a shadow's, `answers`, those that count, and
    `outcomes`, the feedback that counts.

    The ingest replaces the file under its name: an open connection goes on reading the old one. Raises
    NothingIngested, WarehouseCorrupt, WarehouseLocked (another process has the copy open for writing), and
    LogUnreadable for what the block asks of a copy that an older version made and that does not have it.
    """
    with _readable(settings) as path:
        import duckdb

        connection = duckdb.connect(str(path), read_only=True)
    with contextlib.closing(connection):
        connection.execute("SET TimeZone = 'UTC'")
        make_views(connection, settings.feedback_share)
        try:
            yield connection
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            if (stored := stored_version(connection)) >= len(VERSIONS):
                raise
            lacks = one_line(str(error).split("LINE", 1)[0])
            raise LogUnreadable(
                f"{path} has the tables of version {stored} ({lacks}), expected version {len(VERSIONS)}; "
                "`churn log ingest` brings them up to date"
            ) from error


class HeldCopy:
    """The published copy as it was when this was made, for the questions of several threads: what DuckDB has read once
    stays in memory. It is closed when nobody refers to it any more: closed before, it would take the connections of
    others with it. Raises as `open_published`."""

    def __init__(self, settings: Settings) -> None:
        with _readable(settings) as path:
            import duckdb

            # A database of its own: connections to one path share what the first of them has opened.
            self._database = duckdb.connect(":memory:")
            try:
                self._database.execute(f"ATTACH {literal(str(path))} AS log (READ_ONLY)")
            except duckdb.Error:
                self._database.close()
                raise
        self._share = settings.feedback_share
        self._lock = threading.Lock()
        self._idle: list[duckdb.DuckDBPyConnection] = []

    @contextlib.contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection as that of `open_published`, for one thread at a time."""
        with self._lock:  # also `cursor` is for one thread at a time
            connection = self._idle.pop() if self._idle else None
            is_new = connection is None
            if connection is None:
                connection = self._database.cursor()
        if is_new:
            connection.execute("USE log; SET TimeZone = 'UTC'")
            make_views(connection, self._share)
        try:
            yield connection
        finally:
            with self._lock:
                self._idle.append(connection)


@contextlib.contextmanager
def _readable(settings: Settings) -> Iterator[Path]:
    """The path of the published copy, to open it in the block. Raises as `open_published`."""
    path = settings.warehouse_dir / PUBLISHED
    if not path.is_file():
        raise NothingIngested(
            f"nothing has been ingested in {settings.home}, expected {PUBLISHED}; "
            "`churn log ingest` makes it once there are predictions"
        )
    import duckdb

    try:
        yield path
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


def make_views(connection: duckdb.DuckDBPyConnection, feedback_share: float = 1.0) -> None:
    """The views `given`, `answers`, `reported` and `outcomes`, for this connection only; again after the tables have
    changed.

    Unless a person has accepted their sources, reports over the network count in `outcomes` for `feedback_share` of the
    customers.
    """
    views = _VIEWS.format(limit=round(feedback_share * 16**8))
    connection.execute(views if has_table(connection, "source_decisions") else _OLD_VIEWS)
    contacts = _CONTACTS if has_table(connection, "contacts") else _NO_CONTACTS
    connection.execute(f"CREATE OR REPLACE TEMP VIEW contact_events AS {contacts}")


def has_table(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether the warehouse has this table; one that an older version made may not."""
    return (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()


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
    """Copy the warehouse, which nobody may be writing, if the copy has another content; whether that was needed."""
    source, target = folder / FILE, folder / PUBLISHED
    if not source.exists() or (target.exists() and _same_content(source, target)):
        return False
    # 0444: a process that opened it for writing would keep every reader out. The ingest's lock is held, see `alone`.
    with replacing(target, mode=0o444, reuse_name=True) as temporary:
        shutil.copyfile(source, temporary)
    return True


def _same_content(one: Path, other: Path) -> bool:
    """By bytes and not by times, which a step of the clock makes wrong. DuckDB counts its checkpoints in the first
    pages: files that differ are known at once."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with open_file(one) as left, open_file(other) as right:
        while block := left.read(_BLOCK):
            if block != right.read(_BLOCK):
                return False
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
def nameable(path: Path) -> Iterator[Path]:
    """The path of a database to write to. Where the path has a `?`, before which DuckDB would put the ending of its
    write-ahead log, that is a copy; it replaces the file when the block ends, and the ingest restores what is lost."""
    if "?" not in str(path.resolve()):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        if path.exists():
            shutil.copyfile(path, copy)
        yield copy
        with replacing(path, reuse_name=True) as temporary:
            shutil.copyfile(copy, temporary)


def make_database(path: Path) -> None:
    """An empty database where there is none, complete or not at all; the ingest's lock is held.

    What a killed maker left is replaced: it has no row. Raises OSError, and `duckdb.Error` for a full disk.
    """
    if path.exists() and not _is_torn(path):
        return
    import duckdb

    with replacing(path, reuse_name=True) as temporary:
        wal = temporary.with_name(f"{temporary.name}.wal")
        wal.unlink(missing_ok=True)
        duckdb.connect(str(temporary)).close()
    path.with_name(f"{path.name}.wal").unlink(missing_ok=True)  # of the database that was replaced


def _is_torn(path: Path) -> bool:
    """Whether a file is the beginning of a database whose maker was killed, as an earlier version could leave it before
    the first segment was in the journal; later it is a damaged one, of which somebody should know."""
    if path.with_name(JOURNAL).exists():
        return False
    with open_file(path) as file:
        head = file.read(_HEADERS)
    return len(head) < _HEADERS and head[8:12] in (_MAGIC, b"", bytes(len(head[8:12])))


@contextlib.contextmanager
def opened(path: Path, patience_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-write connection, closed whatever happens; its time zone is UTC. Raises WarehouseLocked (another program
    has the file open), WarehouseCorrupt, LogUnavailable (a full disk)."""
    import duckdb

    end, wait = time.monotonic() + patience_s, 0.02
    while True:
        try:
            make_database(path)
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
    """The error to raise for one of DuckDB's. The first of a chain names the cause: after a failed write DuckDB says of
    everything else that the database is invalidated."""
    messages = [" ".join(str(cause).split()) for cause in _causes(error)]
    if (holder := _holder_of(messages[0])) is not None:
        return _locked(path, holder)
    refusal = next((message for message in messages if _REFUSAL.search(message)), None)
    if refusal is None and _is_full(path.parent):
        refusal = f"the disk is full: {messages[-1]}"
    if refusal is not None:
        return LogUnavailable(f"{path}: cannot be written ({refusal[:200]}); free the disk or correct its permissions")
    return WarehouseCorrupt(
        f"{path}: cannot be used ({messages[-1][:200]}); segments and archives have every row: "
        "`churn log ingest --rebuild`"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that were being handled when it was raised, the newest first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _LEAST_FREE
    except OSError:
        return False


def _locked(path: Path, holder: str) -> WarehouseLocked:
    return WarehouseLocked(
        f"{path} is open in {holder}, expected no other process; wait for it or close it, and read {PUBLISHED}"
    )
