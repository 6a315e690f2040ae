"""POST /predict as a Starlette application: every answer and every error is ours, in one shape."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from churn_assets.errors import ChurnError, RowsRejected
from churn_assets.scoring.scorer import Scorer
from churn_assets.serving.answer import answer
from churn_assets.serving.model import load_model

MAX_BODY_BYTES = 64 * 1024  # one customer has some 20 fields


class Holder:
    """The scorer, loaded when first asked for; while there is none each request asks again."""

    def __init__(self, load: Callable[[], Scorer]) -> None:
        self._load = load
        self._scorer: Scorer | None = None

    def scorer(self) -> Scorer:
        """The scorer. Raises ChurnError while there is none."""
        if self._scorer is None:
            self._scorer = self._load()
        return self._scorer


def application(load: Callable[[], Scorer] | None = None) -> Starlette:
    """The application; `load` finds the model (default: by the environment, see `serving.model`)."""
    holder = Holder(load or (lambda: load_model(os.environ)))

    async def predict(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return _refused(413, f"the body is too long, expected at most {MAX_BODY_BYTES:,} bytes")
        try:
            customer = json.loads(body)
        except (ValueError, RecursionError) as error:
            return _refused(400, f"the body is no JSON ({error}), expected one customer as a JSON object")
        if not isinstance(customer, dict):
            kind = type(customer).__name__
            return _refused(400, f"the body is a JSON {kind}, expected one customer as a JSON object")
        try:
            scorer = holder.scorer()
        except ChurnError as error:
            return _refused(503, str(error))
        try:
            return JSONResponse(answer(scorer, customer, _today()))
        except RowsRejected as error:
            return _refused(422, str(error))

    app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
    app.state.holder = holder
    return app


async def _body(request: Request) -> bytes | None:
    """The body, or None as soon as it is too long: the rest is not kept."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _refused(status: int, words: str) -> JSONResponse:
    return JSONResponse({"error": words}, status_code=status)


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
