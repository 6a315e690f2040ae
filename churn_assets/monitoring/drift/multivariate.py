"""Multivariate drift: all columns together, and single requests unlike any training row.

A shift of how columns go together leaves each column by itself unchanged; a classifier that tells the window from the
reference finds it (Lopez-Paz and Oquab 2017, classifier two-sample tests). Where it clearly does, that is drift, and
the columns are named without which it does so less (permutation importance, Breiman 2001). What a method for outliers
costs and catches is measured with every report: one number of some reference rows is multiplied by a hundred, as a
wrong unit would.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Kind

if TYPE_CHECKING:
    import pyarrow as pa
    from sklearn.ensemble import HistGradientBoostingClassifier

    from churn_assets.monitoring.profile import Reference

Matrix = npt.NDArray[np.float64]
ROWS = 4000  # of each side
_FOLDS = 3
_ROUNDS = 40
_FEWEST = 100
SIGMA, LEAST_AUC = 4.0, 0.55  # standard errors from .5, and the effect, from which the classifier counts as drift
_NAMED = 5  # columns that are named at most
_NAMED_LOSS = 0.1  # of what the ROC AUC has over .5, from which a column is one that tells the sides apart
_NAMED_ROWS = 1000


@dataclass(frozen=True)
class DomainClassifier:
    """Cross-validated ROC AUC with its 95 % interval, `rows` of both sides, `cpu_s` that it took.

    `drifts` if it is clearly over .5 and at least LEAST_AUC; `columns` are those that tell the sides apart, the first
    one most, empty if they cannot be told apart. None where it was not computed, and `message` says why. The interval
    is Hanley and McNeil's (1982).
    """

    message: str
    roc_auc: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int = 0
    cpu_s: float = 0.0
    drifts: bool = False
    columns: tuple[str, ...] = ()


def compare_all_columns(
    reference: pa.Table, current: pa.Table, kinds: Mapping[str, Kind], seed: int = 0
) -> DomainClassifier:
    """How well boosted trees tell the rows of two samples apart, on the columns that both have."""
    shared = {n: k for n, k in kinds.items() if n in reference.column_names and n in current.column_names}
    rng = np.random.default_rng(seed)
    sides = [_sample(table, rng) for table in (reference, current)]
    if not shared or min(side.num_rows for side in sides) < _FEWEST:
        return DomainClassifier(f"not computed: fewer than {_FEWEST} rows on one side, or no column on both")
    started = time.process_time()
    negative, positive = (side.num_rows for side in sides)
    rows, label = encode(sides[0], sides[1], shared), np.repeat([0, 1], (negative, positive))
    auc, model, unseen = _cross_validated(rows, label, seed)
    error = _error(auc, positive, negative)
    names: tuple[str, ...] = ()
    low, high = max(0.0, auc - 1.96 * error), min(1.0, auc + 1.96 * error)
    verdict = "can be told apart" if low > 0.5 else "cannot be told apart"
    message = f"window and reference {verdict} by all columns together: ROC AUC {auc:.3f} ({low:.3f} to {high:.3f})"
    if low > 0.5:
        unseen = unseen[:_NAMED_ROWS]
        names = tuple(np.array(list(shared))[_telling_columns(model, rows[unseen], label[unseen], seed)].tolist())
        message += f", most by {', '.join(names)}" if names else ""
    drifts = auc - SIGMA * error > 0.5 and auc >= LEAST_AUC
    cpu_s = round(time.process_time() - started, 3)
    return DomainClassifier(message, auc, low, high, negative + positive, cpu_s, drifts, names)


def _sample(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    if table.num_rows <= ROWS:
        return table
    return table.take(np.sort(rng.choice(table.num_rows, ROWS, replace=False)))


def _cross_validated(
    rows: Matrix, label: npt.NDArray[np.int64], seed: int
) -> tuple[float, HistGradientBoostingClassifier, npt.NDArray[np.int64]]:
    """The ROC AUC over all folds, the model of the last one, and the rows that it has not seen, in no order."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    score = np.empty(len(rows))
    for learn, unseen in StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(rows, label):
        # Levels are numbered by name, and few: as numbers they cost nothing and need no limit of 255.
        model = HistGradientBoostingClassifier(max_iter=_ROUNDS, early_stopping=False, random_state=seed)
        score[unseen] = model.fit(rows[learn], label[learn]).predict_proba(rows[unseen])[:, 1]
    return float(roc_auc_score(label, score)), model, np.random.default_rng(seed).permutation(unseen)


def _telling_columns(
    model: HistGradientBoostingClassifier, rows: Matrix, label: npt.NDArray[np.int64], seed: int
) -> list[int]:
    """Positions of the columns whose shuffling costs the ROC AUC most, the largest loss first."""
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(seed)
    whole = float(roc_auc_score(label, model.predict_proba(rows)[:, 1]))
    losses = []
    for own in range(rows.shape[1]):
        shuffled = rows.copy()
        shuffled[:, own] = random.permutation(shuffled[:, own])
        losses.append(whole - float(roc_auc_score(label, model.predict_proba(shuffled)[:, 1])))
    order = np.argsort(-np.array(losses), kind="stable")[:_NAMED]
    return [int(own) for own in order if losses[own] > _NAMED_LOSS * max(whole - 0.5, 0.0)]


def _error(auc: float, positive: int, negative: int) -> float:
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positive - 1) * (first - auc**2) + (negative - 1) * (second - auc**2)
    return float(np.sqrt(max(0.0, spread) / (positive * negative)))


def encode(reference: pa.Table, current: pa.Table, kinds: Mapping[str, Kind]) -> Matrix:
    """The rows of the reference, then of the window: numbers (NaN for infinite), levels as whole numbers by name."""
    return np.column_stack([_encode_column((reference[name], current[name]), kind) for name, kind in kinds.items()])


def _encode_column(sides: tuple[pa.ChunkedArray, pa.ChunkedArray], kind: Kind) -> Matrix:
    if kind is Kind.CATEGORY:
        levels = np.concatenate([side.to_pandas().map(str).to_numpy(dtype=object) for side in sides])
        return np.unique(levels, return_inverse=True)[1].astype(np.float64)
    values = np.concatenate([side.to_numpy().astype(np.float64) for side in sides])
    return np.where(np.isfinite(values), values, np.nan)


# -- outliers ------------------------------------------------------------------------------------------

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
    return np.asarray(rows[wrong])


def _by_range(reference: Reference, before: Matrix, names: list[str]) -> Callable[[Matrix], Flags]:
    low, high = np.array([reference.bounds[name] for name in names]).T
    return lambda rows: ((rows < low) | (rows > high)).any(axis=1)  # a missing value is neither


def _by_distance(reference: Reference, before: Matrix, names: list[str]) -> Callable[[Matrix], Flags]:
    middle = np.nanmean(np.where(np.isfinite(before), before, np.nan), axis=0)
    inverse = np.linalg.pinv(np.atleast_2d(np.cov(_filled(before, middle), rowvar=False)))

    def distance(rows: Matrix) -> Matrix:
        apart = _filled(rows, middle) - middle
        return np.asarray(np.einsum("ij,jk,ik->i", apart, inverse, apart))

    limit = np.quantile(distance(before), _QUANTILE)
    return lambda rows: _too_large(rows).any(axis=1) | (distance(rows) > limit)


def _by_isolation(reference: Reference, before: Matrix, names: list[str]) -> Callable[[Matrix], Flags]:
    from sklearn.ensemble import IsolationForest

    middle = np.nanmean(np.where(np.isfinite(before), before, np.nan), axis=0)
    forest = IsolationForest(n_estimators=100, random_state=0).fit(_filled(before, middle))
    limit = np.quantile(forest.score_samples(_filled(before, middle)), 1 - _QUANTILE)
    return lambda rows: _too_large(rows).any(axis=1) | (forest.score_samples(_filled(rows, middle)) < limit)


def _filled(rows: Matrix, middle: Matrix) -> Matrix:
    return np.asarray(np.where(np.isfinite(rows) & ~_too_large(rows), rows, middle))


def _too_large(rows: Matrix) -> Flags:
    """Numbers too large to be squared or for a tree's single precision; infinite ones are."""
    return np.asarray(np.abs(rows) > np.finfo(np.float32).max)


_METHODS: Mapping[str, Callable[[Reference, Matrix, list[str]], Callable[[Matrix], Flags]]] = {
    "range": _by_range,
    "mahalanobis": _by_distance,
    "isolation_forest": _by_isolation,
}
