"""Stores in a PostgreSQL database: one schema for all of them, a few sessions for each process.

As in SQLite one process at a time writes to a store: a transaction that writes holds the advisory lock of its store
from its first statement on, so it sees all that was committed before. Readers wait for nobody.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

from churn_assets.errors import DatabaseUnavailable, one_line
from churn_assets.storage.sqlite import Cursor

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Engine

    from churn_assets.storage.store import Database

SCHEMA = "churn"
ALL_STORES = ""
SESSIONS, IDLE_SESSIONS = 4, 2  # of a process, at most; those of them that stay open between two calls
CONNECT_S = 5  # for a server that does not answer
_HELD_S = 60  # a transaction whose process is gone without a word ends after that, and its lock with it
# A host that is gone does not say so: the system asks it from time to time.
_NETWORK = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
_READ = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path TO {SCHEMA}"
# Asked of the catalogue's tables: to_regclass answers from a cache, which may be of before a lock was waited for.
_HAS_SCHEMA = f"SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = '{SCHEMA}')"
_HAS_VERSIONS = (
    f"SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = '{SCHEMA}' AND tablename = 'store_versions')"
)
# `copied` is the hash of what was copied from a file, see `moving`.
_VERSIONS = "CREATE TABLE IF NOT EXISTS store_versions (store TEXT PRIMARY KEY, version BIGINT NOT NULL, copied TEXT)"
# Types of SQLite's tables. By bytes, as SQLite compares: the order of texts must not depend on a server's language.
_TYPES = {"INTEGER": "BIGINT", "REAL": "DOUBLE PRECISION", "TEXT": 'TEXT COLLATE "C"', "STRICT": ""}
_PARAMETER = re.compile(r"'[^']*'|\?|%|(?<!:):([a-z_]+)")

_engines: dict[tuple[int, str], Engine] = {}  # a child process has its own


def engine_of(url: str) -> Engine:
    """This process's sessions with a database: each is asked whether it lives before it is used again."""
    key = os.getpid(), url
    if key not in _engines:
        from sqlalchemy import create_engine

        engine = create_engine(
            url,
            pool_size=IDLE_SESSIONS,
            max_overflow=SESSIONS - IDLE_SESSIONS,
            pool_timeout=CONNECT_S,
            pool_pre_ping=True,
            isolation_level="AUTOCOMMIT",  # the transactions are those of this module
            connect_args={
                "connect_timeout": CONNECT_S,
                "application_name": "churn",
                "client_encoding": "utf8",
                "prepare_threshold": None,  # a pooler between here and the server may know no prepared statements
                **_NETWORK,
            },
        )
        _engines.setdefault(key, engine)  # of two threads, the first: the engine of the other has no session yet
    return _engines[key]


def close_sessions(url: str) -> None:
    """End this process's idle sessions with a database."""
    engine = _engines.pop((os.getpid(), url), None)
    if engine is not None:
        engine.dispose()


def begin_writing(schema: str, lock: str, busy_s: float) -> str:
    """Statements that begin a transaction in `schema`, which holds the lock of that name until it ends.

    Whatever the server's defaults are: a commit is on disk before it counts, and each statement sees what is committed.
    """
    return (
        f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL search_path TO {schema};"
        f" SET LOCAL synchronous_commit TO on; SET LOCAL idle_in_transaction_session_timeout TO '{_HELD_S}s';"
        f" SET LOCAL lock_timeout TO '{max(1, round(busy_s * 1000))}ms';"
        f" SELECT pg_advisory_xact_lock({_lock_number(lock)})"
    )


@contextmanager
def transaction(database: Database, begin: str) -> Iterator[Session]:
    """A session in a transaction that `begin` opens. It is committed when the block ends, else rolled back."""
    import psycopg

    pooled = engine_of(database.url).raw_connection()
    session = cast("psycopg.Connection[Any]", pooled.driver_connection)
    try:
        session.execute(cast(Any, begin))
        yield Session(session)
        # After a statement that failed the server rolls back, and calls that a success.
        if session.execute("COMMIT").statusmessage != "COMMIT":
            raise psycopg.InternalError("the transaction was rolled back")
    finally:
        if session.closed:
            pooled.invalidate()
        pooled.close()


@contextmanager
def making(database: Database, schema: str) -> Iterator[None]:
    """Make `schema` where there is none, and let one process after the other make tables in it, in the block."""
    import psycopg

    with psycopg.connect(database.url, autocommit=True, connect_timeout=CONNECT_S, application_name="churn") as session:
        session.execute("SELECT pg_advisory_lock(%s)", (_lock_number(f"schema {schema}"),))
        if session.execute("SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema,)).fetchone() is None:
            session.execute(psycopg.sql.SQL("CREATE SCHEMA {}").format(psycopg.sql.Identifier(schema)))
        yield  # the end of the session gives the lock back


def has_tables(database: Database, schema: str) -> bool:
    """Whether a schema is there and has tables."""
    query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = ?)"
    with transaction(database, _READ) as session:
        return bool(session.execute(query, (schema,)).fetchone()[0])


@dataclass(frozen=True)
class Server:
    """What a database's server says of itself and of this account."""

    version: str
    encoding: str
    may_make_schemas: bool
    sessions: int
    most_sessions: int


def look_at(database: Database) -> Server:
    """Ask the server of a database. Raises the driver's errors."""
    query = (
        "SELECT current_setting('server_version'), current_setting('server_encoding'),"
        " has_database_privilege(current_database(), 'CREATE'), (SELECT count(*) FROM pg_stat_activity WHERE"
        " backend_type = 'client backend'), CAST(current_setting('max_connections') AS bigint)"
    )
    with transaction(database, _READ) as session:
        return Server(*session.execute(query).fetchone())


class Row(tuple[Any, ...]):
    """A row as SQLite gives it: values by place and by name; iterating gives the values."""

    _places: dict[str, int]

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._places[key] if isinstance(key, str) else key)

    def keys(self) -> list[str]:
        """The names of the columns."""
        return list(self._places)


def _rows(cursor: Any) -> Callable[[Sequence[Any]], Row]:
    places = {column.name: place for place, column in enumerate(cursor.description or ())}

    def make(values: Sequence[Any]) -> Row:
        row = Row(values)
        row._places = places
        return row

    return make


class Session:
    """A session that takes the SQL of the stores; what it cannot say in PostgreSQL is said otherwise here."""

    def __init__(self, session: psycopg.Connection[Any]) -> None:
        self.session = session

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Cursor:
        """As sqlite3 does."""
        cursor = self.session.cursor(row_factory=_rows)
        if not parameters:
            return cast(Cursor, cursor.execute(cast(Any, sql)))
        values: Any
        if isinstance(parameters, Mapping):
            values = {name: storable(value) for name, value in parameters.items()}
        else:
            values = [storable(value) for value in parameters]
        return cast(Cursor, cursor.execute(cast(Any, _in_postgresql(sql)), values))

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> Cursor:
        """As sqlite3 does."""
        cursor = self.session.cursor()
        cursor.executemany(cast(Any, _in_postgresql(sql)), [[storable(value) for value in row] for row in rows])
        return cast(Cursor, cursor)


def storable(value: Any) -> Any:
    """A value that PostgreSQL can hold: no text of it has the character 0."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


@lru_cache(maxsize=256)
def _in_postgresql(sql: str) -> str:
    """SQL with SQLite's parameters, with those of psycopg."""

    def replaced(match: re.Match[str]) -> str:
        if match[1]:
            return f"%({match[1]})s"
        return {"?": "%s", "%": "%%"}.get(match[0], match[0].replace("%", "%%"))

    return _PARAMETER.sub(replaced, sql)


def tables_in_postgresql(schema: str) -> str:
    """CREATE and ALTER statements of SQLite's tables with PostgreSQL's types."""
    return re.sub(r"\b(" + "|".join(_TYPES) + r")\b", lambda match: _TYPES[match[1]], schema)


class Tables:
    """The tables of one store in a database."""

    def __init__(self, database: Database, store: str, schema: str, steps: Mapping[int, str], version: int) -> None:
        self.database, self.store, self.version = database, store, version
        self._schema, self._steps = schema, steps

    @contextmanager
    def reading(self, too_new: Callable[[int], Exception]) -> Iterator[Session | None]:
        """A snapshot, None where nothing was ever written."""
        with transaction(self.database, _READ) as session:
            yield session if self._stored(session, too_new) else None

    @contextmanager
    def writing(
        self, busy_s: float, too_new: Callable[[int], Exception], before_making: Callable[[], None]
    ) -> Iterator[Session]:
        """A transaction in which nobody else writes to this store. `before_making` its tables may raise."""
        with transaction(self.database, _READ) as session:
            stored = self._stored(session, too_new)
        if stored == 0:
            before_making()
        if stored != self.version:
            # By itself: the schema is of all stores, and what the caller does in its transaction may write to another.
            with transaction(self.database, begin_writing(SCHEMA, ALL_STORES, busy_s)) as session:
                self._bring_up_to_date(session, too_new)
        with transaction(self.database, begin_writing(SCHEMA, self.store, busy_s)) as session:
            yield session

    def _bring_up_to_date(self, session: Session, too_new: Callable[[int], Exception]) -> None:
        session.execute(f"SELECT pg_advisory_xact_lock({_lock_number(self.store)})")
        stored = self._stored(session, too_new)
        if stored == self.version:  # another process was quicker
            return
        if not session.execute(_HAS_SCHEMA).fetchone()[0]:
            session.execute(f"CREATE SCHEMA {SCHEMA}")
        session.execute(_VERSIONS)
        steps = [self._schema] if stored == 0 else [self._steps[n] for n in range(stored + 1, self.version + 1)]
        for step in steps:
            session.execute(tables_in_postgresql(step))
        session.execute(
            "INSERT INTO store_versions VALUES (?, ?) ON CONFLICT (store) DO UPDATE SET version = excluded.version",
            (self.store, self.version),
        )

    def _stored(self, session: Session, too_new: Callable[[int], Exception]) -> int:
        if not session.execute(_HAS_VERSIONS).fetchone()[0]:
            return 0
        row = session.execute(f"SELECT version FROM {SCHEMA}.store_versions WHERE store = ?", (self.store,)).fetchone()
        version = 0 if row is None else int(row[0])
        if version > self.version:
            raise too_new(version)
        return version

    @contextmanager
    def plain_errors(
        self,
        refused: Callable[[str], Exception],
        unavailable: Callable[[str], Exception],
        corrupt: Callable[[str], Exception],
    ) -> Iterator[None]:
        """The store's errors for those of the driver, without their causes: those may have the password."""
        with driver_errors(refused, unavailable, corrupt):
            yield


@contextmanager
def driver_errors(
    refused: Callable[[str], Exception], unavailable: Callable[[str], Exception], corrupt: Callable[[str], Exception]
) -> Iterator[None]:
    """For the driver's errors raise what these make of the server's words: a rule of the tables forbids it; the server
    is away, busy or has no right for this account; tables are not as expected."""
    import psycopg
    from psycopg import errors
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.exc import TimeoutError as AllInUse

    away = (
        psycopg.OperationalError,
        psycopg.InterfaceError,
        errors.InsufficientPrivilege,
        errors.ReadOnlySqlTransaction,
    )
    try:
        yield
    except AllInUse:
        raise unavailable(f"all {SESSIONS} sessions of this process are in use") from None
    except (DBAPIError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        message = describe_error(cause)
        if isinstance(cause, psycopg.IntegrityError):
            raise refused(message) from None
        raise (unavailable if isinstance(cause, away) else corrupt)(message) from None


@contextmanager
def plain_database_errors(database: Database) -> Iterator[None]:
    """DatabaseUnavailable for the driver's errors, where no store has errors of its own."""

    def unavailable(message: str) -> DatabaseUnavailable:
        return DatabaseUnavailable(
            f"{database}: cannot be used now ({message}), expected a PostgreSQL that answers and lets this account "
            "make schemas; start it or correct CHURN_DATABASE_URL, then try again; `churn doctor` says more"
        )

    with driver_errors(unavailable, unavailable, unavailable):
        yield


def describe_error(error: BaseException | None) -> str:
    """The first line of a driver's error: the server's words, without the statement."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return one_line(lines[0], 300)


def _lock_number(store: str) -> int:
    return int.from_bytes(sha256(f"{SCHEMA}:{store}".encode()).digest()[:8], "big", signed=True)
