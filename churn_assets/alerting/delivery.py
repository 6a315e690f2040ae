"""Delivery of messages, by apprise. Nothing here raises, waits longer than its timeout, or logs a URL."""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from churn_assets.alerting.destinations import Destination

# They log URLs, tokens in them, at DEBUG: nothing of them may reach a log that is kept.
_LOGGERS = ("apprise", "urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry", "asyncio")

_TYPES = {"info": "info", "warning": "warning", "error": "failure", "recovered": "success"}


@dataclass(frozen=True)
class Message:
    """One message for one destination; `severity` is info, warning, error or recovered."""

    number: int
    destination: Destination
    title: str
    body: str
    severity: str


def send(messages: Sequence[Message], timeout_s: float) -> Iterator[tuple[Message, str | None]]:
    """Send all, destinations side by side; yields (message, failure) as each ends, within `timeout_s` in all.

    A failure is a text without secrets, None if the message was taken. A destination that fails is not tried again
    in this call, and does not hold up the others. One that hangs is left alone at the end of the time; what it takes
    after that counts as not taken.
    """
    if not messages:
        return
    if failure := _prepare():
        yield from ((message, failure) for message in messages)
        return
    results: queue.SimpleQueue[tuple[Message, str | None]] = queue.SimpleQueue()
    pending = list(messages)
    for name in dict.fromkeys(message.destination.name for message in messages):
        batch = [message for message in messages if message.destination.name == name]
        # A daemon: one that hangs for ever must not keep the process from ending.
        threading.Thread(
            target=_send_batch, args=(batch, timeout_s, results), name=f"alert to {name}", daemon=True
        ).start()
    until = time.monotonic() + timeout_s
    while pending:
        try:
            message, failure = results.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        pending.remove(message)
        yield message, failure
    yield from ((message, f"no answer within {timeout_s:g} s") for message in pending)


def _send_batch(
    messages: Sequence[Message], timeout_s: float, results: queue.SimpleQueue[tuple[Message, str | None]]
) -> None:
    until, failure = time.monotonic() + timeout_s, None
    for message in messages:
        if failure is None and time.monotonic() < until:
            try:
                failure = _post(message, timeout_s)
            except Exception as error:  # its text may hold the URL, its type does not
                failure = f"apprise failed ({type(error).__name__})"
        results.put((message, failure))


def _post(message: Message, timeout_s: float) -> str | None:
    import apprise

    warned: list[str] = []
    _WARNINGS.set(warned)
    service: Any = apprise.Apprise.instantiate(message.destination.url)
    if service is None:
        return "apprise knows no such URL; docs/alerts.md has examples"
    service.socket_connect_timeout = min(service.socket_connect_timeout or timeout_s, timeout_s)
    service.socket_read_timeout = timeout_s
    # Not by Apprise.notify: that has threads of its own, which the end of the process would wait for.
    taken = service.notify(
        title=message.title,
        body=message.body,
        notify_type=apprise.NotifyType(_TYPES[message.severity]),
        body_format=apprise.NotifyFormat.TEXT,
    )
    if taken:
        return None
    # apprise returns no more than False, and most of its services write the status into the text of their log only
    # (`error=500`). The number is shown to people; nothing is decided by it.
    status = re.search(r"error=(\d{3})\b", " ".join(warned))
    return f"it answered {status[1]}" if status else "no connection, no answer in time, or refused without a status"


class _WarningFilter(logging.Filter):
    """Keeps the warnings that are logged while a message is sent, and lets no record of that time through."""

    def filter(self, record: logging.LogRecord) -> bool:
        warned = _WARNINGS.get()
        if warned is None:
            return True
        if record.levelno >= logging.WARNING:
            warned.append(record.getMessage())
        return False


_WARNINGS: ContextVar[list[str] | None] = ContextVar("warnings", default=None)
_FILTER = _WarningFilter()


def _prepare() -> str | None:
    """Load apprise and its kinds of destination, and keep its log to itself; the failure, if it cannot be loaded."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)  # the same one a second time changes nothing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of imghdr, which it carries on for others
            import apprise

            apprise.Apprise.instantiate("json://localhost")
    except ImportError as error:
        return f"apprise cannot be imported ({error.name})"
    return None
