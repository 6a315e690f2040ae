"""Where alerts go: apprise URLs from the environment, the names that may be shown instead, and sending to them.

Sending never raises, waits longer than its timeout, or logs a URL.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from churn_assets.errors import SettingsError
from churn_assets.settings import EnvironReader, Settings
from churn_assets.storage.store import Place, place_of

URLS, COOLDOWN, TIMEOUT = "CHURN_ALERT_URLS", "CHURN_ALERT_COOLDOWN_S", "CHURN_ALERT_TIMEOUT_S"

# The host of these is an address. The host of others, such as slack:// or tgram://, is a token.
_HOSTED = (
    *("json", "jsons", "xml", "xmls", "form", "forms", "http", "https", "mailto", "mailtos"),
    *("workflow", "workflows", "gotify", "gotifys", "mmost", "mmosts"),
)

# A comma may be part of a URL; one that separates two is followed by a scheme.
_SEPARATOR = re.compile(r"\s*,\s*(?=[A-Za-z][\w+.-]*://)|\s+")
_SCHEME = re.compile(r"[A-Za-z][\w+.-]*://\S")

# These log URLs, tokens in them, at DEBUG: nothing of them may reach a log that is kept.
_LOGGERS = ("apprise", "urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry", "asyncio")

_TYPES = {"info": "info", "warning": "warning", "error": "failure", "recovered": "success"}


@dataclass(frozen=True)
class Destination:
    """One place that alerts go to. `name` may be shown; `url` holds its secrets and may not."""

    name: str
    url: str = field(repr=False)


@dataclass(frozen=True)
class AlertSettings:
    """Of one home: where alerts go, seconds between two reminders, seconds that sending may take. Read from the
    environment where it is used and handed to nobody: so the URLs are in no Dagster config."""

    home: Path
    destinations: tuple[Destination, ...] = ()
    cooldown_s: int = 6 * 3600
    timeout_s: int = 10
    database_url: str = field(default="", repr=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], home: Path | None = None) -> AlertSettings:
        """Read CHURN_ALERT_*; `home` is CHURN_HOME's unless given. Raises SettingsError, never with a URL in it."""
        read = EnvironReader(environ)
        return cls(
            home=home or Settings.from_environ(environ).home,
            destinations=_destinations(environ.get(URLS, "")),
            cooldown_s=read.whole(COOLDOWN, cls.cooldown_s, 0, 30 * 86_400),
            timeout_s=read.whole(TIMEOUT, cls.timeout_s, 1, 20),
            database_url=read.database(),
        )

    @classmethod
    def or_unsent(cls, environ: Mapping[str, str], home: Path) -> tuple[AlertSettings, str]:
        """The settings, and why the destinations among them cannot be used, "" if they can: an alert that is stored and
        logged, and goes nowhere, is better than none. Raises SettingsError if it cannot be stored either."""
        try:
            return cls.from_environ(environ, home), ""
        except SettingsError as error:
            return cls(home, database_url=EnvironReader(environ).database()), str(error)

    @property
    def path(self) -> Path:
        """The file of alerts, of a home without a database."""
        return self.home / "alerts.db"

    @property
    def place(self) -> Place:
        """Where alerts are stored."""
        return place_of(self.database_url, self.path)

    @property
    def summary(self) -> str:
        """Where alerts go, in a line."""
        names = ", ".join(destination.name for destination in self.destinations)
        return f"alerts go to {names}" if names else f"alerts go to the log only; {URLS} names no destination"


def redact_url(url: str) -> str:
    """A URL without its secrets: the scheme, and the host where that is certainly no token."""
    scheme = url.partition("://")[0].lower()
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return f"{scheme}://…"
    # An @ further on: a password with a slash in it, and what looks like the host is a part of that.
    ambiguous = "@" in url.partition("://")[2].removeprefix(parts.netloc)
    if scheme in _HOSTED and not ambiguous and re.fullmatch(r"[a-z0-9.-]+", host):
        return f"{scheme}://{host}/…"
    return f"{scheme}://…"


def _destinations(text: str) -> tuple[Destination, ...]:
    urls = list(dict.fromkeys(part for part in _SEPARATOR.split(text.strip()) if part.strip(",")))
    for number, url in enumerate(urls, start=1):
        if not _SCHEME.match(url):
            raise SettingsError(
                f"{URLS}: entry {number} of {len(urls)} is not a URL (not shown, it may hold a secret), expected "
                "scheme://..., several separated by blanks or commas; see docs/alerts.md"
            )
    uses: Counter[str] = Counter()
    destinations = []
    for url in urls:
        name = redact_url(url)
        uses[name] += 1
        destinations.append(Destination(name if uses[name] == 1 else f"{name} ({uses[name]})", url))
    return tuple(destinations)


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
