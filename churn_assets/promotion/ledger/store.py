"""The ledger's file: one SQLite database, one transaction a call, plain errors.

WAL lets sensors read while a run writes; synchronous=FULL puts a transaction on disk before it counts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from churn_assets.errors import LedgerCorrupt, LedgerUnavailable, TransitionRefused

VERSION = 1

# The two partial indexes are the rules "one retraining in flight" and "one move at a time".
SCHEMA = """
CREATE TABLE decisions (
    number INTEGER PRIMARY KEY, decided_at TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('nothing', 'investigate_data', 'retrain', 'wait')),
    words TEXT NOT NULL, "trigger" TEXT NOT NULL, occasion TEXT NOT NULL, champion TEXT NOT NULL,
    "by" TEXT NOT NULL, why TEXT NOT NULL, situation TEXT NOT NULL
) STRICT;
CREATE TABLE requests (
    key TEXT PRIMARY KEY, decision INTEGER NOT NULL REFERENCES decisions (number),
    "trigger" TEXT NOT NULL, occasion TEXT NOT NULL, champion TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt BETWEEN 1 AND 3),
    status TEXT NOT NULL CHECK (status IN ('open', 'started', 'failed', 'finished', 'abandoned')),
    run_id TEXT, outcome TEXT NOT NULL, opened_at TEXT NOT NULL, ended_at TEXT,
    UNIQUE ("trigger", occasion, champion, attempt)
) STRICT;
CREATE UNIQUE INDEX one_request_in_flight ON requests ((1)) WHERE status IN ('open', 'started');
CREATE TABLE challengers (
    number INTEGER PRIMARY KEY, version TEXT NOT NULL, bundle TEXT NOT NULL, bundle_sha256 TEXT NOT NULL,
    registered_version INTEGER, request TEXT REFERENCES requests (key),
    status TEXT NOT NULL CHECK (
        status IN ('waiting_gate', 'refused', 'waiting_approval', 'approved', 'rejected', 'promoted')),
    attempt INTEGER NOT NULL, words TEXT NOT NULL, verdict TEXT, approved_by TEXT NOT NULL,
    added_at TEXT NOT NULL, changed_at TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_live_challenger_a_version ON challengers (version)
    WHERE status IN ('waiting_gate', 'waiting_approval', 'approved');
CREATE TABLE approvals (
    number INTEGER PRIMARY KEY, challenger INTEGER NOT NULL REFERENCES challengers (number),
    version TEXT NOT NULL, approved INTEGER NOT NULL, "by" TEXT NOT NULL, why TEXT NOT NULL,
    bundle_sha256 TEXT NOT NULL, at TEXT NOT NULL
) STRICT;
CREATE TABLE moves (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('first', 'promotion', 'rollback')),
    "before" TEXT, "to" TEXT NOT NULL, champion TEXT NOT NULL, bundle_sha256 TEXT NOT NULL,
    "by" TEXT NOT NULL, why TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('intended', 'done', 'abandoned')),
    intended_at TEXT NOT NULL, ended_at TEXT
) STRICT;
CREATE UNIQUE INDEX one_move_at_a_time ON moves ((1)) WHERE status = 'intended';
"""


BUSY_S = 20.0
_NO_DATABASE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")  # the last: a table that is not ours


class Store:
    """Opens the file for each call and closes it again: no connection is shared by threads or forks.

    Nothing is made before the first write: a reader of a home without a ledger finds empty tables.
    """

    synchronous = "FULL"

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._plain_errors(), closing(self._connect() if self.path.is_file() else _nothing()) as db:
            if self._version(db) == 0:  # made, and killed before its first transaction
                with closing(_nothing()) as empty:
                    yield empty
                return
            db.execute("BEGIN")
            yield db
            db.execute("ROLLBACK")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is on disk when the block ends, or nothing after an exception."""
        with self._plain_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as db:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute(f"PRAGMA synchronous = {self.synchronous}")
                db.execute("PRAGMA foreign_keys = ON")
                db.execute("BEGIN IMMEDIATE")
                if self._version(db) == 0:
                    for statement in SCHEMA.split(";\n"):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {VERSION}")
                yield db
                self._commit(db)

    def _commit(self, db: sqlite3.Connection) -> None:
        db.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
        db.row_factory = sqlite3.Row
        return db

    def _version(self, db: sqlite3.Connection) -> int:
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        if found > VERSION:
            raise LedgerCorrupt(
                f"{self.path}: is a ledger of format {found}, expected {VERSION}; use the churn that wrote it"
            )
        return found

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise TransitionRefused(
                f"{self.path}: refuses what was asked ({error}), expected at most one request in flight and one move "
                "at a time; see churn status"
            ) from error
        except sqlite3.DatabaseError as error:
            words, code = " ".join(str(error).split()), getattr(error, "sqlite_errorname", "") or ""
            if isinstance(error, sqlite3.OperationalError) and not code.startswith(_NO_DATABASE):
                raise LedgerUnavailable(
                    f"{self.path}: cannot be used now ({words}), expected a ledger that can be read and written; "
                    "see who holds it, the disk and its permissions, then try again"
                ) from error
            raise LedgerCorrupt(
                f"{self.path}: is no ledger or a damaged one ({words}), expected one that churn wrote; restore it, "
                "or move it away: the champion stays, its history and open requests are lost"
            ) from error
        except OSError as error:
            raise LedgerUnavailable(
                f"{self.path}: cannot be used now ({error.strerror}), expected a folder that can be written; "
                "mend its permissions, then try again"
            ) from error


def _nothing() -> sqlite3.Connection:
    """An empty ledger in memory."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    db.executescript(f"{SCHEMA} PRAGMA user_version = {VERSION};")
    return db


def now_or(now: datetime | None) -> datetime:
    """`now`, or the present instant; ValueError for an instant without a time zone."""
    if now is None:
        return datetime.now(UTC)
    if now.tzinfo is None:
        raise ValueError(f"now is {now}, expected an instant with a time zone")
    return now.astimezone(UTC)


def text_of(at: datetime) -> str:
    """How an instant is kept: ISO, UTC, microseconds always, so that text sorts as time does."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def instant(text: str | None) -> datetime | None:
    """An instant that was kept, None if there was none."""
    return None if text is None else datetime.fromisoformat(text)
