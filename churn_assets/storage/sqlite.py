"""One SQLite file for each store: a connection for each call, durable transactions, errors that say what to do.

WAL lets readers read while another process writes; synchronous=FULL (without WAL: EXTRA) puts a transaction on disk
before it counts.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

_NOT_OURS = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")  # the last: a table that this schema does not have


class Row(Protocol):
    """What a store uses of a row: values by place and by name; iterating gives the values."""

    def __getitem__(self, key: Any, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def keys(self) -> list[str]:
        """The names of the columns."""


class Cursor(Protocol):
    """What a store uses of a cursor."""

    def fetchone(self) -> Any:
        """The next row, None after the last."""

    def fetchall(self) -> list[Any]:
        """All rows that are left."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """What a store uses of a connection, in a transaction that is open."""

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
        """Run one statement; its parameters are `?` or `:name`."""

    def executemany(self, sql: str, rows: Any, /) -> Cursor:
        """Run one statement for each of the rows."""


class RowUnreadable(Exception):
    """A row has what its store never wrote; it becomes the store's error for a damaged file."""


class SqliteStore:
    """Base of a store; a subclass names its schema and its errors.

    `with self._reading() as db` and `with self._writing() as db` open the file and close it again, so no
    connection is shared by threads or forks, and a store may be kept or made anew. Nothing is made before the
    first write: a reader of a home without the file finds empty tables, one of an older file the tables it has.
    """

    schema: ClassVar[str]  # CREATE statements of the present version, each ended by ";\n"
    steps: ClassVar[Mapping[int, str]] = {}  # version -> statements that bring a file of the one before to it
    wal: ClassVar[bool] = True  # False: a plain journal, for a store that is hardly written and read by its file's time
    version: ClassVar[int] = 1  # kept as PRAGMA user_version; a file of a later one is refused
    busy_s: ClassVar[float] = 20.0  # how long a call waits for another process's transaction

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A snapshot: what is read in the block is of one instant."""
        with self._plain_errors(), closing(self._connect_to_read()) as db:
            if self._stored_version(db) == 0:  # made, and killed before its first transaction
                with closing(self._empty()) as empty:
                    yield empty
                return
            db.execute("BEGIN")
            yield db
            db.execute("ROLLBACK")

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction: all of it is on disk when the block ends, or nothing after an exception."""
        with self._plain_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect(self.path)) as db:
                if self.wal:
                    self._use_wal(db)
                db.execute(f"PRAGMA synchronous = {'FULL' if self.wal else 'EXTRA'}")
                db.execute("PRAGMA foreign_keys = ON")
                db.execute("BEGIN IMMEDIATE")
                self._bring_up_to_date(db)
                yield db
                db.execute("COMMIT")

    def _bring_up_to_date(self, db: sqlite3.Connection) -> None:
        """Make the tables of a new file, or those that an older one lacks, in the transaction that writes first."""
        stored = self._stored_version(db)
        if stored == self.version:
            return
        parts = [self.schema] if stored == 0 else [self.steps[n] for n in range(stored + 1, self.version + 1)]
        for statement in ";\n".join(parts).split(";\n"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {self.version}")

    # The errors of a subclass. Each function returns the error to raise; `message` is SQLite's or the system's.

    def _refused(self, message: str) -> Exception:
        """A constraint of the schema does not allow the change."""
        return self._corrupt(message)

    def _unavailable(self, message: str) -> Exception:
        """The file cannot be used now: locked, read-only, a full disk."""
        raise NotImplementedError

    def _corrupt(self, message: str) -> Exception:
        """The file is damaged or not a database of this store."""
        raise NotImplementedError

    def _too_new(self, version: int) -> Exception:
        """The file was written by a later version."""
        return self._corrupt(f"its format is {version}, expected {self.version}")

    def _connect(self, file: Path | str) -> sqlite3.Connection:
        is_uri = isinstance(file, str) and file.startswith("file:")
        db = sqlite3.connect(file, timeout=self.busy_s, isolation_level=None, uri=is_uri)
        db.row_factory = sqlite3.Row
        return db

    def _connect_to_read(self) -> sqlite3.Connection:
        """The file, the empty tables if there is none. Where this process may not write, SQLite must not try to."""
        if not self.path.is_file():
            return self._empty()
        if os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK):
            return self._connect(self.path)
        # A log beside the file has newer rows, which SQLite reads; without one it would make one unless told not to.
        options = "mode=ro" if self.path.with_name(f"{self.path.name}-wal").exists() else "mode=ro&immutable=1"
        return self._connect(f"{self.path.absolute().as_uri()}?{options}")

    def _use_wal(self, db: sqlite3.Connection) -> None:
        """Wait here for another process that makes the file: SQLite's timeout does not cover the change of mode."""
        deadline = time.monotonic() + self.busy_s
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)  # about the time of one short transaction

    def _empty(self) -> sqlite3.Connection:
        """The empty tables, in memory."""
        db = self._connect(":memory:")
        db.executescript(f"{self.schema} PRAGMA user_version = {self.version};")
        return db

    def _stored_version(self, db: Connection) -> int:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > self.version:
            raise self._too_new(version)
        return version

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except RowUnreadable as error:
            raise self._corrupt(str(error)) from error
        except sqlite3.IntegrityError as error:
            raise self._refused(str(error)) from error
        except sqlite3.DatabaseError as error:
            message, code = " ".join(str(error).split()), getattr(error, "sqlite_errorname", "") or ""
            if isinstance(error, sqlite3.OperationalError) and not code.startswith(_NOT_OURS):
                raise self._unavailable(message) from error
            raise self._corrupt(message) from error
        except OSError as error:
            raise self._unavailable(error.strerror or str(error)) from error
