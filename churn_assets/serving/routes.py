"""What each route does, from a body to a reply; no ASGI here."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from churn_assets.errors import DataError, LogBusy, LogUnavailable, RowsRejected, Violation, shown
from churn_assets.serving.answer import OK, Call, Clock, Told, predict_batch, predict_one
from churn_assets.serving.core import Core
from churn_assets.serving.describe import describe_model
from churn_assets.serving.feedback import read_feedback
from churn_assets.serving.openapi import openapi
from churn_assets.serving.page import SWAGGER, page
from churn_assets.serving.reply import Reply, answered, refused, rejected, retry
from churn_assets.serving.router import Arm

decode = msgspec.json.Decoder().decode
_BATCH_FIELDS = {"customers", "as_of"}
BATCHES_AT_ONCE = 4  # of one worker; each holds its rows in memory
_UTC = dt.UTC
HTML = b"text/html; charset=utf-8"


@dataclass(slots=True)
class Request:
    """A whole body, and the id that log and answer carry."""

    body: bytes
    request_id: str


@dataclass(frozen=True, slots=True)
class Handler:
    """What answers a route; `body_bytes` is the limit of its body, 0 for none."""

    run: Callable[[Request], Awaitable[Reply]]
    body_bytes: int = 0


class Routes:
    """The routes of one worker."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._batches = 0
        self._clock = Clock()
        limits = core.settings
        self.table: Mapping[str, Mapping[str, Handler]] = {
            "/predict": {"POST": Handler(self.predict, limits.body_bytes)},
            "/predict_batch": {"POST": Handler(self.predict_batch, limits.batch_bytes)},
            "/feedback": {"POST": Handler(self.feedback, limits.body_bytes)},
            "/model": _get(self.model),
            "/": _get(self.index),
            "/docs": _get(self.try_it),
            "/docs.json": _get(self.docs),
            "/metrics": _get(self.metrics),
            "/livez": _get(self.lives),
            "/healthz": _get(self.lives),
            "/readyz": _get(self.ready),
        }

    def find(self, path: str, method: str) -> Handler | Reply:
        """The handler of a path and method, or the refusal."""
        methods = self.table.get(path)
        if methods is None:
            known = ", ".join(self.table)
            return refused(404, "path", f"there is no such route, expected one of: {known}")
        handler = methods.get(method)
        if handler is None:
            allowed = ", ".join(methods)
            error = f"the method is {method[:20]!r}, expected {allowed}; see /docs"
            return refused(405, "method", error, headers=((b"allow", allowed.encode()),))
        return handler

    async def predict(self, request: Request) -> Reply:
        """One customer."""
        call = self._call(request)
        arm = self.core.router.arm()
        if arm is None:
            return self._no_model()
        customer = _parsed(request.body)
        if type(customer) is not dict:
            return customer if isinstance(customer, Reply) else _no_object(customer, "one customer")
        try:
            told = predict_one(arm, customer, call)
        except RowsRejected as error:
            return self._rejected(arm, error)
        except DataError as error:
            return self._rejected(arm, _unscorable(error))
        return await self._logged(arm, told, told.answers[0])

    async def predict_batch(self, request: Request) -> Reply:
        """Many customers, all or none; in a thread, so that single customers are answered meanwhile."""
        call = self._call(request)
        arm = self.core.router.arm()
        if arm is None:
            return self._no_model()
        if self._batches >= BATCHES_AT_ONCE:
            return retry(
                503, "busy", f"{self._batches} batches are being scored, expected fewer; ask again in a second"
            )
        self._batches += 1
        work = asyncio.ensure_future(asyncio.to_thread(self._batch, arm, request, call))
        work.add_done_callback(self._batch_ended)
        limit_s = self.core.settings.timeout_s
        try:
            told = await asyncio.wait_for(asyncio.shield(work), limit_s)
        except TimeoutError:  # its thread goes on, and what it finds is thrown away
            words = f"the batch took more than {limit_s:g} seconds, expected less; send fewer customers at a time"
            return retry(503, "busy", words)
        except RowsRejected as error:
            return self._rejected(arm, error)
        except DataError as error:
            return self._rejected(arm, _unscorable(error))
        return told if isinstance(told, Reply) else await self._logged(arm, told, {"predictions": told.answers})

    def _batch_ended(self, work: asyncio.Future[Told | Reply]) -> None:
        self._batches -= 1
        if not work.cancelled():
            work.exception()  # told of already, or nobody waits for it any more

    def _batch(self, arm: Arm, request: Request, call: Call) -> Told | Reply:
        asked = _parsed(request.body)
        if type(asked) is not dict:
            return asked if isinstance(asked, Reply) else _no_object(asked, 'an object {"customers": [...], "as_of"?}')
        customers, limit = asked.get("customers"), self.core.settings.batch_rows
        if unknown := sorted(asked.keys() - _BATCH_FIELDS)[:10]:
            found = [Violation(0, name, "an unknown field", "only customers and as_of") for name in unknown]
            return refused(422, "contract", str(RowsRejected(found)), found)
        if not isinstance(customers, list) or not 1 <= len(customers) <= limit:
            size = f"{len(customers):,} customers" if isinstance(customers, list) else shown(customers)
            if "customers" not in asked:
                size = "no such field"
            found = [Violation(0, "customers", size, f"a list of 1 to {limit:,} customers")]
            return refused(422, "rows", str(RowsRejected(found)), found)
        return predict_batch(arm, customers, asked.get("as_of"), call)

    def _call(self, request: Request) -> Call:
        core = self.core
        return Call(request.request_id, self._clock.now(), core.settings.stale_days, core.log is not None)

    async def feedback(self, request: Request) -> Reply:
        """What became of customers."""
        body = _parsed(request.body)
        if isinstance(body, Reply):
            return body
        try:
            ids, lines = read_feedback(body, request.request_id, dt.datetime.now(_UTC))
        except RowsRejected as error:
            return rejected(error)
        failed = await self._durable(lines, len(ids))
        return failed or answered({"accepted": len(ids), "feedback_ids": ids})

    async def model(self, request: Request) -> Reply:
        """The model that answers."""
        served = self.core.models.current
        return self._no_model() if served is None else answered(describe_model(served))

    async def index(self, request: Request) -> Reply:
        """The page for people."""
        models = self.core.models
        return Reply(200, await asyncio.to_thread(page, models.current, models.missing), HTML)

    async def docs(self, request: Request) -> Reply:
        """The OpenAPI document."""
        served = self.core.models.current
        return answered(openapi(None if served is None else served.contract, self.core.settings))

    async def try_it(self, request: Request) -> Reply:
        """Swagger's page on that document."""
        return Reply(200, SWAGGER, HTML)

    async def metrics(self, request: Request) -> Reply:
        """Metrics of all workers."""
        text, kind = await asyncio.to_thread(self.core.metrics.exposition)
        return Reply(200, text, kind.encode())

    async def lives(self, request: Request) -> Reply:
        """The process answers."""
        return Reply(200, b"\n", b"text/plain; charset=utf-8")

    async def ready(self, request: Request) -> Reply:
        """Whether there is a model; what is wrong besides."""
        models, log = self.core.models, self.core.log
        if models.current is None:
            return retry(503, "no_model", models.missing, 5)
        failed = "off" if log is None else (log.failed or "").replace(f"{self.core.home}{os.sep}", "")
        detail = {"model_refused": models.refused, "log": failed}
        version = models.current.scorer.version
        return answered({"ready": True, "model_version": version, "detail": {k: v for k, v in detail.items() if v}})

    async def _logged(self, arm: Arm, told: Told, answer: object) -> Reply:
        failed = await self._durable(told.lines, len(told.answers))
        if failed is not None:
            return failed
        metrics, version = self.core.metrics, arm.served.scorer.version
        metrics.predicted(version, arm.name, OK, len(told.answers))
        for score in told.scores:
            metrics.score(score)
        for column in told.warned:
            metrics.warned(column)
        return answered(answer)

    async def _durable(self, lines: bytes, rows: int) -> Reply | None:
        """None once the lines are on disk, else the refusal: then they are not in the log."""
        if self.core.log is None:
            return None
        try:
            await self.core.log.append(lines, rows)
        except LogBusy as error:
            return retry(503, "busy", str(error))
        except LogUnavailable:
            words = "the answer could not be put on disk, so it is not given; ask again when the disk has room"
            return retry(503, "disk", words, 5)
        return None

    def _rejected(self, arm: Arm, error: RowsRejected) -> Reply:
        self.core.metrics.predicted(arm.served.scorer.version, arm.name, "rejected")
        return rejected(error)

    def _no_model(self) -> Reply:
        error = "there is no model that can answer; make one with `make run` (or `churn run`), it is taken up at once"
        return retry(503, "no_model", error, 5)


def _get(run: Callable[[Request], Awaitable[Reply]]) -> Mapping[str, Handler]:
    return {"GET": Handler(run), "HEAD": Handler(run)}


def _parsed(body: bytes) -> Any:
    """The JSON value of a body, or the refusal. NaN, infinities and numbers beyond float64 are no JSON."""
    try:
        return decode(body)
    except (ValueError, RecursionError) as error:
        words = " ".join(str(error).split())[:120]
        if isinstance(error, RecursionError):
            words = "nested too deeply"
        elif isinstance(error, UnicodeDecodeError):
            words = f"byte {error.start} is no UTF-8"
        return refused(400, "json", f"the body is no JSON ({words}), expected JSON in UTF-8 with finite numbers")


def _no_object(value: object, expected: str) -> Reply:
    found = [Violation(0, "", shown(value), f"{expected}, as a JSON object")]
    return refused(422, "contract", str(RowsRejected(found)), found)


def _unscorable(error: DataError) -> RowsRejected:
    return RowsRejected([Violation(0, "", str(error).partition(";")[0], "values that give a finite score")])
