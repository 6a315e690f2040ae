"""Figures of the test customers by segment: values of categories and yes/no columns, bands of tenure and of value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.contract.wording import format_number
from churn_assets.evaluation.metrics import Floats
from churn_assets.features.encode import encode_table
from churn_assets.reporting.model import measure
from churn_assets.reporting.model.facts import SIDES, Segment
from churn_assets.reporting.model.measure import Scored
from churn_assets.scoring.prices import Prices
from churn_assets.training.feature_table import TrainingData, as_of_of

if TYPE_CHECKING:
    import pyarrow as pa

Codes = npt.NDArray[np.int64]
# Segments of every row: a name for the column, whether they are bands, a code a row (n,), and the name of each code.
Grouping = tuple[str, bool, Codes, tuple[str, ...]]

MISSING = "not known"
BANDS = 5  # of equal size


def segments(
    contract: Contract, customers: pa.Table, data: TrainingData, scored: Mapping[str, Scored], worth: Prices
) -> list[Segment]:
    """A row a segment with test customers, those of one column together: tenure first, then value where it differs by
    customer. `worth` are the prices of all customers."""
    test_rows = {SIDES[name]: view.split.test for name, view in data.views.items()}
    rows = []
    for column, is_band, codes, names in _groupings(contract, customers, worth):
        for code, name in enumerate(names):
            sides = {side: measure.segment(figures, codes[test_rows[side]] == code) for side, figures in scored.items()}
            if any(figures.rows for figures in sides.values()):
                rows.append(Segment(column, name, **sides, is_band=is_band))
    return rows


def _groupings(contract: Contract, customers: pa.Table, worth: Prices) -> Iterator[Grouping]:
    cohort = contract.time.cohort
    columns = [c for c in contract.scoring_columns if c.kind in (Kind.CATEGORY, Kind.BOOLEAN) or c.name == cohort]
    encoded = encode_table(contract, customers.select([c.name for c in columns])) if columns else {}
    if cohort is not None and cohort in encoded:
        yield _tenure(contract.column(cohort), np.asarray(encoded[cohort], dtype=np.float64), as_of_of(customers))
    if contract.value.value:
        yield ("customer value", True, *banded(worth.customer_value, format_number))
    for column in columns:
        if column.kind in (Kind.CATEGORY, Kind.BOOLEAN):
            yield (column.name, False, *_codes(column, encoded[column.name]))


def _tenure(column: Column, values: Floats, as_of: float | Floats) -> Grouping:
    if column.kind is Kind.DATE:
        return (f"days since {column.name}", True, *banded(as_of - values, lambda days: f"{days:,.0f}"))
    return (column.name, True, *banded(values, format_number))


def banded(values: Floats, form: Callable[[float], str]) -> tuple[Codes, tuple[str, ...]]:
    """`BANDS` bands of about equally many rows of `values` (n,), and their names; equal values are in one band."""
    missing = np.isnan(values)
    edges = (
        np.unique(np.quantile(values[~missing], np.arange(BANDS + 1) / BANDS, method="lower")).tolist()
        if not missing.all()
        else []
    )
    if len(edges) < 2:
        return missing.astype(np.int64), ("all", MISSING)
    starts = edges[:-1]
    names = [f"{form(low)} to under {form(high)}" for low, high in pairwise(starts)]
    codes = np.searchsorted(starts[1:], values, side="right")
    return np.where(missing, len(starts), codes).astype(np.int64), (*names, f"{form(starts[-1])} and more", MISSING)


def _codes(column: Column, values: npt.NDArray[Any]) -> tuple[Codes, tuple[str, ...]]:
    """Positions (n,) in the names that are returned beside them; missing is the last name."""
    names = (*(("no", "yes") if column.kind is Kind.BOOLEAN else column.choices), MISSING)
    codes = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(codes) | (codes < 0), len(names) - 1, codes).astype(np.int64), names
