"""The BentoML service `churn`. BentoML brings processes, sockets, packing and signals; the routes are ours.

They stand before BentoML's own as a middleware, the documented place for code that sees every request.
Its access log, tracing and metrics are off: together they cost four times what a prediction does (see
docs/serving.md), and ours say more. The limits that clients meet are in `serving.settings`; BentoML's own
timeout, which answers in another shape, is more than all of them together.
"""

import gc
import os
from typing import Any

import bentoml

from churn_assets.serving.core import Core
from churn_assets.serving.family import stop_when_orphaned
from churn_assets.serving.front import Front
from churn_assets.serving.protocol import answer_garbage, count_garbage
from churn_assets.serving.routes import Routes
from churn_assets.serving.settings import ServingSettings

_SETTINGS = ServingSettings.from_environ(os.environ)
_SUPERVISOR = os.getppid()  # in a worker; read early, it may die while the worker starts
answer_garbage()


@bentoml.service(
    name="churn",
    workers=_SETTINGS.workers,
    traffic={"timeout": 2.5 * _SETTINGS.timeout_s},  # 0.8 for the body, 1 for a batch, 0.5 for the disk
    http={"host": _SETTINGS.host, "port": _SETTINGS.port},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class ChurnService:
    """Scores customers with the bundle packed into the Bento, or with the home's champion."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]  # bentoml is not followed by mypy
    @staticmethod
    def mend_dead_workers() -> None:
        """In a container BentoML lets dead workers lie: have it replace them there too."""
        os.environ.pop("BENTOML_CONTAINERIZED", None)

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Open the log, load the model, watch for the next, and for the death of the supervisor."""
        core = _core()
        count_garbage(core.rejected)
        await core.start()
        core.watch(stop_when_orphaned(core.logger, _SUPERVISOR))
        settle_memory()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Put on disk what was accepted."""
        await _core().stop()


def settle_memory() -> None:
    """Have the collector look at less, less often.

    What is loaded now stays. Requests make no cycles, but BentoML keeps a timer for each of them until its
    timeout: at the usual thresholds the collector walks over tens of thousands of those again and again,
    30 ms a time, and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


_made: list[Core] = []


def _core() -> Core:
    # Made in the worker, not at import: the build and the supervisor import this module as well.
    if not _made:
        _made.append(Core(_SETTINGS, os.environ))
    return _made[0]


class _Door:
    """The middleware: its worker's front, made when the application is."""

    def __init__(self, app: Any) -> None:
        self._front = Front(app, Routes(_core()))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._front(scope, receive, send)


ChurnService.add_asgi_middleware(_Door)  # type: ignore[attr-defined]
