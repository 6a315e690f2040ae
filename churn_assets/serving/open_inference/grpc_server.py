"""The Open Inference Protocol over gRPC: a server in each worker, beside its HTTP, for the same handlers.

Each call is `stream_unary`, on the wire the same as unary: so keys and limits are checked before a message is read, and
few messages, of a size that is limited, are read at once. Every worker listens on the port (SO_REUSEPORT).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from churn_assets.serving.authorization import authorize
from churn_assets.serving.http import BODY_SHARE, Refused
from churn_assets.serving.open_inference import messages
from churn_assets.serving.open_inference.customers import MODEL, InferenceRequest
from churn_assets.serving.open_inference.endpoints import SMALL_BODY, Inference
from churn_assets.serving.open_inference.grpc_messages import METHODS, SERVICE, message_class
from churn_assets.serving.open_inference.tensors import (
    BYTES,
    Tensor,
    TensorError,
    bytes_of,
    raw_bytes,
    tensor_of_bytes,
    tensor_of_contents,
)
from churn_assets.serving.routes import Handlers, RequestFacts, account
from churn_assets.serving.server.connections import HEAD_BYTES, NO_MEMORY
from churn_assets.serving.worker import Worker
from churn_assets.settings import ServingSettings
from churn_assets.structured_log import log_event

STREAMS = 100  # calls at once on a connection
STOP_S = 5.0  # for calls that were accepted, once the service stops
_CODES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED", 409: "INVALID_ARGUMENT", 413: "RESOURCE_EXHAUSTED", 422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE",
}  # fmt: skip
# As whose route a call is let in and counted.
_ROUTES = dict(
    zip(
        METHODS,
        (
            messages.LIVE, messages.READY, messages.MODEL_READY_ROUTES[0], messages.PREFIX, messages.MODEL_ROUTES[0],
            messages.INFER_ROUTES[0],
        ),
        strict=True,
    )
)  # fmt: skip
_CONTENTS = {
    "BOOL": "bool_contents", BYTES: "bytes_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"), "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"), "UINT64": "uint64_contents",
}  # fmt: skip
_Metadata = tuple[tuple[str, str], ...]
_OF_HTTP = (b"allow", b"connection")  # headers of refusals that mean nothing here


def largest_message(settings: ServingSettings) -> int:
    """Bytes of a message: a quarter of a batch in JSON, which raw tensors need less than."""
    return settings.batch_bytes // 4


class GrpcServer:
    """The server of one worker."""

    def __init__(self, worker: Worker, handlers: Handlers) -> None:
        self._worker, self._handlers = worker, handlers
        self._requests = {name: message_class(f"{name}Request") for name in METHODS}
        self._responses = {name: message_class(f"{name}Response") for name in METHODS}
        self._readers = asyncio.Semaphore(max(1, worker.settings.held_bytes // largest_message(worker.settings)))
        self._server = grpc.aio.server(options=self._options())
        answers: dict[str, Callable[[Any, int, RequestFacts], Awaitable[Any]]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }
        calls = {n: grpc.stream_unary_rpc_method_handler(self._call(n, answer)) for n, answer in answers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, calls),))

    async def start(self, host: str) -> int:
        """Listen on the port of the settings; the port. Raises OSError or RuntimeError if nobody can listen there."""
        settings = self._worker.settings
        address = f"[{host}]:{settings.grpc_port}" if ":" in host else f"{host}:{settings.grpc_port}"
        if settings.tls_cert:
            pair = Path(settings.tls_key).read_bytes(), Path(settings.tls_cert).read_bytes()
            port = self._server.add_secure_port(address, grpc.ssl_server_credentials((pair,)))
        else:
            port = self._server.add_insecure_port(address)
        await self._server.start()
        log_event(self._worker.logger, logging.INFO, "gRPC", host=host, port=port)
        return int(port)

    async def stop(self) -> None:
        """Accept no further calls, and answer those that were accepted."""
        await self._server.stop(STOP_S)

    def _options(self) -> list[tuple[str, int]]:
        settings = self._worker.settings
        return [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", largest_message(settings)),
            ("grpc.max_metadata_size", HEAD_BYTES),
            ("grpc.absolute_max_metadata_size", HEAD_BYTES),
            ("grpc.max_concurrent_streams", STREAMS),
            ("grpc.max_allowed_incoming_connections", settings.connections),
            ("grpc.max_connection_idle_ms", round(settings.idle_s * 1000)),
            ("grpc.server_handshake_timeout_ms", round(settings.head_s * 1000)),
        ]

    def _call(self, name: str, answer: Callable[[Any, int, RequestFacts], Awaitable[Any]]) -> Callable[..., Any]:
        """A call as grpc makes it: (messages, context) -> the bytes of the answer."""
        worker, path, route = self._worker, f"/{SERVICE}/{name}", _ROUTES[name]

        async def call(request_iterator: AsyncIterator[bytes], context: Any) -> bytes:
            start, held, refusal, content = time.perf_counter(), 0, None, b""
            facts = RequestFacts({"path": route, "headers": _headers(context.invocation_metadata())})
            try:
                key = authorize(worker.keys, _headers(context.invocation_metadata()), route)
                facts.key_id = None if key is None else key.id
                if worker.limited and route not in (messages.LIVE, messages.READY):
                    facts.headers += worker.admit(key)
                message = await self._read(request_iterator)
                held = len(message)
                worker.connections.body_bytes += held
                if held > SMALL_BODY and worker.connections.body_bytes > worker.settings.held_bytes:
                    raise NO_MEMORY
                content = (await answer(self._parse(name, message), held, facts)).SerializeToString()
            except Exception as error:  # nothing of a mistake of ours may reach the client
                refusal = self._refusal(error, facts, path)
                facts.key_id = facts.key_id or refusal.key_id
            finally:
                worker.connections.body_bytes -= held
            status = 200 if refusal is None else refusal.status
            account(worker, facts, path, "gRPC", status, refusal, time.perf_counter() - start)
            metadata = _trailing(facts, refusal)
            if refusal is not None:
                code = grpc.StatusCode[_CODES.get(refusal.status, "INTERNAL")]
                await context.abort(code, refusal.error, metadata)
            context.set_trailing_metadata(metadata)
            return content

        return call

    async def _read(self, request_iterator: AsyncIterator[bytes]) -> bytes:
        """The one message of a call. Raises Refused for none, and for one that does not arrive in time."""
        timeout_s = self._worker.settings.timeout_s * BODY_SHARE
        try:
            async with asyncio.timeout(timeout_s), self._readers:
                async for message in request_iterator:
                    return message
        except TimeoutError:
            text = f"the message took more than {timeout_s:g} seconds, expected it sooner; send it again"
            raise Refused(408, "slow_body", text) from None
        raise Refused(400, "http", "the call has no message, expected one; send it")

    def _parse(self, name: str, message: bytes) -> Any:
        try:
            return self._requests[name].FromString(message)
        except DecodeError:
            text = f"the message is no {name}Request of the Open Inference Protocol, expected one; correct it"
            raise Refused(400, "json", text) from None

    def _refusal(self, error: Exception, facts: RequestFacts, path: str) -> Refused:
        if isinstance(error, Refused):
            error.__traceback__ = error.__context__ = None
            return error
        self._worker.logger.error(
            "request failed", exc_info=error, extra={"facts": {"request_id": facts.id, "path": path}}
        )
        text = f"the request failed by a mistake of the service; report it with its id {facts.id}"
        return Refused(500, "internal", text)

    async def _server_live(self, request: Any, size: int, facts: RequestFacts) -> Any:
        return self._responses["ServerLive"](live=True)

    async def _server_ready(self, request: Any, size: int, facts: RequestFacts) -> Any:
        return self._responses["ServerReady"](ready=self._handlers.endpoints.is_ready())

    async def _model_ready(self, request: Any, size: int, facts: RequestFacts) -> Any:
        target = messages.Target(request.name, request.version or None)
        return self._responses["ModelReady"](ready=self._handlers.endpoints.is_ready(target))

    async def _server_metadata(self, request: Any, size: int, facts: RequestFacts) -> Any:
        server = self._handlers.endpoints.describe_server()
        response = self._responses["ServerMetadata"]
        return response(name=server.name, version=server.version, extensions=server.extensions)

    async def _model_metadata(self, request: Any, size: int, facts: RequestFacts) -> Any:
        model = self._handlers.endpoints.describe_model(messages.Target(request.name, request.version or None))
        response = self._responses["ModelMetadata"](name=model.name, versions=model.versions, platform=model.platform)
        for tensors, field in ((model.inputs, response.inputs), (model.outputs, response.outputs)):
            for tensor in tensors:
                field.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        return response

    async def _model_infer(self, request: Any, size: int, facts: RequestFacts) -> Any:
        target = messages.Target(request.model_name, request.model_version or None)
        answer = await self._handlers.endpoints.infer(target, lambda contract: read_request(request), size, facts)
        return self._infer_response(request, answer)

    def _infer_response(self, request: Any, answer: Inference) -> Any:
        """Raw contents are answered raw, typed ones typed."""
        response = self._responses["ModelInfer"](model_name=MODEL, model_version=answer.version, id=request.id)
        response.parameters["contract"].string_param = answer.contract
        raw = bool(request.raw_input_contents)
        for tensor in answer.outputs:
            output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            if raw:
                response.raw_output_contents.append(raw_bytes(tensor))
            else:
                values = bytes_of(tensor) if tensor.datatype == BYTES else tensor.values
                getattr(output.contents, _CONTENTS[tensor.datatype]).extend(values)
        return response


def read_request(message: Any) -> InferenceRequest:
    """The request of a ModelInferRequest. Raises TensorError."""
    contents = list(message.raw_input_contents)
    if contents and len(contents) != len(message.inputs):
        problem = f"{len(contents)} raw contents for {len(message.inputs)} inputs"
        raise TensorError("raw_input_contents", problem, "one for each input, or none")
    inputs = [_tensor(each, contents[i] if contents else None) for i, each in enumerate(message.inputs)]
    parameters = {name: _value(parameter) for name, parameter in message.parameters.items()}
    return InferenceRequest(inputs, message.id, parameters, [output.name for output in message.outputs])


def _tensor(message: Any, raw: bytes | None) -> Tensor:
    head = message.name, message.datatype, list(message.shape)
    if raw is not None:
        if message.HasField("contents"):
            raise TensorError(message.name, "it has typed and raw contents", "one of them")
        return tensor_of_bytes(*head, raw)
    field = _CONTENTS.get(message.datatype)
    filled = [descriptor.name for descriptor, _ in message.contents.ListFields()]
    if field is not None and set(filled) - {field}:
        raise TensorError(message.name, f"it has {filled[0]}", f"{field} for {message.datatype}")
    return tensor_of_contents(*head, [] if field is None else list(getattr(message.contents, field)))


def _value(parameter: Any) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def _headers(metadata: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), v if isinstance(v, bytes) else v.encode()) for name, v in metadata or ()]


def _trailing(facts: RequestFacts, refusal: Refused | None) -> _Metadata:
    headers = facts.headers if refusal is None else (*facts.headers, *refusal.headers)
    return tuple((name.decode(), value.decode("latin-1")) for name, value in headers if name not in _OF_HTTP)
