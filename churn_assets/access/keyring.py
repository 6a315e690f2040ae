"""The keys of a home as a running service sees them, and the addresses on which it needs one."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from churn_assets.access.keys import ApiKey, KeyStore
from churn_assets.errors import KeysUnreadable, SettingsError
from churn_assets.settings import DashboardSettings, MetricsSettings, ServingSettings

_HEAD = len("churn_") + 12 + len("_")  # of a token, before its secret
_MAX_SECRET = 80  # bytes that are hashed at most, whatever a client sends
_SHA256 = sha256()  # copied for each request: a new one is looked up in OpenSSL, which costs more than the hash
TRUST_S = 60.0  # for so long the keys count that were read last


class ForwardClock:
    """Seconds since 1970 that pass also while the clock of the system is set back: a key that has expired stays so in
    this process. A clock that is set forward counts at once, and no longer once that is corrected."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._steady = wall, steady
        self._started = wall() - steady()

    def __call__(self) -> float:
        """The later one of the system's time and of the time since the start."""
        return max(self._wall(), self._started + self._steady())


class Keyring:
    """A snapshot of the keys, looked up for every request and read again once the file has changed.

    `required`: requests need a key. True from the first `keys.db` on and never False again, so that neither a revoked
    last key nor a deleted or damaged file opens the service. While the file cannot be read, the keys of before count
    for `TRUST_S`: a full or hanging disk stops no client at once, and a key that is revoked meanwhile opens nothing
    for long.
    """

    def __init__(
        self, home: Path, clock: Callable[[], float] | None = None, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self.required = False
        self.unreadable = False  # then a key is asked for as well; passes once the file can be read
        self._clock, self._steady = clock or ForwardClock(), steady
        self._read_s = steady()
        self._store = KeyStore(home)
        self._keys: dict[bytes, ApiKey] = {}
        self._stamp: tuple[object, ...] | None = None

    def refresh(self) -> None:
        """Read the file if it has changed. Raises KeysUnreadable; the keys stay as they were until it can be read."""
        try:
            self._read()
        except KeysUnreadable:
            self.unreadable = True
            raise
        self.unreadable, self._read_s = False, self._steady()

    @property
    def outdated(self) -> bool:
        """Whether the keys could not be read, or the disk has hung, for so long that none of them counts."""
        return self._steady() - self._read_s > TRUST_S

    def state(self, key: ApiKey) -> Literal["valid", "expired", "revoked"]:
        """Whether the key opens anything now."""
        return key.state(self._clock())

    def _read(self) -> None:
        stamp = self._store.stamp()
        if stamp == self._stamp:
            return
        self.required |= stamp is not None
        self._keys = {f"churn_{key.id}_".encode(): key for key in self._store.all()}
        self._stamp = stamp

    @property
    def asks(self) -> bool:
        """Whether a request needs a key now."""
        return self.required or self.unreadable

    def valid(self, token: str) -> ApiKey | None:
        """The key with this token, if it opens anything now."""
        key = None if self.outdated else self.find(token.encode())
        return key if key is not None and self.state(key) == "valid" else None

    def find(self, token: bytes) -> ApiKey | None:
        """The key with this token, in whatever state; None for any other text."""
        key = self._keys.get(token[:_HEAD])
        digest = _SHA256.copy()
        digest.update(token[_HEAD : _HEAD + _MAX_SECRET])
        return key if key is not None and compare_digest(digest.digest(), key.digest) else None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address; not known means no."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_local_name(host: str) -> bool:
    """Whether a Host header names this machine itself."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


def header_token(headers: Mapping[str, str]) -> str:
    """The key in `X-API-Key` or `Authorization: Bearer`, "" without one."""
    given = headers.get("x-api-key")
    if given is not None:
        return given.strip()
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def check_address(
    host: str,
    settings: ServingSettings | DashboardSettings | MetricsSettings,
    server: str = "service",
    risk: str = "ask for predictions and report outcomes, from which the next model learns",
    scope: str = "predict",
) -> None:
    """Raise SettingsError if others would reach the `server` on `host` and need no key, so that they could do what
    `risk` says; KeysUnreadable."""
    if KeyStore(settings.home).all() or is_loopback(host) or settings.insecure:
        return
    raise SettingsError(
        f"the {server} would listen on {host} and the home has no API key: whoever reaches it could {risk}; expected a "
        f"key, or 127.0.0.1; make one with `churn keys create NAME --scope {scope}`, or set CHURN_INSECURE=1 to let "
        "everyone in"
    )
