"""The JSON of the Open Inference Protocol, and the paths of its REST interface."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta, Struct

PREFIX = "/v2"
LIVE, READY = "/v2/health/live", "/v2/health/ready"
_MODEL, _VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
INFER_ROUTES = (f"{_MODEL}/infer", f"{_VERSION}/infer")
MODEL_ROUTES = (_MODEL, _VERSION)
MODEL_READY_ROUTES = (f"{_MODEL}/ready", f"{_VERSION}/ready")
_PATH = re.compile(r"/v2/models/([^/]+?)(?:/versions/([^/]+?))?(/infer|/ready)?")

Parameters = Annotated[dict[str, Any], Meta(description="Names, each with a text, number or boolean.")]


@dataclass(frozen=True, slots=True)
class Target:
    """The model and version that a path names; no version is the one that answers."""

    model: str
    version: str | None


def find_route(path: str) -> tuple[str, Target | None]:
    """The route of a path below `/v2`, as the constants of this module have it, and what it names; the path itself
    where it names no model.

    >>> find_route("/v2/models/churn/versions/4f2a/infer")
    ('/v2/models/{model}/versions/{version}/infer', Target(model='churn', version='4f2a'))
    """
    match = _PATH.fullmatch(path)
    if match is None:
        return path, None
    model, version, action = match.groups()
    return (_MODEL if version is None else _VERSION) + (action or ""), Target(model, version)


class V2InputTensor(Struct, frozen=True):
    """An input tensor."""

    name: str
    datatype: Annotated[str, Meta(description="BYTES, BOOL, INT8 to INT64, UINT8 to UINT64, FP16, FP32 or FP64.")]
    shape: Annotated[list[int], Meta(description="[rows], [rows, 1], or [rows, columns] of a row-wise tensor.")]
    data: Annotated[list[Any] | None, Meta(description="Flat or by rows; null is missing. Absent if it is raw.")] = None
    parameters: Parameters = {}


class V2RequestedOutput(Struct, frozen=True):
    """An output that is asked for."""

    name: str
    parameters: Parameters = {}


class V2InferRequest(Struct, frozen=True):
    """Customers to score, as tensors. The parameter `as_of` is the day of their values, ISO 8601; default: today."""

    inputs: list[V2InputTensor]
    id: Annotated[str, Meta(max_length=1000, description="Comes back with the answer.")] = ""
    parameters: Parameters = {}
    outputs: Annotated[list[V2RequestedOutput], Meta(description="In this order. Default: all.")] = []


class V2OutputTensor(Struct, frozen=True, omit_defaults=True):
    """An output tensor."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = {}
    data: list[Any] | None = None


class V2InferResponse(Struct, frozen=True, omit_defaults=True):
    """Predictions, as tensors. `model_version` is that of the bundle, empty if several have answered; the parameter
    `contract` names the contract of the champion."""

    model_name: str
    model_version: str
    outputs: list[V2OutputTensor]
    id: str = ""
    parameters: Parameters = {}


class V2TensorMetadata(Struct, frozen=True):
    """A tensor of the model; -1 is the number of customers."""

    name: str
    datatype: str
    shape: list[int]


class V2ModelMetadata(Struct, frozen=True):
    """The model: its versions that answer, and its tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[V2TensorMetadata]
    outputs: list[V2TensorMetadata]


class V2ServerMetadata(Struct, frozen=True):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class V2Live(Struct, frozen=True):
    """The process answers."""

    live: bool


class V2Ready(Struct, frozen=True):
    """A model can answer."""

    ready: bool


class V2ModelReady(Struct, frozen=True):
    """The model can answer."""

    name: str
    ready: bool


class V2Error(Struct, frozen=True):
    """Every error below `/v2`."""

    error: Annotated[str, Meta(description="What is wrong, what was expected, what to do.")]


TYPES = (
    V2InferRequest, V2InferResponse, V2ModelMetadata, V2ServerMetadata, V2Live, V2Ready, V2ModelReady, V2Error,
)  # fmt: skip
