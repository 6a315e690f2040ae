"""The service as an ASGI application: a middleware in front of BentoML's own routes.

`POST /predict` is answered by a short path of its own: Starlette's router, request and response raise the CPU of a
whole request with 16 clients from some 190 to 260 us (`python -m benchmarks.serving`, the variant by Starlette's
router), so they serve the other routes. BentoML answers only for its static files; its errors are replaced by ours, so
that every error has the shape of `http.Refused`.
"""

from __future__ import annotations

import logging
import os
import re
import time

from starlette.exceptions import HTTPException
from starlette.routing import Route, Router

from churn_assets.serving.authorization import authorize
from churn_assets.serving.handlers import Handlers
from churn_assets.serving.http import (
    JSON,
    ASGIApp,
    ClientLeft,
    Header,
    Message,
    Receive,
    Refused,
    Scope,
    Send,
    read_body,
)
from churn_assets.serving.worker import Worker, log_event

BENTOML_FILES = ("/static_content/", "/assets/")  # the files of the page /docs
PREDICT, PREDICT_BATCH = "/predict", "/predict_batch"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")


class ServiceApp:
    """Answers the service's routes, and passes requests for BentoML's static files on to `bentoml`."""

    short_path = PREDICT  # of POST; the router would answer it as well

    def __init__(self, bentoml: ASGIApp, worker: Worker) -> None:
        self._bentoml, self._worker = bentoml, worker
        self.handlers = Handlers(worker)
        self.routes = routes(self.handlers)
        self._paths = {route.path for route in self.routes}
        self._router = Router(self.routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            await self._bentoml(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        path, method, request_id = scope["path"], scope["method"], _request_id(scope)
        worker, status, cause, key_id = self._worker, 200, None, None
        try:
            key_id = authorize(worker.keys, scope["headers"], path)
            if path == self.short_path and method == "POST":
                body = await read_body(scope, receive, worker.settings.body_bytes, worker.settings.timeout_s)
                await _send(send, 200, await self.handlers.predict(body, request_id), request_id)
            elif path.startswith(BENTOML_FILES):
                await self._bentoml(scope, receive, _replace_errors(send))
            elif path not in self._paths:  # asked here: Starlette's pattern of a path also fits a line end after it
                raise HTTPException(404)
            else:
                state = {"request_id": request_id}
                routed = {**scope, "app": self, "state": state}  # with an app Starlette raises 404 and 405
                await self._router(routed, receive, _finish(send, method, request_id))
        except ClientLeft:
            return
        except Exception as error:  # nothing of a mistake of ours may reach the client
            refusal = error if isinstance(error, Refused) else self._refusal(error, path, method, request_id)
            status, cause = refusal.status, refusal.cause
            await _send(send, status, refusal.body(), request_id, refusal.headers, method)
        seconds = time.perf_counter() - start
        if cause is not None:
            worker.count_refusal(cause)
        if path in (PREDICT, PREDICT_BATCH):
            worker.metrics.latency(seconds)
        if worker.settings.access_log:
            facts = {"request_id": request_id, "method": method, "path": path[:200], "status": status, "key": key_id}
            log_event(worker.logger, logging.INFO, "request", **facts, cause=cause, ms=round(seconds * 1e3, 3))

    def _refusal(self, error: Exception, path: str, method: str, request_id: str) -> Refused:
        """The refusal of a request that has no route, or failed by a mistake of the service."""
        if isinstance(error, HTTPException) and error.status_code == 405:
            allowed = ", ".join(sorted(next(route.methods or () for route in self.routes if route.path == path)))
            text = f"the method is {method[:20]!r}, expected {allowed}; see /docs"
            return Refused(405, "method", text, headers=((b"allow", allowed.encode()),))
        if isinstance(error, HTTPException):
            known = ", ".join(route.path for route in self.routes)
            return Refused(404, "path", f"there is no such route, expected one of: {known}; see /docs")
        facts = {"request_id": request_id, "path": path[:200]}
        self._worker.logger.error("request failed", exc_info=error, extra={"facts": facts})
        return Refused(
            500, "internal", f"the request failed by a mistake of the service; report it with its id {request_id}"
        )


def routes(handlers: Handlers) -> list[Route]:
    """Every route; those of GET answer HEAD too."""
    return [
        Route(PREDICT, handlers.predict_by_router, methods=["POST"]),
        Route(PREDICT_BATCH, handlers.predict_batch, methods=["POST"]),
        Route("/feedback", handlers.feedback, methods=["POST"]),
        Route("/model", handlers.model),
        Route("/", handlers.index),
        Route("/docs", handlers.docs_page),
        Route("/docs.json", handlers.docs),
        Route("/metrics", handlers.metrics),
        Route("/livez", handlers.alive),
        Route("/healthz", handlers.alive),
        Route("/readyz", handlers.ready),
    ]


def _request_id(scope: Scope) -> str:
    """The id that the client sent if it is one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return os.urandom(8).hex()


async def _send(
    send: Send, status: int, body: bytes, request_id: str, more: tuple[Header, ...] = (), method: str = "POST"
) -> None:
    """A response in JSON, without its body where the method is HEAD."""
    headers = [
        (b"content-type", JSON),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def _finish(send: Send, method: str, request_id: str) -> Send:
    """`send` that adds the request's id, and leaves the body of a HEAD out."""

    async def finish(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
        elif method == "HEAD":
            message["body"] = b""
        await send(message)

    return finish


def _replace_errors(send: Send) -> Send:
    """`send` for BentoML's application: its errors get the shape of ours."""
    replaced = False

    async def replace(message: Message) -> None:
        nonlocal replaced
        if message["type"] == "http.response.start" and message["status"] >= 400:
            replaced = True
            refusal = Refused(404, "path", "there is no such file, expected one of the routes in /docs.json")
            await _send(send, 404, refusal.body(), os.urandom(8).hex())
        elif not replaced:
            await send(message)

    return replace
