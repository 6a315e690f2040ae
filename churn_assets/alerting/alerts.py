"""Alerts: each open one is sent once, repeated after a cooldown, and its end is sent once.

A message is on disk before it is sent, and marked as delivered after: a process that is killed in between sends
it again at the next call. So a message may come twice and is not lost. Nothing here fails its caller: a
destination that does not answer is remembered and tried again at the next call of any alert.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from churn_assets.alerting.delivery import Message, send
from churn_assets.alerting.destinations import AlertSettings, without_secrets
from churn_assets.alerting.store import AlertStore, Entry
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


def raise_alert(settings: AlertSettings, alert: Alert, now: datetime) -> AlertResult:
    """Send `alert`, unless it is open and was sent less than the cooldown ago. Never raises for a delivery."""
    alert = replace(alert, title=without_secrets(alert.title), message=without_secrets(alert.message))
    unstored = "alerts are sent without memory, so they may repeat"
    result = _update(settings, now, lambda store: _raise(store, settings, alert, now), unstored)
    if result is not None:
        return result
    _log(alert.severity, alert.title, alert.message)
    failures = _send_unstored(settings, alert.title, alert.message, alert.severity)
    delivered = tuple(name for name, failure in failures.items() if failure is None)
    return AlertResult("raised", delivered, {name: failure for name, failure in failures.items() if failure})


def recover_alert(settings: AlertSettings, key: str, message: str, now: datetime) -> AlertResult:
    """Close the open alert of `key` and send that, once; nothing if none is open.

    A key that ends in `*` means every open alert whose key begins so.
    """
    if not settings.path.exists():
        return AlertResult()
    ending = without_secrets(message)
    result = _update(
        settings, now, lambda store: _recover(store, settings, key, ending, now), f"the end of '{key}' is not sent"
    )
    return result or AlertResult()


def send_waiting(settings: AlertSettings, now: datetime) -> AlertResult:
    """Try again what no destination has taken yet."""
    if not (settings.destinations and settings.path.exists()):
        return AlertResult()
    return _update(settings, now, lambda store: "", "nothing that waits is sent") or AlertResult()


def open_alerts(settings: AlertSettings) -> list[Entry]:
    """The open alerts, newest first. Creates nothing. Raises AlertsUnreadable."""
    return AlertStore(settings.path).entries(closed=False)


def all_alerts(settings: AlertSettings) -> list[Entry]:
    """Every alert there was, newest first. Creates nothing. Raises AlertsUnreadable."""
    return AlertStore(settings.path).entries(closed=True)


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
        store = AlertStore(settings.path)
        action = change(store)
        return AlertResult(action, *_send_waiting(store, settings, now))
    except (AlertsUnreadable, OSError) as error:
        log.error("%s cannot be used (%s); %s", settings.path, error, consequence)
        return None


def _raise(store: AlertStore, settings: AlertSettings, alert: Alert, now: datetime) -> str:
    with store.change():
        entry = next(iter(store.open_entries(alert.key)), None)
        if entry is None:
            if (alert.once or alert.severity == "info") and store.has_had(alert.key):
                return ""
            number = store.add_alert(alert, now)
            _add_message(store, settings, number, alert, now)
            return "raised"
        # A clock that was set back would otherwise silence a reminder until it has caught up.
        cooling = timedelta(0) <= now - entry.sent_at < timedelta(seconds=settings.cooldown_s)
        due = not alert.once and not cooling
        store.raise_again(entry.number, alert, now, due)
        if due:
            message = f"{alert.message}\nOpen since {_minute(entry.opened_at)}, raised {entry.times + 1:,} times."
            reminder = replace(alert, title=f"Still: {alert.title}", message=message)
            _add_message(store, settings, entry.number, reminder, now)
    return "repeated" if due else ""


def _recover(store: AlertStore, settings: AlertSettings, key: str, ending: str, now: datetime) -> str:
    with store.change():
        entries = store.open_entries(key)
        for entry in entries:
            since = f"It was open from {_minute(entry.opened_at)}, raised {entry.times:,} times: {entry.message}"
            store.close_alert(entry.number, ending, now)
            over = replace(entry, title=f"Over: {entry.title}", message=f"{ending}\n{since}", severity="recovered")
            _add_message(store, settings, entry.number, over, now)
    return "recovered" if entries else ""


def _add_message(
    store: AlertStore, settings: AlertSettings, number: int, content: Alert | Entry, now: datetime
) -> None:
    """Log a message about alert `number`, and store it for every destination."""
    title, body = _text(settings, content.title, content.message)
    destinations = [destination.name for destination in settings.destinations]
    store.add_message(number, content.key, title, body, content.severity, now, destinations)
    _log(content.severity, content.title, content.message)


def _send_waiting(store: AlertStore, settings: AlertSettings, now: datetime) -> tuple[tuple[str, ...], dict[str, str]]:
    """(destinations that took a message, failure by destination that did not take one)."""
    delivered: set[str] = set()
    failures: dict[str, str] = {}
    try:
        with file_lock(settings.home / ".alerts.lock", settings.timeout_s):  # two at once would send the same twice
            with store.change():
                messages = store.waiting(settings.destinations, now)
            for message, failure in send(messages, settings.timeout_s):
                name = message.destination.name
                with store.change():
                    store.record_attempt(message.number, name, failure, now)
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


def _send_unstored(settings: AlertSettings, title: str, message: str, severity: str) -> dict[str, str | None]:
    """Send to every destination without the store: name -> None if it was taken, else why not."""
    title, body = _text(settings, title, message)
    messages = [Message(0, destination, title, body, severity) for destination in settings.destinations]
    failures = {sent.destination.name: failure for sent, failure in send(messages, settings.timeout_s)}
    return {destination.name: failures[destination.name] for destination in settings.destinations}


def _text(settings: AlertSettings, title: str, message: str) -> tuple[str, str]:
    return f"churn: {title}", f"{message}\n(home {settings.home}; `churn alerts` lists what is open)"


def _log(severity: str, title: str, message: str) -> None:
    log.log(_LEVELS[severity], "%s: %s", title, " ".join(message.split()))


def _minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"
