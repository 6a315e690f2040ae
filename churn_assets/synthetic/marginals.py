"""Distributions of single columns of generated customers: measured for known contracts, else made from the contract.

The store's are measured on kept customers of the real table (30,801 rows, dates repaired) and rounded; they contain no
data of a single customer.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from churn_assets.contract.model import Column, Contract, Kind


@dataclass(frozen=True)
class Marginal:
    """A number's distribution among customers who stay.

    `quantiles` are values at equally spaced shares. `loadings` are correlations (-1..1) with engagement, tenure and
    price sensitivity; their squares add up to at most 1. `stops_at_churn`: a count that grows with time and stops when
    the customer leaves.
    """

    quantiles: tuple[float, ...]
    loadings: tuple[float, float, float]
    decimals: int = 2
    stops_at_churn: bool = False


# Quantiles are written at these shares, because they are easier to read, and interpolated to an equal grid here.
_SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_GRID = 201


def _spread(*values: float) -> tuple[float, ...]:
    grid = []
    for step in range(_GRID):
        share = step / (_GRID - 1)
        right = max(1, bisect_left(_SHARES, share))
        left = right - 1
        weight = (share - _SHARES[left]) / (_SHARES[right] - _SHARES[left])
        grid.append(values[left] + weight * (values[right] - values[left]))
    return tuple(grid)


NUMBERS: Mapping[str, Mapping[str, Marginal]] = {
    "store": {
        "esent": Marginal(_spread(2, 10, 27, 36, 44, 49, 57, 160), (0.25, 0.55, 0), decimals=0, stops_at_churn=True),
        "eopenrate": Marginal(_spread(0, 0, 4.4, 15.8, 41.7, 88, 100, 100), (0.45, -0.25, 0), decimals=8),
        "eclickrate": Marginal(_spread(0, 0, 0, 2.6, 8, 25, 47, 100), (0.40, -0.15, 0), decimals=8),
        "avgorder": Marginal(_spread(0, 29, 40, 51, 74.5, 130, 200, 900), (0.05, 0.15, -0.35)),
        "ordfreq": Marginal(_spread(0, 0, 0, 0, 0.0425, 0.1735, 0.33, 3), (0.55, 0, 0), decimals=9),
    },
    "telecom": {
        "tenure_months": Marginal(_spread(0, 1, 9, 29, 55, 71, 90, 120), (0, 1.0, 0), decimals=0),
        "monthly_charges": Marginal(_spread(18, 20, 36, 70, 90, 107, 114, 130), (0, 0.25, 0.55)),
        "total_charges": Marginal(_spread(18, 50, 400, 1400, 3800, 6900, 8000, 9500), (0, 0.90, 0.35)),
        "support_tickets": Marginal(_spread(0, 0, 0, 1, 2, 5, 8, 20), (-0.60, 0, 0.20), decimals=0),
        "login_frequency": Marginal(_spread(0, 0, 1, 3, 6, 14, 25, 60), (0.70, 0, 0), decimals=1, stops_at_churn=True),
    },
}

# Share of true, by contract and column; else from the column's name.
TRUE_SHARES: Mapping[str, Mapping[str, float]] = {"store": {"paperless": 0.65, "refill": 0.095, "doorstep": 0.039}}

CHOICE_SHARES: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "store": {"favday": (0.2195, 0.2193, 0.1568, 0.1718, 0.1718, 0.0404, 0.0204), "city": (0.055, 0.376, 0.285, 0.284)}
}

# Quantiles of the days since a customer joined.
TENURE_DAYS: Mapping[str, tuple[float, ...]] = {"store": _spread(0, 26, 94, 160, 624, 1251, 1630, 2043)}
ANY_TENURE = _spread(1, 20, 120, 365, 800, 1600, 2400, 3000)

# A column without a measured distribution: right-skewed over its range, or over 0..400 without an upper bound.
_ANY_NUMBER = _spread(0.0, 0.01, 0.06, 0.15, 0.30, 0.60, 0.85, 1.0)
_ANY_RANGE = 400.0
_MAX_ANY_RANGE = 10_000.0


def marginal(contract: Contract, column: Column) -> Marginal:
    """The measured distribution of a number or integer column, else one made from its bounds and its name."""
    hint = NUMBERS.get(contract.name, {}).get(column.name)
    if hint is not None:
        return hint
    low = float(column.low) if column.low is not None else min(0.0, float(column.high or 0.0) - _ANY_RANGE)
    high = float(column.high) if column.high is not None else low + _ANY_RANGE
    span = min(high - low, _MAX_ANY_RANGE)
    quantiles = tuple(low + share * span for share in _ANY_NUMBER)
    if column.name == contract.time.cohort:
        return Marginal(quantiles, (0, 1.0, 0))
    return Marginal(quantiles, _loadings(column.name), decimals=4)


def _loadings(name: str) -> tuple[float, float, float]:
    strength = 0.35 + 0.35 * share_of(name, "strength")
    signed = strength if share_of(name, "sign") < 0.5 else -strength
    trait = share_of(name, "trait")
    return (signed, 0.0, 0.0) if trait < 0.5 else (0.0, signed, 0.0) if trait < 0.75 else (0.0, 0.0, signed)


def true_share(contract: Contract, column: Column) -> float:
    """Share of true in a boolean column."""
    return TRUE_SHARES.get(contract.name, {}).get(column.name, 0.15 + 0.7 * share_of(column.name, "true"))


def choice_shares(contract: Contract, column: Column) -> tuple[float, ...]:
    """Share of each choice of a category, adding up to 1; earlier choices are more frequent."""
    known = CHOICE_SHARES.get(contract.name, {}).get(column.name)
    if known is None or len(known) != len(column.choices):
        known = tuple(1.0 / (1.0 + 0.5 * index) for index in range(len(column.choices)))
    total = math.fsum(known)
    return tuple(share / total for share in known)


def effect_on_hazard(column: Column, value: str) -> float:
    """The effect of a choice (or 'true') on the log hazard: between -0.5 and 0.5, determined by its name."""
    scale = 0.5 if column.kind is Kind.BOOLEAN else 1.0
    return scale * (share_of(column.name, value) - 0.5)


def share_of(*texts: str) -> float:
    """A number in [0, 1) that depends on `texts` alone, the same in every process."""
    digest = hashlib.sha256("\x1f".join(texts).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2.0**48
