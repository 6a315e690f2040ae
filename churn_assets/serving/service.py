"""The BentoML service `churn`. BentoML brings processes, sockets, packing and signals; the routes are ours.

They stand before BentoML's own as a middleware. Its access log, tracing and metrics are off: together they cost four
times what a prediction does (docs/serving.md). The connections call our routes without its own middlewares.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import socket
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

import bentoml
import click
from starlette.types import ASGIApp
from uvicorn import config
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from churn_assets.access.keyring import check_address
from churn_assets.errors import ChurnError
from churn_assets.serving.http import ANSWER_SHARE
from churn_assets.serving.routes import Handlers, ServiceApp
from churn_assets.serving.server.connections import LimitedProtocol
from churn_assets.serving.server.process import (
    STOP_S,
    check_grpc_port,
    check_port,
    end_within,
    follow_supervisor,
    is_worker,
    name_supervisor,
)
from churn_assets.serving.server.tls import TlsHandshake, TlsLifespan, check_certificate
from churn_assets.serving.worker import Worker
from churn_assets.settings import ServingSettings
from churn_assets.structured_log import log_event

if TYPE_CHECKING:
    from churn_assets.serving.open_inference.grpc_server import GrpcServer


def make_protocol(**options: Any) -> asyncio.Protocol:
    """What answers a new connection, within the limits of this process's worker."""
    registry = this_worker().connections
    protocol = LimitedProtocol(registry, **options)
    return protocol if registry.tls is None else TlsHandshake(registry, registry.tls, protocol)


def make_lifespan(config: Config) -> TlsLifespan:
    """Start and stop of uvicorn's server."""
    return TlsLifespan(this_worker().connections, config)


def use_protocol() -> bool:
    """Have uvicorn use these two in this process, by its tables: BentoML has no option for it. False if uvicorn has no
    such tables any more; then there are no limits of connections, and a test fails."""
    tables = getattr(config, "HTTP_PROTOCOLS", {}), getattr(config, "LIFESPAN", {})
    if not all("auto" in table for table in tables) or not hasattr(HttpToolsProtocol, "send_400_response"):
        return False
    for table, make in zip(tables, (make_protocol, make_lifespan), strict=True):
        table["auto"] = f"{__name__}:{make.__name__}"
    return True


def end_start(error: ChurnError) -> NoReturn:
    """End `bentoml serve` or a build in one line; who imports this module otherwise gets the error."""
    if click.get_current_context(silent=True) is None:
        raise error
    sys.stderr.write(f"error: {error}\n")
    sys.exit(2)


def _read_settings() -> ServingSettings:
    try:
        return ServingSettings.from_environ(os.environ)
    except ChurnError as error:
        end_start(error)


SWITCH_S = 5e-4  # after which a thread that computes (a look at a release, say) lets requests go on; 5 ms by default
_SETTINGS = _read_settings()
_TLS = {"enabled": True, "certfile": _SETTINGS.tls_cert, "keyfile": _SETTINGS.tls_key} if _SETTINGS.tls_cert else {}
use_protocol()
if is_worker():
    follow_supervisor()


@bentoml.service(
    name="churn",
    workers=_SETTINGS.workers,
    traffic={"timeout": ANSWER_SHARE * _SETTINGS.timeout_s},
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
    def check_start() -> None:
        """End `bentoml serve`, in one line, if the port is taken, or others would reach it and need no key. Its
        `--host` and `--port` count."""
        name_supervisor()
        context = click.get_current_context(silent=True)
        options = {} if context is None else context.params
        host, port = options.get("host") or _SETTINGS.host, options.get("port") or _SETTINGS.port
        try:
            check_address(host, _SETTINGS)
            if _SETTINGS.tls_cert:
                check_certificate(_SETTINGS.tls_cert, _SETTINGS.tls_key)
            if context is not None:  # `bentoml.serve` in Python has arguments, which nobody sees here
                check_port(host, port)
                check_grpc_port(host, port, _SETTINGS.grpc_port)
        except ChurnError as error:
            end_start(error)

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Open the log, load the model, and check for the next."""
        settle_memory()  # before the model: what is settled is never freed
        sys.setswitchinterval(SWITCH_S)
        await this_worker().start()
        this_worker().check_host(bound_host())
        await start_grpc()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Write what was accepted to disk."""
        end_within(STOP_S)
        for server in grpc_servers:
            await server.stop()
        await this_worker().stop()


def bound_host() -> str:
    """The address of the socket that this worker listens on, which BentoML's supervisor binds; "" if it names none."""
    if not is_worker():
        return ""
    with socket.socket(fileno=os.dup(int(sys.argv[sys.argv.index("--fd") + 1]))) as bound:
        return str(bound.getsockname()[0])


grpc_servers: list[GrpcServer] = []  # of this process: one, or none


async def start_grpc() -> None:
    """Answer gRPC too, on the address of HTTP. Its library is imported here: neither the supervisor nor a service
    without it pays for that."""
    if not _SETTINGS.grpc_port:
        return
    module = await asyncio.to_thread(importlib.import_module, "churn_assets.serving.open_inference.grpc_server")
    server: GrpcServer = module.GrpcServer(this_worker(), these_handlers())
    try:
        await server.start(bound_host() or _SETTINGS.host)
    except (OSError, RuntimeError) as error:
        log_event(this_worker().logger, logging.ERROR, "gRPC does not listen", reason=str(error))
    else:
        grpc_servers.append(server)


def settle_memory() -> None:
    """Make the garbage collector visit fewer objects, less often: what is loaded now stays, and requests make no
    cycles, so that it would walk over those in work again and again, and free nothing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


@cache
def this_worker() -> Worker:
    """The worker of this process; made in it, not at import: the build and the supervisor import this module too."""
    return Worker(_SETTINGS, os.environ)


@cache
def these_handlers() -> Handlers:
    """The handlers of this process, for HTTP and gRPC."""
    return Handlers(this_worker())


def answer_first(app: ASGIApp) -> ServiceApp:
    """Our routes in front of BentoML's `app`. The connections call them at once: what else BentoML has in front is a
    timer for each request, and tracing that is off."""
    this_worker().connections.app = first = ServiceApp(app, this_worker(), these_handlers())
    return first


ChurnService.add_asgi_middleware(answer_first)  # type: ignore[attr-defined]
