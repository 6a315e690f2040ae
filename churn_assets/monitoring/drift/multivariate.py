"""All columns together: can a classifier tell the window from the reference? For information, never an alarm.

A shift of how columns go together leaves each column by itself unchanged, and a domain classifier finds it
(Lopez-Paz and Oquab 2017, classifier two-sample tests). ROC AUC .5 is no difference at all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Kind

if TYPE_CHECKING:
    import pyarrow as pa

Matrix = npt.NDArray[np.float64]
ROWS = 4000  # of each side
_FOLDS = 3
_ROUNDS = 40
_FEWEST = 100


@dataclass(frozen=True)
class DomainClassifier:
    """Cross-validated ROC AUC with its 95 % interval, `rows` of both sides, `cpu_s` that it took.

    None where it was not computed, and `message` says why. The interval is Hanley and McNeil's (1982).
    """

    message: str
    roc_auc: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int = 0
    cpu_s: float = 0.0


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
    before, after = _encode(sides[0], sides[1], shared)
    auc, error = _cross_validated(before, after, seed)
    low, high = max(0.0, auc - 1.96 * error), min(1.0, auc + 1.96 * error)
    verdict = "can be told apart" if low > 0.5 else "cannot be told apart"
    message = f"window and reference {verdict} by all columns together: ROC AUC {auc:.3f} ({low:.3f} to {high:.3f})"
    return DomainClassifier(message, auc, low, high, len(before) + len(after), round(time.process_time() - started, 3))


def _sample(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    if table.num_rows <= ROWS:
        return table
    return table.take(np.sort(rng.choice(table.num_rows, ROWS, replace=False)))


def _cross_validated(before: Matrix, after: Matrix, seed: int) -> tuple[float, float]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    rows = np.vstack([before, after])
    label = np.repeat([0, 1], [len(before), len(after)])
    score = np.empty(len(rows))
    for fit, held in StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(rows, label):
        # Levels are numbered by name, and few: as numbers they cost nothing and need no limit of 255.
        model = HistGradientBoostingClassifier(max_iter=_ROUNDS, early_stopping=False, random_state=seed)
        score[held] = model.fit(rows[fit], label[fit]).predict_proba(rows[held])[:, 1]
    auc = float(roc_auc_score(label, score))
    return auc, _error(auc, len(after), len(before))


def _error(auc: float, positive: int, negative: int) -> float:
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positive - 1) * (first - auc**2) + (negative - 1) * (second - auc**2)
    return float(np.sqrt(max(0.0, spread) / (positive * negative)))


def _encode(reference: pa.Table, current: pa.Table, kinds: Mapping[str, Kind]) -> tuple[Matrix, Matrix]:
    """Both sides with the same columns: numbers as they are (infinite as missing), levels as whole numbers."""
    sides: tuple[list[Matrix], list[Matrix]] = ([], [])
    for name, kind in kinds.items():
        for side, table in zip(sides, (reference, current), strict=True):
            if kind is Kind.CATEGORY:
                side.append(np.asarray(table[name].to_pandas().map(str).to_numpy(dtype=object)))
            else:
                values = table[name].to_numpy().astype(np.float64)
                side.append(np.where(np.isfinite(values), values, np.nan))
        if kind is Kind.CATEGORY:
            levels = {level: float(place) for place, level in enumerate(sorted({*sides[0][-1], *sides[1][-1]}))}
            for side in sides:
                side[-1] = np.array([levels[level] for level in side[-1]])
    return np.column_stack(sides[0]), np.column_stack(sides[1])
