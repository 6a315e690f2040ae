"""The one rule that decides whether a column drifts: significant, and large enough to matter.

    p < significance / columns tested   AND   effect >= limit

Numbers and the score are tested by two-sample Kolmogorov-Smirnov, categories, booleans and the predicted
positive rate by two-sample chi-square; p-values are Bonferroni-corrected over the columns of the window.
With thousands of rows any harmless difference is significant, so the effect has to reach the contract's
`monitoring.effect` too: Wasserstein distance in standard deviations for numbers, Jensen-Shannon distance
for the others. The rows must be distinct customers: repeated ones make the p-values worthless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from churn_assets.contract.model import Kind
from churn_assets.contract.policy import Monitoring
from churn_assets.monitoring.drift.statistics import Distances, of_levels, of_numbers
from churn_assets.monitoring.windows.profile import POSITIVE_RATE, SCORE, Observed

# The Wasserstein distance of the score is told in units of 0.3 instead of the reference's deviation: the
# same shift in probability is then the same effect for every model, and .05 is .167, over the default .1.
SCORE_UNIT = 0.3
FEWEST_VALUES = 100  # of a column, below which neither test says much
DRIFT, STABLE = "drift", "stable"
TESTED_KINDS = frozenset({Kind.NUMBER, Kind.INTEGER, Kind.BOOLEAN, Kind.CATEGORY})


@dataclass(frozen=True)
class Judged:
    """One column of one window. `drifts` is None where nothing is concluded, and `words` says why."""

    column: str
    kind: str
    drifts: bool | None
    words: str
    distances: Distances | None = None
    test: str = ""
    p_value: float | None = None
    effect_measure: str = ""
    effect: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Flat, for tables: what decided first, then every measure; None is 'not applicable'."""
        told = self.distances
        measures = ("psi", "ks", "ks_p", "chi_square", "chi_square_p", "wasserstein", "jensen_shannon")
        return {
            "column": self.column,
            "kind": self.kind,
            "drifts": self.drifts,
            "test": self.test or None,
            "p_value": self.p_value,
            "effect_measure": self.effect_measure or None,
            "effect": self.effect,
            **{name: getattr(told, name) if told else None for name in measures},
            "values": told.rows if told else 0,
            "reference_values": told.reference_rows if told else 0,
            "words": self.words,
        }


def judge(reference: Mapping[str, Observed], current: Mapping[str, Observed], limits: Monitoring) -> list[Judged]:
    """A verdict on every column of `reference` that may alarm; one that cannot be tested hides no other.

    Columns of `limits.silent` are left out by the caller. Raises nothing: what is missing is said.
    """
    measured = {name: _measure(name, side, current.get(name)) for name, side in reference.items()}
    tested = sum(isinstance(found, Distances) for found in measured.values())
    return [
        Judged(name, reference[name].kind, None, found)
        if isinstance(found, str)
        else _decide(name, reference[name].kind, found, limits, tested)
        for name, found in measured.items()
    ]


def drifted(judged: Sequence[Judged]) -> list[str]:
    """Names of the columns that drift, in the order given."""
    return [one.column for one in judged if one.drifts]


def _measure(name: str, reference: Observed, current: Observed | None) -> Distances | str:
    if current is None:
        return "the log has no such column"
    for side, found in (("reference", reference), ("window", current)):
        if found.values < FEWEST_VALUES:
            return f"the {side} has {found.values:,} values, expected at least {FEWEST_VALUES}"
    if reference.levels is not None and current.levels is not None:
        return of_levels(reference.levels, current.levels)
    if reference.numbers is not None and current.numbers is not None:
        return of_numbers(reference.numbers, current.numbers, SCORE_UNIT if name == SCORE else None)
    return f"the reference holds {reference.kind}, the window {current.kind}"


def _decide(name: str, kind: str, found: Distances, limits: Monitoring, tested: int) -> Judged:
    ordered = found.ks_p is not None
    p_value = found.ks_p if found.ks_p is not None else found.chi_square_p
    effect = found.wasserstein if ordered else found.jensen_shannon
    assert p_value is not None  # either test was made
    assert effect is not None
    level = limits.significance / tested
    drifts = p_value < level and effect >= limits.effect
    measure = "wasserstein" if ordered else "jensen_shannon"
    what = {SCORE: "the score", POSITIVE_RATE: "the predicted positive rate"}.get(name, f"'{name}'")
    said = f"effect {effect:.3f}, limit {limits.effect:g}; p {p_value:.2g}, limit {level:.2g}"
    words = f"{what} {'drifts' if drifts else 'holds'}: {said}"
    return Judged(name, kind, drifts, words, found, "ks" if ordered else "chi_square", p_value, measure, effect)
