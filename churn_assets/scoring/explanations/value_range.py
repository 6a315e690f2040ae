"""The values that a changeable column may take for one customer, and how large a change each of them is."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass

import numpy as np

from churn_assets.contract.model import Column, Kind
from churn_assets.features.compile import Array
from churn_assets.features.encode import Columns, days_since_epoch
from churn_assets.scoring.explanations.reference import known_values

_OF_A_CHOICE = 0.5  # the size of another choice, of yes for no
_OF_MISSING = 1.0  # the size of a value in the place of none
_SPREAD = 3  # of so many values of an axis one is spread evenly, the others are quantiles
_DIGITS = 3  # significant ones of a number that is proposed
_WHOLE = (Kind.INTEGER, Kind.DATE)
_CODED = (Kind.CATEGORY, Kind.BOOLEAN)


@dataclass(frozen=True)
class ValueRange:
    """What `column` may become for a customer whose value is `own` (NaN or the code -1: missing): `low` to `high`,
    ends included, or one of the choices. `known` are the values of training customers, ascending."""

    column: Column
    own: float
    known: Array
    low: float
    high: float

    @classmethod
    def of(cls, column: Column, own: float, reference: Columns, as_of: float) -> ValueRange:
        """Within the contract's bounds, the training customers' values, the direction that the contract allows, and
        for a date not after `as_of`."""
        known = known_values(column, reference[column.name])
        if column.kind in _CODED:
            low, high = 0.0, float(max(1, len(column.choices) - 1))
        elif len(known) == 0:
            low, high = math.inf, -math.inf
        else:
            low, high = (
                max(_bound(column, column.low, -math.inf), known[0]),
                min(_bound(column, column.high, math.inf), known[-1]),
            )
            if column.kind is Kind.DATE:
                high = min(high, math.floor(as_of))
        if column.changeable == "up" and not math.isnan(own):
            low = max(low, own)
        if column.changeable == "down" and not math.isnan(own):
            high = min(high, own)
        return cls(column, own, known, float(low), float(high))

    @property
    def is_missing(self) -> bool:
        """Whether the customer has no value."""
        return math.isnan(self.own) or (self.column.kind is Kind.CATEGORY and self.own < 0)

    def values(self, count: int) -> Array:
        """At most `count` values: all where there are no more, else quantiles of the training customers and evenly
        spread ones. The customer's own is not among them."""
        if self.low > self.high:
            return np.empty(0)
        if self.column.kind in _CODED or (self.column.kind in _WHOLE and self.high - self.low < count):
            return self._allowed(np.arange(self.low, self.high + 1.0))
        within = self.known[(self.known >= self.low) & (self.known <= self.high)]
        spread = np.linspace(self.low, self.high, max(2, count // _SPREAD))
        places = np.linspace(0, max(len(within) - 1, 0), count - len(spread)).astype(np.int64)
        return self._allowed(np.concatenate([within[places] if len(within) else within, spread]))

    def between(self, start: float, end: float, steps: int) -> Array:
        """Values from `start` to `end` in at most so many steps, `start` left out; the customer's own in their place
        for what has no order."""
        if self.column.kind in _CODED or self.is_missing:
            return np.array([self.own])
        return self._allowed(np.linspace(start, end, steps + 1)[1:], with_own=True)

    def sizes(self, values: Array) -> Array:
        """How large the changes to these values (n,) are, 0 to 1: the mean of the share of the training customers
        between the two values, and of the share of the range between them."""
        same = np.isnan(values) if math.isnan(self.own) else values == self.own
        if self.is_missing:
            return np.where(same, 0.0, _OF_MISSING)
        if self.column.kind in _CODED:
            return np.where(same, 0.0, _OF_A_CHOICE)
        width = float(self.known[-1] - self.known[0]) or 1.0
        ranks = np.abs(self._rank(values) - self._rank(np.array([self.own])))
        return np.asarray((ranks + np.minimum(np.abs(values - self.own) / width, 1.0)) / 2.0)

    def _rank(self, values: Array) -> Array:
        below, upto = (np.searchsorted(self.known, values, side) for side in ("left", "right"))
        return np.asarray((below + upto) / (2.0 * len(self.known)))

    def _allowed(self, values: Array, with_own: bool = False) -> Array:
        """The values as they would be written, within the range, ascending, each once."""
        if self.column.kind is Kind.NUMBER:
            values = _rounded(values)
        elif self.column.kind in _WHOLE:
            values = np.round(values)
        allowed = np.unique(np.clip(values, self.low, self.high))
        return allowed if with_own or self.is_missing else allowed[allowed != self.own]


def _bound(column: Column, bound: float | str | None, default: float) -> float:
    if bound is None:
        return default
    if column.kind is Kind.DATE:
        return float(days_since_epoch(dt.date.fromisoformat(str(bound))))
    return float(bound)


def _rounded(values: Array) -> Array:
    """Numbers to three significant digits.

    >>> _rounded(np.array([0.0, 0.031249, 13.333, 51234.0])).tolist()
    [0.0, 0.0312, 13.3, 51200.0]
    """
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values])
