"""Who looks at the dashboard: the keys of the home, sessions, and the token that each form carries.

A person signs in with an API key of the service. The session is a random cookie that no script can read and no other
site sends; the key stays in this process, so that a revoked key ends its sessions at once, and a restart all of them.
A home without keys asks for none: then the dashboard answers under names of this machine only, so that no page of
another site can reach it through the browser (DNS rebinding).
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import urlsplit

from churn_assets.access.keyring import Keyring
from churn_assets.access.keys import ApiKey

SESSION_S = 12 * 3600.0
MOST_SESSIONS = 1000
VIEW, FEEDBACK, RELEASE = "view", "feedback", "release"


@dataclass(frozen=True)
class Viewer:
    """Who asks: the key, None where the home has none, with its `token`; `form_token` is what a form must carry, ""
    for a client that shows its key with each request."""

    key: ApiKey | None
    form_token: str
    token: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """As the ledger names who acts; "" where a form must ask."""
        return "" if self.key is None else f"{self.key.name} (key {self.key.id})"

    def allows(self, scope: str) -> bool:
        """Whether this viewer may do what needs the scope."""
        return self.key is None or self.key.allows(scope)


@dataclass(frozen=True)
class _Session:
    token: str = field(repr=False)
    since_s: float


class Sessions:
    """The sessions of one process. `identify` finds the viewer of a request."""

    def __init__(self, keyring: Keyring, clock: Callable[[], float] = time.monotonic) -> None:
        self.keyring, self._clock = keyring, clock
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}

    @property
    def required(self) -> bool:
        """Whether a key is asked for."""
        return self.keyring.asks

    def identify(self, cookie: str, header_token: str) -> Viewer | None:
        """The viewer of a request with this session `cookie` and the key of its header, "" for none; None if it must
        sign in."""
        if not self.required:
            return Viewer(None, self.form_token(cookie))
        if header_token:
            key = self.keyring.valid(header_token)
            return None if key is None else Viewer(key, "", header_token)
        session = self._sessions.get(cookie)
        if session is None or self._clock() - session.since_s > SESSION_S:
            self.end(cookie)
            return None
        key = self.keyring.valid(session.token)
        return None if key is None else Viewer(key, self.form_token(cookie), session.token)

    def begin(self, token: str) -> str | None:
        """The cookie of a new session for a key; None if the key opens nothing."""
        if self.keyring.valid(token) is None:
            return None
        cookie = self.new_cookie()
        with self._lock:
            if len(self._sessions) >= MOST_SESSIONS:  # the oldest ends
                del self._sessions[next(iter(self._sessions))]
            self._sessions[cookie] = _Session(token, self._clock())
        return cookie

    def end(self, cookie: str) -> None:
        """End a session, if it is one."""
        with self._lock:
            self._sessions.pop(cookie, None)

    def count(self) -> int:
        """How many sessions there are that have not run out."""
        oldest = self._clock() - SESSION_S
        with self._lock:
            return sum(session.since_s >= oldest for session in self._sessions.values())

    def new_cookie(self) -> str:
        """A random cookie."""
        return secrets.token_urlsafe(32)

    def form_token(self, cookie: str) -> str:
        """What the forms of a session carry; nobody can make it who does not know this process."""
        return hmac.new(self._secret, cookie.encode(), sha256).hexdigest()


def is_own_site(headers: Mapping[str, str]) -> bool:
    """Whether a form was sent by a page of this dashboard, as far as the browser says."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")
