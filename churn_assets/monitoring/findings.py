"""What a check of data says: one finding for each deviation."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Column, Kind

Check = Literal[
    "missing_column", "not_in_reference", "all_missing", "missing", "unreadable", "infinite", "outside_range",
    "unknown_category", "constant", "spike", "unexplained_value", "unit_change", "swapped", "relabelled",
    "broken_relation", "volume", "refused", "duplicates", "one_customer", "gap", "no_id",
]  # fmt: skip

FEW_VALUES = 10  # distinct numbers of a column in training
TRAFFIC = "(traffic)"  # in place of a column, for findings that are about none


@dataclass(frozen=True)
class Finding:
    """One deviation; `actual` and `expected` are figures for people, `cause` is that of refused requests, else ''."""

    check: Check
    column: str
    actual: str
    expected: str
    message: str
    blocks: bool = True
    cause: str = ""


def shown(column: Column, value: float | None) -> str:
    """A number of a column for people; a date for days since 1970."""
    if column.kind is Kind.DATE and value is not None:
        return str(dt.date(1970, 1, 1) + dt.timedelta(days=value))
    return f"{value:g}"


def share_finding(check: Check, column: str, share: float, usual: float, message: str, blocks: bool = True) -> Finding:
    """A finding whose figures are shares of the rows, 0 to 1."""
    return Finding(check, column, f"{share:.1%}", f"{usual:.1%}", message, blocks)


def has_few_values(numbers: npt.NDArray[np.float64]) -> bool:
    """Whether a column has so few different numbers that one which becomes frequent is drift, and no default."""
    return len(np.unique(numbers)) <= FEW_VALUES
