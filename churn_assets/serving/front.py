"""The HTTP side: routes, limits, bodies, headers. An ASGI middleware in front of BentoML's own routes.

What a route cannot answer goes to BentoML only for its pages of static files; every error, also of
those, leaves in the shape of `serving.reply`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from churn_assets.serving.logs import tell
from churn_assets.serving.reply import Header, Reply, refused
from churn_assets.serving.routes import Handler, Request, Routes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PAGES = ("/static_content/", "/assets/")  # BentoML's files behind /docs
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_JSON_TYPE = re.compile(rb"application/json\s*(;\s*charset\s*=\s*\"?utf-8\"?\s*)?", re.I)


class Front:
    """Answers the service's routes itself, and lets BentoML answer for its static files."""

    def __init__(self, app: App, routes: Routes) -> None:
        self._inner, self._routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        if path.startswith(PAGES):
            await self._inner(scope, receive, _reshaped(send))
            return
        start = time.perf_counter()
        reply, request_id = await self._reply(scope, receive, path, method)
        if reply is None:  # the client has gone
            return
        headers: list[Header] = [
            (b"content-type", reply.content_type),
            (b"content-length", str(len(reply.body)).encode()),
            (b"x-request-id", request_id.encode()),
            *reply.headers,
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else reply.body})
        core = self._routes.core
        seconds = time.perf_counter() - start
        if reply.cause is not None:
            core.rejected(reply.cause)
        if path == "/predict" or path == "/predict_batch":
            core.metrics.latency(seconds)
        if core.settings.access_log:
            facts = {"request_id": request_id, "method": method, "path": path[:200], "status": reply.status}
            tell(core.logger, logging.INFO, "request", **facts, cause=reply.cause, ms=round(seconds * 1e3, 3))

    async def _reply(self, scope: Scope, receive: Receive, path: str, method: str) -> tuple[Reply | None, str]:
        content_type = encoding = length = given = None
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"content-length":
                length = value
            elif name == b"content-encoding":
                encoding = value
            elif name == b"x-request-id":
                given = value
        usable = given is not None and _REQUEST_ID.fullmatch(given)
        request_id = given.decode() if usable and given is not None else os.urandom(8).hex()
        handler = self._routes.find(path, method)
        if isinstance(handler, Reply):
            return handler, request_id
        try:
            body = b""
            if handler.body_bytes:
                found = await self._body(handler, receive, content_type, encoding, length)
                if not isinstance(found, bytes):
                    return found, request_id
                body = found
            return await handler.run(Request(body, request_id)), request_id
        except Exception:  # nothing of it may reach the client
            core = self._routes.core
            core.logger.exception("a request failed", extra={"facts": {"request_id": request_id, "path": path[:200]}})
            error = f"the service failed on this request, which is our mistake; tell us its id {request_id}"
            return refused(500, "internal", error), request_id

    async def _body(
        self,
        handler: Handler,
        receive: Receive,
        content_type: bytes | None,
        encoding: bytes | None,
        length: bytes | None,
    ) -> bytes | Reply | None:
        """The body; a refusal for one that is too long, too slow or of another type; None if the client left."""
        limit = handler.body_bytes
        if length is not None and (len(length) > 15 or not length.isdigit() or int(length) > limit):
            return _too_long(limit)
        if content_type is None or (content_type != b"application/json" and not _JSON_TYPE.fullmatch(content_type)):
            shown = "none" if content_type is None else repr(content_type[:60].decode("latin-1"))
            advice = "send the header 'Content-Type: application/json'"
            return refused(415, "content_type", f"the content type is {shown}, expected application/json; {advice}")
        if encoding is not None and encoding != b"identity":
            return refused(415, "content_type", "the body is compressed, expected plain JSON; send no Content-Encoding")
        message = await receive()
        if not message.get("more_body", False):
            if message["type"] == "http.disconnect":
                return None
            first: bytes = message.get("body", b"")
            return first if len(first) <= limit else _too_long(limit)
        parts, size = [message.get("body", b"")], len(message.get("body", b""))
        patience = self._routes.core.settings.timeout_s * 0.8
        try:
            async with asyncio.timeout(patience):
                while message.get("more_body", False):
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limit:
                        return _too_long(limit)
                    parts.append(part)
        except TimeoutError:
            error = f"the body took more than {patience:g} seconds to come, expected it sooner; send it again"
            return refused(408, "slow_body", error, headers=((b"connection", b"close"),))
        return b"".join(parts)


def _too_long(limit: int) -> Reply:
    error = f"the body is too long, expected at most {limit:,} bytes; send fewer customers at a time"
    return refused(413, "size", error, headers=((b"connection", b"close"),))


def _reshaped(send: Send) -> Send:
    """`send` for an application of another kind: its errors get the shape of ours."""
    replaced = False

    async def reshaped(message: Message) -> None:
        nonlocal replaced
        if message["type"] == "http.response.start" and message["status"] >= 400:
            replaced = True
            reply = refused(404, "path", "there is nothing here, expected one of the routes in /docs.json")
            headers = [(b"content-type", reply.content_type), (b"content-length", str(len(reply.body)).encode())]
            await send({"type": "http.response.start", "status": 404, "headers": headers})
            await send({"type": "http.response.body", "body": reply.body})
        elif not replaced:
            await send(message)

    return reshaped
