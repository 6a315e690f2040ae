"""How far a column's values differ by label, and how columns go together: Cohen's d and Spearman's correlation."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MOST_COLUMNS = 16  # of a correlation matrix; more cannot be read


class EffectSize(msgspec.Struct, frozen=True):
    """Cohen's d of one column with its 95 % interval, positive where churned customers have the higher values. Of a
    category it is the d with the same association, which has no sign and no interval."""

    column: str
    d: float
    low: float | None
    high: float | None


class Correlations(msgspec.Struct, frozen=True):
    """Spearman's correlation of each pair of `columns`; None where a pair has no common rows or does not vary."""

    columns: list[str]
    values: list[list[float | None]]


def cohens_d(column: str, values: Floats, churned: Mask) -> EffectSize | None:
    """Difference of the means of churned and kept customers over the pooled standard deviation, missing values left
    out (Cohen, 1988); the interval is that of Hedges & Olkin (1985). None without two rows of each class, or if the
    values do not vary within them.

    >>> cohens_d("x", np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True])).d
    0.7071067811865475
    """
    known = ~np.isnan(values)
    groups = [values[known & (churned == label)] for label in (True, False)]
    first, second = (len(group) for group in groups)
    if min(first, second) < 2:
        return None
    total = first + second
    pooled = sum(float(group.var(ddof=1)) * (len(group) - 1) for group in groups) / (total - 2)
    if not pooled > 0.0:
        return None
    d = float(groups[0].mean() - groups[1].mean()) / math.sqrt(pooled)
    reach = 1.96 * math.sqrt(total / (first * second) + d * d / (2 * total))
    return EffectSize(column, d, d - reach, d + reach)


def d_of_association(column: str, association: float | None, churn_rate: float) -> EffectSize | None:
    """The d of a yes/no column with this correlation with the label (Borenstein et al., 2009), for a Cramer's V. None
    if there is none, or it is perfect."""
    if association is None or association >= 1.0 or not 0.0 < churn_rate < 1.0:
        return None
    spread = math.sqrt(churn_rate * (1.0 - churn_rate) * (1.0 - association**2))
    return EffectSize(column, association / spread, None, None)


def correlations(columns: Mapping[str, Floats]) -> Correlations:
    """Spearman's correlation of the first `MOST_COLUMNS` columns (n,), of the rows where both have a value."""
    names = list(columns)[:MOST_COLUMNS]
    ranked = {name: _ranks(columns[name]) for name in names}
    values: list[list[float | None]] = [[1.0 if i == j else None for j in range(len(names))] for i in range(len(names))]
    for i, first in enumerate(names):
        for j, second in enumerate(names[:i]):
            values[i][j] = values[j][i] = _correlation(columns[first], columns[second], ranked[first], ranked[second])
    return Correlations(names, values)


def _correlation(first: Floats, second: Floats, first_ranks: Floats, second_ranks: Floats) -> float | None:
    known = ~(np.isnan(first) | np.isnan(second))
    if not known.all():
        first_ranks, second_ranks = _ranks(first[known]), _ranks(second[known])
    if len(first_ranks) < 2 or not (first_ranks.std() > 0 and second_ranks.std() > 0):
        return None
    return float(np.corrcoef(first_ranks, second_ranks)[0, 1])


def _ranks(values: Floats) -> Floats:
    """Ranks from 1 (n,), equal values on their mean rank."""
    _, member, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2.0)[member])
