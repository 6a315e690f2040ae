"""What our service is measured beside: a constant through the same HTTP, ours by
Starlette's router, BentoML as it comes, and a FastAPI seed.

Each is started by `benchmarks.serving`; none is imported by anything else.
"""

from __future__ import annotations

import os
from typing import Any

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from churn_assets.serving import service as ours
from churn_assets.serving.http import encode
from churn_assets.serving.routes import Handlers, ServiceApp

CONSTANT = {"prediction_id": "0" * 24, "customer_id": "C1", "churn_probability": 0.25, "churn": False}


class _ConstantHandlers(Handlers):
    async def predict(self, body: bytes, request_id: str) -> bytes:
        return encode(CONSTANT)


class _Middleware:
    def __init__(self, app: ASGIApp) -> None:
        self._app = ours.answer_first(app)
        self.change(self._app)

    def change(self, app: ServiceApp) -> None: ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _ConstantMiddleware(_Middleware):
    def change(self, app: ServiceApp) -> None:
        app.handlers = _ConstantHandlers(ours.this_worker())


class _RoutedMiddleware(_Middleware):
    def change(self, app: ServiceApp) -> None:
        app.short_path = ""


@bentoml.service(
    name="constant",
    traffic={"timeout": 5},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class Constant:
    """The same HTTP, no model and no log."""

    @bentoml.on_startup
    async def start(self) -> None:
        ours.settle_memory()


Constant.add_asgi_middleware(_ConstantMiddleware)


@bentoml.service(
    name="routed",
    traffic={"timeout": 5},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class Routed:
    """Our service, `/predict` answered through Starlette's router like every other route."""

    @bentoml.on_startup
    async def start(self) -> None:
        await ours.this_worker().start()
        ours.settle_memory()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        await ours.this_worker().stop()


Routed.add_asgi_middleware(_RoutedMiddleware)


@bentoml.service(name="plain")
class Plain:
    """BentoML as it comes, with our scorer behind `@bentoml.api`; no log."""

    def __init__(self) -> None:
        from churn_assets.serving.routing.models import find_bundle, load_served_model

        self._served = load_served_model(find_bundle(os.environ))

    @bentoml.api
    async def predict(self, customer: dict[str, Any]) -> dict[str, Any]:
        row = dict(customer)
        row.pop("as_of", None)
        return {"churn_probability": self._served.customers.score(row, 16_090.0).probability}
