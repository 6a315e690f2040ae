"""Several rows of one customer in a table whose rows are numbered.

A split keeps the rows of one id together. With row numbers as ids it cannot, so rows of one customer would be in
training and in test, and every figure too good: 600 customers three times give PR-AUC .91 for a true .59.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Column, Contract, Kind, Role
from churn_assets.data.id_names import IdName, id_name, is_row_number
from churn_assets.data.validation.parse import parse_column, to_numpy
from churn_assets.errors import RepeatedCustomers

MOST_UNNAMED = 0.02  # share of rows without an id, in a column of ids
_MOST_ROWS_EACH = 50  # on average; ids that repeat more often, if not named after customers, are those of groups


@dataclass(frozen=True)
class IdCounts:
    """The ids of one column: `rows`, those with an id (`named`), different ids (`customers`), `repeated`: a mask
    of the rows whose id another row has, shape (rows,); and whether a value has decimals, which no id has."""

    rows: int
    named: int
    customers: int
    repeated: npt.NDArray[np.bool_]
    has_decimals: bool

    @property
    def later(self) -> int:
        """Rows after the first of their customer."""
        return self.named - self.customers

    @property
    def is_id(self) -> bool:
        """Whether nearly every row has an id: all but one in fifty, or but a row of totals."""
        return not self.has_decimals and self.named >= min((1.0 - MOST_UNNAMED) * self.rows, self.rows - 1)

    def is_customer(self, name: IdName) -> bool:
        """Whether a column of this name can only be the customer, so that several rows of one are an error."""
        if not self.is_id or name > IdName.ID:
            return False
        return name is IdName.CUSTOMER or self.named <= _MOST_ROWS_EACH * self.customers


def count_ids(cells: pa.Array | pa.ChunkedArray) -> IdCounts:
    """Count the ids of a raw column, which are read as on every way in (`contract.values.canonical_id`)."""
    encoded = parse_column(Column("id", Kind.ID), cells).values.dictionary_encode()
    size = len(encoded.dictionary)
    codes = to_numpy(pc.fill_null(encoded.indices, size))
    times = np.bincount(codes, minlength=size + 1)
    times[size] = 0
    decimals = pc.any(pc.match_substring_regex(encoded.dictionary, r"^\d+\.\d+$")).as_py() or False
    return IdCounts(len(codes), int(times.sum()), size, times[codes] > 1, decimals)


def refuse_numbered_repeats(contract: Contract, table: pa.Table) -> None:
    """Raise RepeatedCustomers if the contract's ids are row numbers and a column of the raw `table` has the customers,
    with more rows after the first of one than the contract lets be rejected."""
    if "rows_as_ids" not in contract.source.repairs and not is_row_number(contract.key.name):
        return
    for name, counts in _customers(contract, table):
        if counts.later > contract.quality.max_rejected_share * counts.named:
            raise RepeatedCustomers(
                f"'{name}' repeats: {counts.customers:,} customers in {counts.named:,} rows, and the contract's ids "
                f"are row numbers; expected one row for each customer; keep one row of each, and give '{name}' "
                "role 'key' and kind 'id'"
            )


def _customers(contract: Contract, table: pa.Table) -> Iterator[tuple[str, IdCounts]]:
    for name in table.column_names:
        column = contract.by_name.get(name)
        named = None if column is not None and column.role in (Role.KEY, Role.LABEL) else id_name(name)
        if named is not None and named <= IdName.ID:
            counts = count_ids(table.column(name))
            if counts.is_customer(named):
                yield name, counts
