"""What each customer is worth, and how probably a contact keeps them: `[value]` of the contract for rows of a table.

A customer's value is the contract's expression, or its constant. Where a cell gives no amount: a missing value counts
as the constant, a negative one as 0; a missing save rate as the default, and one outside 0 to 1 as the nearer end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from churn_assets.contract.limits import SaveRates, Value
from churn_assets.contract.model import Contract, Kind
from churn_assets.features.compile import Array, compile_value
from churn_assets.features.encode import Columns, encode_column
from churn_assets.scoring.scorer import AsOf, days

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Prices:
    """`customer_value` (n,) of customers who stay, in the contract's currency, and `save_rate` (n,) in 0..1;
    `missing` counts values that the expression left open."""

    customer_value: Array
    save_rate: Array
    missing: int = 0

    @property
    def gain(self) -> Array:
        """What contacting a churner is expected to bring, (n,)."""
        return self.save_rate * self.customer_value

    def take(self, rows: np.ndarray) -> Prices:
        """Those of some rows."""
        return Prices(self.customer_value[rows], self.save_rate[rows], self.missing)


def constant_prices(value: Value, rows: int) -> Prices:
    """The constants of the contract for each row."""
    return Prices(np.full(rows, value.customer_value), np.full(rows, value.save_rate))


def prices(contract: Contract, customers: pa.Table, as_of: AsOf) -> Prices:
    """Prices of the rows of a typed table. A column that the table lacks counts as missing."""
    value, rows = contract.value, customers.num_rows
    amounts, missing = np.full(rows, value.customer_value), 0
    if value.value:
        names, compute = compile_value(contract)
        own = np.broadcast_to(compute(_encode(contract, customers, names), days(as_of)), (rows,))
        absent = ~np.isfinite(own)
        amounts, missing = np.where(absent, value.customer_value, np.maximum(own, 0.0)), int(absent.sum())
    rate = np.full(rows, value.save_rate)
    if value.save_rates is not None:
        rate = _rates(contract, value.save_rates, customers, value.save_rate)
    return Prices(amounts, rate, missing)


def _rates(contract: Contract, rates: SaveRates, customers: pa.Table, default: float) -> Array:
    column = contract.column(rates.column)
    cells = np.asarray(_encode(contract, customers, (rates.column,))[rates.column], dtype=np.float64)
    if not rates.by:
        return np.where(np.isnan(cells), default, np.clip(cells, 0.0, 1.0))
    segments, by = (("false", "true") if column.kind is Kind.BOOLEAN else column.choices), dict(rates.by)
    each = np.array([*(by.get(segment, default) for segment in segments), default])  # -1, missing, is the last
    return np.asarray(each[np.where(np.isnan(cells), -1, cells).astype(np.int64)])


def _encode(contract: Contract, customers: pa.Table, names: tuple[str, ...]) -> Columns:
    """Columns by name, excluded ones too; NaN, or no category, where the table lacks one."""
    columns: Columns = {}
    for name in names:
        column = contract.column(name)
        if name in customers.schema.names:
            columns[name] = encode_column(column, customers[name])
        else:
            columns[name] = np.full(customers.num_rows, -1.0 if column.kind is Kind.CATEGORY else np.nan)
    return columns
