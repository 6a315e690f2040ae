"""The service as an ASGI application: what each route does, in a middleware in front of BentoML's own routes.

`POST /predict` has a short path of its own: Starlette's router, request and response, which serve the other routes,
raise the CPU of a request with 16 clients from some 190 to 260 us (`python -m benchmarks.serving`). BentoML answers
only for its static files; its errors are replaced by ours, so that every error has the shape of `http.Refused`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Collection
from secrets import token_urlsafe

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.routing import Router as PathRouter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from churn_assets.contract.model import Column, Role
from churn_assets.errors import (
    ContractConflict,
    DataError,
    LogBusy,
    LogUnavailable,
    RowsRejected,
    Violation,
    describe_value,
)
from churn_assets.prediction_log.feedback import parse_reports
from churn_assets.prediction_log.records import IMPORT, encode_line
from churn_assets.prediction_log.writer import MAX_BYTES
from churn_assets.serving import http, schemas
from churn_assets.serving.authorization import authorize
from churn_assets.serving.explanations.handler import answer_explanation
from churn_assets.serving.http import (
    Refused,
    check_values,
    conflict,
    encode,
    invalid,
    json_response,
    parse_json,
    read_body,
    unavailable,
)
from churn_assets.serving.open_inference.endpoints import InferenceEndpoints
from churn_assets.serving.open_inference.messages import INFER_ROUTES, PREFIX, Target, V2Error, find_route
from churn_assets.serving.open_inference.rest import RestInference
from churn_assets.serving.pages import index_page, page_headers, swagger_page
from churn_assets.serving.pages.reference import reference_page
from churn_assets.serving.pages.typical_customer import current_customer
from churn_assets.serving.predict import OK, Clock, PredictionResult, RequestContext
from churn_assets.serving.releases.handler import ReleaseHandlers
from churn_assets.serving.routing.models import ServedModel
from churn_assets.serving.routing.router import Arm, Router
from churn_assets.serving.routing.split import score_many, score_one
from churn_assets.serving.worker import Worker
from churn_assets.structured_log import log_event

BENTOML_FILES = ("/static_content/", "/assets/")  # the files of the page /docs
_FILE_METHODS = ("GET", "HEAD")
PREDICT, PREDICT_BATCH = "/predict", "/predict_batch"
SCORING_ROUTES = frozenset((PREDICT, PREDICT_BATCH, *INFER_ROUTES))
_IMPORT = IMPORT.encode()  # the request id of feedback that did not come over the network
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
TEST_HEADER = b"x-churn-test"
BATCHES_AT_ONCE = 4  # of one worker; each holds its rows in memory
_BATCH_FIELDS = {"customers", "as_of"}


class ServiceApp:
    """Answers the service's routes, and passes requests for BentoML's static files on to `bentoml`."""

    short_path = PREDICT  # of POST; the router would answer it as well

    def __init__(self, bentoml: ASGIApp, worker: Worker, handlers: Handlers | None = None) -> None:
        self._bentoml, self._worker = bentoml, worker
        self.handlers = handlers or Handlers(worker)
        self.routes = routes(self.handlers)
        self._paths = {route.path for route in self.routes}
        self._router = PathRouter(self.routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            await self._bentoml(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        path, method, request = scope["path"], scope["method"], RequestFacts(scope)
        worker, status = self._worker, 200
        refusal: Refused | None = None
        try:
            if request.hosts != 1:
                _check_host(scope, request.hosts)
            key = authorize(worker.keys, scope["headers"], request.route, method)
            request.key_id = None if key is None else key.id
            if worker.limited and request.route not in schemas.OPEN_ROUTES:
                request.headers += worker.admit(key)
            if path == self.short_path and method == "POST":
                body = await read_body(scope, receive, worker.settings.body_bytes, worker.settings.timeout_s)
                await _send(send, 200, await self.handlers.predict(body, request), request)
            elif request.target is not None and request.route in INFER_ROUTES and method == "POST":
                content, kind, more = await self.handlers.inference.infer(scope, receive, request.target, request)
                await _send(send, 200, content, request, more, kind=kind)
            else:
                await self._route(scope, receive, send, request)
        except http.ClientLeft:
            return
        except Exception as error:  # nothing of a mistake of ours may reach the client
            refusal = self._refusal(error, path, method, request)
            status = refusal.status
            request.key_id = request.key_id or refusal.key_id
            if request.is_answered:  # in part: it is too late to say more
                return
            body = encode(V2Error(refusal.error)) if path.startswith(PREFIX) else refusal.body()
            await _send(send, status, body, request, refusal.headers, method)
        account(worker, request, path, method, status, refusal, time.perf_counter() - start)

    async def _route(self, scope: Scope, receive: Receive, send: Send, request: RequestFacts) -> None:
        """Any route but the short one. Raises TimeoutError if it has not begun its answer in time, as with a disk that
        hangs."""
        path: str = scope["path"]
        async with asyncio.timeout(self._worker.settings.timeout_s * http.ANSWER_SHARE) as patience:
            finish = _finish(send, scope["method"], request, patience)
            if path.startswith(BENTOML_FILES):
                await self._serve_file(scope, receive, finish)
            elif request.route not in self._paths:  # asked here: Starlette's patterns also fit a line end after a path
                raise HTTPException(404)
            else:
                routed = {**scope, "app": self, "state": {"facts": request}}  # with an app Starlette raises 404 and 405
                await self._router(routed, receive, finish)

    async def _serve_file(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A file of the page /docs, whole, from BentoML's application, whose errors are raised as ours. Raises Refused.

        A Range is not looked at, which RFC 9110 (14.2) leaves to the server: Starlette answers one that it cannot read
        with 400, and hundreds of them with as many parts.
        """
        if scope["method"] not in _FILE_METHODS:
            raise _wrong_method(scope["method"], _FILE_METHODS)
        headers = [(name, value) for name, value in scope["headers"] if name not in (b"range", b"if-range")]
        is_error = False

        async def forward(message: Message) -> None:
            nonlocal is_error
            is_error = is_error or message.get("status", 200) >= 400
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name != b"accept-ranges"]
                message["headers"] = [*kept, (b"accept-ranges", b"none")]
            if not is_error:
                await send(message)

        await self._bentoml({**scope, "headers": headers}, receive, forward)
        if is_error:
            raise Refused(404, "path", "there is no such file, expected one of the routes in /docs.json")

    def _refusal(self, error: Exception, path: str, method: str, request: RequestFacts) -> Refused:
        """The refusal of a request that is refused already, has no route, or failed by a mistake of the service."""
        if isinstance(error, Refused):  # its frames have the body, and the caller's has it: a cycle, found much later
            error.__traceback__ = error.__context__ = None
            return error
        if isinstance(error, HTTPException) and error.status_code == 405:
            return _wrong_method(method, next(r.methods or set() for r in self.routes if r.path == request.route))
        if isinstance(error, HTTPException):
            known = ", ".join(r.path for r in self.routes if r.path.startswith(PREFIX) == path.startswith(PREFIX))
            return Refused(404, "path", f"there is no such route, expected one of: {known}; see /docs")
        if isinstance(error, TimeoutError):
            limit_s = self._worker.settings.timeout_s * http.ANSWER_SHARE
            return unavailable("busy", f"the answer took more than {limit_s:g} seconds, expected it sooner; ask again")
        facts = {"request_id": request.id, "path": path[:200]}
        self._worker.logger.error("request failed", exc_info=error, extra={"facts": facts})
        text = f"the request failed by a mistake of the service; report it with its id {request.id}"
        return Refused(500, "internal", text)


def account(
    worker: Worker, request: RequestFacts, path: str, method: str, status: int, refusal: Refused | None, seconds: float
) -> None:
    """Count a request that was answered, and log it if each one is."""
    cause = None
    if refusal is not None:
        cause = refusal.cause
        worker.count_refusal(cause, refusal.detail if request.route in SCORING_ROUTES else ())
    if request.route in SCORING_ROUTES:
        worker.metrics.latency(seconds)
    if worker.settings.access_log:
        facts = {"request_id": request.id, "method": method, "path": path[:200], "status": status}
        facts |= {"key": request.key_id, "cause": cause, "ms": round(seconds * 1e3, 3)}
        log_event(worker.logger, logging.INFO, "request", **facts)


def routes(handlers: Handlers) -> list[Route]:
    """Every route; those of GET answer HEAD too."""
    return [
        Route(PREDICT, handlers.predict_by_router, methods=["POST"]),
        Route(PREDICT_BATCH, handlers.predict_batch, methods=["POST"]),
        Route("/feedback", handlers.feedback, methods=["POST"]),
        *(Route(path, handlers.explanation, methods=["POST"]) for path in schemas.EXPLANATIONS),
        Route(schemas.RELEASE, handlers.releases.release, methods=["GET", "POST"]),
        Route(schemas.RETRAIN, handlers.releases.retrain, methods=["POST"]),
        Route("/model", handlers.model),
        Route("/", handlers.index),
        Route("/docs", handlers.docs_page),
        Route("/redoc", handlers.reference),
        Route("/docs.json", handlers.docs),
        Route("/metrics", handlers.metrics),
        Route("/livez", handlers.alive),
        Route("/healthz", handlers.alive),
        Route("/readyz", handlers.ready),
        *handlers.inference.routes(),
    ]


class RequestFacts:
    """What is known of a request from its headers: its `id`, that of the client or a new one; whether it is a `test`,
    a trial that monitoring leaves out (`X-Churn-Test`); how many `hosts` it names; the id of its API key, once that is
    checked; its `route`, and the `target` that this names below `/v2`; the `headers` of every response to it; and
    whether one by the longer path has begun."""

    __slots__ = ("headers", "hosts", "id", "is_answered", "key_id", "route", "target", "test")

    def __init__(self, scope: Scope) -> None:
        self.id, self.test, self.key_id = "", False, None  # type: str, bool, str | None
        self.hosts, self.is_answered = 0, False
        self.route: str = scope["path"]
        self.target: Target | None = None
        if self.route.startswith(PREFIX):
            self.route, self.target = find_route(self.route)
        for name, value in scope["headers"]:
            if name == b"host":
                self.hosts += 1
            elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value) and value != _IMPORT:
                self.id = str(value, "ascii")
            elif name == TEST_HEADER:
                self.test = value not in (b"", b"0", b"false")
        self.id = self.id or os.urandom(8).hex()
        self.headers: tuple[http.Header, ...] = ((b"x-request-id", self.id.encode()), NO_SNIFFING)


def _wrong_method(method: str, allowed: Collection[str]) -> Refused:
    names = ", ".join(sorted(allowed))
    text = f"the method is {method[:20]!r}, expected {names}; see /docs"
    return Refused(405, "method", text, headers=((b"allow", names.encode()),))


def _check_host(scope: Scope, hosts: int) -> None:
    """Raise Refused unless the request names one host; HTTP/1.0 need not."""
    if hosts or scope["http_version"] != "1.0":
        raise Refused(400, "http", f"the request has {hosts or 'no'} headers Host, expected one; correct it")


async def _send(
    send: Send,
    status: int,
    body: bytes,
    request: RequestFacts,
    more: tuple[http.Header, ...] = (),
    method: str = "POST",
    kind: http.Header = (b"content-type", http.JSON),
) -> None:
    """A response, in JSON unless `kind` says otherwise, without its body where the method is HEAD."""
    length = str(len(body)).encode()
    headers = [kind, (b"content-length", length), *request.headers, *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def _finish(send: Send, method: str, request: RequestFacts, patience: asyncio.Timeout) -> Send:
    """`send` that adds the headers of every response, and leaves the body of a HEAD out. With its first message
    `patience` ends: how fast the client must read is a limit of its connection."""

    async def finish(message: Message) -> None:
        if message["type"] == "http.response.start":
            patience.reschedule(None)
            request.is_answered = True
            message["headers"] = [*message["headers"], *request.headers]
        elif method == "HEAD":
            message["body"] = b""
        await send(message)

    return finish


class Handlers:
    """The routes of one worker. Each raises `Refused` for a request that it refuses."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._batches = 0
        self._clock = Clock()
        self._document: tuple[tuple[str, dt.date], bytes] | None = None  # of a model's version on a day
        self.endpoints = InferenceEndpoints(self, worker.settings.batch_rows)
        self.inference = RestInference(self.endpoints, worker.settings)
        self.releases = ReleaseHandlers(worker)

    async def predict(self, body: bytes, facts: RequestFacts) -> bytes:
        """One customer; the response as JSON. The short path calls it without Starlette."""
        context = self.context(facts)
        router = self.router()
        customer = parse_json(body)
        if type(customer) is not dict:
            raise invalid([Violation(0, "", describe_value(customer), "one customer, as a JSON object")])
        try:
            result = score_one(router, customer, context)
        except (RowsRejected, DataError) as error:
            raise self._rejected(router.champion, error) from None
        await self._record(router, result)
        return encode(result.responses[0])

    async def predict_by_router(self, request: Request) -> Response:
        """`predict` as Starlette calls it, to measure what the short path saves."""
        content = await self.predict(await self._body(request), request.state.facts)
        return Response(content, media_type="application/json")

    async def predict_batch(self, request: Request) -> Response:
        """Many customers, all or none; in a thread, so that single customers are answered meanwhile."""
        settings = self._worker.settings
        body = await self._body(request, settings.batch_bytes)
        context = self.context(request.state.facts)
        router = self.router()
        result = await self.answer_in_thread(router, lambda: self._score_batch(router, body, context))
        return json_response(schemas.BatchResponse(result.responses))

    async def answer(self, router: Router, score: Callable[[], PredictionResult]) -> PredictionResult:
        """What `score` gives for a few customers, once it is on disk. Raises Refused."""
        try:
            result = score()
        except (RowsRejected, DataError) as error:
            raise self._rejected(router.champion, error) from None
        await self._record(router, result)
        return result

    async def answer_in_thread(self, router: Router, score: Callable[[], PredictionResult]) -> PredictionResult:
        """`answer` for many customers: `score` runs in a thread, few at once, for a limited time. Raises Refused."""
        settings = self._worker.settings
        if self._batches >= BATCHES_AT_ONCE:
            text = f"{self._batches} batches are being scored, expected fewer; ask again in a second"
            raise unavailable("busy", text)
        self._batches += 1
        work = asyncio.ensure_future(asyncio.to_thread(score))
        work.add_done_callback(self._batch_ended)
        try:
            result = await asyncio.wait_for(asyncio.shield(work), settings.timeout_s)
        except TimeoutError:  # its thread goes on, and its result is dropped
            text = f"the batch took more than {settings.timeout_s:g} seconds, expected less"
            raise unavailable("busy", f"{text}; send fewer customers at a time") from None
        except (RowsRejected, DataError) as error:
            error.__traceback__ = None  # `work` has the error, and a frame of its own traceback has `work`
            raise self._rejected(router.champion, error) from None
        await self._record(router, result)
        return result

    async def feedback(self, request: Request) -> Response:
        """Outcomes of customers: one report or a list."""
        body = parse_json(await self._body(request))
        items = body if isinstance(body, list) else [body]
        if not 1 <= len(items) <= schemas.MAX_REPORTS:
            raise invalid([Violation(0, "", f"{len(items):,} reports", f"from 1 to {schemas.MAX_REPORTS:,} reports")])
        self.check_queue(len(items))
        try:
            facts: RequestFacts = request.state.facts
            rows = parse_reports(items, facts.id, dt.datetime.now(dt.UTC), facts.key_id)
        except RowsRejected as error:
            raise invalid(error.violations) from None
        await self._store(b"".join(map(encode_line, rows)), len(rows))
        return json_response(schemas.FeedbackResponse(len(rows), [row.feedback_id for row in rows]))

    async def explanation(self, request: Request) -> Response:
        """Why one customer has this score; nothing is logged."""
        body, context = await self._body(request), self.context(request.state.facts)
        return await answer_explanation(self._worker, self.router().champion, request.url.path, body, context)

    async def model(self, request: Request) -> Response:
        """The model that answers."""
        return json_response(describe_model(self.router().champion.model))

    async def index(self, request: Request) -> Response:
        """The page for people."""
        watcher, dashboard = self._worker.watcher, self._worker.home_settings.dashboard_url
        nonce = token_urlsafe(16)
        page = await asyncio.to_thread(index_page, watcher.current, watcher.missing, nonce, dashboard)
        return HTMLResponse(page, headers=page_headers(nonce))

    async def docs(self, request: Request) -> Response:
        """The OpenAPI document."""
        return Response(await self._openapi(), media_type="application/json")

    async def reference(self, request: Request) -> Response:
        """That document as a page to read."""
        document = await self._openapi()
        page = await asyncio.to_thread(lambda: reference_page(parse_json(document)))
        return HTMLResponse(page, headers=page_headers(token_urlsafe(16)))

    async def _openapi(self) -> bytes:
        model, today = self._worker.watcher.current, dt.datetime.now(dt.UTC).date()
        key = "" if model is None else model.scorer.version, today
        if self._document is None or self._document[0] != key:
            self._document = key, await asyncio.to_thread(self._make_document, model, today)
        return self._document[1]

    def _make_document(self, model: ServedModel | None, today: dt.date) -> bytes:
        if model is None:
            return encode(schemas.openapi(None, self._worker.settings))
        return encode(schemas.openapi(model.contract, self._worker.settings, current_customer(model, today)))

    async def docs_page(self, request: Request) -> Response:
        """Swagger's page on that document."""
        nonce = token_urlsafe(16)
        return HTMLResponse(await asyncio.to_thread(swagger_page, nonce), headers=page_headers(nonce))

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
        log_state = "off" if log is None else log.problem.replace(f"{self._worker.home}{os.sep}", "")
        shadow_state = self._worker.shadow.problem.replace(f"{self._worker.home}{os.sep}", "")
        detail = schemas.ReadyDetail(watcher.refused or "", log_state, self._worker.loop.note, shadow_state)
        return json_response(schemas.ReadyResponse(True, watcher.current.scorer.version, detail))

    def context(self, facts: RequestFacts) -> RequestContext:
        """What the predictions of a request share, from now on."""
        worker, logs = self._worker, self._worker.log is not None
        return RequestContext(facts.id, facts.key_id, facts.test, worker.settings.stale_days, logs, *self._clock.now())

    def router(self) -> Router:
        """The models that answer this request, and their policy. Raises Refused without a model."""
        router = self._worker.watcher.router
        if router is None:
            text = "there is no model; make one with `make run` (or `churn run`), the service then loads it by itself"
            raise unavailable("no_model", text, 5)
        return router

    async def _body(self, request: Request, limit: int | None = None) -> bytes:
        settings = self._worker.settings
        return await read_body(request.scope, request.receive, limit or settings.body_bytes, settings.timeout_s)

    def _score_batch(self, router: Router, body: bytes, context: RequestContext) -> PredictionResult:
        limit = self._worker.settings.batch_rows
        check_values(body, 2 * limit * (len(router.champion.model.contract.columns) + 2))
        batch = parse_json(body)
        if type(batch) is not dict:
            expected = 'an object {"customers": [...], "as_of"?}, as a JSON object'
            raise invalid([Violation(0, "", describe_value(batch), expected)])
        if unknown := sorted(batch.keys() - _BATCH_FIELDS)[:10]:
            raise invalid([Violation(0, name, "an unknown field", "only customers and as_of") for name in unknown])
        customers = batch.get("customers")
        if not isinstance(customers, list) or not 1 <= len(customers) <= limit:
            size = f"{len(customers):,} customers" if isinstance(customers, list) else describe_value(customers)
            if "customers" not in batch:
                size = "no such field"
            raise invalid([Violation(0, "customers", size, f"a list of 1 to {limit:,} customers")], cause="rows")
        self.check_queue(len(customers))
        return score_many(router, customers, batch.get("as_of"), context)

    def _batch_ended(self, work: asyncio.Future[PredictionResult]) -> None:
        self._batches -= 1
        if not work.cancelled():
            work.exception()  # answered already, or nobody waits for it any more

    async def _record(self, router: Router, result: PredictionResult) -> None:
        """Put predictions on disk, then count them, and offer them to the shadow if there is one."""
        await self._store(result.log_lines, len(result.responses))
        if router.is_shadowed:
            self._worker.shadow.offer(result.log_lines)
        metrics = self._worker.metrics
        if result.split is None:
            metrics.predicted(router.champion.model.scorer.version, router.champion.name, OK, len(result.responses))
        else:
            answered = Counter((row.arm.model.scorer.version, row.arm.name, row.status) for row in result.split.rows)
            for (version, arm, status), rows in answered.items():
                metrics.predicted(version, arm, status, rows)
            if router.counter is not None:
                router.counter.count(result.split)
        for response in result.responses:
            metrics.score(response.churn_probability)
        for column in result.warned:
            metrics.warned(column)

    async def _store(self, lines: bytes, rows: int) -> None:
        """Return once the lines are on disk. Raises Refused if they are not; then they are not in the log."""
        if self._worker.log is None:
            return
        self.check_queue(rows, len(lines))
        try:
            await self._worker.log.append(lines, rows)
        except LogBusy as error:
            raise unavailable("busy", str(error)) from None
        except LogUnavailable:
            text = "the answer could not be written to disk, so it is not given; ask again when the disk has room"
            raise unavailable("disk", text, 5) from None

    def check_queue(self, rows: int, size: int = 0) -> None:
        """Raise Refused for more than the log ever takes at once: to ask again would not help."""
        limit = self._worker.settings.log_queue_rows
        if self._worker.log is not None and (rows > limit or size > MAX_BYTES):
            text = f"{limit:,} rows (CHURN_LOG_QUEUE) and {MAX_BYTES:,} bytes of the log"
            raise Refused(413, "size", f"the body has {rows:,} rows, expected at most {text}; send fewer at a time")

    def _rejected(self, arm: Arm, error: RowsRejected | DataError) -> Refused:
        self._worker.metrics.predicted(arm.model.scorer.version, arm.name, "rejected")
        if isinstance(error, DataError):
            return conflict([Violation(0, "", str(error).partition(";")[0], "values that give a finite score")])
        return (conflict if isinstance(error, ContractConflict) else invalid)(error.violations)


def describe_model(model: ServedModel) -> schemas.ModelDescription:
    """Version, metrics with their intervals, thresholds, and the columns that a customer must have."""
    scorer, contract = model.scorer, model.contract
    return schemas.ModelDescription(
        version=scorer.version,
        kind=scorer.model.kind,
        trained_at=model.trained_at,
        as_of=model.as_of,
        generated=model.generated,
        contract=contract.name,
        fingerprint=contract.fingerprint,
        title=contract.title,
        label=contract.label.meaning,
        columns=[_describe_column(c, c.name in contract.unread) for c in (contract.key, *contract.logged_columns)],
        features=list(scorer.program.names),
        training_ranges=dict(scorer.ranges),
        thresholds=dict(scorer.thresholds.values),
        threshold=scorer.thresholds.value,
        decided_by=scorer.thresholds.chosen,
        bands=scorer.bands,
        metrics=dict(model.metrics),
        ladder=msgspec.to_builtins(model.ladder),
    )


def _describe_column(column: Column, unread: bool) -> schemas.ColumnDescription:
    optional = column.role is Role.KEY or unread
    bounds = column.low, column.high, list(column.choices) or None
    texts = column.unit or None, column.doc or None
    nullable = column.nullable or optional
    return schemas.ColumnDescription(column.name, str(column.kind), not optional, nullable, *bounds, *texts)
