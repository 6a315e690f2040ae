"""Alerts: each open one is sent once, repeated after a cooldown, and its end is sent once.

A message is on disk before it is sent, and marked as delivered after: a process that is killed in between sends
it again at the next call. So a message may come twice and is not lost. Nothing here fails its caller: a
destination that does not answer is remembered and tried again at the next call of any alert.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from sqlite3 import Connection, Row
from typing import Any, Literal

from churn_assets.alerting.destinations import AlertSettings, Message, send
from churn_assets.errors import AlertsUnreadable, without_user_info
from churn_assets.storage.lock import LockBusy, file_lock
from churn_assets.storage.sqlite import SqliteStore

Kind = Literal[
    "drift",
    "data_quality",
    "performance_drop",
    "gate_verdict",
    "waiting_approval",
    "failed_run",
    "stale_log",
    "implausible_feedback",
    "lost_rows",
    "waiting_feedback",
    "daemon_down",
    "ingest_overdue",
    "monitor_overdue",
    "request_overdue",
    "gate_overdue",
    "moved_alias",
    "window_never_full",
    "release_rolled_back",
    "release_inconclusive",
    "release_waiting",
]
Severity = Literal["info", "warning", "error"]

GIVE_UP_DAYS = 3.0

log = logging.getLogger("churn.alerts")
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR, "recovered": logging.INFO}

_SCHEMA = """
CREATE TABLE alerts (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL, words TEXT NOT NULL,
  severity TEXT NOT NULL, opened_s REAL NOT NULL, last_s REAL NOT NULL, told_s REAL NOT NULL,
  times INTEGER NOT NULL, closed_s REAL, ending TEXT NOT NULL DEFAULT '', acknowledged_s REAL,
  acknowledged_by TEXT NOT NULL DEFAULT '', muted_until_s REAL, muted_by TEXT NOT NULL DEFAULT '');
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

_STEPS = {
    2: """
ALTER TABLE alerts ADD COLUMN acknowledged_s REAL;
ALTER TABLE alerts ADD COLUMN acknowledged_by TEXT NOT NULL DEFAULT '';
ALTER TABLE alerts ADD COLUMN muted_until_s REAL;
ALTER TABLE alerts ADD COLUMN muted_by TEXT NOT NULL DEFAULT '';
"""
}


@dataclass(frozen=True)
class Alert:
    """Something a person should know. `key` says what is the same alert again; `message` is a sentence or more.

    Severity 'info' is an event: sent, never open. `once`: never sent a second time, however often it is raised.
    """

    key: str
    kind: Kind
    title: str
    message: str
    severity: Severity = "warning"
    once: bool = False


@dataclass(frozen=True)
class AlertResult:
    """What a call did: `action` is raised, repeated, recovered or ''; `failed` is destination -> why.

    `delivered` and `failed` are of every message that waited, those of earlier calls too.
    """

    action: str = ""
    delivered: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """In a line; empty if nothing was done."""
        parts = [self.action] if self.action else []
        parts += [f"sent to {', '.join(self.delivered)}"] if self.delivered else []
        parts += [f"not taken by {name}: {why}" for name, why in self.failed.items()]
        return "; ".join(parts) + ("; tried again at the next alert or run" if self.failed else "")


@dataclass(frozen=True)
class Entry:
    """One stored alert; instants are UTC, `closed_at` is None while it is open.

    `times` counts how often it was raised, `sent_at` is of the last message about it that was made; `undelivered` is
    destination -> why it has not got the last message. Who has acknowledged it, "" for nobody, wants no reminder of it;
    `muted_by` none before `muted_until`.
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
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None
    muted_by: str = ""
    muted_until: datetime | None = None

    def is_silent(self, now: datetime) -> bool:
        """Whether nobody is reminded of it at that instant."""
        return bool(self.acknowledged_by) or (self.muted_until is not None and now < self.muted_until)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `churn alerts --json` prints them; instants as ISO 8601."""
        stored = {"words" if name == "message" else name: value for name, value in vars(self).items()}
        del stored["number"], stored["sent_at"]
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in stored.items()}


def raise_alert(settings: AlertSettings, alert: Alert, now: datetime) -> AlertResult:
    """Send `alert`, unless it is open and was sent less than the cooldown ago. Never raises for a delivery."""
    alert = replace(alert, title=without_user_info(alert.title), message=without_user_info(alert.message))
    unstored = "alerts are sent without memory, so they may repeat"
    result = _update(settings, now, lambda store: store.raise_alert(alert, now), unstored)
    if result is not None:
        return result
    _log(alert)
    failures = _send_unstored(settings, alert.title, alert.message, alert.severity)
    delivered = tuple(name for name, failure in failures.items() if failure is None)
    return AlertResult("raised", delivered, {name: failure for name, failure in failures.items() if failure})


def recover_alert(settings: AlertSettings, key: str, message: str, now: datetime) -> AlertResult:
    """Close the open alert of `key` (one that ends in `*`: all whose key begins so) and send that, once."""
    if not settings.path.exists():
        return AlertResult()
    ending, unsent = without_user_info(message), f"the end of '{key}' is not sent"
    return _update(settings, now, lambda store: store.recover(key, ending, now), unsent) or AlertResult()


def acknowledge_alert(settings: AlertSettings, number: int, by: str, now: datetime) -> Entry | None:
    """Somebody looks after an open alert: it is not sent again, its end is. The alert; None if it is not open (any
    more). The first to acknowledge it counts. Raises AlertsUnreadable."""
    by_first = "acknowledged_by = CASE acknowledged_by WHEN '' THEN ? ELSE acknowledged_by END"
    change = f"acknowledged_s = coalesce(acknowledged_s, ?), {by_first}"
    return AlertStore(settings).change_open(number, change, (now.timestamp(), by))


def mute_alert(settings: AlertSettings, number: int, by: str, until: datetime) -> Entry | None:
    """Send no reminder of an open alert before an instant; its end is sent. As `acknowledge_alert`."""
    return AlertStore(settings).change_open(number, "muted_until_s = ?, muted_by = ?", (until.timestamp(), by))


def send_waiting(settings: AlertSettings, now: datetime) -> AlertResult:
    """Try again what no destination has taken yet."""
    if not (settings.destinations and settings.path.exists()):
        return AlertResult()
    return _update(settings, now, lambda store: "", "nothing that waits is sent") or AlertResult()


@dataclass(frozen=True)
class AlertCounts:
    """Alerts by kind, those that are open and all that were raised; messages that a destination has
    not taken: 'waiting' ones, and 'given up' ones where they are the newest of an open alert."""

    opened: Mapping[str, int] = field(default_factory=dict)
    raised: Mapping[str, int] = field(default_factory=dict)
    messages: Mapping[str, int] = field(default_factory=dict)


def count_alerts(settings: AlertSettings) -> AlertCounts:
    """Counts of a home's alerts, without reading them. Creates nothing. Raises AlertsUnreadable."""
    return AlertStore(settings).count()


def open_alerts(settings: AlertSettings) -> list[Entry]:
    """The open alerts, newest first. Creates nothing. Raises AlertsUnreadable."""
    return AlertStore(settings).entries("WHERE closed_s IS NULL")


def all_alerts(settings: AlertSettings) -> list[Entry]:
    """Every alert there was, newest first. Creates nothing. Raises AlertsUnreadable."""
    return AlertStore(settings).entries()


def send_test(settings: AlertSettings) -> dict[str, str | None]:
    """Send a test message to every destination: name -> None if it was taken, else why not."""
    return _send_unstored(settings, "A test", "This is a test by `churn alerts test`; nothing is wrong.", "info")


def _update(
    settings: AlertSettings, now: datetime, change: Callable[[AlertStore], str], consequence: str
) -> AlertResult | None:
    """Make a change that returns its action, then send what waits; None, logged, if the store cannot be used."""
    if now.tzinfo is None:
        raise ValueError(f"now is {now}, expected an instant with a time zone")
    try:
        store = AlertStore(settings)
        return AlertResult(change(store), *store.send_waiting(now))
    except (AlertsUnreadable, OSError) as error:
        log.error("%s cannot be used (%s); %s", settings.path, error, consequence)
        return None


class AlertStore(SqliteStore):
    """The alerts of a home in SQLite; each method is one transaction. Raises AlertsUnreadable."""

    schema, steps, version = _SCHEMA, _STEPS, 2
    busy_s = 5.0

    def __init__(self, settings: AlertSettings) -> None:
        super().__init__(settings.path)
        self._settings = settings

    def entries(self, where: str = "") -> list[Entry]:
        """The alerts that the clause selects, newest first. Nothing is created."""
        with self._reading() as db:
            # An older file is brought up to date by the next write.
            columns = _ENTRY if self._stored_version(db) < 2 else f"{_ENTRY}, {_HANDLED}"
            rows = db.execute(f"SELECT {columns} FROM alerts {where} ORDER BY id DESC").fetchall()
            failures = db.execute(
                "SELECT m.alert, d.destination, d.failure FROM deliveries d JOIN messages m ON m.id = d.message"
                " WHERE d.state IN ('waiting', 'given up') ORDER BY d.message"
            ).fetchall()
        return [_entry(row, {name: why for alert, name, why in failures if alert == row["number"]}) for row in rows]

    def count(self) -> AlertCounts:
        """Alerts and undelivered messages. Nothing is created."""
        undelivered = (
            "SELECT d.state, count(*) FROM deliveries d JOIN messages m ON m.id = d.message"
            " JOIN alerts a ON a.id = m.alert WHERE d.state = 'waiting' OR (d.state = 'given up' AND a.closed_s IS NULL"
            " AND m.id = (SELECT max(id) FROM messages WHERE alert = a.id)) GROUP BY d.state"
        )
        with self._reading() as db:
            return AlertCounts(
                dict(db.execute("SELECT kind, count(*) FROM alerts WHERE closed_s IS NULL GROUP BY kind").fetchall()),
                dict(db.execute("SELECT kind, count(*) FROM alerts GROUP BY kind").fetchall()),
                dict(db.execute(undelivered).fetchall()),
            )

    def raise_alert(self, alert: Alert, now: datetime) -> str:
        """Store a new alert, or count an open one once more, with its newest message; the action."""
        now_s = now.timestamp()
        with self._writing() as db:
            entry = next(iter(_open_entries(db, alert.key)), None)
            if entry is None:
                known = "SELECT 1 FROM alerts WHERE key = ? LIMIT 1"
                if (alert.once or alert.severity == "info") and db.execute(known, (alert.key,)).fetchone():
                    return ""
                cursor = db.execute(
                    "INSERT INTO alerts (key, kind, title, words, severity, opened_s, last_s, told_s, times, closed_s)"
                    " VALUES (:key, :kind, :title, :message, :severity, :now_s, :now_s, :now_s, 1, :closed_s)",
                    {**vars(alert), "now_s": now_s, "closed_s": now_s if alert.severity == "info" else None},
                )
                self._add_message(db, int(cursor.lastrowid or 0), alert, now)
                return "raised"
            # A clock that was set back would otherwise silence a reminder until it has caught up.
            cooling = timedelta(0) <= now - entry.sent_at < timedelta(seconds=self._settings.cooldown_s)
            due = not alert.once and not cooling and not entry.is_silent(now)
            db.execute(
                "UPDATE alerts SET title = :title, words = :message, severity = :severity, last_s = :now_s,"
                " times = times + 1, told_s = CASE WHEN :due THEN :now_s ELSE told_s END WHERE id = :number",
                {**vars(alert), "now_s": now_s, "due": due, "number": entry.number},
            )
            if due:
                message = f"{alert.message}\nOpen since {_minute(entry.opened_at)}, raised {entry.times + 1:,} times."
                reminder = replace(alert, title=f"Still: {alert.title}", message=message)
                self._add_message(db, entry.number, reminder, now)
        return "repeated" if due else ""

    def change_open(self, number: int, change: str, values: tuple[object, ...]) -> Entry | None:
        """Apply the SQL `change` to an alert that is open; the alert afterwards, None if it is not."""
        with self._writing() as db:
            update = f"UPDATE alerts SET {change} WHERE id = ? AND closed_s IS NULL"
            db.execute(update, (*values, number))
            query = f"SELECT {_ENTRY}, {_HANDLED} FROM alerts WHERE id = ? AND closed_s IS NULL"
            row = db.execute(query, (number,)).fetchone()
        return None if row is None else _entry(row, {})

    def recover(self, key: str, ending: str, now: datetime) -> str:
        """Close the open alerts of a key; the action."""
        with self._writing() as db:
            entries = _open_entries(db, key)
            for entry in entries:
                since = f"It was open from {_minute(entry.opened_at)}, raised {entry.times:,} times: {entry.message}"
                values = (now.timestamp(), ending, entry.number)
                db.execute("UPDATE alerts SET closed_s = ?, ending = ? WHERE id = ?", values)
                over = replace(entry, title=f"Over: {entry.title}", message=f"{ending}\n{since}", severity="recovered")
                self._add_message(db, entry.number, over, now)
        return "recovered" if entries else ""

    def send_waiting(self, now: datetime) -> tuple[tuple[str, ...], dict[str, str]]:
        """(destinations that took a message, failure by destination that did not take one)."""
        settings = self._settings
        delivered: set[str] = set()
        failures: dict[str, str] = {}
        try:
            with file_lock(settings.home / ".alerts.lock", settings.timeout_s):  # two at once would send the same twice
                for message, failure in send(self._waiting(now), settings.timeout_s):
                    name = message.destination.name
                    with self._writing() as db:  # what was taken is never sent again
                        db.execute(
                            "UPDATE deliveries SET tries = tries + 1, failure = ?, done_s = ?,"
                            " state = CASE WHEN ? THEN state ELSE 'taken' END WHERE message = ? AND destination = ?",
                            (failure or "", now.timestamp(), bool(failure), message.number, name),
                        )
                    if failure is None:
                        delivered.add(name)
                    else:
                        failures[name] = failure
        except LockBusy:
            log.warning("another process is sending alerts; this one is sent at the next call")
            return (), {}
        names = [destination.name for destination in settings.destinations]
        failed = {name: failures[name] for name in names if name in failures}
        for name, failure in failed.items():
            log.warning("an alert was not taken by %s: %s; it is tried again at the next alert or run", name, failure)
        return tuple(name for name in names if name in delivered), failed

    def _waiting(self, now: datetime) -> list[Message]:
        """The messages that must go out, oldest first; gives up the too old."""
        by_name = {destination.name: destination for destination in self._settings.destinations}
        with self._writing() as db:
            db.execute(
                "UPDATE deliveries SET state = 'given up' WHERE state = 'waiting' AND message IN"
                " (SELECT id FROM messages WHERE made_s < ?)",
                (now.timestamp() - GIVE_UP_DAYS * 86_400,),
            )
            rows = db.execute(
                "SELECT d.message, d.destination, m.title, m.body, m.severity FROM deliveries d"
                " JOIN messages m ON m.id = d.message WHERE d.state = 'waiting' ORDER BY d.message"
            )
            return [Message(number, by_name[name], *text) for number, name, *text in rows if name in by_name]

    def _add_message(self, db: Connection, number: int, content: Alert | Entry, now: datetime) -> None:
        """Log a message about an alert, and store it for every destination in place of what waits under its key."""
        db.execute(
            "UPDATE deliveries SET state = 'replaced' WHERE state = 'waiting'"
            " AND message IN (SELECT id FROM messages WHERE key = ?)",
            (content.key,),
        )
        title, body = _text(self._settings, content.title, content.message)
        cursor = db.execute(
            "INSERT INTO messages (alert, key, title, body, severity, made_s) VALUES (?, ?, ?, ?, ?, ?)",
            (number, content.key, title, body, content.severity, now.timestamp()),
        )
        rows = [(cursor.lastrowid, destination.name) for destination in self._settings.destinations]
        db.executemany("INSERT INTO deliveries (message, destination) VALUES (?, ?)", rows)
        _log(content)

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


# Some columns have older names than the fields they hold.
_ENTRY = (
    "id AS number, key, kind, title, words AS message, severity, opened_s AS opened_at, last_s AS last_at, "
    "told_s AS sent_at, times, closed_s AS closed_at, ending"
)
_HANDLED = "acknowledged_by, acknowledged_s AS acknowledged_at, muted_by, muted_until_s AS muted_until"
_INSTANTS = ("opened_at", "last_at", "sent_at", "closed_at", "acknowledged_at", "muted_until")


def _entry(row: Row, undelivered: dict[str, str]) -> Entry:
    instants = {
        name: None if row[name] is None else datetime.fromtimestamp(row[name], UTC)
        for name in _INSTANTS
        if name in row.keys()  # noqa: SIM118  # of a row, `in` looks at its values
    }
    return Entry(**{**dict(row), **instants}, undelivered=undelivered)


def _open_entries(db: Connection, key: str) -> list[Entry]:
    """The open alert of `key`, or all whose key begins with it if it ends in `*`."""
    start = key.removesuffix("*")
    matches = "key = :start" if start == key else "substr(key, 1, length(:start)) = :start"
    rows = db.execute(f"SELECT {_ENTRY}, {_HANDLED} FROM alerts WHERE {matches} AND closed_s IS NULL", {"start": start})
    return [_entry(row, {}) for row in rows]


def _send_unstored(settings: AlertSettings, title: str, message: str, severity: str) -> dict[str, str | None]:
    """Send to every destination without the store: name -> None if it was taken, else why not."""
    title, body = _text(settings, title, message)
    messages = [Message(0, destination, title, body, severity) for destination in settings.destinations]
    failures = {sent.destination.name: failure for sent, failure in send(messages, settings.timeout_s)}
    return {destination.name: failures[destination.name] for destination in settings.destinations}


def _text(settings: AlertSettings, title: str, message: str) -> tuple[str, str]:
    return f"churn: {title}", f"{message}\n(home {settings.home}; `churn alerts` lists what is open)"


def _log(content: Alert | Entry) -> None:
    log.log(_LEVELS[content.severity], "%s: %s", content.title, " ".join(content.message.split()))


def _minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"
