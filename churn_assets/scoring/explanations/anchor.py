"""A rule of few conditions on columns that nearly always means the same decision: an anchor.

Ribeiro, Singh & Guestrin ("Anchors: High-precision model-agnostic explanations", AAAI 2018) sample customers around
the one explained. Here the rule speaks of customers as they are: the training customers of the bundle, as of the day of
scoring. A beam search over conditions that the customer fulfils looks at two fifths of them; what it proposes is
counted on the others, which it has not seen. The lower bound of the precision is Clopper's and Pearson's, at a
confidence shared among all rules that are counted for a customer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from churn_assets.contract.model import Column, Kind
from churn_assets.features.compile import Array
from churn_assets.features.encode import Columns
from churn_assets.scoring.explanations.customer import Cell, Customer, ExplainedCustomer, cell_value
from churn_assets.scoring.explanations.reference import DAYS_KEPT, Reference, known_values
from churn_assets.scoring.online import CustomerScorer, InputWarning

PRECISION = 0.95
CONFIDENCE = 0.95  # that the precision is at least the bound, whatever rules were counted for this customer
MOST_CONDITIONS = 6
_TRIES = 6  # rules counted for a customer; each has its share of 1 - CONFIDENCE
_WIDEST, _SUREST = 1, 1  # of one number of conditions: those with the most customers, and with the highest bounds
_SEARCHED = 0.4  # of the training customers
_BEAM = 24
_CUTS = 40  # quantiles of a number at which a condition may cut
_AWAY = (0, 1, 2, 4, 7, 11, 16, 22)  # cuts between the customer and a condition
_CAUTION = 1.5  # standard errors that a rule must be above PRECISION to be counted
_SEED = 42

Operator = Literal["=", "<=", ">=", "is missing"]
Masks = npt.NDArray[np.bool_]  # (rules or conditions, customers): which customers fulfil each


class Condition(Struct, frozen=True):
    """One condition on one column."""

    column: str
    operator: Operator
    value: Annotated[Cell, Meta(description="As in a request; null if the column is missing.")]


class Anchor(ExplainedCustomer, frozen=True, kw_only=True):
    """A rule: customers who fulfil all conditions get the same decision as this one."""

    status: Annotated[
        Literal["holds", "not_shown"],
        Meta(
            description="holds: precision_low is at least 0.95; not_shown: no rule was that precise, this is the best."
        ),
    ]
    conditions: list[Condition]
    precision: Annotated[float, Meta(description="Share of the counted customers with the same decision.")]
    precision_low: Annotated[float, Meta(description="Lower bound of the precision at `confidence`.")]
    confidence: float
    counted: Annotated[int, Meta(description="Training customers who fulfil the rule and did not help to find it.")]
    coverage: Annotated[float, Meta(description="Share of the training customers who fulfil the rule.")]


@dataclass(frozen=True)
class _Day:
    """The training customers (n,) as of one day: their cells, decisions, and the values at which to cut each column;
    `searched` of them, which come first, are for the search."""

    columns: Columns
    churn: npt.NDArray[np.bool_]
    cuts: dict[str, Array]
    searched: int


class AnchorSearch:
    """Searches for one Scorer; made once a bundle."""

    def __init__(self, scorer: CustomerScorer, reference: Reference) -> None:
        self._scorer, self._reference = scorer, reference
        # In another order: a table may be sorted, and both parts must be drawn from all of it.
        self._order = np.random.default_rng(_SEED).permutation(len(reference.as_of))
        contract = scorer.scorer.contract
        self._columns = [c for c in contract.scoring_columns if c.kind not in (Kind.ID, Kind.TEXT)]
        self._day = lru_cache(maxsize=DAYS_KEPT)(self._make_day)

    def search(self, customer: Customer, warnings: list[InputWarning]) -> Anchor:
        """The rule of fewest conditions whose precision is shown to be at least `PRECISION`, else the best."""
        day = self._day(customer.as_of)
        same = day.churn == customer.score.churn
        conditions, masks = self._conditions(customer, day)
        allowance = (1.0 - CONFIDENCE) / _TRIES
        best: tuple[float, list[int], int, int] = (-1.0, [], 0, 0)
        for rule in _proposed(conditions, masks[:, : day.searched], same[: day.searched]):
            fulfilled = masks[rule, day.searched :].all(axis=0)
            counted, right = int(fulfilled.sum()), int((fulfilled & same[day.searched :]).sum())
            low = lower_bound(right, counted, allowance)
            if low > best[0]:
                best = (low, rule, counted, right)
            if low >= PRECISION:
                break
        low, rule, counted, right = best
        return Anchor(
            **customer.facts(warnings),
            status="holds" if low >= PRECISION else "not_shown",
            conditions=[conditions[i] for i in rule],
            precision=right / counted if counted else 0.0,
            precision_low=max(low, 0.0),
            confidence=CONFIDENCE,
            counted=counted,
            coverage=float(masks[rule].all(axis=0).mean()) if rule else 1.0,
        )

    def _make_day(self, as_of: float) -> _Day:
        columns = {name: values[self._order] for name, values in self._reference.moved_to(as_of).items()}
        scorer = self._scorer.scorer
        churn = np.zeros(len(self._order), dtype=np.bool_)
        if not scorer.no_signal:
            churn = scorer.score(columns, as_of).probability >= scorer.thresholds.value
        searched = int(_SEARCHED * len(self._order))
        cuts = {
            column.name: _cuts(column, known_values(column, columns[column.name][:searched]))
            for column in self._columns
            if column.kind not in (Kind.CATEGORY, Kind.BOOLEAN)
        }
        return _Day(columns, churn, cuts, searched)

    def _conditions(self, customer: Customer, day: _Day) -> tuple[list[Condition], Masks]:
        """Conditions that the customer fulfils, and which training customers do."""
        conditions, masks = [], []
        for column in self._columns:
            own, values = float(customer.columns[column.name][0]), day.columns[column.name]
            missing = values < 0 if column.kind is Kind.CATEGORY else np.isnan(values)
            if cell_value(column, own) is None:
                conditions.append(Condition(column.name, "is missing", None))
                masks.append(missing)
            elif column.name not in day.cuts:
                conditions.append(Condition(column.name, "=", cell_value(column, own)))
                masks.append(values == own)
            else:
                cuts = day.cuts[column.name]
                for cut in _chosen(cuts[cuts >= own]):
                    conditions.append(Condition(column.name, "<=", cell_value(column, cut)))
                    masks.append(values <= cut)
                for cut in _chosen(cuts[cuts <= own][::-1]):
                    conditions.append(Condition(column.name, ">=", cell_value(column, cut)))
                    masks.append(values >= cut)
        return conditions, np.array(masks, dtype=np.bool_).reshape(len(conditions), len(day.churn))


def _cuts(column: Column, known: Array) -> Array:
    """Values at which to cut a column: quantiles, as they would be written."""
    if not len(known):
        return known
    cuts = known[np.linspace(0, len(known) - 1, _CUTS + 1).astype(np.int64)]
    return np.unique([float(f"{cut:.4g}") for cut in cuts] if column.kind is Kind.NUMBER else cuts)


def _chosen(cuts: Array) -> Array:
    """Those of the cuts, the nearest first, that are `_AWAY`."""
    return cuts[[i for i in _AWAY if i < len(cuts)]]


def _proposed(conditions: list[Condition], masks: Masks, same: npt.NDArray[np.bool_]) -> Iterator[list[int]]:
    """Rules worth to be counted, at most `_TRIES`: those with fewer conditions first, then those that more customers
    fulfil. The last is the best of all, should none be precise enough."""
    weights, tries = masks.astype(np.float32), 0
    beam: list[list[int]] = [[]]
    best: tuple[float, list[int]] = (-math.inf, [])
    for _ in range(min(MOST_CONDITIONS, len(conditions))):
        held = np.array([masks[rule].all(axis=0) for rule in beam])  # of no condition: everybody
        counts = (held.astype(np.float32) @ weights.T).astype(np.float64)  # (beam, conditions)
        right = ((held & same).astype(np.float32) @ weights.T).astype(np.float64)
        low = _cautious(right, counts)
        for number, rule in enumerate(beam):
            taken = {(conditions[i].column, conditions[i].operator) for i in rule}
            low[number, [(c.column, c.operator) in taken for c in conditions]] = -math.inf
        order = np.argsort(-low, axis=None, kind="stable")
        grown: dict[tuple[int, ...], tuple[float, float]] = {}
        for place in order[: _BEAM * 4]:
            number, condition = divmod(int(place), len(conditions))
            if low[number, condition] == -math.inf or len(grown) == _BEAM:
                break
            key = tuple(sorted([*beam[number], condition]))
            grown.setdefault(key, (float(low[number, condition]), float(counts[number, condition])))
        if not grown:
            break
        first = next(iter(grown))
        if grown[first][0] > best[0]:
            best = grown[first][0], list(first)
        precise = [key for key in grown if grown[key][0] >= PRECISION]  # the most precise first
        widest = sorted(precise, key=lambda key: -grown[key][1])
        for key in dict.fromkeys([*widest[:_WIDEST], *precise[:_SUREST]]):
            if tries < _TRIES - 1:
                tries += 1
                yield list(key)
        beam = [list(key) for key in grown]
    if best[1]:
        yield best[1]


def _cautious(right: Array, counts: Array) -> Array:
    """Wilson's lower bounds of shares, `_CAUTION` standard errors below; -inf where nobody is counted."""
    n, z2 = np.maximum(counts, 1.0), _CAUTION**2
    share = right / n
    low = (share + z2 / (2 * n) - _CAUTION * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return np.where(counts > 0, low, -math.inf)


def lower_bound(right: int, counted: int, allowance: float) -> float:
    """The lower bound of a share, of which `right` of `counted` were seen: with a probability of at most `allowance` it
    is above the true one (Clopper & Pearson, 1934: exact, whatever the share).

    >>> [round(lower_bound(right, 500, 0.01), 3) for right in (500, 490, 400)], lower_bound(0, 0, 0.01)
    ([0.991, 0.96, 0.755], 0.0)
    """
    if not right:
        return 0.0
    missed = np.arange(counted - right + 1)
    ways = np.concatenate([[0.0], np.cumsum(np.log((counted - missed[:-1]) / missed[1:]))])  # log of n over missed
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2.0
        terms = ways + missed * math.log1p(-middle) + (counted - missed) * math.log(middle)
        largest = float(terms.max())
        if largest + math.log(float(np.exp(terms - largest).sum())) < math.log(allowance):
            low = middle  # so few would be missed too seldom: the share is larger
        else:
            high = middle
    return low
