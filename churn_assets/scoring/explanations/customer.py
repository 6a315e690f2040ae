"""One customer as explanations see it: a JSON row that is checked and scored as /predict does, and its cells."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from msgspec import Meta, Struct

from churn_assets.contract.model import Column, Kind
from churn_assets.contract.values import canonical_id
from churn_assets.features.compile import Matrix
from churn_assets.features.encode import EPOCH, Columns, encode_rows
from churn_assets.scoring.online import CustomerScore, CustomerScorer, InputWarning

Cell = float | int | bool | str | None  # a value of JSON


class ExplainedCustomer(Struct, frozen=True, kw_only=True):
    """What every explanation says of the customer whose score it explains: what /predict would have answered."""

    customer_id: str | None
    churn_probability: Annotated[float, Meta(ge=0, le=1, description="Calibrated.")]
    churn: Annotated[bool, Meta(description="Whether the probability reaches the threshold.")]
    threshold: float
    log_odds: Annotated[float, Meta(description="Of the model, before calibration.")]
    model_version: str
    contract: str
    as_of: str
    warnings: Annotated[list[InputWarning], Meta(description="As those of /predict.")]


@dataclass(frozen=True)
class Customer:
    """A customer of the contract at the day `as_of` (days since 1970-01-01; `day` is its ISO text)."""

    scorer: CustomerScorer
    row: Mapping[str, Any]
    day: str
    as_of: float
    score: CustomerScore

    @classmethod
    def read(cls, scorer: CustomerScorer, row: Mapping[str, Any], day: str, as_of: float) -> Customer:
        """Check and score a JSON row. Raises RowsRejected and DataError as /predict does."""
        return cls(scorer, row, day, as_of, scorer.score(row, as_of))

    @cached_property
    def columns(self) -> Columns:
        """The row encoded, one value (1,) a column."""
        return encode_rows(self.scorer.scorer.contract, [self.row])

    @cached_property
    def matrix(self) -> Matrix:
        """The model's features (1, k)."""
        return self.scorer.scorer.features(self.columns, self.as_of)

    def facts(self, warnings: list[InputWarning]) -> dict[str, Any]:
        """The fields of `ExplainedCustomer`; `warnings` are those that the request has besides its own."""
        scorer, score = self.scorer.scorer, self.score
        return {
            "customer_id": canonical_id(self.row.get(scorer.contract.key.name)),
            "churn_probability": score.probability,
            "churn": score.churn,
            "threshold": scorer.thresholds.value,
            "log_odds": score.margin,
            "model_version": scorer.version,
            "contract": scorer.contract.name,
            "as_of": self.day,
            "warnings": [*score.warnings, *warnings],
        }


def cell_value(column: Column, number: float) -> Cell:
    """A number of encoded columns as a request has it: NaN, and the code -1 of a category, are None.

    >>> cell_value(Column("city", Kind.CATEGORY, choices=("BLR", "BOM")), 1.0)
    'BOM'
    >>> cell_value(Column("day", Kind.DATE), 16090.0), cell_value(Column("x", Kind.NUMBER), float("nan"))
    ('2014-01-20', None)
    """
    if math.isnan(number) or (column.kind is Kind.CATEGORY and number < 0):
        return None
    match column.kind:
        case Kind.CATEGORY:
            return column.choices[int(number)]
        case Kind.DATE:
            return dt.date.fromordinal(EPOCH + int(number)).isoformat()
        case Kind.BOOLEAN:
            return bool(number)
        case Kind.INTEGER:
            return int(number)
    return float(number)
