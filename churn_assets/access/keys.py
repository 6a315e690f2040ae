"""The API keys of a home: made once, kept as hashes in `keys.db`, revoked by their id.

A client shows the token `churn_<id>_<secret>`. The secret is 256 random bits, which nobody can guess from its SHA-256:
a slow hash, made for passwords, would add milliseconds to every request and no safety.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from sqlite3 import Row
from typing import Any, Literal

from churn_assets.errors import KeyRefused, KeysUnreadable
from churn_assets.storage.files import open_file
from churn_assets.storage.sqlite import SqliteStore

ADMIN = "admin"  # includes the others
SCOPES = ("predict", "feedback", "explain", "view", "release", ADMIN)
MAX_NAME = 100
_CHANGES = slice(24, 28)  # SQLite's count of transactions, in the header of the file
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_SCHEMA = """
CREATE TABLE keys (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL, scopes TEXT NOT NULL, created_s REAL NOT NULL,
  expires_s REAL, revoked_s REAL) STRICT;
"""


@dataclass(frozen=True)
class ApiKey:
    """One key; instants are seconds since 1970, `digest` is the SHA-256 of its secret. `number` is its place among the
    home's keys, from 1 on, which never changes: keys are revoked, not deleted."""

    id: str
    name: str
    digest: bytes = field(repr=False)
    scopes: tuple[str, ...]
    created_s: float
    expires_s: float | None = None
    revoked_s: float | None = None
    number: int = 0

    def state(self, now_s: float) -> Literal["valid", "expired", "revoked"]:
        """Whether the key opens anything at that instant."""
        if self.revoked_s is not None:
            return "revoked"
        return "expired" if self.expires_s is not None and now_s >= self.expires_s else "valid"

    def allows(self, scope: str) -> bool:
        """Whether the key has this scope, or `admin`."""
        return scope in self.scopes or ADMIN in self.scopes

    def to_json(self, now: datetime) -> dict[str, Any]:
        """Plain values, as `churn keys list --json` prints them; instants as ISO 8601, no hash."""

        def iso(instant_s: float | None) -> str | None:
            return None if instant_s is None else datetime.fromtimestamp(instant_s, UTC).isoformat(timespec="seconds")

        known = {"id": self.id, "name": self.name, "scopes": list(self.scopes), "state": self.state(now.timestamp())}
        instants = {"created": self.created_s, "expires": self.expires_s, "revoked": self.revoked_s}
        return known | {name: iso(instant_s) for name, instant_s in instants.items()}


class KeyStore(SqliteStore):
    """The keys of a home.

    Without WAL a transaction is in `keys.db` itself once it counts, and counted in its header: that tells readers
    whether anything has changed, whatever the clock says, and a reader needs no right or room to write.
    """

    schema = _SCHEMA
    wal = False

    def __init__(self, home: Path) -> None:
        super().__init__(home / "keys.db")

    def all(self) -> list[ApiKey]:
        """Every key, revoked and expired ones too, the oldest first. Raises KeysUnreadable."""
        with self._reading() as db:
            return [_key(row) for row in db.execute("SELECT *, rowid AS number FROM keys ORDER BY rowid")]

    def stamp(self) -> tuple[object, ...] | None:
        """What a transaction changes; None without a file. Raises KeysUnreadable."""
        with self._plain_errors():
            try:
                with open_file(self.path) as file:
                    status, header = os.fstat(file.fileno()), file.read(_CHANGES.stop)
            except FileNotFoundError:
                return None
            return status.st_ino, status.st_size, status.st_mtime_ns, header[_CHANGES]

    def create(
        self,
        name: str,
        scopes: Collection[str],
        lifetime: timedelta | None,
        now: datetime,
        announce: Callable[[ApiKey], None] = lambda key: None,
    ) -> tuple[ApiKey, str]:
        """A new key and its token, which is kept nowhere; `announce` is called before it is made, and may raise. Raises
        KeyRefused, and KeysUnreadable."""
        if not name.isprintable() or not 1 <= len(name.strip()) <= len(name) <= MAX_NAME:
            raise KeyRefused(f"the name is {name[:40]!r}, expected 1 to {MAX_NAME} printable characters; correct it")
        if not scopes or not set(scopes) <= set(SCOPES):
            given = ", ".join(repr(scope) for scope in scopes) or "not given"
            raise KeyRefused(f"the scopes are {given}, expected some of: {', '.join(SCOPES)}; correct --scope")
        key_id, secret, created_s = secrets.token_hex(6), secrets.token_urlsafe(32), now.timestamp()
        expires_s = None if lifetime is None else created_s + lifetime.total_seconds()
        ordered = tuple(scope for scope in SCOPES if scope in scopes)
        key = ApiKey(key_id, name, sha256(secret.encode()).digest(), ordered, created_s, expires_s)
        announce(key)
        with self._plain_errors():  # before SQLite makes it with the rights of the umask
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch(mode=0o600)
            self.path.chmod(0o600)
        with self._writing() as db:
            values = (key.id, name, key.digest, " ".join(ordered), created_s, expires_s)
            db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, NULL)", values)
            number = int(db.execute("SELECT last_insert_rowid()").fetchone()[0])
        return replace(key, number=number), f"churn_{key_id}_{secret}"

    def revoke(self, key_id: str, now: datetime, announce: Callable[[ApiKey], None] = lambda key: None) -> ApiKey:
        """The key, which opens nothing from now on; the first revocation counts. `announce` as of `create`. Raises
        KeyRefused, KeysUnreadable."""
        known = next((key for key in self.all() if key.id == key_id), None)
        if known is None:
            raise KeyRefused(f"there is no key {key_id[:40]!r}, expected an id of `churn keys list`; correct it")
        announce(known)
        with self._writing() as db:
            change = "UPDATE keys SET revoked_s = coalesce(revoked_s, ?) WHERE id = ? RETURNING *, rowid AS number"
            return _key(db.execute(change, (now.timestamp(), key_id)).fetchone())

    def _unavailable(self, message: str) -> Exception:
        advice = "correct its permissions, free the disk, or end the process that locks it"
        return KeysUnreadable(f"{self.path}: cannot be used ({message}), expected the keys of this home; {advice}")

    def _corrupt(self, message: str) -> Exception:
        advice = "restore it, or move it away and make new keys"
        return KeysUnreadable(f"{self.path}: cannot be read ({message}), expected the keys of this home; {advice}")


def _key(row: Row) -> ApiKey:
    return ApiKey(**{**row, "scopes": tuple(row["scopes"].split())})


def parse_lifetime(text: str) -> timedelta:
    """The time that `90d`, `12h` or `30m` means. Raises KeyRefused."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text, re.ASCII)
    if match is None:
        raise KeyRefused(f"the expiry is {text[:40]!r}, expected for example 90d, 12h or 30m; correct --expires")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
