"""A store that lies in a SQLite file of the home, or in the PostgreSQL database of CHURN_DATABASE_URL.

Subclasses write SQL that both understand: parameters are `?` or `:name`, keys are numbered by `next_number`, texts
compare by their bytes. SQLite needs nothing of this module but the choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from churn_assets.errors import without_user_info
from churn_assets.storage.sqlite import Connection, SqliteStore

if TYPE_CHECKING:
    from churn_assets.storage.postgresql import Tables


@dataclass(frozen=True)
class Database:
    """A PostgreSQL database by its URL, `postgresql://user:password@host:5432/name`; its text has no password.

    `file` is where the home has the same store without a database: a store is not made while that is not copied.
    """

    url: str = field(repr=False)
    file: Path | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return without_user_info(self.url.partition("?")[0])


Place = Path | Database


def place_of(database_url: str, path: Path) -> Place:
    """Where a store of a home lies: in the database if one is set, else in the file `path`."""
    return Database(database_url, path) if database_url else path


class Store(SqliteStore):
    """Base of a store in a file or a database. The same calls, the same errors; see SqliteStore."""

    name: ClassVar[str]  # of the store in a database that holds several

    def __init__(self, place: Place) -> None:
        self.place = place
        self._tables: Tables | None = None
        if isinstance(place, Path):
            super().__init__(place)
        else:
            from churn_assets.storage.postgresql import Tables

            self._tables = Tables(place, self.name, self.schema, self.steps, self.version)

    def is_made(self) -> bool:
        """Whether anything was ever stored. Makes nothing; raises as reading does."""
        if self._tables is None:
            return self.path.exists()
        with self._plain_errors(), self._tables.reading(self._too_new) as session:
            return session is not None

    @property
    def remedy(self) -> str:
        """What to do where the store cannot be used at the moment."""
        if self._tables is None:
            return "see who holds it, the disk and its permissions, then try again"
        return "start PostgreSQL or correct CHURN_DATABASE_URL, then try again; `churn doctor` says more"

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """For what looks at whole tables: a transaction that only reads."""
        with self._reading() as db:
            yield db

    @contextmanager
    def exclusive(self) -> Iterator[Connection]:
        """For what replaces whole tables: a transaction in which nobody else writes."""
        with self._writing() as db:
            yield db

    def tables(self) -> dict[str, list[str]]:
        """The tables of this version in the order in which they are made, and their columns."""
        with closing(self._empty()) as empty:
            names = [name for (name,) in empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: [row[1] for row in empty.execute(f"PRAGMA table_info({name})")] for name in names}

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        if self._tables is None:
            with super()._reading() as db:
                yield db
            return
        with self._plain_errors(), self._tables.reading(self._too_new) as session:
            if session is not None:
                yield session
                return
            with closing(self._empty()) as empty:
                yield empty

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if self._tables is None:
            with super()._writing() as db:
                yield db
            return
        with self._plain_errors(), self._tables.writing(self.busy_s, self._too_new, self._expect_no_file) as session:
            yield session

    def _expect_no_file(self) -> None:
        """Before the first row of a database: what the home has in a file must not be forgotten."""
        file = self.place.file if isinstance(self.place, Database) else None
        if file is not None and file.is_file() and file.stat().st_size:
            raise self._unavailable(f"{file} of this home is not in the database yet: copy it by `churn database copy`")

    def _stored_version(self, db: Connection) -> int:
        # Tables of a database are brought up to date as a whole: there is no older release to read from.
        return super()._stored_version(db) if self._tables is None else self.version

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        with super()._plain_errors():
            if self._tables is None:
                yield
                return
            with self._tables.plain_errors(self._refused, self._unavailable, self._corrupt):
                yield


def next_number(db: Connection, table: str, column: str = "number") -> int:
    """The number of the next row of a table, in a transaction that writes: nobody else numbers one meanwhile."""
    return int(db.execute(f"SELECT coalesce(max({column}), 0) + 1 FROM {table}").fetchone()[0])
