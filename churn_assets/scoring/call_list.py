"""The scored table: customers by the money that contacting them is expected to bring, and segments of that table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.limits import Value
from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.features.compile import Array
from churn_assets.features.encode import encode_table
from churn_assets.scoring.explain import Reason
from churn_assets.scoring.prices import Prices, constant_prices
from churn_assets.scoring.scorer import BAND_NAMES, AsOf, Scorer, days

REASON_COLUMNS = ("reason_1", "reason_2", "reason_3")
RISK_BAND = "risk band"
MISSING = "not known"
_TWO_SIDED_95 = 1.96
_VALUE = b"churn_value"  # metadata: the [value] by which a list was made

SCHEMA = pa.schema(
    [
        ("rank", pa.int64()),
        ("customer_id", pa.string()),
        ("churn_probability", pa.float64()),
        ("risk_band", pa.string()),
        ("customer_value", pa.float64()),
        ("expected_value", pa.float64()),
        ("contact", pa.bool_()),
        ("control", pa.bool_()),
        ("as_of", pa.date32()),
        ("model_version", pa.string()),
        ("contract", pa.string()),
    ]
)


def expected_value(probability: Array, value: Value, prices: Prices | None = None, share: float = 1.0) -> Array:
    """Money (n,) expected from contacting: probability x share x save_rate x customer_value - offer_cost, where `share`
    is that of the predicted churners that count. Without `prices` those of the contract's constants."""
    gain = value.save_rate * value.customer_value if prices is None else prices.gain
    return probability * (share * gain) - value.offer_cost


def in_control_group(customer_ids: pa.Array | pa.ChunkedArray, share: float) -> npt.NDArray[np.bool_]:
    """Whether each customer is drawn for the control group, (n,): by a hash of the id alone, so that it is the same on
    every list, and a larger share only adds customers."""
    if not share:
        return np.zeros(len(customer_ids), dtype=bool)
    digests = (hashlib.sha256(b"control " + str(key).encode()).digest() for key in customer_ids.to_pylist())
    drawn = np.array([int.from_bytes(digest[:8], "big") for digest in digests], dtype=np.uint64)
    return np.asarray(drawn < share * 2.0**64)


def call_list(
    scorer: Scorer,
    customer_ids: pa.Array | pa.ChunkedArray | Sequence[str],
    probability: Array,
    as_of: AsOf,
    prices: Prices | None = None,
) -> pa.Table:
    """All customers (`SCHEMA`), the most valuable to contact first; ties in the order of their ids. `contact` is true
    within the contract's capacity as far as the expected value is positive, outside the control group. The list keeps
    the `[value]` that it was made by (`value_of`)."""
    listed = scored_table(scorer, customer_ids, probability, as_of, prices)
    listed = ranked(listed.take(call_order(listed)), scorer.value)
    return listed.replace_schema_metadata({_VALUE: msgspec.json.encode(scorer.contract.value)})


def value_of(listed: pa.Table) -> Value | None:
    """The `[value]` by which a list was made; None for a list of an earlier release."""
    stored = (listed.schema.metadata or {}).get(_VALUE)
    return None if stored is None else msgspec.json.decode(stored, type=Value)


def call_order(listed: pa.Table) -> pa.Array:
    """Row numbers of a scored table, the most valuable to contact first; ties in the order of their ids."""
    return pc.sort_indices(listed, [("expected_value", "descending"), ("customer_id", "ascending")])


def with_reasons(listed: pa.Table, reasons: Sequence[Sequence[Reason]]) -> pa.Table:
    """The list with `REASON_COLUMNS`; `reasons` are those of its first rows, the others get null."""
    for place, name in enumerate(REASON_COLUMNS):
        texts = [row[place].text if place < len(row) else None for row in reasons]
        texts += [None] * (listed.num_rows - len(texts))
        listed = listed.append_column(name, pa.array(texts, pa.string()))
    return listed


def ranked(listed: pa.Table, value: Value) -> pa.Table:
    """A scored table in its final order, with `rank` from 1 and `contact` filled in."""
    rank = np.arange(1, listed.num_rows + 1, dtype=np.int64)
    contact = listed["expected_value"].to_numpy() > 0.0
    contact &= ~listed["control"].to_numpy(zero_copy_only=False).astype(bool)
    if value.capacity is not None:
        contact &= np.cumsum(contact) <= value.capacity
    columns = {"rank": pa.array(rank), "contact": pa.array(contact)}
    return pa.table(
        [columns.get(name, listed[name] if name in listed.schema.names else None) for name in SCHEMA.names],
        schema=SCHEMA,
    )


def calls_of(listed: pa.Table) -> pa.Table:
    """The calls of a list in its final order: the contacts, and the control group down to the last of them."""
    contact = listed["contact"].to_numpy(zero_copy_only=False).astype(bool)
    last = int(np.flatnonzero(contact)[-1]) + 1 if contact.any() else 0
    calls = listed.slice(0, last)
    return calls.filter(pc.or_(calls["contact"], calls["control"]))


def scored_table(
    scorer: Scorer,
    customer_ids: pa.Array | pa.ChunkedArray | Sequence[str],
    probability: Array,
    as_of: AsOf,
    prices: Prices | None = None,
) -> pa.Table:
    """Customers in the order given, `SCHEMA` without rank and contact; without `prices` those of the constants."""
    rows, value = len(probability), scorer.contract.value
    own = prices or constant_prices(value, rows)
    ids = customer_ids if isinstance(customer_ids, pa.Array | pa.ChunkedArray) else pa.array(customer_ids, pa.string())
    band = pa.DictionaryArray.from_arrays(pa.array(scorer.bands.codes(probability)), pa.array(BAND_NAMES))
    columns = {
        "customer_id": ids.cast(pa.string()),
        "churn_probability": pa.array(probability),
        "risk_band": band.cast(pa.string()),
        "customer_value": pa.array(own.customer_value),
        "expected_value": pa.array(expected_value(probability, value, own, scorer.discount.share)),
        "control": pa.array(in_control_group(ids, value.control_share)),
        "as_of": _dates(as_of, rows),
        "model_version": pa.repeat(pa.scalar(scorer.version), rows),
        "contract": pa.repeat(pa.scalar(scorer.contract.name), rows),
    }
    return pa.table(columns)


def _dates(as_of: AsOf, rows: int) -> pa.Array:
    return pa.array(np.broadcast_to(days(as_of), rows).astype(np.int32)).cast(pa.date32())


@dataclass(frozen=True)
class Segment:
    """Customers of one value of one column.

    `expected_churners` is the sum of their churn probabilities; `low` and `high` are the 95 % within which the count
    falls by chance alone (normal approximation of independent customers). `expected_loss` is the value of the customers
    who churn, `share_of_loss` its share of the whole table's.
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


def by_segment(
    contract: Contract, customers: pa.Table, probability: Array, bands: npt.NDArray[Any], prices: Prices | None = None
) -> list[Segment]:
    """Segments of every category and yes/no column of a typed table, and of the risk `bands` (n,) of its rows. Columns
    in the contract's order, the segment that loses most first; segments without a customer are left out."""
    loss = probability * (prices or constant_prices(contract.value, len(probability))).customer_value
    kept = [c for c in contract.scoring_columns if c.kind in (Kind.CATEGORY, Kind.BOOLEAN)]
    encoded = encode_table(contract, customers.select([c.name for c in kept]))
    groupings = {column.name: _names(column, encoded[column.name]) for column in kept}
    segments: list[Segment] = []
    for column, names in {**groupings, RISK_BAND: np.asarray(bands, dtype=object)}.items():
        own = [_segment(column, str(n), probability, loss, names == n) for n in dict.fromkeys(names)]
        segments += sorted(own, key=lambda segment: (-segment.expected_loss, segment.segment))
    return segments


def segment_table(segments: list[Segment]) -> pa.Table:
    """The segments as a table, one column a field."""
    names = list(Segment.__dataclass_fields__)
    return pa.table({name: [getattr(segment, name) for segment in segments] for name in names})


def _names(column: Column, codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The name (n,) of each encoded value of a category or yes/no column."""
    choices = ("no", "yes") if column.kind is Kind.BOOLEAN else column.choices
    names = np.array([*choices, MISSING], dtype=object)  # -1, missing, is the last
    return names[np.where(np.isnan(codes), -1, codes).astype(np.int64)]


def _segment(column: str, name: str, every: Array, loss: Array, rows: npt.NDArray[np.bool_]) -> Segment:
    probability, own, total = every[rows], float(loss[rows].sum()), float(loss.sum())
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
        expected_loss=own,
        share_of_loss=own / total if total else 0.0,
    )
