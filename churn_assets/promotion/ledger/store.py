"""The ledger's file: its tables, and what its errors say (`storage.sqlite` opens it)."""

from __future__ import annotations

from datetime import UTC, datetime

from churn_assets.errors import LedgerCorrupt, LedgerUnavailable, TransitionRefused
from churn_assets.storage.sqlite import SqliteStore

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


class Store(SqliteStore):
    """The tables of a ledger. A reader of a home without one finds empty tables."""

    schema, version = SCHEMA, VERSION

    def _refused(self, message: str) -> TransitionRefused:
        return TransitionRefused(
            f"{self.path}: refuses what was asked ({message}), expected at most one request in flight and one move "
            "at a time; see churn status"
        )

    def _unavailable(self, message: str) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"{self.path}: cannot be used now ({message}), expected a ledger and a folder that can be written; "
            "see who holds it, the disk and its permissions, then try again"
        )

    def _corrupt(self, message: str) -> LedgerCorrupt:
        return LedgerCorrupt(
            f"{self.path}: is no ledger or a damaged one ({message}), expected one that churn wrote; restore it, "
            "or move it away: the champion stays, its history and open requests are lost"
        )

    def _too_new(self, version: int) -> LedgerCorrupt:
        return LedgerCorrupt(
            f"{self.path}: is a ledger of format {version}, expected {self.version}; use the churn that wrote it"
        )


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
