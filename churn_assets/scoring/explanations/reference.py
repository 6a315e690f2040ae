"""The training customers of a bundle, as of another day: what is usual, and which values a column has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from churn_assets.contract.model import Column, Kind
from churn_assets.features.compile import Array, as_of_days
from churn_assets.features.encode import Columns, encode_table
from churn_assets.features.functions import FIRST_DAY, LAST_DAY
from churn_assets.scoring.bundle import read_card, read_reference
from churn_assets.scoring.scorer import Scorer

if TYPE_CHECKING:
    import pyarrow as pa

DAYS_KEPT = 8  # days of scoring whose customers are kept ready


@dataclass(frozen=True)
class Reference:
    """Training customers (n,) encoded, and the days (n,) at which they had these values."""

    scorer: Scorer
    columns: Columns
    as_of: Array

    @classmethod
    def read(cls, bundle: Path, scorer: Scorer) -> Reference:
        """Those of a bundle. Raises BundleCorrupt if its card cannot be read."""
        return cls.of(scorer, read_reference(bundle), read_card(bundle).as_of)

    @classmethod
    def of(cls, scorer: Scorer, table: pa.Table, as_of: str | None) -> Reference:
        """Typed rows at their day: that of the column in `[time] as_of`, else `as_of`, else their newest date."""
        contract = scorer.contract
        columns = encode_table(contract, table.select([column.name for column in contract.scoring_columns]))
        own = columns.get(contract.time.as_of)
        if own is not None:
            return cls(scorer, columns, own)
        if as_of is not None:
            return cls(scorer, columns, np.full(table.num_rows, as_of_days(as_of)))
        dates = [columns[column.name] for column in contract.scoring_columns if column.kind is Kind.DATE]
        newest = max((float(np.nanmax(each)) for each in dates if not np.isnan(each).all()), default=0.0)
        return cls(scorer, columns, np.full(table.num_rows, newest))

    def moved_to(self, as_of: float) -> Columns:
        """The same customers as of another day: their dates lie as long before it as they lay before their own."""
        dates = {column.name for column in self.scorer.contract.scoring_columns if column.kind is Kind.DATE}
        moved = as_of - self.as_of
        return {name: values + moved if name in dates else values for name, values in self.columns.items()}


def known_values(column: Column, values: Array) -> Array:
    """The values of a column among customers, ascending; missing ones are left out, and days that moved beyond the
    calendar, which no request can have."""
    if column.kind is Kind.CATEGORY:
        return np.sort(values[values >= 0]).astype(np.float64)
    if column.kind is Kind.DATE:
        return np.sort(values[(values >= FIRST_DAY) & (values <= LAST_DAY)])
    return np.sort(values[~np.isnan(values)])


class ReferenceDays:
    """The reference as of the days that are asked for; the last few are kept."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.at = lru_cache(maxsize=DAYS_KEPT)(reference.moved_to)
