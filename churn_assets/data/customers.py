"""The validated customer table: the columns beside the contract's, and where the table came from.

    churned      1 churned, 0 kept, in place of the contract's label column
    row_source   'table' for a row of the customer table, 'feedback' for a prediction whose label is final
    row_as_of    the day at which its columns were true, from which ages are counted; null where that is not known
    row_aside    true for a row that is neither trained nor reported on, because the gate judges by its customer

A customer has one row among the table's rows, and may have another among those of the feedback.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Contract

CHURNED = "churned"
SOURCE, AS_OF, ASIDE = "row_source", "row_as_of", "row_aside"
MARKS = (SOURCE, AS_OF, ASIDE)
TABLE, FEEDBACK = "table", "feedback"


def mark_table(contract: Contract, customers: pa.Table) -> pa.Table:
    """The validated table with its marks: all rows from the table, true at the snapshot or at their own date."""
    rows, rule = customers.num_rows, contract.time.as_of
    if rule in contract.by_name:
        as_of = customers[rule].cast(pa.date32())
    else:
        snapshot = dt.date.fromisoformat(customers.schema.metadata[b"churn_as_of"].decode())
        as_of = pa.array([snapshot], pa.date32()).take(pa.array([0] * rows, pa.int32()))
    marks = (pa.array([TABLE]).take(pa.array([0] * rows, pa.int32())), as_of, pa.array([False] * rows, pa.bool_()))
    for name, values in zip(MARKS, marks, strict=True):
        customers = customers.append_column(name, values)
    return customers


def table_rows(customers: pa.Table) -> pa.Table:
    """The rows of the customer table alone, each customer once, without the marks."""
    if SOURCE in customers.column_names:
        customers = customers.filter(pc.equal(customers[SOURCE], TABLE))
    return without_marks(customers)


def reported_rows(customers: pa.Table) -> npt.NDArray[np.int64]:
    """Positions of the table's rows that are not set aside; each customer occurs at most once."""
    if SOURCE not in customers.column_names:
        return np.arange(customers.num_rows)
    kept = pc.and_not(pc.equal(customers[SOURCE], TABLE), customers[ASIDE])
    return np.flatnonzero(kept.to_numpy())


def without_marks(customers: pa.Table) -> pa.Table:
    """All rows, with the columns of the contract and `churned` only."""
    return customers.drop_columns([name for name in MARKS if name in customers.column_names])


def is_generated(source: str) -> bool:
    """Whether a table whose source is described as `source` holds generated customers."""
    return source.startswith("generated customers")
