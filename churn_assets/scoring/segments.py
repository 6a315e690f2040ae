"""Where the money goes: customers, expected churners and expected loss by segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from churn_assets.contract.model import Contract, Kind
from churn_assets.features.encode import encode_table

Array = npt.NDArray[np.float64]
RISK_BAND = "risk band"
MISSING = "not known"
_TWO_SIDED_95 = 1.96


@dataclass(frozen=True)
class Segment:
    """Customers of one value of one column.

    `expected_churners` is the sum of their churn probabilities; `low` and `high` are the 95 % within which
    the count falls by chance alone, if the probabilities hold (normal approximation of independent
    customers). `expected_loss` is expected churners x value of a customer, `share_of_loss` its share of the
    whole list's, `mean_probability` the risk of one customer.
    """

    column: str
    segment: str
    customers: int
    expected_churners: float
    low: float
    high: float
    mean_probability: float
    expected_loss: float
    share_of_loss: float


def by_segment(contract: Contract, customers: pa.Table, probability: Array, bands: npt.NDArray[Any]) -> list[Segment]:
    """Segments of every category and yes/no column of a typed table, and of the risk `bands` (n,) of its rows.

    Columns in the contract's order, the segment that loses most first; segments without a customer are left out.
    """
    found = [segment for column, words in _groupings(contract, customers) for segment in _cut(column, words)]
    found += _cut(RISK_BAND, np.asarray(bands, dtype=object))
    total = float(probability.sum())
    return [
        _segment(contract, column, name, probability[rows], total) for column, name, rows in _worst(found, probability)
    ]


def segment_table(segments: list[Segment]) -> pa.Table:
    """The segments as a table, one column a field."""
    names = list(Segment.__dataclass_fields__)
    return pa.table({name: [getattr(segment, name) for segment in segments] for name in names})


_Rows = npt.NDArray[np.bool_]


def _groupings(contract: Contract, customers: pa.Table) -> list[tuple[str, npt.NDArray[Any]]]:
    kept = [c for c in contract.scoring_columns if c.kind in (Kind.CATEGORY, Kind.BOOLEAN)]
    columns = encode_table(contract, customers.select([c.name for c in kept]))
    found = []
    for column in kept:
        values = np.asarray(columns[column.name], dtype=np.float64)
        if column.kind is Kind.BOOLEAN:
            choices, codes = ["no", "yes"], np.where(np.isnan(values), -1, values)
        else:
            choices, codes = list(column.choices), values
        names = np.array([*choices, MISSING], dtype=object)  # -1, missing, is the last
        found.append((column.name, names[codes.astype(np.int64)]))
    return found


def _cut(column: str, words: npt.NDArray[Any]) -> list[tuple[str, str, _Rows]]:
    return [(column, str(name), np.asarray(words == name)) for name in dict.fromkeys(words.tolist())]


def _worst(found: list[tuple[str, str, _Rows]], probability: Array) -> list[tuple[str, str, _Rows]]:
    place = {column: i for i, column in enumerate(dict.fromkeys(column for column, _, _ in found))}
    return sorted(found, key=lambda cut: (place[cut[0]], -float(probability[cut[2]].sum()), cut[1]))


def _segment(contract: Contract, column: str, name: str, probability: Array, total: float) -> Segment:
    expected = float(probability.sum())
    noise = _TWO_SIDED_95 * float(np.sqrt(np.sum(probability * (1.0 - probability))))
    return Segment(
        column=column,
        segment=name,
        customers=len(probability),
        expected_churners=expected,
        low=max(0.0, expected - noise),
        high=min(float(len(probability)), expected + noise),
        mean_probability=float(probability.mean()),
        expected_loss=expected * contract.value.customer_value,
        share_of_loss=expected / total if total else 0.0,
    )
