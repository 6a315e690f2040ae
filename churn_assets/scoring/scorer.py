"""How customers become probabilities: features, model, calibration; then threshold and risk band.

Everything scores by `Scorer`, but one customer at a time by `scoring.online`, which agrees with it to 1e-9.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.limits import Value
from churn_assets.contract.model import Contract
from churn_assets.errors import DataError
from churn_assets.features.compile import Array, FeatureProgram, FeatureSpec, Matrix, as_of_days
from churn_assets.features.encode import Columns, encode_rows, encode_table
from churn_assets.scoring.calibration import Calibration
from churn_assets.scoring.models.base import Model

if TYPE_CHECKING:
    import pyarrow as pa

# Days since 1970-01-01 (one, or one a row), a date, an instant, or an ISO text of either.
AsOf = float | Array | dt.date | dt.datetime | str
Ranges = Mapping[str, tuple[float, float]]

BAND_NAMES = ("low", "medium", "high")
CHUNK_ROWS = 16_384  # one chunk of features (some 20 float32 columns) fits the second-level cache


@dataclass(frozen=True)
class Thresholds:
    """Probabilities from which a customer counts as churning, by purpose; `chosen` names the one used."""

    values: Mapping[str, float]
    chosen: str

    def __post_init__(self) -> None:
        if self.chosen not in self.values:
            raise ValueError(f"chosen threshold is '{self.chosen}', expected one of: {', '.join(self.values)}")
        if wrong := {name: value for name, value in self.values.items() if not 0.0 <= value <= 1.0}:
            raise ValueError(f"thresholds are {wrong}, expected numbers from 0 to 1")

    @property
    def value(self) -> float:
        """The chosen threshold."""
        return self.values[self.chosen]


@dataclass(frozen=True)
class Bands:
    """Cut points of the risk bands: low < `medium` <= medium band < `high` <= high band."""

    medium: float
    high: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.medium <= self.high <= 1.0:
            raise ValueError(f"bands are cut at {self.medium} and {self.high}, expected 0 <= medium <= high <= 1")

    def band(self, probability: float) -> str:
        """The band of one probability."""
        return BAND_NAMES[bisect_right((self.medium, self.high), probability)]

    def codes(self, probability: Array) -> npt.NDArray[np.int8]:
        """The bands of many (n,), as indices of `BAND_NAMES`."""
        return np.searchsorted((self.medium, self.high), probability, side="right").astype(np.int8)


@dataclass(frozen=True)
class Discount:
    """The share of the predicted churners that figures of money count, 1 or less, and its 95 % interval, which may end
    above 1. `split` names the test customers that it was measured on; '' if it was not measured."""

    share: float = 1.0
    low: float = 1.0
    high: float = 1.0
    split: str = ""


@dataclass(frozen=True)
class Scores:
    """Calibrated probabilities (n,) in 0..1, and the model's log-odds (n,) before calibration."""

    probability: Array
    margin: Array


@dataclass(frozen=True)
class Scorer:
    """Scores customers of one contract. Immutable, and safe to call from any thread.

    `ranges` are the training (low, high) of each number among the features; `version` is the bundle's, empty while
    there is none. `background` is what `scoring.explain` needs of the training rows, empty if it gives no reasons.
    `no_signal`: the model ranks no better than chance, so it decides for nobody and nobody is to be contacted.
    `discount` applies to money only, never to a probability.
    """

    contract: Contract
    program: FeatureProgram
    model: Model
    calibration: Calibration
    thresholds: Thresholds
    bands: Bands
    version: str = ""
    ranges: Ranges = field(default_factory=dict)
    background: Mapping[str, Any] = field(default_factory=dict)
    no_signal: bool = False
    discount: Discount = Discount()

    @property
    def value(self) -> Value:
        """The contract's `[value]`, with no room for contacts if the model has no signal."""
        return replace(self.contract.value, capacity=0) if self.no_signal else self.contract.value

    def score(self, columns: Columns, as_of: AsOf) -> Scores:
        """Scores of encoded columns. Raises DataError if a row has no finite score."""
        return self.score_features(self.features(columns, as_of))

    def score_table(self, table: pa.Table | pa.RecordBatch, as_of: AsOf) -> Scores:
        """Scores of a typed table, in its order. Raises RowsRejected for a category outside the contract's choices,
        DataError if a row has no finite score."""
        read = table.select([column.name for column in self.contract.scoring_columns])
        instant = days(as_of)
        margin = np.empty(table.num_rows)
        for start in range(0, table.num_rows, CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            columns = encode_table(self.contract, read.slice(start, CHUNK_ROWS))
            at = instant if isinstance(instant, float) else instant[part]
            margin[part] = self.model.margin(self.features(columns, at))
        return self._calibrated(margin)

    def score_rows(self, rows: Sequence[Mapping[str, object]], as_of: AsOf) -> Scores:
        """Scores of JSON-like rows, checked cell by cell; RowsRejected lists every violation."""
        if not rows:
            return Scores(np.empty(0), np.empty(0))
        return self.score(encode_rows(self.contract, rows), as_of)

    def features(self, columns: Columns, as_of: AsOf) -> Matrix:
        """The model's matrix (n, k) of encoded columns; missing is NaN."""
        return self.program(columns, days(as_of))

    def score_features(self, matrix: Matrix) -> Scores:
        """Scores of feature rows (n, k). Raises DataError if a row has no finite score."""
        return self._calibrated(self.model.margin(matrix))

    def band(self, probability: Array) -> npt.NDArray[np.str_]:
        """Risk band of each probability: low, medium or high."""
        return np.array(BAND_NAMES)[self.bands.codes(probability)]

    def _calibrated(self, margin: Array) -> Scores:
        probability = self.calibration.apply(margin)
        finite = np.isfinite(probability)
        if not finite.all():
            row = int(np.argmin(finite))
            raise DataError(f"row {row} has no finite score (log-odds {margin[row]}); validate the rows first")
        return Scores(probability, margin)


def days(as_of: AsOf) -> float | Array:
    """Whole days since 1970-01-01 of any form of `as_of`; one number, or one a row."""
    if isinstance(as_of, np.ndarray):
        return as_of
    return float(as_of) if isinstance(as_of, int | float) else as_of_days(as_of)


def feature_ranges(specs: Sequence[FeatureSpec], matrix: Matrix) -> dict[str, tuple[float, float]]:
    """(lowest, highest) of each number among the features over training rows (n, k), missing left out."""
    ranges: dict[str, tuple[float, float]] = {}
    for j, spec in enumerate(specs):
        present: npt.NDArray[Any] = matrix[:, j][np.isfinite(matrix[:, j])]
        if spec.kind != "category" and len(present):
            ranges[spec.name] = (float(present.min()), float(present.max()))
    return ranges
