"""What is remembered of alerts: one small SQLite file a home, written before anything is sent."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from churn_assets.errors import AlertsUnreadable
from churn_assets.storage.sqlite import SqliteStore

GIVE_UP_DAYS = 3.0

_SCHEMA = """
CREATE TABLE alerts (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL, words TEXT NOT NULL,
  severity TEXT NOT NULL, opened_s REAL NOT NULL, last_s REAL NOT NULL, told_s REAL NOT NULL,
  times INTEGER NOT NULL, closed_s REAL, ending TEXT NOT NULL DEFAULT '');
CREATE UNIQUE INDEX one_open_alert_a_key ON alerts (key) WHERE closed_s IS NULL;
CREATE INDEX alerts_of_a_key ON alerts (key);
CREATE TABLE messages (
  id INTEGER PRIMARY KEY, alert INTEGER NOT NULL REFERENCES alerts (id), key TEXT NOT NULL, title TEXT NOT NULL,
  body TEXT NOT NULL, severity TEXT NOT NULL, made_s REAL NOT NULL);
CREATE TABLE deliveries (
  message INTEGER NOT NULL REFERENCES messages (id), destination TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
  failure TEXT NOT NULL DEFAULT 'not sent yet', state TEXT NOT NULL DEFAULT 'waiting', done_s REAL,
  PRIMARY KEY (message, destination));
CREATE INDEX waiting_deliveries ON deliveries (state) WHERE state = 'waiting';
"""


@dataclass(frozen=True)
class Entry:
    """One alert as it is remembered; instants are UTC, `closed_at` is None while it is open.

    `times` counts how often it was raised; `undelivered` is destination -> why it has not got the last word.
    """

    key: str
    kind: str
    title: str
    words: str
    severity: str
    opened_at: datetime
    last_at: datetime
    times: int
    closed_at: datetime | None
    ending: str
    undelivered: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values; instants as ISO 8601."""
        instants = {"opened_at": self.opened_at, "last_at": self.last_at, "closed_at": self.closed_at}
        return {**vars(self), **{name: at.isoformat() if at else None for name, at in instants.items()}}


@dataclass(frozen=True)
class Row:
    """An open alert's place in the file."""

    id: int
    title: str
    words: str
    opened_s: float
    told_s: float
    times: int


class Book(SqliteStore):
    """The alerts of a home; `with book.change():` is one durable transaction. Raises AlertsUnreadable."""

    schema = _SCHEMA
    busy_s = 5.0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.db: sqlite3.Connection  # of the transaction under way

    @contextmanager
    def change(self) -> Iterator[None]:
        """All of it or nothing, on disk when left, and alone: another process waits."""
        with self._writing() as self.db:
            yield

    def entries(self, closed: bool) -> list[Entry]:
        """The alerts, newest first; only the open ones unless `closed`. Nothing is created."""
        with self._reading() as db:
            where = "" if closed else "WHERE closed_s IS NULL"
            found = db.execute(
                "SELECT id, key, kind, title, words, severity, opened_s, last_s, times, closed_s, ending"
                f" FROM alerts {where} ORDER BY id DESC"
            ).fetchall()
            failures = db.execute(
                "SELECT m.alert, d.destination, d.failure FROM deliveries d JOIN messages m ON m.id = d.message"
                " WHERE d.state IN ('waiting', 'given up') ORDER BY d.message"
            ).fetchall()
        return [_entry(row, {name: why for alert, name, why in failures if alert == row["id"]}) for row in found]

    def _unavailable(self, message: str) -> AlertsUnreadable:
        return AlertsUnreadable(
            f"{self.path}: cannot be used now ({message}), expected the alerts of this home; see who holds it, the "
            "disk and its permissions, then try again"
        )

    def _corrupt(self, message: str) -> AlertsUnreadable:
        return AlertsUnreadable(
            f"{self.path}: cannot be read ({message}), expected the alerts of this home; move it away and a new one "
            "is made"
        )

    def open_row(self, key: str) -> Row | None:
        """The open alert of a key."""
        found = self.open_rows(key)
        return found[0][1] if found else None

    def open_rows(self, key: str) -> list[tuple[str, Row]]:
        """(key, row) of the open alert of `key`, or of all that begin with it if it ends in `*`."""
        start = key.removesuffix("*")
        exact = "key = ?" if start == key else "substr(key, 1, length(?)) = ?"
        found = self.db.execute(
            f"SELECT key, id, title, words, opened_s, told_s, times FROM alerts WHERE {exact} AND closed_s IS NULL",
            (start,) if start == key else (start, start),
        )
        return [(row[0], Row(*row[1:])) for row in found]

    def known(self, key: str) -> bool:
        """Whether there ever was an alert of this key."""
        return self.db.execute("SELECT 1 FROM alerts WHERE key = ? LIMIT 1", (key,)).fetchone() is not None

    def add_alert(self, key: str, kind: str, title: str, words: str, severity: str, now_s: float, open_: bool) -> int:
        """A new alert; one that is not open is closed at once."""
        made = self.db.execute(
            "INSERT INTO alerts (key, kind, title, words, severity, opened_s, last_s, told_s, times, closed_s)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?)",
            (key, kind, title, words, severity, now_s, now_s, now_s, None if open_ else now_s),
        )
        return int(made.lastrowid or 0)

    def raise_again(self, row: int, title: str, words: str, severity: str, now_s: float, told: bool) -> None:
        """Count an open alert once more, with its newest words; `told`: a message is made of it."""
        self.db.execute(
            "UPDATE alerts SET title = ?, words = ?, severity = ?, last_s = ?, times = times + 1,"
            " told_s = CASE WHEN ? THEN ? ELSE told_s END WHERE id = ?",
            (title, words, severity, now_s, told, now_s, row),
        )

    def close_alert(self, row: int, words: str, now_s: float) -> None:
        """The alert is over."""
        self.db.execute("UPDATE alerts SET closed_s = ?, ending = ? WHERE id = ?", (now_s, words, row))

    def add_message(
        self, alert: int, key: str, title: str, body: str, severity: str, now_s: float, to: Sequence[str]
    ) -> None:
        """A message for every destination in `to`; it takes the place of what waits there under this key."""
        self.db.execute(
            "UPDATE deliveries SET state = 'replaced' WHERE state = 'waiting'"
            " AND message IN (SELECT id FROM messages WHERE key = ?)",
            (key,),
        )
        made = self.db.execute(
            "INSERT INTO messages (alert, key, title, body, severity, made_s) VALUES (?, ?, ?, ?, ?, ?)",
            (alert, key, title, body, severity, now_s),
        )
        rows = [(made.lastrowid, name) for name in to]
        self.db.executemany("INSERT INTO deliveries (message, destination) VALUES (?, ?)", rows)

    def waiting(self, destinations: Sequence[str], now_s: float) -> list[tuple[int, str, str, str, str]]:
        """(message, destination, title, body, severity) that must go out, oldest first; gives up the too old."""
        self.db.execute(
            "UPDATE deliveries SET state = 'given up' WHERE state = 'waiting' AND message IN"
            " (SELECT id FROM messages WHERE made_s < ?)",
            (now_s - GIVE_UP_DAYS * 86_400,),
        )
        found = self.db.execute(
            "SELECT d.message, d.destination, m.title, m.body, m.severity FROM deliveries d"
            " JOIN messages m ON m.id = d.message WHERE d.state = 'waiting' ORDER BY d.message"
        )
        return [row for row in found if row[1] in destinations]

    def answered(self, message: int, destination: str, failure: str | None, now_s: float) -> None:
        """Keep how a try ended; what was taken is never sent again."""
        state = "state" if failure else "'taken'"
        self.db.execute(
            f"UPDATE deliveries SET tries = tries + 1, failure = ?, done_s = ?, state = {state}"
            " WHERE message = ? AND destination = ?",
            (failure or "", now_s, message, destination),
        )


def _entry(row: Sequence[Any], undelivered: dict[str, str]) -> Entry:
    _, key, kind, title, words, severity, opened_s, last_s, times, closed_s, ending = row
    closed_at = None if closed_s is None else _at(closed_s)
    return Entry(
        *(key, kind, title, words, severity, _at(opened_s), _at(last_s), times, closed_at, ending, undelivered)
    )


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
