"""The store of alerts: one small SQLite file for each home, written before anything is sent."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn_assets.alerting.delivery import Message
from churn_assets.alerting.destinations import Destination
from churn_assets.errors import AlertsUnreadable
from churn_assets.storage.sqlite import SqliteStore

if TYPE_CHECKING:
    from churn_assets.alerting.alerts import Alert

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
    """One stored alert; instants are UTC, `closed_at` is None while it is open.

    `times` counts how often it was raised, `sent_at` is of the last message about it that was made; `undelivered` is
    destination -> why it has not got the last message.
    """

    number: int
    key: str
    kind: str
    title: str
    message: str
    severity: str
    opened_at: datetime
    last_at: datetime
    sent_at: datetime
    times: int
    closed_at: datetime | None
    ending: str
    undelivered: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `churn alerts --json` prints them; instants as ISO 8601."""
        return {
            "key": self.key,
            "kind": self.kind,
            "title": self.title,
            "words": self.message,
            "severity": self.severity,
            "opened_at": self.opened_at.isoformat(),
            "last_at": self.last_at.isoformat(),
            "times": self.times,
            "closed_at": self.closed_at.isoformat() if self.closed_at else None,
            "ending": self.ending,
            "undelivered": self.undelivered,
        }


class AlertStore(SqliteStore):
    """The alerts of a home; `with store.change():` is one durable transaction. Raises AlertsUnreadable."""

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
        where = "" if closed else "WHERE closed_s IS NULL"
        with self._reading() as db:
            rows = db.execute(f"SELECT * FROM alerts {where} ORDER BY id DESC").fetchall()
            failures = db.execute(
                "SELECT m.alert, d.destination, d.failure FROM deliveries d JOIN messages m ON m.id = d.message"
                " WHERE d.state IN ('waiting', 'given up') ORDER BY d.message"
            ).fetchall()
        return [_entry(row, {name: why for alert, name, why in failures if alert == row["id"]}) for row in rows]

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

    # Within `change`.

    def open_entries(self, key: str) -> list[Entry]:
        """The open alert of `key`, or all whose key begins with it if it ends in `*`."""
        start = key.removesuffix("*")
        matches = "key = :start" if start == key else "substr(key, 1, length(:start)) = :start"
        rows = self.db.execute(f"SELECT * FROM alerts WHERE {matches} AND closed_s IS NULL", {"start": start})
        return [_entry(row, {}) for row in rows]

    def has_had(self, key: str) -> bool:
        """Whether there ever was an alert of this key."""
        return self.db.execute("SELECT 1 FROM alerts WHERE key = ? LIMIT 1", (key,)).fetchone() is not None

    def add_alert(self, alert: Alert, now: datetime) -> int:
        """A new alert and its number; an event is closed at once."""
        now_s = now.timestamp()
        closed_s = now_s if alert.severity == "info" else None
        cursor = self.db.execute(
            "INSERT INTO alerts (key, kind, title, words, severity, opened_s, last_s, told_s, times, closed_s)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?)",
            (alert.key, alert.kind, alert.title, alert.message, alert.severity, now_s, now_s, now_s, closed_s),
        )
        return int(cursor.lastrowid or 0)

    def raise_again(self, number: int, alert: Alert, now: datetime, sent: bool) -> None:
        """Count an open alert once more, with its newest message; `sent`: it is sent again."""
        now_s = now.timestamp()
        self.db.execute(
            "UPDATE alerts SET title = ?, words = ?, severity = ?, last_s = ?, times = times + 1,"
            " told_s = CASE WHEN ? THEN ? ELSE told_s END WHERE id = ?",
            (alert.title, alert.message, alert.severity, now_s, sent, now_s, number),
        )

    def close_alert(self, number: int, ending: str, now: datetime) -> None:
        """The alert is over."""
        self.db.execute("UPDATE alerts SET closed_s = ?, ending = ? WHERE id = ?", (now.timestamp(), ending, number))

    def add_message(
        self, number: int, key: str, title: str, body: str, severity: str, now: datetime, destinations: Sequence[str]
    ) -> None:
        """A message for every destination; it takes the place of what waits there under this key."""
        self.db.execute(
            "UPDATE deliveries SET state = 'replaced' WHERE state = 'waiting'"
            " AND message IN (SELECT id FROM messages WHERE key = ?)",
            (key,),
        )
        cursor = self.db.execute(
            "INSERT INTO messages (alert, key, title, body, severity, made_s) VALUES (?, ?, ?, ?, ?, ?)",
            (number, key, title, body, severity, now.timestamp()),
        )
        rows = [(cursor.lastrowid, name) for name in destinations]
        self.db.executemany("INSERT INTO deliveries (message, destination) VALUES (?, ?)", rows)

    def waiting(self, destinations: Sequence[Destination], now: datetime) -> list[Message]:
        """The messages that must go out to these destinations, oldest first; gives up the too old."""
        self.db.execute(
            "UPDATE deliveries SET state = 'given up' WHERE state = 'waiting' AND message IN"
            " (SELECT id FROM messages WHERE made_s < ?)",
            (now.timestamp() - GIVE_UP_DAYS * 86_400,),
        )
        by_name = {destination.name: destination for destination in destinations}
        rows = self.db.execute(
            "SELECT d.message, d.destination, m.title, m.body, m.severity FROM deliveries d"
            " JOIN messages m ON m.id = d.message WHERE d.state = 'waiting' ORDER BY d.message"
        )
        return [Message(number, by_name[name], *text) for number, name, *text in rows if name in by_name]

    def record_attempt(self, message: int, destination: str, failure: str | None, now: datetime) -> None:
        """Keep how an attempt ended; what was taken is never sent again."""
        state = "state" if failure else "'taken'"
        self.db.execute(
            f"UPDATE deliveries SET tries = tries + 1, failure = ?, done_s = ?, state = {state}"
            " WHERE message = ? AND destination = ?",
            (failure or "", now.timestamp(), message, destination),
        )


def _entry(row: sqlite3.Row, undelivered: dict[str, str]) -> Entry:
    return Entry(
        number=row["id"],
        key=row["key"],
        kind=row["kind"],
        title=row["title"],
        message=row["words"],
        severity=row["severity"],
        opened_at=_instant(row["opened_s"]),
        last_at=_instant(row["last_s"]),
        sent_at=_instant(row["told_s"]),
        times=row["times"],
        closed_at=None if row["closed_s"] is None else _instant(row["closed_s"]),
        ending=row["ending"],
        undelivered=undelivered,
    )


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
