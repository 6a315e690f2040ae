"""The keys of a home as a running service sees them, and the addresses on which it needs one."""

from __future__ import annotations

import ipaddress
import time
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from churn_assets.access.keys import ApiKey, KeyStore
from churn_assets.errors import KeysUnreadable, SettingsError
from churn_assets.settings import ServingSettings

_HEAD = len("churn_") + 12 + len("_")  # of a token, before its secret
_MAX_SECRET = 80  # bytes that are hashed at most, whatever a client sends
_SHA256 = sha256()  # copied for each request: a new one is looked up in OpenSSL, which costs more than the hash
_TICK_S = 1.0  # more than the coarsest clock of a file system


class Keyring:
    """A snapshot of the keys, looked up for every request and read again once the file has changed.

    `required`: requests need a key. True from the first `keys.db` on and never False again, so that neither a revoked
    last key nor a deleted or damaged file opens the service.
    """

    def __init__(self, home: Path) -> None:
        self.required = False
        self.unreadable = False  # then a key is asked for as well; passes once the file can be read
        self._store = KeyStore(home)
        self._keys: dict[bytes, ApiKey] = {}
        self._stamp: tuple[int, ...] | None = None

    def refresh(self) -> None:
        """Read the file if it has changed. Raises KeysUnreadable; the keys stay as they were until it can be read."""
        try:
            self._read()
        except KeysUnreadable:
            self.unreadable = True
            raise
        self.unreadable = False

    def _read(self) -> None:
        stamp = self._store.stamp()
        if stamp == self._stamp:
            return
        self.required |= stamp is not None
        self._keys = {f"churn_{key.id}_".encode(): key for key in self._store.all()}
        # A change within one tick of the file's clock leaves no trace: read a file that is so new once more.
        is_settled = stamp is None or time.time_ns() - stamp[-1] > _TICK_S * 1e9
        self._stamp = stamp if is_settled else ()

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


def check_address(host: str, settings: ServingSettings) -> None:
    """Raise SettingsError if others would reach the service on `host` and need no key; KeysUnreadable."""
    if KeyStore(settings.home).all() or is_loopback(host) or settings.insecure:
        return
    raise SettingsError(
        f"the service would listen on {host} and the home has no API key: whoever reaches it could ask for predictions "
        "and report outcomes, from which the next model learns; expected a key, or 127.0.0.1; make one with "
        "`churn keys create NAME --scope predict`, or set CHURN_INSECURE=1 to let everyone in"
    )
