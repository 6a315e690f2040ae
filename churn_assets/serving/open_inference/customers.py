"""Customers of input tensors, and output tensors of predictions; nothing of HTTP or gRPC.

Inputs are one tensor a column of the contract, shape [n] or [n, 1], or a single tensor of shape [n, k] with a column of
the contract in each of its columns, in the order of the model's metadata.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.errors import RowsRejected, Violation, did_you_mean
from churn_assets.serving.http import encode
from churn_assets.serving.open_inference.tensors import BOOL, BYTES, FP64, INT64, Tensor
from churn_assets.serving.schemas import PredictionResponse

MODEL = "churn"  # the one name of the model
AS_OF = "as_of"  # a parameter of the request: one day for all its customers
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")  # as in JSON
_BOOLEANS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What a request asks, however it was sent. `outputs`: names, all if there are none."""

    inputs: Sequence[Tensor]
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class TensorDescription:
    """A tensor in the metadata of the model; every shape is [-1], the number of customers."""

    name: str
    datatype: str


def input_columns(contract: Contract) -> tuple[Column, ...]:
    """The columns of a customer in the order of the metadata: key, columns of the model, those that are only logged."""
    return (contract.key, *contract.scoring_columns, *contract.excluded_columns)


def describe_inputs(contract: Contract) -> list[TensorDescription]:
    """The input tensors, one a column. A number or boolean that may be missing is FP64, which has NaN."""
    datatypes = {Kind.NUMBER: FP64, Kind.INTEGER: INT64, Kind.BOOLEAN: BOOL}
    return [
        TensorDescription(c.name, FP64 if c.nullable and c.kind in datatypes else datatypes.get(c.kind, BYTES))
        for c in input_columns(contract)
    ]


def read_customers(contract: Contract, inputs: Sequence[Tensor], most: int) -> list[dict[str, Any]]:
    """The customers of a request, as JSON objects of `/predict`: null where a value is missing. Their values are
    checked by the scorer. Raises RowsRejected for tensors that this model does not have, and more rows than `most`."""
    columns = {column.name: column for column in input_columns(contract)}
    if not inputs:
        raise _rejected("inputs", "no tensor", "one tensor a column, or a single one with all columns")
    if len(inputs) == 1 and inputs[0].name not in columns and len(inputs[0].shape) == 2:
        return _customers_of_rows(inputs[0], list(columns.values()), most)
    rows = inputs[0].shape[0]
    _check_rows(inputs[0].name, rows, most)
    for tensor in inputs:
        name = tensor.name
        if name not in columns:
            hint = did_you_mean(name, columns) or "the columns of the contract; "
            raise _rejected(name, "an unknown input", f"{hint}{AS_OF} is a parameter".removesuffix("; "))
        if list(tensor.shape) not in ([rows], [rows, 1]):
            raise _rejected(name, f"the shape {list(tensor.shape)}", f"[{rows}] or [{rows}, 1], as of the first input")
    names = [tensor.name for tensor in inputs]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise _rejected(repeated, "two inputs of this name", "one")
    return [dict(zip(names, cells, strict=True)) for cells in zip(*(t.values for t in inputs), strict=True)]


def _customers_of_rows(tensor: Tensor, columns: Sequence[Column], most: int) -> list[dict[str, Any]]:
    rows, width = tensor.shape
    if width != len(columns):
        expected = f"[rows, {len(columns)}]: the columns of the model's metadata in their order"
        raise _rejected(tensor.name, f"the shape {list(tensor.shape)}", expected)
    _check_rows(tensor.name, rows, most)
    customers: list[dict[str, Any]] = [{} for _ in range(rows)]
    for place, column in enumerate(columns):
        cells: Sequence[Any] = tensor.values[place::width]
        if tensor.datatype == BYTES:
            cells = [None if text is None else _cell_of_text(column.kind, text) for text in cells]
        for customer, cell in zip(customers, cells, strict=True):
            customer[column.name] = cell
    return customers


def _cell_of_text(kind: Kind, text: str) -> object:
    """A number or boolean as it is written in a row of texts; any other text stays, and the scorer refuses it."""
    if kind in (Kind.NUMBER, Kind.INTEGER) and len(text) <= 40 and _NUMBER.fullmatch(text):
        return float(text) if set(text) & set(".eE") else int(text)
    return _BOOLEANS.get(text, text) if kind is Kind.BOOLEAN else text


def _check_rows(name: str, rows: int, most: int) -> None:
    if not 1 <= rows <= most:
        raise _rejected(name, f"{rows:,} customers", f"from 1 to {most:,} customers")


def _rejected(name: str, problem: str, expected: str) -> RowsRejected:
    return RowsRejected([Violation(0, name, problem, expected)])


# The output tensors in the order of the metadata: datatype, and the element of a customer, which is never null.
_OUTPUTS: Mapping[str, tuple[str, Callable[[PredictionResponse], Any]]] = {
    "prediction_id": (BYTES, lambda p: p.prediction_id),
    "customer_id": (BYTES, lambda p: p.customer_id or ""),
    "churn_probability": (FP64, lambda p: p.churn_probability),
    "churn": (BOOL, lambda p: p.churn),
    "threshold": (FP64, lambda p: p.threshold),
    "risk_band": (BYTES, lambda p: p.risk_band),
    "model_version": (BYTES, lambda p: p.model_version),
    "as_of": (BYTES, lambda p: p.as_of),
    "scored_at": (BYTES, lambda p: p.scored_at),
    "warnings": (BYTES, lambda p: encode(p.warnings).decode()),  # a list in JSON
}
OUTPUTS = [TensorDescription(name, datatype) for name, (datatype, _) in _OUTPUTS.items()]


def check_outputs(names: Sequence[str]) -> None:
    """Raise RowsRejected for an output that this model does not have, or twice."""
    for name in names:
        if name not in _OUTPUTS:
            hint = did_you_mean(name, _OUTPUTS)
            raise _rejected(name, "an unknown output", f"{hint}one of: {', '.join(_OUTPUTS)}")
    if len(set(names)) < len(names):
        raise _rejected("outputs", "an output twice", "each once")


def output_tensors(predictions: Sequence[PredictionResponse], names: Sequence[str]) -> list[Tensor]:
    """The outputs of this name in this order, all of them for no name; shape [n] each."""
    shape = [len(predictions)]
    chosen = [(name, *_OUTPUTS[name]) for name in names or _OUTPUTS]
    return [Tensor(name, datatype, shape, [read(p) for p in predictions]) for name, datatype, read in chosen]
