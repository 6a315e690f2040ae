"""Single requests that look like no training row: by range, by distance, or by isolation.

Each method says what it costs and what it catches, measured on the spot: a column of some reference rows is
multiplied by a hundred, as a wrong unit would, and the share that is noticed is told beside the share of
untouched reference rows that is noticed too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Kind
from churn_assets.monitoring.drift.multivariate import NUMBER_KINDS, Matrix, numbers_of

if TYPE_CHECKING:
    import pyarrow as pa

    from churn_assets.monitoring.windows.reference import Reference

_PROBES = 400
_UNIT = 100.0
_QUANTILE = 0.999  # of the reference, beyond which a distance is odd: one customer of a thousand
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Outliers:
    """Shares 0 to 1 of the sampled requests that `method` takes for outliers; `us_a_row` of CPU.

    `reference_share` is the same on training rows, the false positives; `caught_share` of unit errors.
    """

    method: str
    rows: int
    share: float | None
    reference_share: float | None
    caught_share: float | None
    us_a_row: float | None
    words: str

    def to_json(self) -> dict[str, Any]:
        """The fields, for a report."""
        return asdict(self)


def find_outliers(reference: Reference, current: pa.Table, kinds: Mapping[str, Kind], method: str) -> Outliers:
    """Judge every sampled request by `method`: range, mahalanobis or isolation_forest; numbers only."""
    known = [name for name, kind in kinds.items() if kind in NUMBER_KINDS and name in reference.bounds]
    names = [name for name in known if name in current.column_names]
    if not names or not current.num_rows:
        return Outliers(method, 0, None, None, None, None, "not computed: no number that both sides have")
    before, after = numbers_of(reference.content.sample, names), numbers_of(current, names)
    odd = _METHODS[method](reference, before, names)
    started = time.process_time()
    flags = odd(after)
    cost = (time.process_time() - started) / len(after) * 1e6
    probes = _probes(before)
    share, usually = float(flags.mean()), float(odd(before).mean())
    caught = float(odd(probes).mean()) if len(probes) else 0.0
    words = (
        f"{share:.2%} of the requests are outliers by '{method}' ({usually:.2%} of the training rows); it notices "
        f"{caught:.0%} of numbers that are a hundred times too large, for {cost:.2f} us a row"
    )
    return Outliers(method, len(after), share, usually, caught, round(cost, 2), words)


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

    def odd(rows: Matrix) -> Flags:
        found: Flags = ((rows < low) | (rows > high)).any(axis=1)  # a missing value is neither
        return found

    return odd


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
    return lambda rows: _beyond(rows).any(axis=1) | (distance(rows) > limit)


def _by_isolation(reference: Reference, before: Matrix, names: list[str]) -> Callable[[Matrix], Flags]:
    from sklearn.ensemble import IsolationForest

    middle = np.nanmean(np.where(np.isfinite(before), before, np.nan), axis=0)
    forest = IsolationForest(n_estimators=100, random_state=0).fit(_filled(before, middle))
    limit = np.quantile(forest.score_samples(_filled(before, middle)), 1 - _QUANTILE)
    return lambda rows: _beyond(rows).any(axis=1) | (forest.score_samples(_filled(rows, middle)) < limit)


def _filled(rows: Matrix, middle: Matrix) -> Matrix:
    found: Matrix = np.where(np.isfinite(rows) & ~_beyond(rows), rows, middle)
    return found


def _beyond(rows: Matrix) -> Flags:
    """Numbers too large to be squared or for a tree's single precision; infinite ones are."""
    found: Flags = np.abs(rows) > np.finfo(np.float32).max
    return found


_METHODS: Mapping[str, Callable[[Any, Matrix, list[str]], Callable[[Matrix], Flags]]] = {
    "range": _by_range,
    "mahalanobis": _by_distance,
    "isolation_forest": _by_isolation,
}
