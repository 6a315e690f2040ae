"""Metrics over HTTP: GET /metrics for a key with the scope `view`, GET /livez for everybody. `churn metrics` does
nothing else; the relay of events answers in a thread."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from churn_assets.access.keyring import Keyring, check_address, header_token, is_local_name
from churn_assets.errors import KeysUnreadable
from churn_assets.exporter.collector import HomeCollector, exposition
from churn_assets.settings import MetricsSettings, Settings

RISK = "read how the models do and what waits for a decision"
VIEW = "view"

if TYPE_CHECKING:
    import uvicorn
    from prometheus_client.registry import Collector

log = logging.getLogger("churn.metrics")


def make_app(settings: Settings, own: MetricsSettings, collector: Collector) -> Starlette:
    """The application of one home, which tells what the collector has."""
    keyring = Keyring(settings.home)

    async def metrics(request: Request) -> Response:
        refusal = _refuse(request, keyring, own)
        if refusal is not None:
            return refusal
        text, kind = await run_in_threadpool(exposition, collector)
        return Response(text, headers={"content-type": kind, "cache-control": "no-store"})

    async def alive(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(routes=[Route("/metrics", metrics), Route("/livez", alive)])


def run_exporter(settings: Settings, own: MetricsSettings, environ: Mapping[str, str] = os.environ) -> None:
    """Answer until a signal ends the process. Raises SettingsError if others would reach it and need no key."""
    _server(settings, own, HomeCollector(settings, environ)).run()


def serve_beside(settings: Settings, own: MetricsSettings, collector: Collector) -> None:
    """Answer in a thread as long as this process lives. Raises SettingsError as `run_exporter`."""
    threading.Thread(target=_server(settings, own, collector).run, daemon=True, name="metrics").start()


def _server(settings: Settings, own: MetricsSettings, collector: Collector) -> uvicorn.Server:
    import uvicorn

    check_address(own.host, own, "metrics server", RISK, VIEW)
    return uvicorn.Server(
        uvicorn.Config(
            make_app(settings, own, collector),
            host=own.host,
            port=own.port,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            ssl_certfile=own.tls_cert or None,
            ssl_keyfile=own.tls_key or None,
        )
    )


def _refuse(request: Request, keyring: Keyring, own: MetricsSettings) -> Response | None:
    """The answer to who may not read the metrics, None for who may."""
    try:
        keyring.refresh()
    except KeysUnreadable as error:  # the keys of before count for a while
        log.error("%s", error)
    if not keyring.asks:
        if own.insecure or is_local_name(request.headers.get("host", "")):
            return None
        # A page of another site must not read them through a browser of this machine.
        text = "the request names a host that is not this machine, expected localhost or 127.0.0.1; or make a key"
        return PlainTextResponse(f"{text}: churn keys create NAME --scope view\n", 400)
    key = keyring.valid(header_token(request.headers))
    if key is None:
        text = "the request has no valid API key, expected one in X-API-Key or Authorization: Bearer\n"
        return PlainTextResponse(text, 401, {"www-authenticate": "Bearer"})
    if not key.allows(VIEW):
        return PlainTextResponse(f"your key has the scopes {', '.join(key.scopes)}, expected {VIEW}\n", 403)
    return None
