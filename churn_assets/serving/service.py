"""The BentoML service `churn`. BentoML brings processes, sockets, packing and signals; the routes are ours.

They stand before BentoML's own as a middleware. Its access log, tracing and metrics are off: together they cost four
times what a prediction does (docs/serving.md). Its timeout, which answers in another shape, is longer than all of ours.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from functools import cache
from typing import Any

import bentoml
import click
from uvicorn import config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from churn_assets.access.keyring import check_address
from churn_assets.errors import ChurnError
from churn_assets.serving.http import Refused
from churn_assets.serving.routes import ServiceApp
from churn_assets.serving.worker import Worker
from churn_assets.settings import ServingSettings

NOT_HTTP = "http"  # the cause of refusing bytes that are no HTTP
_REFUSAL = Refused(
    400, NOT_HTTP, "the bytes are not an HTTP/1.1 request, expected one; is it another protocol, or HTTPS?"
).body()
NOT_HTTP_RESPONSE = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(_REFUSAL), _REFUSAL)
)


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, except that bytes that are no HTTP get our error and WebSockets are answered in HTTP.

    Such bytes reach no application: uvicorn refuses them itself, as plain text.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ws_protocol_class = None

    def send_400_response(self, msg: str) -> None:
        """Refuse the bytes, count them, and close the connection."""
        this_worker().count_refusal(NOT_HTTP)
        self.transport.write(NOT_HTTP_RESPONSE)
        self.transport.close()


def use_protocol() -> bool:
    """Have uvicorn use `Protocol` in this process, by its table of protocols: BentoML has no option for it. False if
    uvicorn has no such table any more; then its plain text answers such bytes, and nothing else changes."""
    protocols = getattr(config, "HTTP_PROTOCOLS", {})
    if "auto" not in protocols or not hasattr(HttpToolsProtocol, "send_400_response"):
        return False
    protocols["auto"] = f"{__name__}:Protocol"
    return True


_SETTINGS = ServingSettings.from_environ(os.environ)
_TLS = {"enabled": True, "certfile": _SETTINGS.tls_cert, "keyfile": _SETTINGS.tls_key} if _SETTINGS.tls_cert else {}
_SUPERVISOR = os.getppid()  # in a worker; read early, it may die while the worker starts
use_protocol()


@bentoml.service(
    name="churn",
    workers=_SETTINGS.workers,
    traffic={"timeout": 2.5 * _SETTINGS.timeout_s},  # 0.8 for the body, 1 for a batch, 0.5 for the disk
    http={"host": _SETTINGS.host, "port": _SETTINGS.port},
    ssl=_TLS,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class ChurnService:
    """Scores customers with the bundle packed into the Bento, or with the home's champion."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]  # bentoml is not followed by mypy
    @staticmethod
    def replace_dead_workers() -> None:
        """In a container BentoML does not replace dead workers: have it do so there too."""
        os.environ.pop("BENTOML_CONTAINERIZED", None)

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def require_key() -> None:
        """End `bentoml serve`, in one line, if others would reach it and need no key; its `--host` counts."""
        context = click.get_current_context(silent=True)
        try:
            check_address((context.params.get("host") if context else None) or _SETTINGS.host, _SETTINGS)
        except ChurnError as error:
            sys.stderr.write(f"error: {error}\n")
            sys.exit(2)

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Open the log, load the model, check for the next, and stop when the supervisor dies."""
        await this_worker().start(_SUPERVISOR)
        this_worker().check_host(bound_host())
        settle_memory()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Write what was accepted to disk."""
        await this_worker().stop()


def bound_host() -> str:
    """The address of the socket that this worker listens on, which BentoML's supervisor binds; "" if it names none."""
    if "--fd" not in sys.argv:
        return ""
    with socket.socket(fileno=os.dup(int(sys.argv[sys.argv.index("--fd") + 1]))) as bound:
        return str(bound.getsockname()[0])


def settle_memory() -> None:
    """Make the garbage collector visit fewer objects, less often: what is loaded now stays.

    Requests make no cycles, but BentoML keeps a timer for each until its timeout: at the usual thresholds the
    collector walks over tens of thousands of those again and again, 30 ms a time, and frees nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


@cache
def this_worker() -> Worker:
    """The worker of this process; made in it, not at import: the build and the supervisor import this module too."""
    return Worker(_SETTINGS, os.environ)


ChurnService.add_asgi_middleware(lambda app: ServiceApp(app, this_worker()))  # type: ignore[attr-defined]
