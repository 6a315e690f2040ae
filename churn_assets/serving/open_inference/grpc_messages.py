"""The messages of the Open Inference Protocol in gRPC: package `inference`, service `GRPCInferenceService`.

The classes are made from the table below, in a pool of their own: a process may have another library's classes of the
same names (Triton's client brings some), and no generated code has to fit the version of protobuf that is installed. A
test compares names, numbers and types with those of Triton's client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")

# message -> its fields, numbered from 1 on: name, type, and "*" for a repeated one; "parameters" is a map everywhere.
_TENSOR = "name string, datatype string, shape int64*"
_MODEL = "name string, version string"
MESSAGES: Mapping[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready bool",
    "ModelReadyRequest": _MODEL,
    "ModelReadyResponse": "ready bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name string, version string, extensions string*",
    "ModelMetadataRequest": _MODEL,
    "ModelMetadataResponse": "name string, versions string*, platform string, inputs TensorMetadata*, "
    "outputs TensorMetadata*",
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "InferParameter": "bool_param bool, int64_param int64, string_param string, double_param double, "
    "uint64_param uint64",
    "InferTensorContents": "bool_contents bool*, int_contents int32*, int64_contents int64*, uint_contents uint32*, "
    "uint64_contents uint64*, fp32_contents float*, fp64_contents double*, bytes_contents bytes*",
    "ModelInferRequest": "model_name string, model_version string, id string, parameters map, "
    "inputs InferInputTensor*, outputs InferRequestedOutputTensor*, raw_input_contents bytes*",
    "ModelInferRequest.InferInputTensor": f"{_TENSOR}, parameters map, contents .InferTensorContents",
    "ModelInferRequest.InferRequestedOutputTensor": "name string, parameters map",
    "ModelInferResponse": "model_name string, model_version string, id string, parameters map, "
    "outputs InferOutputTensor*, raw_output_contents bytes*",
    "ModelInferResponse.InferOutputTensor": f"{_TENSOR}, parameters map, contents .InferTensorContents",
}
_Field = descriptor_pb2.FieldDescriptorProto
_CHOICE = "parameter_choice"  # the one of InferParameter: its fields exclude each other


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="open_inference.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, Any] = {}
    for name, fields in MESSAGES.items():
        outer, _, inner = name.partition(".")
        message = made[name] = made[outer].nested_type.add() if inner else file.message_type.add()
        message.name = inner or outer
        for number, text in enumerate(filter(None, fields.split(", ")), 1):
            _add_field(message, f".{PACKAGE}.{name}", f".{PACKAGE}.{outer}", number, *text.split())
        if name == "InferParameter":
            message.oneof_decl.add(name=_CHOICE)
            for field in message.field:
                field.oneof_index = 0
    return file


def _add_field(message: Any, path: str, outer: str, number: int, name: str, kind: str) -> None:
    repeated = kind.endswith("*") or kind == "map"
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    kind = kind.removesuffix("*")
    if kind == "map":
        entry = message.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
        value = entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_MESSAGE)
        value.type_name = f".{PACKAGE}.InferParameter"
        field.type, field.type_name = _Field.TYPE_MESSAGE, f"{path}.ParametersEntry"
    elif kind[0] == "." or kind[0].isupper():
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}{kind}" if kind[0] == "." else f"{outer}.{kind}"
    else:
        field.type = getattr(_Field, f"TYPE_{kind.upper()}")


_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(_file().SerializeToString())


def message_class(name: str) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))
