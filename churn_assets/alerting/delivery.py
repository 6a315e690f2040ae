"""Messages on their way, by apprise. Nothing here raises, waits longer than told, or logs a URL."""

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

# They log URLs, tokens in them, at DEBUG; whoever turns that on for the root would read them in a log.
_TALKATIVE = ("apprise", "urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry", "asyncio")

_TYPES = {"info": "info", "warning": "warning", "error": "failure", "recovered": "success"}


@dataclass(frozen=True)
class Parcel:
    """One message for one destination; `severity` is info, warning, error or recovered."""

    number: int
    destination: Destination
    title: str
    body: str
    severity: str


@dataclass(frozen=True)
class Answer:
    """What became of a parcel: `failure` in words without secrets, None if it was taken."""

    parcel: Parcel
    failure: str | None


def send(parcels: Sequence[Parcel], timeout_s: float) -> Iterator[Answer]:
    """Send all, destinations side by side; one answer a parcel, as it comes, within `timeout_s` in all.

    A destination that fails is not tried again in this call, and does not hold up the others. One that
    hangs is left alone at the end of the time; what it takes after that counts as not taken.
    """
    if not parcels:
        return
    missing = _prepare()
    if missing:
        yield from (Answer(parcel, missing) for parcel in parcels)
        return
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    open_ = {(parcel.destination.name, parcel.number): parcel for parcel in parcels}
    for name in dict.fromkeys(parcel.destination.name for parcel in parcels):
        mine = [parcel for parcel in parcels if parcel.destination.name == name]
        # A daemon: one that hangs for ever must not keep the process from ending.
        threading.Thread(target=_carry, args=(mine, timeout_s, answers), name=f"alert to {name}", daemon=True).start()
    until = time.monotonic() + timeout_s
    while open_:
        try:
            answer = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        del open_[answer.parcel.destination.name, answer.parcel.number]
        yield answer
    yield from (Answer(parcel, f"no answer within {timeout_s:g} s") for parcel in open_.values())


def _carry(parcels: Sequence[Parcel], timeout_s: float, answers: queue.SimpleQueue[Answer]) -> None:
    until, failure = time.monotonic() + timeout_s, None
    for parcel in parcels:
        if failure is None and time.monotonic() < until:
            try:
                failure = _post(parcel, timeout_s)
            except Exception as error:  # its text may hold the URL, its kind does not
                failure = f"apprise failed ({type(error).__name__})"
        answers.put(Answer(parcel, failure))


def _post(parcel: Parcel, timeout_s: float) -> str | None:
    import apprise

    said: list[str] = []
    _HEARD.set(said)
    service: Any = apprise.Apprise.instantiate(parcel.destination.url)
    if service is None:
        return "apprise knows no such URL; docs/alerts.md has examples"
    service.socket_connect_timeout = min(service.socket_connect_timeout or timeout_s, timeout_s)
    service.socket_read_timeout = timeout_s
    # Not by Apprise.notify: that has threads of its own, which the end of the process would wait for.
    taken = service.notify(
        title=parcel.title,
        body=parcel.body,
        notify_type=apprise.NotifyType(_TYPES.get(parcel.severity, "warning")),
        body_format=apprise.NotifyFormat.TEXT,
    )
    return None if taken else _why(" ".join(said))


def _why(said: str) -> str:
    """The status that apprise names, or that there was no connection; its own text may name more."""
    status = re.search(r"error=(\d{3})\b", said)
    if status:
        return f"it answered {status[1]}"
    return "no connection, or no answer in time" if "onnection" in said else "it was not taken"


class _Listener(logging.Filter):
    """Takes what is logged while a parcel is sent, and lets none of it through."""

    def filter(self, record: logging.LogRecord) -> bool:
        heard = _HEARD.get()
        if heard is None:
            return True
        if record.levelno >= logging.WARNING:
            heard.append(record.getMessage())
        return False


_HEARD: ContextVar[list[str] | None] = ContextVar("heard", default=None)
_LISTENER = _Listener()


def _prepare() -> str:
    """Load apprise and its kinds of destination, and keep its log to itself; why not, if it cannot be had."""
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_LISTENER)  # the same one a second time changes nothing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of imghdr, which it carries on for others
            import apprise

            apprise.Apprise.instantiate("json://localhost")
    except ImportError as error:
        return f"apprise cannot be imported ({error.name})"
    return ""
