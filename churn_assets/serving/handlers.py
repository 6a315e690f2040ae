"""What each route does, from a request to its response."""

from __future__ import annotations

import asyncio
import datetime as dt
import os

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from churn_assets.contract.model import Column, Role
from churn_assets.errors import DataError, LogBusy, LogUnavailable, RowsRejected, Violation, describe_value
from churn_assets.prediction_log.feedback import parse_reports
from churn_assets.prediction_log.records import encode_line
from churn_assets.serving.http import Refused, encode, invalid, json_response, parse_json, read_body, unavailable
from churn_assets.serving.model_watcher import Arm, ServedModel
from churn_assets.serving.pages import index_page, swagger_page
from churn_assets.serving.predict import OK, Clock, PredictionResult, RequestContext, predict_many, predict_one
from churn_assets.serving.schemas import (
    MAX_REPORTS,
    BatchResponse,
    ColumnDescription,
    FeedbackResponse,
    ModelDescription,
    ReadyDetail,
    ReadyResponse,
    openapi,
)
from churn_assets.serving.worker import Worker

BATCHES_AT_ONCE = 4  # of one worker; each holds its rows in memory
_BATCH_FIELDS = {"customers", "as_of"}
_HTML = "text/html"


class Handlers:
    """The routes of one worker. Each raises `http.Refused` for a request that it refuses."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._batches = 0
        self._clock = Clock()

    async def predict(self, body: bytes, request_id: str) -> bytes:
        """One customer; the response as JSON. The short path of `app` calls it without Starlette."""
        context = self._context(request_id)
        arm = self._arm()
        customer = parse_json(body)
        if type(customer) is not dict:
            raise _not_an_object(customer, "one customer")
        try:
            result = predict_one(arm, customer, context)
        except (RowsRejected, DataError) as error:
            raise self._rejected(arm, error) from None
        await self._record(arm, result)
        return encode(result.responses[0])

    async def predict_by_router(self, request: Request) -> Response:
        """`predict` as Starlette calls it, to measure what the short path saves."""
        content = await self.predict(await self._body(request), request.state.request_id)
        return Response(content, media_type="application/json")

    async def predict_batch(self, request: Request) -> Response:
        """Many customers, all or none; in a thread, so that single customers are answered meanwhile."""
        settings = self._worker.settings
        body = await self._body(request, settings.batch_bytes)
        context = self._context(request.state.request_id)
        arm = self._arm()
        if self._batches >= BATCHES_AT_ONCE:
            raise unavailable(
                "busy", f"{self._batches} batches are being scored, expected fewer; ask again in a second"
            )
        self._batches += 1
        work = asyncio.ensure_future(asyncio.to_thread(self._score_batch, arm, body, context))
        work.add_done_callback(self._batch_ended)
        try:
            result = await asyncio.wait_for(asyncio.shield(work), settings.timeout_s)
        except TimeoutError:  # its thread goes on, and its result is dropped
            text = f"the batch took more than {settings.timeout_s:g} seconds, expected less"
            raise unavailable("busy", f"{text}; send fewer customers at a time") from None
        except (RowsRejected, DataError) as error:
            raise self._rejected(arm, error) from None
        await self._record(arm, result)
        return json_response(BatchResponse(result.responses))

    async def feedback(self, request: Request) -> Response:
        """Outcomes of customers: one report or a list."""
        body = parse_json(await self._body(request))
        items = body if isinstance(body, list) else [body]
        if not 1 <= len(items) <= MAX_REPORTS:
            raise invalid([Violation(0, "", f"{len(items):,} reports", f"from 1 to {MAX_REPORTS:,} reports")])
        try:
            rows = parse_reports(items, request.state.request_id, dt.datetime.now(dt.UTC))
        except RowsRejected as error:
            raise invalid(error.violations) from None
        await self._store(b"".join(map(encode_line, rows)), len(rows))
        return json_response(FeedbackResponse(len(rows), [row.feedback_id for row in rows]))

    async def model(self, request: Request) -> Response:
        """The model that answers."""
        return json_response(describe_model(self._arm().model))

    async def index(self, request: Request) -> Response:
        """The page for people."""
        watcher = self._worker.watcher
        page = await asyncio.to_thread(index_page, watcher.current, watcher.missing)
        return Response(page, media_type=_HTML)

    async def docs(self, request: Request) -> Response:
        """The OpenAPI document."""
        model = self._worker.watcher.current
        return json_response(openapi(None if model is None else model.contract, self._worker.settings))

    async def docs_page(self, request: Request) -> Response:
        """Swagger's page on that document."""
        return Response(await asyncio.to_thread(swagger_page), media_type=_HTML)

    async def metrics(self, request: Request) -> Response:
        """Metrics of all workers."""
        text, content_type = await asyncio.to_thread(self._worker.metrics.exposition)
        return Response(text, headers={"content-type": content_type})

    async def alive(self, request: Request) -> Response:
        """The process answers."""
        return PlainTextResponse("\n")

    async def ready(self, request: Request) -> Response:
        """Whether there is a model; what is wrong besides."""
        watcher, log = self._worker.watcher, self._worker.log
        if watcher.current is None:
            raise unavailable("no_model", watcher.missing, 5)
        log_state = "off" if log is None else (log.failed or "").replace(f"{self._worker.home}{os.sep}", "")
        detail = ReadyDetail(watcher.refused or "", log_state)
        return json_response(ReadyResponse(True, watcher.current.scorer.version, detail))

    def _context(self, request_id: str) -> RequestContext:
        worker = self._worker
        return RequestContext(request_id, self._clock.now(), worker.settings.stale_days, worker.log is not None)

    def _arm(self) -> Arm:
        """The model that answers this request, and its policy."""
        arm = self._worker.watcher.arm
        if arm is None:
            text = "there is no model; make one with `make run` (or `churn run`), the service then loads it by itself"
            raise unavailable("no_model", text, 5)
        return arm

    async def _body(self, request: Request, limit: int | None = None) -> bytes:
        settings = self._worker.settings
        return await read_body(request.scope, request.receive, limit or settings.body_bytes, settings.timeout_s)

    def _score_batch(self, arm: Arm, body: bytes, context: RequestContext) -> PredictionResult:
        batch, limit = parse_json(body), self._worker.settings.batch_rows
        if type(batch) is not dict:
            raise _not_an_object(batch, 'an object {"customers": [...], "as_of"?}')
        if unknown := sorted(batch.keys() - _BATCH_FIELDS)[:10]:
            raise invalid([Violation(0, name, "an unknown field", "only customers and as_of") for name in unknown])
        customers = batch.get("customers")
        if not isinstance(customers, list) or not 1 <= len(customers) <= limit:
            size = f"{len(customers):,} customers" if isinstance(customers, list) else describe_value(customers)
            if "customers" not in batch:
                size = "no such field"
            raise invalid([Violation(0, "customers", size, f"a list of 1 to {limit:,} customers")], cause="rows")
        return predict_many(arm, customers, batch.get("as_of"), context)

    def _batch_ended(self, work: asyncio.Future[PredictionResult]) -> None:
        self._batches -= 1
        if not work.cancelled():
            work.exception()  # answered already, or nobody waits for it any more

    async def _record(self, arm: Arm, result: PredictionResult) -> None:
        """Put predictions on disk, then count them."""
        await self._store(result.log_lines, len(result.responses))
        metrics = self._worker.metrics
        metrics.predicted(arm.model.scorer.version, arm.name, OK, len(result.responses))
        for response in result.responses:
            metrics.score(response.churn_probability)
        for column in result.warned:
            metrics.warned(column)

    async def _store(self, lines: bytes, rows: int) -> None:
        """Return once the lines are on disk. Raises Refused if they are not; then they are not in the log."""
        if self._worker.log is None:
            return
        try:
            await self._worker.log.append(lines, rows)
        except LogBusy as error:
            raise unavailable("busy", str(error)) from None
        except LogUnavailable:
            text = "the answer could not be written to disk, so it is not given; ask again when the disk has room"
            raise unavailable("disk", text, 5) from None

    def _rejected(self, arm: Arm, error: RowsRejected | DataError) -> Refused:
        self._worker.metrics.predicted(arm.model.scorer.version, arm.name, "rejected")
        if isinstance(error, RowsRejected):
            return invalid(error.violations)
        return invalid([Violation(0, "", str(error).partition(";")[0], "values that give a finite score")])


def describe_model(model: ServedModel) -> ModelDescription:
    """Version, metrics with their intervals, thresholds, and the columns that a customer must have."""
    scorer, contract = model.scorer, model.contract
    return ModelDescription(
        version=scorer.version,
        kind=scorer.model.kind,
        trained_at=model.trained_at,
        as_of=model.as_of,
        generated=model.generated,
        contract=contract.name,
        fingerprint=contract.fingerprint,
        title=contract.title,
        label=contract.label.meaning,
        columns=[_describe_column(column) for column in (contract.key, *contract.scoring_columns)],
        features=list(scorer.program.names),
        training_ranges=dict(scorer.ranges),
        thresholds=dict(scorer.thresholds.values),
        threshold=scorer.thresholds.value,
        decided_by=scorer.thresholds.chosen,
        bands=scorer.bands,
        metrics=dict(model.metrics),
        ladder=msgspec.to_builtins(model.ladder),
    )


def _describe_column(column: Column) -> ColumnDescription:
    is_key = column.role is Role.KEY
    return ColumnDescription(
        name=column.name,
        kind=str(column.kind),
        required=not is_key,
        nullable=column.nullable or is_key,
        low=column.low,
        high=column.high,
        choices=list(column.choices) or None,
        unit=column.unit or None,
        doc=column.doc or None,
    )


def _not_an_object(value: object, expected: str) -> Refused:
    return invalid([Violation(0, "", describe_value(value), f"{expected}, as a JSON object")])
