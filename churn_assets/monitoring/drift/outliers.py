"""Single requests unlike any training row: by range, by distance, or by isolation. For information only.

What each method costs and catches is measured with every report: one number of some reference rows is
multiplied by a hundred, as a wrong unit would, and the share that is detected is reported beside the share of
unchanged reference rows that is flagged too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Kind
from churn_assets.monitoring.drift.multivariate import Matrix

if TYPE_CHECKING:
    import pyarrow as pa

    from churn_assets.monitoring.windows.monitored_model import Reference

_PROBES = 400
_UNIT = 100.0
_QUANTILE = 0.999  # of the reference, beyond which a distance is an outlier's: one customer of a thousand
_NUMBERS = frozenset({Kind.NUMBER, Kind.INTEGER})
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Outliers:
    """Shares 0 to 1 of the sampled requests that `method` flags; `us_a_row` of CPU.

    `reference_share` is the same on training rows, the false positives; `caught_share` of unit errors.
    """

    method: str
    rows: int
    share: float | None
    reference_share: float | None
    caught_share: float | None
    us_a_row: float | None
    message: str


def find_outliers(reference: Reference, current: pa.Table, kinds: Mapping[str, Kind], method: str) -> Outliers:
    """Classify every sampled request by `method`: range, mahalanobis or isolation_forest; numbers only."""
    known = [name for name, kind in kinds.items() if kind in _NUMBERS and name in reference.bounds]
    names = [name for name in known if name in current.column_names]
    if not names or not current.num_rows:
        return Outliers(method, 0, None, None, None, None, "not computed: no number that both sides have")
    before, after = _numbers(reference.profile.sample, names), _numbers(current, names)
    is_outlier = _METHODS[method](reference, before, names)
    started = time.process_time()
    flags = is_outlier(after)
    cost = (time.process_time() - started) / len(after) * 1e6
    probes = _probes(before)
    share, usual = float(flags.mean()), float(is_outlier(before).mean())
    caught = float(is_outlier(probes).mean()) if len(probes) else 0.0
    message = (
        f"{share:.2%} of the requests are outliers by '{method}' ({usual:.2%} of the training rows); it detects "
        f"{caught:.0%} of numbers that are a hundred times too large, at {cost:.2f} us a row"
    )
    return Outliers(method, len(after), share, usual, caught, round(cost, 2), message)


def _numbers(table: pa.Table, names: list[str]) -> Matrix:
    """Shape (rows, names): NaN for missing, infinite kept."""
    return np.column_stack([table[name].to_numpy().astype(np.float64) for name in names])


def _probes(before: Matrix, seed: int = 0) -> Matrix:
    rng = np.random.default_rng(seed)
    rows: Matrix = before[rng.integers(0, len(before), _PROBES)].copy()
    place = (np.arange(_PROBES), rng.integers(0, before.shape[1], _PROBES))
    wrong = np.isfinite(rows[place]) & (rows[place] != 0)  # nothing times a hundred is still nothing
    rows[place] *= _UNIT
    probes: Matrix = rows[wrong]
    return probes


def _by_range(reference: Reference, before: Matrix, names: list[str]) -> Callable[[Matrix], Flags]:
    low, high = np.array([reference.bounds[name] for name in names]).T

    def is_outlier(rows: Matrix) -> Flags:
        flags: Flags = ((rows < low) | (rows > high)).any(axis=1)  # a missing value is neither
        return flags

    return is_outlier


def _by_distance(reference: Reference, before: Matrix, names: list[str]) -> Callable[[Matrix], Flags]:
    middle = np.nanmean(np.where(np.isfinite(before), before, np.nan), axis=0)
    filled = _filled(before, middle)
    covariance = np.atleast_2d(np.cov(filled, rowvar=False))
    inverse = np.linalg.pinv(covariance)

    def distance(rows: Matrix) -> Matrix:
        apart = _filled(rows, middle) - middle
        squared: Matrix = np.einsum("ij,jk,ik->i", apart, inverse, apart)
        return squared

    limit = np.quantile(distance(before), _QUANTILE)
    return lambda rows: _too_large(rows).any(axis=1) | (distance(rows) > limit)


def _by_isolation(reference: Reference, before: Matrix, names: list[str]) -> Callable[[Matrix], Flags]:
    from sklearn.ensemble import IsolationForest

    middle = np.nanmean(np.where(np.isfinite(before), before, np.nan), axis=0)
    forest = IsolationForest(n_estimators=100, random_state=0).fit(_filled(before, middle))
    limit = np.quantile(forest.score_samples(_filled(before, middle)), 1 - _QUANTILE)
    return lambda rows: _too_large(rows).any(axis=1) | (forest.score_samples(_filled(rows, middle)) < limit)


def _filled(rows: Matrix, middle: Matrix) -> Matrix:
    filled: Matrix = np.where(np.isfinite(rows) & ~_too_large(rows), rows, middle)
    return filled


def _too_large(rows: Matrix) -> Flags:
    """Numbers too large to be squared or for a tree's single precision; infinite ones are."""
    flags: Flags = np.abs(rows) > np.finfo(np.float32).max
    return flags


_METHODS: Mapping[str, Callable[[Reference, Matrix, list[str]], Callable[[Matrix], Flags]]] = {
    "range": _by_range,
    "mahalanobis": _by_distance,
    "isolation_forest": _by_isolation,
}
