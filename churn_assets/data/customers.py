"""The validated customer table: the columns beside the contract's, and where the table came from.

    churned      1 churned, 0 kept, in place of the contract's label column
    row_source   'table' for a row of the customer table, 'feedback' for a prediction whose label is final
    row_as_of    the day at which its columns were true, from which ages are counted; null where that is not known
    row_aside    true for a row that is neither trained nor reported on, because the gate judges by its customer

A customer has one row among the table's rows, and may have another among those of the feedback.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Contract

CHURNED = "churned"
SOURCE, AS_OF, ASIDE = "row_source", "row_as_of", "row_aside"
MARKS = (SOURCE, AS_OF, ASIDE)
TABLE, FEEDBACK = "table", "feedback"
RECENT_ROWS = b"churn_recent_rows"  # metadata: how many rows, the last ones, are labelled predictions of recent windows


def mark_table(contract: Contract, customers: pa.Table) -> pa.Table:
    """The validated table with its marks: all rows from the table, true at the snapshot or at their own date."""
    rows, rule = customers.num_rows, contract.time.as_of
    if rule in contract.by_name:
        as_of = customers[rule].cast(pa.date32())
    else:
        snapshot = dt.date.fromisoformat(customers.schema.metadata[b"churn_as_of"].decode())
        as_of = pa.repeat(pa.scalar(snapshot, pa.date32()), rows)
    marks = (pa.repeat(TABLE, rows), as_of, pa.repeat(False, rows))
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


def listed_rows(customers: pa.Table) -> npt.NDArray[np.int64]:
    """Positions of the rows of the customer table, of which call lists are made."""
    if SOURCE not in customers.column_names:
        return np.arange(customers.num_rows)
    return np.flatnonzero(pc.equal(customers[SOURCE], TABLE).to_numpy())


def without_marks(customers: pa.Table) -> pa.Table:
    """All rows, with the columns of the contract and `churned` only."""
    return customers.drop_columns([name for name in MARKS if name in customers.column_names])


@dataclass(frozen=True)
class TableOrigin:
    """Where a customer table came from, as its Arrow metadata carries it; empty where nothing is known.

    `source` is a description for people, `as_of` the snapshot (ISO date), `contract` the fingerprint under which the
    table was validated. `generated`: the customers come from the generator and are not real.
    """

    source: str = ""
    generated: bool = False
    as_of: str = ""
    contract: str = ""

    @classmethod
    def of(cls, table: pa.Table) -> TableOrigin:
        """The origin of a raw or validated table."""
        metadata = {k: v.decode() for k, v in (table.schema.metadata or {}).items() if k.startswith(b"churn_")}
        source = metadata.get(b"churn_source", "")
        # Tables written by version 0.1 have no `churn_generated`; there the description began so.
        unstated = "true" if source.startswith("generated customers") else "false"
        generated = metadata.get(b"churn_generated", unstated) == "true"
        return cls(source, generated, metadata.get(b"churn_as_of", ""), metadata.get(b"churn_contract", ""))

    def added_to(self, table: pa.Table) -> pa.Table:
        """`table` with this origin in its metadata."""
        # In the order of version 0.1: the bytes of a bundle's reference sample depend on it.
        known = {"churn_contract": self.contract, "churn_as_of": self.as_of}
        metadata = {name: value for name, value in known.items() if value}
        metadata |= {"churn_source": self.source, "churn_generated": "true" if self.generated else "false"}
        encoded = {name.encode(): value.encode() for name, value in metadata.items()}
        return table.replace_schema_metadata({**(table.schema.metadata or {}), **encoded})
