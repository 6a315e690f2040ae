"""Where alerts go: apprise URLs from the environment, and the names that may be shown instead of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from churn_assets.errors import SettingsError
from churn_assets.settings import EnvironReader, Settings

URLS, COOLDOWN, TIMEOUT = "CHURN_ALERT_URLS", "CHURN_ALERT_COOLDOWN_S", "CHURN_ALERT_TIMEOUT_S"

# The host of these is an address. The host of others, such as slack:// or tgram://, is a token.
_HOSTED = frozenset(
    (
        *("json", "jsons", "xml", "xmls", "form", "forms", "http", "https", "mailto", "mailtos"),
        *("workflow", "workflows", "gotify", "gotifys", "mmost", "mmosts"),
    )
)

# A comma may be part of a URL; one that separates two is followed by a scheme.
_SEPARATOR = re.compile(r"\s*,\s*(?=[A-Za-z][\w+.-]*://)|\s+")
_SCHEME = re.compile(r"[A-Za-z][\w+.-]*://\S")
_USERINFO = re.compile(r"(?<=://)[^\s/@]+@")


@dataclass(frozen=True)
class Destination:
    """One place that alerts go to. `name` may be shown; `url` holds its secrets and may not."""

    name: str
    url: str = field(repr=False)


@dataclass(frozen=True)
class AlertSettings:
    """Of one home: where alerts go, seconds between two reminders, seconds that sending may take.

    Read from the environment where it is used and handed to nobody: so the URLs are in no Dagster config.
    """

    home: Path
    destinations: tuple[Destination, ...] = ()
    cooldown_s: int = 6 * 3600
    timeout_s: int = 10

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], home: Path | None = None) -> AlertSettings:
        """Read CHURN_ALERT_*; `home` is CHURN_HOME's unless given. Raises SettingsError, never with a URL in it."""
        read = EnvironReader(environ)
        return cls(
            home=home or Settings.from_environ(environ).home,
            destinations=_destinations(environ.get(URLS, "")),
            cooldown_s=read.whole(COOLDOWN, cls.cooldown_s, 0, 30 * 86_400),
            timeout_s=read.whole(TIMEOUT, cls.timeout_s, 1, 20),
        )

    @property
    def path(self) -> Path:
        """The database of alerts."""
        return self.home / "alerts.db"

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


def without_secrets(text: str) -> str:
    """`text` without user names and passwords in its URLs."""
    return _USERINFO.sub("…@", text)


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
