"""The smallest changes of a customer that bring the score under the threshold.

Only columns that the contract calls `changeable` are changed, in the direction that it allows, within its bounds and
within the values of training customers; no rule may break that held before, and a date is not moved past the day of
scoring. Wachter, Mittelstadt & Russell ("Counterfactual explanations without opening the black box", 2017) ask for the
closest such point; few changed columns are what a person can act on, so their number counts first and then the size.

The search scores candidates, whatever the model is: every value of a column with few of them, else quantiles of the
training customers and evenly spread values. It tries one column, then every pair of columns, the smaller changes first,
each on a coarse grid and then on a finer one; then more columns, one after the other from the best pair. What is left
is shrunk towards the customer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from churn_assets.contract.model import Severity
from churn_assets.errors import RowsRejected
from churn_assets.features.compile import Array, compile_rules
from churn_assets.features.encode import Columns
from churn_assets.scoring.explanations.customer import Cell, Customer, ExplainedCustomer, cell_value
from churn_assets.scoring.explanations.reference import Reference, ReferenceDays
from churn_assets.scoring.explanations.value_range import ValueRange
from churn_assets.scoring.online import CustomerScorer, InputWarning

COARSE, FINE, DENSE = 48, 160, 2048  # values of one column; the most are tried for one column alone
ALTERNATIVES = 3
_FIRST, _LARGEST = 256, 8192  # candidates scored at a time, more and more
_SHRINKING, _STEPS = 3, 32  # each time to a 32nd of the distance
_TRIES = 3  # of candidates that are enough, should the last bit of one differ

Status = Literal["changed", "below_threshold", "none_found"]
Choices = npt.NDArray[np.int16]  # (n, columns): the number of a value of each axis, 0 is the customer's own


class Change(Struct, frozen=True):
    """One column that is changed, with its values as a request has them."""

    column: str
    before: Cell
    after: Cell


class Counterfactual(Struct, frozen=True):
    """Changes that bring the score under the threshold, and the probability that they give."""

    changes: list[Change]
    churn_probability: float
    size: Annotated[float, Meta(description="The sum over the changed columns, each from 0 to 1.")]


class Counterfactuals(ExplainedCustomer, frozen=True, kw_only=True):
    """The smallest changes that bring a customer under the threshold."""

    status: Annotated[
        Status, Meta(description="below_threshold: nothing to change; none_found: no change that was tried is enough.")
    ]
    counterfactuals: Annotated[list[Counterfactual], Meta(description="At most 3, of different columns; best first.")]
    changeable: Annotated[list[str], Meta(description="Columns that may change; every other one stays as it is.")]


class CounterfactualSearch:
    """Searches for one Scorer; made once a bundle."""

    def __init__(self, scorer: CustomerScorer, reference: Reference) -> None:
        self.scorer = scorer
        self._days = ReferenceDays(reference)
        contract = scorer.scorer.contract
        self._changeable = [column for column in contract.scoring_columns if column.changeable]
        self._rules = compile_rules(contract)
        self._severity = {rule.name: rule.severity for rule in contract.rules}

    def search(self, customer: Customer, warnings: list[InputWarning]) -> Counterfactuals:
        """The smallest changes of a customer."""
        options = self._options(customer) if customer.score.churn else []
        status: Status = "changed" if options else "none_found" if customer.score.churn else "below_threshold"
        names = [column.name for column in self._changeable]
        return Counterfactuals(**customer.facts(warnings), status=status, counterfactuals=options, changeable=names)

    def probability(self, customer: Customer, changed: Mapping[str, Array], count: int) -> Array:
        """Probabilities (n,) of the customer with these values (n,) in some columns; infinite where a rule breaks that
        must hold: one that rejects, or one that held before."""
        columns: Columns = {name: np.repeat(values, count) for name, values in customer.columns.items()}
        columns |= {name: values.astype(columns[name].dtype) for name, values in changed.items()}
        scorer, as_of = self.scorer.scorer, customer.as_of
        probability = scorer.calibration.apply(scorer.model.margin(scorer.features(columns, as_of)))
        for rule in self._rules:
            is_broken = rule(columns, as_of)
            must_hold = self._severity[rule.name] is Severity.REJECT or not rule(customer.columns, as_of)[0]
            if must_hold and is_broken.any():
                probability = np.where(is_broken, np.inf, probability)
        return np.where(np.isnan(probability), np.inf, probability)

    def _options(self, customer: Customer) -> list[Counterfactual]:
        reference = self._days.at(customer.as_of)
        ranges = [
            ValueRange.of(column, float(customer.columns[column.name][0]), reference, customer.as_of)
            for column in self._changeable
        ]
        coarse = Candidates(self, customer, ranges, COARSE)
        options = coarse.alone() or Candidates(self, customer, ranges, DENSE).alone()
        if not options:
            option = coarse.pair() or Candidates(self, customer, ranges, FINE).pair() or coarse.several()
            options = [] if option is None else [option]
        return sorted(options, key=lambda option: (len(option.changes), option.size))[:ALTERNATIVES]


class Candidates:
    """Changed customers on a grid of at most `count` values of each changeable column."""

    def __init__(
        self, search: CounterfactualSearch, customer: Customer, ranges: Sequence[ValueRange], count: int
    ) -> None:
        self._search, self._customer, self._ranges = search, customer, ranges
        self._threshold = search.scorer.scorer.thresholds.value
        self._values = [np.concatenate([[each.own], each.values(count)]) for each in ranges]
        self._sizes = [each.sizes(values) for each, values in zip(ranges, self._values, strict=True)]
        self._best = np.zeros(len(ranges), dtype=np.int16)  # of all pairs: the one with the lowest probability

    def alone(self) -> list[Counterfactual]:
        """For each column that is enough alone, its smallest change."""
        choices = self._steps_from(np.zeros(len(self._ranges), dtype=np.int16))
        under = self._probability(choices) < self._threshold
        sizes = self._size(choices)
        options = []
        for column in range(len(self._ranges)):
            own = np.flatnonzero(under & (choices[:, column] > 0))
            if len(own):
                options.append(self._finished(choices[own[np.argmin(sizes[own])]]))
        return [option for option in options if option is not None]

    def pair(self) -> Counterfactual | None:
        """The smallest change of two columns that is enough; None if none is."""
        parts = []
        for one, other in itertools.combinations(range(len(self._ranges)), 2):
            first, second = (np.arange(1, len(self._values[axis]), dtype=np.int16) for axis in (one, other))
            part = np.zeros((len(first) * len(second), len(self._ranges)), dtype=np.int16)
            part[:, one], part[:, other] = np.repeat(first, len(second)), np.tile(second, len(first))
            parts.append(part)
        if not parts:
            return None
        choices = np.concatenate(parts)
        choices = choices[np.argsort(self._size(choices), kind="stable")]
        lowest = math.inf
        for part in _growing(choices):
            probability = self._probability(part)
            for row in np.flatnonzero(probability < self._threshold)[:_TRIES]:  # they ascend by size
                if (option := self._finished(part[row])) is not None:
                    return option
            if len(part) and probability.min() < lowest:
                lowest, self._best = float(probability.min()), part[np.argmin(probability)]
        return None

    def several(self) -> Counterfactual | None:
        """Changes of more columns, from the best pair on the column that lowers the probability most, again and
        again; None if that is never enough."""
        choice, lowest = self._best, math.inf
        while True:
            choices = self._steps_from(choice)
            probability = self._probability(choices)
            if not len(choices) or not probability.min() < lowest:
                return None
            lowest = float(probability.min())
            if lowest < self._threshold:
                under = np.flatnonzero(probability < self._threshold)
                return self._finished(choices[under[np.argmin(self._size(choices[under]))]])
            choice = choices[np.argmin(probability)]

    def _finished(self, choice: Choices) -> Counterfactual | None:
        """A choice, shrunk and scored as /predict does; None if that is not under the threshold, which may be where
        the two ways to score differ in the last bit."""
        customer, scorer = self._customer, self._search.scorer
        plain = [float(values[i]) for values, i in zip(self._values, choice, strict=True)]
        for chosen in (self._shrunk(plain), plain):
            changes = [
                Change(each.column.name, customer.row.get(each.column.name), cell_value(each.column, value))
                for each, value in zip(self._ranges, chosen, strict=True)
                if not _is_same(value, each.own)
            ]
            row = {**customer.row, **{change.column: change.after for change in changes}}
            try:
                score = scorer.score(row, customer.as_of)
            except RowsRejected:  # a rule that fails by the last bit
                continue
            if not score.churn:
                sizes = (float(r.sizes(np.array([x]))[0]) for r, x in zip(self._ranges, chosen, strict=True))
                return Counterfactual(changes, score.probability, sum(sizes))
        return None

    def _shrunk(self, chosen: list[float]) -> list[float]:
        """Each changed value as near to the customer's own as the others let it be."""
        chosen = list(chosen)
        for column, each in enumerate(self._ranges):
            start = each.own
            if _is_same(chosen[column], start):
                continue
            for _ in range(_SHRINKING):
                values = np.concatenate([[start], each.between(start, chosen[column], _STEPS)])
                values = values[np.argsort(each.sizes(values), kind="stable")]
                changed = {r.column.name: np.full(len(values), x) for r, x in zip(self._ranges, chosen, strict=True)}
                changed[each.column.name] = values
                probability = self._search.probability(self._customer, changed, len(values))
                under = np.flatnonzero(probability < self._threshold)
                if not len(under):
                    break
                chosen[column] = float(values[under[0]])
                if under[0] == 0:
                    break
                start = float(values[under[0] - 1])
        return chosen

    def _steps_from(self, choice: Choices) -> Choices:
        """The choice with each other value of each column."""
        parts = []
        for column, values in enumerate(self._values):
            part = np.repeat(choice[None, :], len(values), axis=0)
            part[:, column] = np.arange(len(values), dtype=np.int16)
            parts.append(part[part[:, column] != choice[column]])
        return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.int16)

    def _probability(self, choices: Choices) -> Array:
        changed = {
            each.column.name: values[choices[:, column]]
            for column, (each, values) in enumerate(zip(self._ranges, self._values, strict=True))
            if choices[:, column].any()
        }
        return self._search.probability(self._customer, changed, len(choices))

    def _size(self, choices: Choices) -> Array:
        total = np.zeros(len(choices))
        for column, sizes in enumerate(self._sizes):
            total += sizes[choices[:, column]]
        return total


def _growing(choices: Choices) -> Iterator[Choices]:
    """The choices in parts, the first ones small."""
    start, count = 0, _FIRST
    while start < len(choices):
        yield choices[start : start + count]
        start, count = start + count, min(2 * count, _LARGEST)


def _is_same(value: float, other: float) -> bool:
    return value == other or (math.isnan(value) and math.isnan(other))
