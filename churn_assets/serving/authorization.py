"""Who may call a route: in a home with keys, a request whose key has the route's scope."""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Iterable

from churn_assets.access.keyring import Keyring
from churn_assets.serving.http import Header, Refused
from churn_assets.serving.schemas import OPEN_ROUTES, ROUTE_SCOPES

_BROWSED = ("/", "/docs")  # a browser asks its user for name and password, and sends the token as the password


def authorize(keyring: Keyring, headers: Iterable[Header], path: str) -> str | None:
    """The id of the request's key; None where none is needed. Raises Refused, as 401 or 403."""
    if not (keyring.required or keyring.unreadable) or path in OPEN_ROUTES:
        return None
    token = _read_token(headers)
    if token is None:
        raise _unauthorized("the request has no API key", 'Bearer realm="churn"', path)
    key = keyring.find(token)
    state = "unknown" if key is None else key.state(time.time())
    if key is None or state != "valid":
        refusal = _unauthorized(f"the API key is {state}", 'Bearer realm="churn", error="invalid_token"', path)
        refusal.key_id = None if key is None else key.id
        raise refusal
    scope = ROUTE_SCOPES.get(path)
    if scope is not None and not key.allows(scope):
        text = f"the API key {key.id} has the scopes {', '.join(key.scopes)}, expected {scope}; use a key that has it"
        challenge = f'Bearer realm="churn", error="insufficient_scope", scope="{scope}"'
        refusal = Refused(403, "scope", text, headers=((b"www-authenticate", challenge.encode()),))
        refusal.key_id = key.id
        raise refusal
    return key.id


def _read_token(headers: Iterable[Header]) -> bytes | None:
    """The token in `X-API-Key`, else in `Authorization`: Bearer, or the password of Basic."""
    authorization = None
    for name, value in headers:
        if name == b"x-api-key":
            return value
        if name == b"authorization":
            authorization = value
    if authorization is None:
        return None
    kind, _, token = authorization.partition(b" ")
    if kind.lower() != b"basic":
        return token.strip()
    try:
        return b64decode(token).partition(b":")[2]
    except ValueError:
        return b""


def _unauthorized(problem: str, challenge: str, path: str) -> Refused:
    challenges = [challenge, *(['Basic realm="churn"'] if path in _BROWSED else [])]
    advice = "ask for one, or make one: churn keys create"
    text = f"{problem}, expected a valid one in 'Authorization: Bearer <key>'; {advice}"
    return Refused(401, "key", text, headers=tuple((b"www-authenticate", each.encode()) for each in challenges))
