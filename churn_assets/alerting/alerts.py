"""Alerts: each open one is told once, reminded of after a cooldown, and its end is told once.

What is to be told is on disk before it is sent, and marked as taken after: a process that is killed in
between sends it again at the next call. So a message may come twice and is not lost. Nothing here fails
its caller: a destination that does not answer is remembered and tried again at the next call of any alert.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from churn_assets.alerting.delivery import Parcel, send
from churn_assets.alerting.destinations import AlertSettings, without_secrets
from churn_assets.alerting.store import Book, Entry
from churn_assets.errors import AlertsUnreadable
from churn_assets.storage.lock import LockBusy, file_lock

Kind = Literal[
    "drift", "data_quality", "performance_drop", "gate_verdict", "waiting_approval", "failed_run", "stale_log"
]
Severity = Literal["info", "warning", "error"]

log = logging.getLogger("churn.alerts")
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR, "recovered": logging.INFO}


@dataclass(frozen=True)
class Alert:
    """Something a person should know. `key` says what is the same alert again; `words` are a sentence or more.

    Severity 'info' is an event: told, never open. `once`: never told a second time, however often it is raised.
    """

    key: str
    kind: Kind
    title: str
    words: str
    severity: Severity = "warning"
    once: bool = False


@dataclass(frozen=True)
class Told:
    """What a call did: `made` is raised, repeated, recovered or ''; `failed` is destination -> why.

    `delivered` and `failed` are of every message that waited, those of earlier calls too.
    """

    made: str = ""
    delivered: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """In a line; empty if nothing was done."""
        parts = [self.made] if self.made else []
        parts += [f"sent to {', '.join(self.delivered)}"] if self.delivered else []
        parts += [f"not taken by {name}: {why}" for name, why in self.failed.items()]
        return "; ".join(parts) + ("; tried again at the next alert or run" if self.failed else "")


def raise_alert(settings: AlertSettings, alert: Alert, now: datetime) -> Told:
    """Tell `alert`, unless it is open and was told less than the cooldown ago. Never raises for a delivery."""
    title, words = without_secrets(alert.title), without_secrets(alert.words)
    now_s = _seconds(now)
    try:
        book = Book(settings.path)
        made = _raise(book, settings, alert, title, words, now_s)
        return Told(made, *_send_waiting(book, settings, now_s))
    except (AlertsUnreadable, OSError) as error:
        log.error("%s cannot be used (%s); alerts are sent without memory, so they may repeat", settings.path, error)
        _say(alert.severity, title, words)
        parcels = [Parcel(0, place, *_text(settings, title, words), alert.severity) for place in settings.destinations]
        answers = list(send(parcels, settings.timeout_s))
        delivered = tuple(a.parcel.destination.name for a in answers if a.failure is None)
        return Told("raised", delivered, {a.parcel.destination.name: a.failure for a in answers if a.failure})


def recover_alert(settings: AlertSettings, key: str, words: str, now: datetime) -> Told:
    """Close the open alert of `key` and tell that, once; nothing if none is open.

    A key that ends in `*` means every open alert that begins so.
    """
    if not settings.path.exists():
        return Told()
    now_s = _seconds(now)
    try:
        book = Book(settings.path)
        made = _recover(book, settings, key, without_secrets(words), now_s)
        return Told(made, *_send_waiting(book, settings, now_s))
    except (AlertsUnreadable, OSError) as error:
        log.error("%s cannot be used (%s); the end of '%s' is not told", settings.path, error, key)
        return Told()


def send_waiting(settings: AlertSettings, now: datetime) -> Told:
    """Try again what no destination has taken yet."""
    if not (settings.destinations and settings.path.exists()):
        return Told()
    try:
        return Told("", *_send_waiting(Book(settings.path), settings, _seconds(now)))
    except (AlertsUnreadable, OSError) as error:
        log.error("%s cannot be used (%s); nothing that waits is sent", settings.path, error)
        return Told()


def open_alerts(settings: AlertSettings) -> list[Entry]:
    """The open alerts, newest first. Creates nothing. Raises AlertsUnreadable."""
    return Book(settings.path).entries(closed=False)


def all_alerts(settings: AlertSettings) -> list[Entry]:
    """Every alert there was, newest first. Creates nothing. Raises AlertsUnreadable."""
    return Book(settings.path).entries(closed=True)


def send_test(settings: AlertSettings) -> dict[str, str | None]:
    """Send a test message to every destination: name -> None if it was taken, else why not."""
    title, body = _text(settings, "A test", "This is a test by `churn alerts test`; nothing is wrong.")
    parcels = [Parcel(0, place, title, body, "info") for place in settings.destinations]
    found = {answer.parcel.destination.name: answer.failure for answer in send(parcels, settings.timeout_s)}
    return {place.name: found[place.name] for place in settings.destinations}


def _raise(book: Book, settings: AlertSettings, alert: Alert, title: str, words: str, now_s: float) -> str:
    with book.change():
        row = book.open_row(alert.key)
        if row is None:
            if (alert.once or alert.severity == "info") and book.known(alert.key):
                return ""
            open_ = alert.severity != "info"
            made, body = "raised", words
            number = book.add_alert(alert.key, alert.kind, title, words, alert.severity, now_s, open_)
        else:
            # A clock that was set back would otherwise silence a reminder until it has caught up.
            told = not alert.once and not 0 <= now_s - row.told_s < settings.cooldown_s
            book.raise_again(row.id, title, words, alert.severity, now_s, told)
            if not told:
                return ""
            since = f"Open since {_when(row.opened_s)}, raised {row.times + 1:,} times."
            made, body, number = "repeated", f"{words}\n{since}", row.id
        told_title = title if made == "raised" else f"Still: {title}"
        _add_message(book, settings, number, alert.key, (told_title, body, alert.severity), now_s)
    _say(alert.severity, told_title, body)
    return made


def _recover(book: Book, settings: AlertSettings, key: str, words: str, now_s: float) -> str:
    with book.change():
        ended = []
        for found, row in book.open_rows(key):
            body = f"{words}\nIt was open from {_when(row.opened_s)}, raised {row.times:,} times: {row.words}"
            book.close_alert(row.id, words, now_s)
            ended.append((f"Over: {row.title}", body, "recovered"))
            _add_message(book, settings, row.id, found, ended[-1], now_s)
    for title, body, severity in ended:
        _say(severity, title, body)
    return "recovered" if ended else ""


def _add_message(
    book: Book, settings: AlertSettings, alert: int, key: str, said: tuple[str, str, str], now_s: float
) -> None:
    title, body = _text(settings, said[0], said[1])
    book.add_message(alert, key, title, body, said[2], now_s, [place.name for place in settings.destinations])


def _send_waiting(book: Book, settings: AlertSettings, now_s: float) -> tuple[tuple[str, ...], dict[str, str]]:
    places = {place.name: place for place in settings.destinations}
    delivered: list[str] = []
    failed: dict[str, str] = {}
    try:
        with file_lock(settings.home / ".alerts.lock", settings.timeout_s):  # two at once would send the same twice
            with book.change():
                rows = book.waiting(list(places), now_s)
            parcels = [Parcel(number, places[to], title, body, severity) for number, to, title, body, severity in rows]
            for answer in send(parcels, settings.timeout_s):
                name = answer.parcel.destination.name
                with book.change():
                    book.answered(answer.parcel.number, name, answer.failure, now_s)
                if answer.failure is None:
                    delivered.append(name)
                else:
                    failed[name] = answer.failure
    except LockBusy:
        log.warning("another process is sending alerts; this one is sent at the next call")
        return (), {}
    failed = {name: failed[name] for name in places if name in failed}
    for name, why in failed.items():
        log.warning("an alert was not taken by %s: %s; it is tried again at the next alert or run", name, why)
    return tuple(name for name in places if name in delivered), failed


def _text(settings: AlertSettings, title: str, words: str) -> tuple[str, str]:
    return f"churn: {title}", f"{words}\n(home {settings.home}; `churn alerts` lists what is open)"


def _say(severity: str, title: str, words: str) -> None:
    log.log(_LEVELS.get(severity, logging.WARNING), "%s: %s", title, " ".join(words.split()))


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _seconds(now: datetime) -> float:
    if now.tzinfo is None:
        raise ValueError(f"now is {now}, expected an instant with a time zone")
    return now.timestamp()
