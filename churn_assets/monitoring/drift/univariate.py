"""The drift rule: a column drifts when its change is significant and large enough to matter.

    p < significance / columns tested   AND   effect >= limit

p-values are Bonferroni-corrected over the columns of the window. With thousands of rows any harmless difference is
significant, so the effect has to reach the contract's `monitoring.effect` too; docs/monitoring.md has the tests and
effects by kind of column. The rows must be distinct customers: repeated ones make the p-values worthless. Every measure
that users know is computed for each column it applies to; only the two above decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from churn_assets.contract.limits import Monitoring
from churn_assets.contract.model import Kind
from churn_assets.monitoring.profile import POSITIVE_RATE, SCORE, ColumnValues

# The Wasserstein distance of the score is in units of 0.3 instead of the reference's deviation: the
# same shift in probability is then the same effect for every model, and .05 is .167, over the default .1.
SCORE_UNIT = 0.3
FEWEST_VALUES = 100  # of a column, below which neither test says much
TESTED_KINDS = frozenset({Kind.NUMBER, Kind.INTEGER, Kind.BOOLEAN, Kind.CATEGORY})

Floats = npt.NDArray[np.float64]

BINS = 10  # deciles of the reference, as the population stability index is usually read
_EMPTY_SHARE = 1e-4  # an empty bin would make the index infinite
_CLIPPED = 0.01  # of the values on each side, for the spread
_EXPECTED = 5.0  # below this many expected rows chi-square is not chi-square distributed: Cochran (1954)


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Measures between a reference and a window; None where one does not apply.

    `psi` population stability index (Siddiqi 2006); `ks` two-sample Kolmogorov-Smirnov and its asymptotic
    p-value; `chi_square` two-sample test of homogeneity; `wasserstein` first Wasserstein distance in `spread_of`
    the reference; `jensen_shannon` square root of the divergence in nats (Lin 1991,
    Endres and Schindelin 2003), 0 to 0.83. `reference_values` and `values` count the values compared.
    Kolmogorov-Smirnov and Wasserstein need an order, chi-square needs levels.
    """

    reference_values: int = 0
    values: int = 0
    psi: float | None = None
    ks: float | None = None
    ks_p: float | None = None
    chi_square: float | None = None
    chi_square_p: float | None = None
    wasserstein: float | None = None
    jensen_shannon: float | None = None


@dataclass(frozen=True, kw_only=True)
class ColumnDrift(Distances):
    """One column of one window against the reference, with every measure that applies.

    `status` is 'unknown' where the column could not be tested, and `message` says why. `check` is the test that
    decided with `p_value`, `effect` the distance `effect_measure`; all four are None where nothing was tested.
    """

    column: str
    kind: str
    status: Literal["stable", "drift", "unknown"]
    message: str
    check: Literal["ks", "chi_square"] | None = None
    p_value: float | None = None
    effect_measure: Literal["wasserstein", "jensen_shannon"] | None = None
    effect: float | None = None


def detect_drift(
    reference: Mapping[str, ColumnValues], current: Mapping[str, ColumnValues], limits: Monitoring
) -> list[ColumnDrift]:
    """Apply the rule to every column of `reference`; one that cannot be tested hides no other. Columns of
    `limits.silent` are left out by the caller. Raises nothing: a result says what is missing."""
    measured = {name: _measure(name, side, current.get(name)) for name, side in reference.items()}
    tested = sum(isinstance(distances, Distances) for distances in measured.values())
    return [
        ColumnDrift(column=name, kind=reference[name].kind, status="unknown", message=distances)
        if isinstance(distances, str)
        else _decide(name, reference[name].kind, distances, limits, tested)
        for name, distances in measured.items()
    ]


def drifting_columns(results: Sequence[ColumnDrift]) -> tuple[str, ...]:
    """Names of the columns that drift, in the order given."""
    return tuple(result.column for result in results if result.status == "drift")


def _measure(name: str, reference: ColumnValues, current: ColumnValues | None) -> Distances | str:
    """The distances, or why there are none."""
    if current is None:
        return "the log has no such column"
    if reason := _too_few(reference, current):
        return reason
    if reference.levels is not None and current.levels is not None:
        return compare_levels(reference.levels, current.levels)
    if reference.numbers is not None and current.numbers is not None:
        return compare_numbers(reference.numbers, current.numbers, SCORE_UNIT if name == SCORE else None)
    return f"the reference holds {reference.kind}, the window {current.kind}"


def _too_few(reference: ColumnValues, current: ColumnValues) -> str:
    """Which side has too few values to be compared; '' if none has."""
    for side, values in (("reference", reference), ("window", current)):
        if values.count < FEWEST_VALUES:
            return f"the {side} has {values.count:,} values, expected at least {FEWEST_VALUES}"
    return ""


def _decide(name: str, kind: str, distances: Distances, limits: Monitoring, tested: int) -> ColumnDrift:
    ordered = distances.ks_p is not None
    p_value = distances.ks_p if distances.ks_p is not None else distances.chi_square_p
    effect = distances.wasserstein if ordered else distances.jensen_shannon
    assert p_value is not None  # either test was made
    assert effect is not None
    level = limits.significance / tested
    drifts = p_value < level and effect >= limits.effect
    subject = {SCORE: "the score", POSITIVE_RATE: "the predicted positive rate"}.get(name, f"'{name}'")
    figures = f"effect {effect:.3f}, limit {limits.effect:g}; p {p_value:.2g}, limit {level:.2g}"
    return ColumnDrift(
        **vars(distances),
        column=name,
        kind=kind,
        status="drift" if drifts else "stable",
        message=f"{subject} {'drifts' if drifts else 'is stable'}: {figures}",
        check="ks" if ordered else "chi_square",
        p_value=p_value,
        effect_measure="wasserstein" if ordered else "jensen_shannon",
        effect=effect,
    )


# -- distances -----------------------------------------------------------------------------------------


def compare_numbers(reference: Floats, current: Floats, scale: float | None = None) -> Distances:
    """Two samples of finite numbers, any order, at least one value each. `scale` divides the Wasserstein distance; None
    takes `spread_of(reference)`."""
    from scipy import stats

    test = stats.ks_2samp(reference, current, method="asymp")
    before, after = _binned(reference, current)
    return Distances(
        reference_values=len(reference),
        values=len(current),
        psi=_psi(before, after),
        ks=float(test.statistic),
        ks_p=float(test.pvalue),
        wasserstein=_wasserstein(reference, current, scale or spread_of(reference)),
        jensen_shannon=_jensen_shannon(before, after),
    )


def spread_of(values: Floats) -> float:
    """Standard deviation with the outermost percent on each side clipped (Winsorised; Tukey 1962); 1 if it is 0. A
    heavy tail makes the plain deviation so large that a quarter more of everything is a small effect."""
    low, high = np.quantile(values, [_CLIPPED, 1 - _CLIPPED])
    largest = float(np.abs(values).max()) or 1.0  # divided out, so that no square is beyond what a float holds
    clipped = float(np.clip(values / largest, low / largest, high / largest).std())
    return (clipped or float((values / largest).std())) * largest or 1.0


def compare_levels(reference: Mapping[str, int], current: Mapping[str, int]) -> Distances:
    """Two counts by level; a level that one side lacks counts 0 there. At least one row each."""
    names = sorted({*reference, *current})
    before, after = (np.array([side.get(name, 0.0) for name in names]) for side in (reference, current))
    statistic, p_value = _homogeneity(before, after)
    return Distances(
        reference_values=int(before.sum()),
        values=int(after.sum()),
        psi=_psi(before, after),
        chi_square=statistic,
        chi_square_p=p_value,
        jensen_shannon=_jensen_shannon(before, after),
    )


def _binned(reference: Floats, current: Floats) -> tuple[Floats, Floats]:
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    places = len(edges) + 1
    # A value that equals an edge falls below it on both sides, so that a column of few values has bins too.
    counts = [np.bincount(np.searchsorted(edges, side, side="left"), minlength=places) for side in (reference, current)]
    return counts[0].astype(np.float64), counts[1].astype(np.float64)


def _wasserstein(reference: Floats, current: Floats, scale: float) -> float:
    from scipy import stats

    with np.errstate(over="ignore"):
        distance = float(stats.wasserstein_distance(reference / scale, current / scale))
    return float(np.nan_to_num(distance))  # the largest number instead of infinity, which JSON does not know


def _psi(before: Floats, after: Floats) -> float:
    expected, actual = (np.maximum(side / side.sum(), _EMPTY_SHARE) for side in (before, after))
    return float(((actual - expected) * np.log(actual / expected)).sum())


def _jensen_shannon(before: Floats, after: Floats) -> float:
    from scipy.spatial.distance import jensenshannon

    distance: Any = jensenshannon(before, after)
    return float(np.nan_to_num(distance))  # rounding can leave the root of -1e-17


def _without_rare_levels(before: Floats, after: Floats) -> Floats:
    """Both counts (2, levels), rare levels together as one."""
    total = before + after
    rare = total * min(before.sum(), after.sum()) / total.sum() < _EXPECTED
    table = np.array([before[~rare], after[~rare]])
    if total[rare].sum() > 0:
        table = np.column_stack([table, [before[rare].sum(), after[rare].sum()]])
    return table


def _homogeneity(before: Floats, after: Floats) -> tuple[float, float]:
    from scipy import stats

    table = _without_rare_levels(before, after)
    if table.shape[1] < 2:
        return 0.0, 1.0
    result = stats.chi2_contingency(table, correction=False)
    return float(result.statistic), float(result.pvalue)
