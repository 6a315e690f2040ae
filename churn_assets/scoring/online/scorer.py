"""The Scorer for one customer at a time: the same features, model and calibration, without arrays where they cost."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import gt, lt

import numpy as np

from churn_assets.contract.expressions import parse_rules
from churn_assets.contract.model import Contract, Severity
from churn_assets.errors import DataError, RowsRejected, Violation, shown
from churn_assets.features.one_row import RowReader
from churn_assets.features.scalar import scalar_features, scalar_rules
from churn_assets.scoring.calibration import Beta, Calibration, Identity, Isotonic, Platt
from churn_assets.scoring.online.margins import margin_of_one
from churn_assets.scoring.scorer import BAND_NAMES, Scorer

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(slots=True)
class Scored:
    """One score. `outside` are (feature, value, low, high) outside the training range; `broken` are
    rules that only warn."""

    probability: float
    margin: float
    decision: bool
    band: str
    outside: list[tuple[str, float, float, float]]
    broken: list[str]


class OneRow:
    """Scores single rows of a Scorer. Agrees with `Scorer.score_rows` to 1e-9, and refuses what it refuses."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        contract = scorer.contract
        self._read = RowReader(contract)
        self._features = scalar_features(contract, scorer.program)
        self._reject = scalar_rules(contract, Severity.REJECT)
        self._warn = scalar_rules(contract, Severity.WARN)
        self._margin = margin_of_one(scorer.model)
        self._calibrate = calibrate_one(scorer.calibration)
        ranges = [scorer.ranges.get(name, (-_LARGEST, _LARGEST)) for name in scorer.program.names]
        self._lows, self._highs = [low for low, _ in ranges], [high for _, high in ranges]
        self._threshold, self._cuts = scorer.thresholds.value, (scorer.bands.medium, scorer.bands.high)

    def score(self, row: Mapping[str, object], as_of: float) -> Scored:
        """The score of one row at `as_of`, in days since 1970-01-01.

        Raises RowsRejected for a row that breaks the contract or one of its rejecting rules, DataError
        if it has no finite score.
        """
        cells = self._read(row)
        for name, rule in self._reject:
            if rule(cells, as_of) == 0.0:
                raise RowsRejected(rule_violations(self.scorer.contract, row, name))
        values = array("f", self._features(cells, as_of)).tolist()
        outside = []
        if True in map(lt, values, self._lows) or True in map(gt, values, self._highs):
            values = [math.nan if math.isinf(value) else value for value in values]  # as in FeatureProgram
            outside = self._outside(values)
        margin = self._margin(values)
        probability = self._calibrate(margin)
        if not math.isfinite(probability):
            raise DataError(f"row 0 has no finite score (log-odds {margin}); validate the rows first")
        broken = [name for name, rule in self._warn if rule(cells, as_of) == 0.0]
        band = BAND_NAMES[bisect_right(self._cuts, probability)]
        return Scored(probability, margin, probability >= self._threshold, band, outside, broken)

    def _outside(self, values: Sequence[float]) -> list[tuple[str, float, float, float]]:
        bounds = zip(self.scorer.program.names, values, self._lows, self._highs, strict=True)
        return [(name, value, low, high) for name, value, low, high in bounds if value < low or value > high]


def rule_violations(contract: Contract, row: Mapping[str, object], name: str, index: int = 0) -> list[Violation]:
    """What is told of a row that breaks the rule `name`: its first column, and the rule."""
    expression = next(rule for rule in parse_rules(contract) if rule.name == name)
    columns = sorted(expression.names - {"as_of"}, key=list(contract.by_name).index)
    found = ", ".join(f"{column} {shown(row.get(column))}" for column in columns)
    return [Violation(index, columns[0] if columns else "as_of", found or "this as_of", f"{expression.text} ({name})")]


def calibrate_one(calibration: Calibration) -> Callable[[float], float]:
    """The calibration as a function of one float."""
    match calibration:
        case Identity():
            return _sigmoid
        case Platt(a=a, b=b):
            return lambda margin: _sigmoid(a * margin + b)
        case Beta(a=a, b=b, c=c):
            return lambda margin: _sigmoid(-a * _softplus(-margin) + b * _softplus(margin) + c)
        case Isotonic():
            return lambda margin: float(calibration.apply(np.array([margin]))[0])
    return lambda margin: float(calibration.apply(np.array([margin]))[0])


def _sigmoid(margin: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(margin, -700.0), 700.0)))


def _softplus(margin: float) -> float:
    return max(margin, 0.0) + math.log1p(math.exp(-abs(margin)))
