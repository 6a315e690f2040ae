"""Who may call a route: in a home with keys, a request whose key has the route's scope."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable

from churn_assets.access.keyring import Keyring
from churn_assets.access.keys import ApiKey
from churn_assets.access.rate_limit import Admission, RateLimit, RateLimiter
from churn_assets.serving.http import Header, Refused, unavailable
from churn_assets.serving.schemas import OPEN_ROUTES, READ_SCOPES, ROUTE_SCOPES

_BROWSED = (
    "/",
    "/docs",
    "/redoc",
)  # a browser asks its user for name and password, and sends the token as the password


def authorize(keyring: Keyring, headers: Iterable[Header], path: str, method: str = "POST") -> ApiKey | None:
    """The request's key; None where none is needed. Raises Refused, as 401 or 403, and as 503 while the keys are not
    known."""
    if not (keyring.required or keyring.unreadable) or path in OPEN_ROUTES:
        return None
    if keyring.outdated:
        text = "the keys of this home cannot be read, so that none can be checked; repair keys.db, then ask again"
        raise unavailable("key", text, 5)
    token = _read_token(headers)
    if token is None:
        raise _unauthorized("the request has no API key", 'Bearer realm="churn"', path)
    key = keyring.find(token)
    state = "unknown" if key is None else keyring.state(key)
    if key is None or state != "valid":
        refusal = _unauthorized(f"the API key is {state}", 'Bearer realm="churn", error="invalid_token"', path)
        refusal.key_id = None if key is None else key.id
        raise refusal
    scopes = scopes_of(path, method)
    if scopes and not any(map(key.allows, scopes)):
        expected = " or ".join(scopes)
        text = (
            f"the API key {key.id} has the scopes {', '.join(key.scopes)}, expected {expected}; use a key that has it"
        )
        challenge = f'Bearer realm="churn", error="insufficient_scope", scope="{scopes[0]}"'
        refusal = Refused(403, "scope", text, headers=((b"www-authenticate", challenge.encode()),))
        refusal.key_id = key.id
        raise refusal
    return key


def scopes_of(path: str, method: str) -> tuple[str, ...]:
    """Scopes of which a key needs one for a route; none where any key will do."""
    scope = ROUTE_SCOPES.get(path)
    if scope is None:
        return ()
    read = READ_SCOPES.get(path) if method in ("GET", "HEAD") else None
    return (scope,) if read is None else (read, scope)


def admit(limiter: RateLimiter, key: ApiKey | None) -> tuple[Header, ...]:
    """Count a request against the limit of its key, or of all who need none; the headers that say what is left.
    Raises Refused, as 429."""
    admission = limiter.admit(0 if key is None else key.number)
    headers = _rate_headers(limiter.limit, admission)
    if admission.admitted:
        return headers
    per_s, burst = limiter.limit.per_s, limiter.limit.burst
    text = f"this key has made more requests than it may, expected {per_s:g} a second and {burst:,} at once"
    retry = (b"retry-after", b"%d" % admission.reset_s)
    advice = f"ask again in {admission.reset_s} s, or send batches"
    raise Refused(429, "rate", f"{text}; {advice}", headers=(*headers, retry))


def _rate_headers(limit: RateLimit, admission: Admission) -> tuple[Header, ...]:
    """As the IETF draft `ratelimit-headers` has them (version 10): quota and window, what is left, seconds to more."""
    policy = b'"key";q=%d;w=%d' % (limit.burst, max(1, round(limit.window_s)))
    return (
        (b"ratelimit-policy", policy),
        (b"ratelimit", b'"key";r=%d;t=%d' % (admission.remaining, admission.reset_s)),
    )


def _read_token(headers: Iterable[Header]) -> bytes | None:
    """The token in `X-API-Key`, else in `Authorization`: Bearer, or the password of Basic."""
    authorization = None
    for name, value in headers:
        if name == b"x-api-key":
            return value.strip()
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
