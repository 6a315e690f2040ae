"""A customer to begin with on the page: the middle of those the model has learnt from, so no single person."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from churn_assets.contract.model import Column, Kind
from churn_assets.scoring.bundle import read_reference
from churn_assets.serving.model import Served
from churn_assets.serving.openapi import example

_ENOUGH = 1000  # rows; the page is no statistic


def typical(served: Served) -> dict[str, Any]:
    """The contract's example with the middle of the bundle's reference in each column, and its `as_of`.

    Medians keep the order of dates, and categories are the most frequent ones: with the training's `as_of`
    such a customer is answered without a warning about its values.
    """
    values = {**example(served.contract), **_middle(served.path, served.contract.scoring_columns)}
    as_of = served.card.get("as_of")
    return {**values, "as_of": as_of} if isinstance(as_of, str) else values


@lru_cache(maxsize=1)
def _middle(bundle: Path, columns: tuple[Column, ...]) -> Mapping[str, Any]:
    whole = read_reference(bundle)
    table = whole.take(list(range(0, whole.num_rows, max(1, whole.num_rows // _ENOUGH))))
    found: dict[str, Any] = {}
    for column in columns:
        if column.name in table.column_names:
            cells = sorted(table[column.name].drop_null().to_pylist())
            if cells:
                found[column.name] = _of(column.kind, cells)
    return found


def _of(kind: Kind, cells: list[Any]) -> Any:
    """The value in the middle of sorted cells, the most frequent one of categories and booleans."""
    if kind in (Kind.CATEGORY, Kind.BOOLEAN):
        return Counter(cells).most_common(1)[0][0]
    middle = cells[(len(cells) - 1) // 2]
    if kind is Kind.DATE:
        return str(middle)
    return int(middle) if kind is Kind.INTEGER else _short(float(middle))


def _short(value: float) -> float:
    """Three digits are enough to begin with."""
    return round(value, max(0, 2 - math.floor(math.log10(abs(value))))) if value else 0.0
