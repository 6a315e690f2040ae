"""Requests and responses of the Open Inference Protocol in HTTP: JSON, alone or followed by the raw bytes of tensors.

With the header `Inference-Header-Content-Length` the body is that many bytes of JSON, then the bytes of each input
with the parameter `binary_data_size`, in their order: Triton's extension "binary tensor data". An output is raw where
its parameter `binary_data`, or `binary_data_output` of the request, asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from churn_assets.errors import RowsRejected, Violation, one_line
from churn_assets.serving.http import Refused, check_values, encode, parse_json
from churn_assets.serving.open_inference.customers import MODEL, InferenceRequest
from churn_assets.serving.open_inference.messages import V2InferRequest, V2InferResponse, V2InputTensor, V2OutputTensor
from churn_assets.serving.open_inference.tensors import Tensor, TensorError, raw_bytes, tensor_of_bytes, tensor_of_json

HEADER_LENGTH = b"inference-header-content-length"
OCTETS = b"application/octet-stream"
_BINARY_SIZE, _BINARY, _ALL_BINARY = "binary_data_size", "binary_data", "binary_data_output"


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request, and which of its outputs shall be raw."""

    request: InferenceRequest
    binary: frozenset[str]
    all_binary: bool


_decode = msgspec.json.Decoder(V2InferRequest).decode


def read_request(body: bytes, header_length: int | None, most_values: int) -> WireRequest:
    """The request of a body; `header_length` is the length of its JSON if raw bytes follow. Raises Refused for what is
    no JSON or has more than `most_values` values, RowsRejected for what is no request of the protocol, TensorError."""
    head, raw = body, memoryview(b"")
    if header_length is not None:
        if header_length > len(body):
            text = f"the body has {len(body):,} bytes, expected at least {header_length:,}"
            raise Refused(400, "json", f"{text}, as Inference-Header-Content-Length says; correct it")
        view = memoryview(body)
        head, raw = body[:header_length], view[header_length:]
    check_values(head, most_values)
    message: V2InferRequest = parse_json(head, _read_message)
    tensors = _tensors(message.inputs, raw)
    outputs = message.outputs
    names = [output.name for output in outputs]
    all_binary = bool(message.parameters.get(_ALL_BINARY, False))
    binary = frozenset(output.name for output in outputs if output.parameters.get(_BINARY, all_binary))
    request = InferenceRequest(tensors, message.id, message.parameters, names)
    return WireRequest(request, binary, all_binary and not names)


def _read_message(head: bytes) -> V2InferRequest:
    try:
        return _decode(head)
    except msgspec.ValidationError as error:
        expected = "an inference request of the Open Inference Protocol"
        raise RowsRejected([Violation(0, "", one_line(error, 120), expected)]) from None


def _tensors(inputs: Sequence[V2InputTensor], raw: memoryview) -> list[Tensor]:
    tensors, place = [], 0
    for each in inputs:
        size = each.parameters.get(_BINARY_SIZE) if each.parameters else None
        if size is None:
            if each.data is None:
                raise TensorError(each.name, "it has no data", f"data, or the parameter {_BINARY_SIZE}")
            tensors.append(tensor_of_json(each.name, each.datatype, each.shape, each.data))
            continue
        if type(size) is not int or not 0 <= size <= len(raw) - place or each.data is not None:
            expected = f"a {_BINARY_SIZE} within the {len(raw):,} bytes after the JSON, and no data"
            raise TensorError(each.name, f"the {_BINARY_SIZE} is {str(size)[:30]}", expected)
        tensors.append(tensor_of_bytes(each.name, each.datatype, each.shape, raw[place : place + size]))
        place += size
    if place != len(raw):
        raise TensorError("", f"{len(raw) - place:,} bytes belong to no input", f"each with its {_BINARY_SIZE}")
    return tensors


def write_response(
    wire: WireRequest, version: str, contract: str, tensors: Sequence[Tensor]
) -> tuple[bytes, int | None]:
    """The body of a response, and the length of its JSON if raw bytes follow."""
    outputs, parts = [], []
    for tensor in tensors:
        head = tensor.name, tensor.datatype, list(tensor.shape)
        if wire.all_binary or tensor.name in wire.binary:
            parts.append(raw_bytes(tensor))
            outputs.append(V2OutputTensor(*head, {_BINARY_SIZE: len(parts[-1])}))
        else:
            outputs.append(V2OutputTensor(*head, data=list(tensor.values)))
    json = encode(V2InferResponse(MODEL, version, outputs, wire.request.id, {"contract": contract}))
    return (b"".join([json, *parts]), len(json)) if parts else (json, None)
