"""The Open Inference Protocol in HTTP: the routes below `/v2`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope

from churn_assets.contract.model import Contract
from churn_assets.serving.http import JSON, Header, Refused, json_response, read_body
from churn_assets.serving.open_inference import messages
from churn_assets.serving.open_inference.customers import InferenceRequest
from churn_assets.serving.open_inference.endpoints import InferenceEndpoints
from churn_assets.serving.open_inference.wire import HEADER_LENGTH, OCTETS, WireRequest, read_request, write_response
from churn_assets.settings import ServingSettings

if TYPE_CHECKING:
    from churn_assets.serving.routes import RequestFacts

_TYPES = re.compile(rb"application/octet-stream|application/json\s*(;\s*charset\s*=\s*\"?utf-8\"?\s*)?", re.I)
_OF_BROWSERS = frozenset({b"origin", b"sec-fetch-site"})
_VALUES_A_TENSOR = 20  # of its JSON, beside its data: name, datatype, shape, parameters


class RestInference:
    """`infer` without Starlette, as `/predict`; the other routes by it."""

    def __init__(self, endpoints: InferenceEndpoints, settings: ServingSettings) -> None:
        self._endpoints, self._settings = endpoints, settings

    async def infer(
        self, scope: Scope, receive: Receive, target: messages.Target, facts: RequestFacts
    ) -> tuple[bytes, Header, tuple[Header, ...]]:
        """Score customers: (body, content type, further headers). Raises Refused.

        tritonclient names no content type. A page in a browser may send such a body to another origin without being
        asked, so with the headers of a browser a type is needed.
        """
        settings, headers = self._settings, scope["headers"]
        untyped = not any(name in _OF_BROWSERS for name, _ in headers)
        body = await read_body(scope, receive, settings.batch_bytes, settings.timeout_s, _TYPES, untyped)
        length = _header_length(headers)
        wire: list[WireRequest] = []

        def read(contract: Contract) -> InferenceRequest:
            columns = len(contract.columns)
            most = 2 * settings.batch_rows * (columns + 2) + _VALUES_A_TENSOR * (columns + 20)
            wire.append(read_request(body, length, most))
            return wire[0].request

        answer = await self._endpoints.infer(target, read, len(body), facts)
        content, json_length = write_response(wire[0], answer.version, answer.contract, answer.outputs)
        if json_length is None:
            return content, (b"content-type", JSON), ()
        return content, (b"content-type", OCTETS), ((HEADER_LENGTH, b"%d" % json_length),)

    async def infer_by_router(self, request: Request) -> Response:
        """`infer` as Starlette calls it."""
        state = request.state
        content, kind, more = await self.infer(request.scope, request.receive, state.facts.target, state.facts)
        headers = {name.decode(): value.decode() for name, value in (kind, *more)}
        return Response(content, headers=headers)

    async def live(self, request: Request) -> Response:
        """The process answers."""
        return json_response(messages.V2Live(True))

    async def ready(self, request: Request) -> Response:
        """Whether a model can answer."""
        self._endpoints.check_ready()
        return json_response(messages.V2Ready(True))

    async def server(self, request: Request) -> Response:
        """The server's metadata."""
        return json_response(self._endpoints.describe_server())

    async def model(self, request: Request) -> Response:
        """The model's metadata."""
        return json_response(self._endpoints.describe_model(request.state.facts.target))

    async def model_ready(self, request: Request) -> Response:
        """Whether the model can answer."""
        target: messages.Target = request.state.facts.target
        self._endpoints.check_ready(target)
        return json_response(messages.V2ModelReady(target.model, True))

    def routes(self) -> list[Route]:
        """Every route below `/v2`."""
        return [
            Route(messages.PREFIX, self.server),
            Route(messages.LIVE, self.live),
            Route(messages.READY, self.ready),
            *(Route(path, self.model) for path in messages.MODEL_ROUTES),
            *(Route(path, self.model_ready) for path in messages.MODEL_READY_ROUTES),
            *(Route(path, self.infer_by_router, methods=["POST"]) for path in messages.INFER_ROUTES),
        ]


def _header_length(headers: list[Header]) -> int | None:
    """The length of the JSON where raw bytes follow. Raises Refused."""
    for name, value in headers:
        if name == HEADER_LENGTH:
            if len(value) > 15 or not value.isdigit():
                shown = value[:30].decode("latin-1")
                raise Refused(400, "http", f"Inference-Header-Content-Length is {shown!r}, expected a whole number")
            return int(value)
    return None
