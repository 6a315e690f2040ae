"""A customer in the middle of those that the model was trained on, for the form and the OpenAPI document."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from statistics import median_low, mode
from typing import Any

from churn_assets.contract.model import Column, Kind
from churn_assets.scoring.bundle import read_reference
from churn_assets.serving.routing.models import ServedModel
from churn_assets.serving.schemas import example_customer

Value = str | float | bool
_MEDIAN_ROWS = 1000  # of the reference; an example needs no exact median


def median_customer(model: ServedModel) -> dict[str, Value]:
    """The contract's example with the median of the bundle's reference in each column, and its `as_of`. It is no single
    person, and with the training's `as_of` it is answered without a warning about its values."""
    values = {**example_customer(model.contract), **_medians(model.path, model.contract.scoring_columns)}
    return values if model.as_of is None else {**values, "as_of": model.as_of}


@lru_cache(maxsize=1)
def _medians(bundle: Path, columns: tuple[Column, ...]) -> Mapping[str, Value]:
    reference = read_reference(bundle)
    table = reference.take(list(range(0, reference.num_rows, max(1, reference.num_rows // _MEDIAN_ROWS))))
    cells = {c: table[c.name].drop_null().to_pylist() for c in columns if c.name in table.column_names}
    return {column.name: _median(column.kind, sorted(values)) for column, values in cells.items() if values}


def _median(kind: Kind, cells: list[Any]) -> Value:
    """The value in the middle, the most frequent one of categories and booleans."""
    value: Any = mode(cells) if kind in (Kind.CATEGORY, Kind.BOOLEAN) else median_low(cells)
    match kind:
        case Kind.INTEGER:
            return int(value)
        case Kind.BOOLEAN:
            return bool(value)
        case Kind.NUMBER:  # to three digits
            return round(float(value), max(0, 2 - math.floor(math.log10(abs(value))))) if value else 0.0
    return str(value)


def current_customer(model: ServedModel, today: dt.date) -> dict[str, Value]:
    """The same customer as of today: its dates lie as long before `today` as before the training's `as_of`. It is
    answered without any warning. Where the contract allows no such dates, it is that of the training."""
    customer, columns = median_customer(model), {column.name: column for column in model.contract.scoring_columns}
    if model.as_of is None:
        return customer
    passed = today - dt.date.fromisoformat(model.as_of[:10])
    moved = dict(customer)
    for name, value in customer.items():
        if name == "as_of" or (name in columns and columns[name].kind is Kind.DATE):
            moved[name] = str(dt.date.fromisoformat(str(value)[:10]) + passed)
    return moved if all(_is_within(columns[name], moved[name]) for name in columns if name in moved) else customer


def _is_within(column: Column, value: Value) -> bool:
    if column.kind is not Kind.DATE:
        return True
    low, high = (None if bound is None else str(bound) for bound in (column.low, column.high))
    return (low is None or low <= str(value)) and (high is None or str(value) <= high)
