"""Labelled predictions as monitoring makes them, from rows of a contract."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from churn_assets.contract.model import Contract, Kind
from churn_assets_tests.strategies import Row

_TYPES = {
    Kind.NUMBER: pa.float64(),
    Kind.INTEGER: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.DATE: pa.date32(),
    Kind.CATEGORY: pa.string(),
    Kind.TEXT: pa.string(),
}
DEFAULTS: dict[str, Any] = {"label_state": "final", "part": "train", "churned": False, "contacted": None}
NOON = dt.datetime(2024, 3, 5, 12, 30)


def labelled(contract: Contract, rows: Sequence[Row], told: Sequence[dict[str, Any]]) -> pa.Table:
    """One prediction a row, in order of `seq`; `told` overrides DEFAULTS, customer, as_of and fingerprint."""
    full = [
        {
            **DEFAULTS,
            "seq": number,
            "customer_id": f"p{number}",
            "as_of": NOON,
            "fingerprint": contract.fingerprint,
            **about,
        }
        for number, about in enumerate(told)
    ]
    types = {
        **{"seq": pa.int64(), "customer_id": pa.string(), "as_of": pa.timestamp("us"), "fingerprint": pa.string()},
        **{"label_state": pa.string(), "part": pa.string(), "churned": pa.bool_(), "contacted": pa.bool_()},
    }
    columns = {name: pa.array([row[name] for row in full], kind) for name, kind in types.items()}
    for column in contract.scoring_columns:
        cells = [_cell(column.kind, row[column.name]) for row in rows]
        columns[f"x_{column.name}"] = pa.array(cells, _TYPES[column.kind])
    return pa.table(columns)


def _cell(kind: Kind, value: Any) -> Any:
    if value is None:
        return None
    match kind:
        case Kind.NUMBER | Kind.INTEGER:
            return float(value)
        case Kind.BOOLEAN:
            return bool(value)
        case Kind.DATE:
            return value if isinstance(value, dt.date) else dt.date.fromisoformat(str(value))
    return value
