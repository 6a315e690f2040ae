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
from typing import Any, NoReturn

import bentoml
import click
from uvicorn import config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from churn_assets.access.keyring import check_address
from churn_assets.errors import ChurnError
from churn_assets.serving.routes import ServiceApp
from churn_assets.serving.server.connections import LimitedProtocol
from churn_assets.serving.server.process import (
    STOP_S,
    check_port,
    end_within,
    follow_supervisor,
    is_worker,
    name_supervisor,
)
from churn_assets.serving.worker import Worker
from churn_assets.settings import ServingSettings


class Protocol(LimitedProtocol):
    """The protocol of this process's worker."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(this_worker().connections, *arguments, **options)


def use_protocol() -> bool:
    """Have uvicorn use `Protocol` in this process, by its table of protocols: BentoML has no option for it. False if
    uvicorn has no such table any more; then there are no limits of connections, and a test fails."""
    protocols = getattr(config, "HTTP_PROTOCOLS", {})
    if "auto" not in protocols or not hasattr(HttpToolsProtocol, "send_400_response"):
        return False
    protocols["auto"] = f"{__name__}:Protocol"
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


_SETTINGS = _read_settings()
_TLS = {"enabled": True, "certfile": _SETTINGS.tls_cert, "keyfile": _SETTINGS.tls_key} if _SETTINGS.tls_cert else {}
use_protocol()
if is_worker():
    follow_supervisor()


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
    def check_start() -> None:
        """End `bentoml serve`, in one line, if the port is taken, or others would reach it and need no key. Its
        `--host` and `--port` count."""
        name_supervisor()
        context = click.get_current_context(silent=True)
        options = {} if context is None else context.params
        host, port = options.get("host") or _SETTINGS.host, options.get("port") or _SETTINGS.port
        try:
            check_address(host, _SETTINGS)
            if context is not None:  # `bentoml.serve` in Python has arguments, which nobody sees here
                check_port(host, port)
        except ChurnError as error:
            end_start(error)

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Open the log, load the model, and check for the next."""
        settle_memory()  # before the model: what is settled is never freed
        await this_worker().start()
        this_worker().check_host(bound_host())

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Write what was accepted to disk."""
        end_within(STOP_S)
        await this_worker().stop()


def bound_host() -> str:
    """The address of the socket that this worker listens on, which BentoML's supervisor binds; "" if it names none."""
    if not is_worker():
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
