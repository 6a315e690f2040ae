"""How far two samples of one column lie apart, by every measure that users know.

All of them are computed for each column they apply to; `rule` says which two decide. Measures that
do not apply to a kind of column are None: Kolmogorov-Smirnov and Wasserstein want an order,
chi-square wants levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BINS = 10  # deciles of the reference, as the population stability index is usually read
_EMPTY_SHARE = 1e-4  # an empty bin would make the index infinite
_PULLED_IN = 0.01  # of the values on each side, when a spread is taken
_EXPECTED = 5.0  # below this many expected rows chi-square is no chi-square: Cochran (1954)


@dataclass(frozen=True)
class Distances:
    """Measures between a reference and a window; None where one does not apply.

    `psi` population stability index (Siddiqi 2006); `ks` two-sample Kolmogorov-Smirnov and its asymptotic
    p-value; `chi_square` two-sample test of homogeneity; `wasserstein` first Wasserstein distance in `spread_of`
    the reference; `jensen_shannon` square root of the divergence in nats (Lin 1991,
    Endres and Schindelin 2003), 0 to 0.83. `reference_rows` and `rows` are values that were there.
    """

    reference_rows: int
    rows: int
    psi: float | None = None
    ks: float | None = None
    ks_p: float | None = None
    chi_square: float | None = None
    chi_square_p: float | None = None
    wasserstein: float | None = None
    jensen_shannon: float | None = None


def of_numbers(reference: Floats, current: Floats, scale: float | None = None) -> Distances:
    """Two samples of finite numbers, any order, at least one value each.

    `scale` divides the Wasserstein distance; None takes `spread_of(reference)`.
    """
    from scipy import stats

    test = stats.ks_2samp(reference, current, method="asymp")
    before, after = _binned(reference, current)
    return Distances(
        reference_rows=len(reference),
        rows=len(current),
        psi=_psi(before, after),
        ks=float(test.statistic),
        ks_p=float(test.pvalue),
        wasserstein=_wasserstein(reference, current, scale or spread_of(reference)),
        jensen_shannon=_jensen_shannon(before, after),
    )


def spread_of(values: Floats) -> float:
    """Standard deviation with the outermost percent on each side pulled in (Winsorised; Tukey 1962); 1 if it is 0.

    A heavy tail makes the plain deviation so large that a quarter more of everything is a small effect.
    """
    low, high = np.quantile(values, [_PULLED_IN, 1 - _PULLED_IN])
    largest = float(np.abs(values).max()) or 1.0  # divided out, so that no square is beyond what a float holds
    pulled = float(np.clip(values / largest, low / largest, high / largest).std())
    return (pulled or float((values / largest).std())) * largest or 1.0


def of_levels(reference: Mapping[str, int], current: Mapping[str, int]) -> Distances:
    """Two counts by level; a level that one side lacks counts 0 there. At least one row each."""
    names = sorted({*reference, *current})
    before = np.array([reference.get(name, 0) for name in names], dtype=np.float64)
    after = np.array([current.get(name, 0) for name in names], dtype=np.float64)
    statistic, p_value = _homogeneity(before, after)
    return Distances(
        reference_rows=int(before.sum()),
        rows=int(after.sum()),
        psi=_psi(before, after),
        chi_square=statistic,
        chi_square_p=p_value,
        jensen_shannon=_jensen_shannon(before, after),
    )


def _binned(reference: Floats, current: Floats) -> tuple[Floats, Floats]:
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    places = len(edges) + 1
    # A value that equals an edge falls below it on both sides, so that a column of few values has bins too.
    counts = (np.bincount(np.searchsorted(edges, side, side="left"), minlength=places) for side in (reference, current))
    before, after = (side.astype(np.float64) for side in counts)
    return before, after


def _wasserstein(reference: Floats, current: Floats, scale: float) -> float:
    from scipy import stats

    with np.errstate(over="ignore"):
        distance = float(stats.wasserstein_distance(reference / scale, current / scale))
    return float(np.nan_to_num(distance))  # the largest number instead of infinity, which JSON does not know


def _psi(before: Floats, after: Floats) -> float:
    expected, found = (np.maximum(side / side.sum(), _EMPTY_SHARE) for side in (before, after))
    return float(((found - expected) * np.log(found / expected)).sum())


def _jensen_shannon(before: Floats, after: Floats) -> float:
    from scipy.spatial.distance import jensenshannon

    distance: Any = jensenshannon(before, after)
    return float(np.nan_to_num(distance))  # rounding can leave the root of -1e-17


def _homogeneity(before: Floats, after: Floats) -> tuple[float, float]:
    from scipy import stats

    total = before + after
    smaller = min(before.sum(), after.sum())
    rare = total * smaller / total.sum() < _EXPECTED
    table = np.array([before[~rare], after[~rare]])
    if total[rare].sum() > 0:
        table = np.column_stack([table, [before[rare].sum(), after[rare].sum()]])
    if table.shape[1] < 2:
        return 0.0, 1.0
    found = stats.chi2_contingency(table, correction=False)
    return float(found.statistic), float(found.pvalue)
