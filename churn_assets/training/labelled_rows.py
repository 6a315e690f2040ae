"""Predictions whose label has become final, as further rows of the validated table: columns and day as they were sent,
so that a row has the features that were scored; its label is the later outcome of the customer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.data.customers import AS_OF, ASIDE, CHURNED, FEEDBACK, RECENT_ROWS, SOURCE
from churn_assets.data.validation.parse import arrow_type

PREFIX = "x_"  # before a column's name in the log
FINAL, TRAIN, GATE = "final", "train", "gate"
WINDOW = "window_seq"  # of `monitoring.performance.realized.usable_labels`: where the window of a row begins
USED = "used for training"
EXACT = 2.0**53  # larger whole numbers are not distinct in float64

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelledRows:
    """Labelled predictions: `rows` have the columns of a marked validated table, in the order of the log; the last
    `recent` of them lie in recent windows. `contacted` are those of customers who
    were contacted, as the log has them, because their outcome is also an effect of the contact; `gate` are ids of the
    customers that the gate compares models on; `counts` are (reason, predictions), together all of them."""

    rows: pa.Table
    contacted: pa.Table
    gate: frozenset[str]
    counts: tuple[tuple[str, int], ...]
    recent: int = 0


def labelled_rows(contract: Contract, labelled: pa.Table, frozen: Collection[str] = ()) -> LabelledRows:
    """The rows to train on: final labels of this contract, the last one of each customer.

    Left out, in this order: predictions under another contract, without a final label, without a customer (who
    might be one of `frozen`), of the gate's customers, of `frozen` ones, with a value that no validated row has, of
    contacted ones, and earlier ones of a customer. `labelled` is the asset `labelled_predictions`, in any order.
    """
    labelled = labelled.sort_by("seq")
    remaining = np.ones(labelled.num_rows, dtype=bool)
    counts: list[tuple[str, int]] = []

    def exclude(reason: str, mask: Mask) -> Mask:
        excluded = remaining & mask
        counts.append((reason, int(excluded.sum())))
        remaining[excluded] = False
        return excluded

    ids = labelled["customer_id"].cast(pa.string())
    exclude("under another contract", _not(labelled, "fingerprint", contract.fingerprint))
    exclude("without a final label", _not(labelled, "label_state", FINAL) | _mask(pc.is_null(labelled[CHURNED])))
    recent = np.zeros(labelled.num_rows, dtype=bool)
    recent[remaining] = in_recent_windows(labelled.filter(pa.array(remaining)), contract)
    exclude("without a customer's id", _mask(pc.is_null(ids)))
    gate = exclude("kept for the gate", _not(labelled, "part", TRAIN))
    exclude("of customers in the frozen holdout", _among(ids, frozen))
    exclude("with a value that the table could not hold", _beyond(contract, labelled))
    contacted_ids = set(ids.filter(pa.array(remaining & ~_not(labelled, "contacted", True))).to_pylist())
    contacted = exclude("of customers who were contacted", _among(ids, contacted_ids))
    exclude("before a later one of the same customer", ~_last(labelled, ids, remaining))
    counts.append((USED, int(remaining.sum())))
    return LabelledRows(
        rows=_typed(contract, labelled.filter(pa.array(remaining))),
        contacted=labelled.drop_columns([WINDOW] if WINDOW in labelled.column_names else []).filter(
            pa.array(contacted)
        ),
        gate=frozenset(ids.filter(pa.array(gate)).to_pylist()) - frozenset(frozen),
        counts=tuple(counts),
        recent=int(np.sum(recent & remaining)),
    )


def in_recent_windows(final: pa.Table, contract: Contract) -> Mask:
    """True (n,) for rows with a final label of the newest `release.recent_windows` windows that have any, and of the
    days after the last window. Where those are fewer than `monitoring.label_floor`, older windows are recent too.

    Without the column `WINDOW` every row is recent.
    """
    if WINDOW not in final.column_names or not final.num_rows:
        return np.ones(final.num_rows, dtype=bool)
    window = pc.fill_null(final[WINDOW], np.iinfo(np.int64).max).to_numpy()
    starts, counts = np.unique(window, return_counts=True)
    still_open = int(final[WINDOW].null_count > 0)
    enough = int(np.searchsorted(np.cumsum(counts[::-1]), contract.monitoring.label_floor)) + 1
    newest = min(len(starts), max(contract.release.recent_windows + still_open, enough))
    return np.asarray(window >= starts[-newest])


def set_apart_rows(contract: Contract, labelled: pa.Table) -> pa.Table:
    """The rolling holdout as typed rows: recent final labels of the gate's customers, the last one of each. Contacted
    customers are left out, and rows with a value that no validated row has."""
    labelled = labelled.sort_by("seq")
    labelled = labelled.filter(
        pa.array(
            ~_not(labelled, "fingerprint", contract.fingerprint)
            & ~_not(labelled, "label_state", FINAL)
            & _mask(pc.is_valid(labelled[CHURNED]))
        )
    )
    ids = labelled["customer_id"].cast(pa.string())
    own = in_recent_windows(labelled, contract) & ~_not(labelled, "part", GATE) & _mask(pc.is_valid(ids))
    own &= ~_beyond(contract, labelled) & _not(labelled, "contacted", True)
    rows = _typed(contract, labelled.filter(pa.array(own & _last(labelled, ids, own))))
    newest = pc.max(rows[AS_OF]).as_py()
    metadata = {b"churn_as_of": str(newest).encode(), b"churn_source": b"final labels that were set apart for the gate"}
    return rows.replace_schema_metadata(metadata)


def join(contract: Contract, customers: pa.Table, labelled: LabelledRows) -> pa.Table:
    """The marked table with the labelled rows below it; table rows of the gate's customers are put aside."""
    ids = customers[contract.key.name].cast(pa.string())
    aside = pa.array(_among(ids, labelled.gate))
    marked = customers.set_column(customers.schema.get_field_index(ASIDE), ASIDE, aside)
    metadata = dict(customers.schema.metadata or {})
    used = labelled.rows.num_rows
    if used:
        metadata[b"churn_source"] = metadata.get(b"churn_source", b"") + f"; and {used:,} labelled predictions".encode()
    metadata |= {b"churn_table_rows": str(customers.num_rows).encode(), b"churn_feedback_rows": str(used).encode()}
    metadata[RECENT_ROWS] = str(labelled.recent).encode()
    below = labelled.rows.select(marked.column_names).cast(marked.schema.remove_metadata())
    joined = pa.concat_tables([marked.replace_schema_metadata(None), below]).combine_chunks()
    return joined.replace_schema_metadata(metadata)


def _typed(contract: Contract, predictions: pa.Table) -> pa.Table:
    """Rows of the log as rows of the validated table, typed as its cells are."""
    columns = {contract.key.name: predictions["customer_id"].cast(arrow_type(contract.key.kind))}
    for column in contract.logged_columns:
        values = predictions[PREFIX + column.name]
        if column.name in contract.unread:  # a fault of theirs costs the cell, not the row
            values = pc.if_else(pa.array(_unusable(column, values)), pa.scalar(None, values.type), values)
        columns[column.name] = values.cast(arrow_type(column.kind))
    columns[CHURNED] = predictions[CHURNED].cast(pa.int8())
    columns[SOURCE] = pa.array([FEEDBACK] * predictions.num_rows, pa.string())
    columns[AS_OF] = pc.floor_temporal(predictions["as_of"], unit="day").cast(pa.date32())
    columns[ASIDE] = pa.array([False] * predictions.num_rows, pa.bool_())
    return pa.table(columns)


def _beyond(contract: Contract, labelled: pa.Table) -> Mask:
    """True for a category outside the choices, and for a whole number too large to be exact in float64."""
    beyond = np.zeros(labelled.num_rows, dtype=bool)
    for column in contract.scoring_columns:
        beyond |= _unusable(column, labelled[PREFIX + column.name])
    return beyond


def _unusable(column: Column, values: pa.ChunkedArray) -> Mask:
    if column.kind is Kind.CATEGORY:
        known = pc.is_in(values.cast(pa.string()), value_set=pa.array([*column.choices, None], pa.string()))
        return ~_mask(known)
    if column.kind is Kind.INTEGER:
        exact = pc.and_(pc.less_equal(pc.abs(values), EXACT), pc.equal(pc.floor(values), values))
        return ~_mask(pc.fill_null(exact, True))
    return np.zeros(len(values), dtype=bool)


def _last(labelled: pa.Table, ids: pa.ChunkedArray, remaining: Mask) -> Mask:
    """True for the prediction with the greatest `seq` of each customer, among those `remaining`."""
    rows = np.flatnonzero(remaining)
    order = rows[np.argsort(labelled["seq"].to_numpy()[rows], kind="stable")]
    names = np.asarray(ids.to_pylist(), dtype=object)[order].astype(str)
    _, newest = np.unique(names[::-1], return_index=True)
    last = np.zeros(len(remaining), dtype=bool)
    last[order[::-1][newest]] = True
    return last


def _mask(values: pa.ChunkedArray) -> Mask:
    return np.asarray(values.to_numpy(), dtype=bool)


def _not(table: pa.Table, name: str, value: object) -> Mask:
    return ~_mask(pc.fill_null(pc.equal(table[name], pa.scalar(value)), False))


def _among(ids: pa.ChunkedArray, names: Collection[str]) -> Mask:
    return _mask(pc.is_in(ids, value_set=pa.array(sorted(names), pa.string())))
