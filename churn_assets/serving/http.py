"""The HTTP that all routes share: bodies within their limits, JSON responses, and one shape for every error."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope

from churn_assets.errors import RowsRejected, Violation, one_line
from churn_assets.serving.schemas import ErrorResponse

Header = tuple[bytes, bytes]

JSON = b"application/json"
MAX_DETAIL = 100  # violations listed; the error's text says how many there are
MAX_NAME = 100  # characters of a field's name, which may be the client's own
BODY_SHARE = 0.8  # of the service's timeout: how long a body may take
ANSWER_SHARE = 2.5  # of it: until an answer must begin; 0.8 for the body, 1 for a batch, 0.5 for the disk
_CLOSE: tuple[Header, ...] = ((b"connection", b"close"),)
_JSON_TYPE = re.compile(rb"application/json\s*(;\s*charset\s*=\s*\"?utf-8\"?\s*)?", re.I)

decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


class ClientLeft(Exception):
    """The client closed the connection before its body was complete; nobody waits for a response."""


class Refused(Exception):
    """A request that is refused, with the response that says why.

    `cause` is a label of the metric `churn_request_rejected_total`, from the closed list `metrics.CAUSES`.
    """

    def __init__(
        self, status: int, cause: str, error: str, detail: Sequence[Violation] = (), headers: tuple[Header, ...] = ()
    ) -> None:
        super().__init__(error)
        self.key_id: str | None = None  # of the API key that was not let in
        self.status, self.cause, self.error, self.detail, self.headers = status, cause, error, detail, headers

    def body(self) -> bytes:
        """The error as every route gives it: `{"error", "detail": [{"row", "column", "found", "expected"}]}`."""
        detail = [dataclasses.replace(v, column=v.column[:MAX_NAME]) for v in self.detail[:MAX_DETAIL]]
        return encode(ErrorResponse(self.error, detail))


def unavailable(cause: str, error: str, seconds: int = 1) -> Refused:
    """A 503 that will pass: `Retry-After` says when to ask again."""
    return Refused(503, cause, error, headers=((b"retry-after", str(seconds).encode()),))


def invalid(violations: Sequence[Violation], cause: str = "contract") -> Refused:
    """A 422 for a body that its schema in /docs.json does not allow, with each violation."""
    return Refused(422, cause, str(RowsRejected(violations)), violations)


def conflict(violations: Sequence[Violation]) -> Refused:
    """A 409 for a body that its schema allows, and that conflicts with the contract of the model that answers or with
    the home."""
    return Refused(409, "contract", str(RowsRejected(violations)), violations)


def json_response(content: object) -> Response:
    """A 200 with `content` as JSON."""
    return Response(encode(content), media_type="application/json")


def parse_json(body: bytes, read: Callable[[bytes], Any] = decode) -> Any:
    """The JSON value of a body. Raises Refused; NaN, infinities and numbers beyond float64 are no JSON."""
    try:
        return read(body)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else one_line(error, 120)
        if isinstance(error, UnicodeDecodeError):
            reason = f"byte {error.start} is not UTF-8"
        text = f"the body is not JSON ({reason}), expected JSON in UTF-8 with finite numbers; correct it"
        raise Refused(400, "json", text) from None


def check_values(body: bytes, most: int) -> None:
    """Raise Refused for JSON of so many values that as Python objects they would take hundreds of megabytes. `most` is
    twice as many as customers need, because texts may have these characters too."""
    values = body.count(b",") + body.count(b"[") + body.count(b"{")
    if values > most:
        text = f"the body has {values:,} values, expected at most {most:,}; send fewer customers at a time"
        raise Refused(413, "size", text)


async def read_body(
    scope: Scope,
    receive: Receive,
    limit: int,
    timeout_s: float,
    types: re.Pattern[bytes] = _JSON_TYPE,
    untyped: bool = False,
) -> bytes:
    """The body of a request that sends plain JSON of at most `limit` bytes within its share of `timeout_s`. Raises
    Refused for a body of another type, too long or too slow, and ClientLeft. `untyped`: it need not name its type."""
    content_type = encoding = length = None
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            length = value.rstrip()
        elif name == b"content-encoding":
            encoding = value
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            text = f"the transfer encoding is {value[:60].decode('latin-1')!r}, expected chunked alone"
            raise Refused(400, "http", f"{text}; send the body as it is", headers=_CLOSE)
    if length is not None and (len(length) > 15 or not length.isdigit() or int(length) > limit):
        raise _too_long(limit)
    if (content_type is None and not untyped) or not (content_type in (JSON, None) or types.fullmatch(content_type)):
        shown = "not given" if content_type is None else repr(content_type[:60].decode("latin-1"))
        advice = "send the header 'Content-Type: application/json'"
        raise Refused(415, "content_type", f"the content type is {shown}, expected application/json; {advice}")
    if encoding is not None and encoding != b"identity":
        error = "the body is compressed, expected plain JSON; send no header Content-Encoding"
        raise Refused(415, "content_type", error)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientLeft
    first: bytes = message.get("body", b"")
    if message.get("more_body", False):
        return await _read_parts(first, receive, limit, timeout_s * BODY_SHARE)
    if len(first) > limit:
        raise _too_long(limit)
    return first


async def _read_parts(first: bytes, receive: Receive, limit: int, timeout_s: float) -> bytes:
    parts, size = [first], len(first)
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise _too_long(limit)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        error = f"the body took more than {timeout_s:g} seconds, expected it sooner; send it again"
        raise Refused(408, "slow_body", error, headers=_CLOSE) from None


def _too_long(limit: int) -> Refused:
    error = f"the body is too long, expected at most {limit:,} bytes; send fewer customers at a time"
    return Refused(413, "size", error, headers=_CLOSE)
