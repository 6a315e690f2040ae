"""What our service is measured beside: a constant through the same doors, BentoML as it comes, and a FastAPI seed.

Each is started by `benchmarks.serving`; none is imported by anything else.
"""

from __future__ import annotations

import os
from typing import Any

import bentoml

from churn_assets.serving import service as ours
from churn_assets.serving.front import Front
from churn_assets.serving.reply import Reply, answered
from churn_assets.serving.routes import Handler, Request, Routes

CONSTANT = {"prediction_id": "0" * 24, "customer_id": "C1", "churn_probability": 0.25, "churn": False}


class _ConstantRoutes(Routes):
    def __init__(self, core: Any) -> None:
        super().__init__(core)
        self.table = {**self.table, "/predict": {"POST": Handler(self.constant, core.settings.body_bytes)}}

    async def constant(self, request: Request) -> Reply:
        return answered(CONSTANT)


class _ConstantDoor:
    def __init__(self, app: Any) -> None:
        self._front = Front(app, _ConstantRoutes(ours._core()))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._front(scope, receive, send)


@bentoml.service(
    name="constant",
    traffic={"timeout": 5},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class Constant:
    """The same doors, no model and no log."""

    @bentoml.on_startup
    async def start(self) -> None:
        ours.settle_memory()


Constant.add_asgi_middleware(_ConstantDoor)


@bentoml.service(name="plain")
class Plain:
    """BentoML as it comes, with our scorer behind `@bentoml.api`; no log."""

    def __init__(self) -> None:
        from churn_assets.serving.model import find_bundle, load_served

        self._served = load_served(find_bundle(os.environ))

    @bentoml.api
    async def predict(self, customer: dict[str, Any]) -> dict[str, Any]:
        row = dict(customer)
        row.pop("as_of", None)
        return {"churn_probability": self._served.one.score(row, 16_090.0).probability}
