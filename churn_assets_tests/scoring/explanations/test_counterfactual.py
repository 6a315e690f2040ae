"""The smallest changes: against brute force over one and two columns, and what no change may ever do."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contract.model import Contract, Kind, Severity
from churn_assets.features.compile import compile_rules
from churn_assets.features.functions import FIRST_DAY, LAST_DAY
from churn_assets.scoring.explanations.counterfactual import Counterfactuals, CounterfactualSearch
from churn_assets.scoring.explanations.customer import Customer
from churn_assets.scoring.explanations.reference import Reference
from churn_assets.scoring.online import CustomerScorer
from churn_assets.scoring.scorer import Scorer, Thresholds
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, KINDS, customers, json_rows, scorer_of

DAY = float((dt.date.fromisoformat(AS_OF) - dt.date(1970, 1, 1)).days)
TRAINING = customers(1500, seed=9)
ROWS = json_rows(customers(200, seed=4))
FREE = {"lastorder": "any", "sent": "any", "spent": "any", "paperless": "any", "city": "any"}
MARKS = st.fixed_dictionaries(
    {"lastorder": st.sampled_from(["", "any", "up"]), "sent": st.sampled_from(["", "any", "up", "down"])}
    | {"spent": st.sampled_from(["", "any", "up", "down"])}
    | {name: st.sampled_from(["", "any"]) for name in ("paperless", "city")}
)


def contract_with(marks: dict[str, Any]) -> Contract:
    columns = tuple(dataclasses.replace(c, changeable=marks.get(c.name, "")) for c in CONTRACT.columns)
    return dataclasses.replace(CONTRACT, columns=columns)


@cache
def scorer_at(kind: str, threshold: float, marks: tuple[tuple[str, Any], ...]) -> tuple[Scorer, CounterfactualSearch]:
    thresholds = Thresholds({"profit": threshold}, "profit")
    scorer = dataclasses.replace(scorer_of(kind), thresholds=thresholds, contract=contract_with(dict(marks)))
    reference = Reference.of(scorer, TRAINING, AS_OF)
    return scorer, CounterfactualSearch(CustomerScorer(scorer), reference)


def changes_of(
    row: dict[str, Any], kind: str, threshold: float, marks: dict[str, Any], day: float = DAY
) -> tuple[Scorer, Customer, Counterfactuals]:
    scorer, search = scorer_at(kind, threshold, tuple(sorted(marks.items())))
    customer = Customer.read(search.scorer, row, AS_OF, day)
    return scorer, customer, search.search(customer, [])


def smallest_number(scorer: Scorer, customer: Customer) -> int | None:
    """How many columns brute force has to change: every value of a column with few, 40 of the others, in all pairs."""
    contract = scorer.contract
    reference = Reference.of(scorer, TRAINING, AS_OF).moved_to(customer.as_of)
    values: dict[str, np.ndarray] = {}
    for column in (c for c in contract.scoring_columns if c.changeable):
        own, known = float(customer.columns[column.name][0]), reference[column.name]
        known = known[~np.isnan(known.astype(float))]
        if column.kind is Kind.CATEGORY:
            allowed = np.arange(4.0)
        elif column.kind is Kind.BOOLEAN:
            allowed = np.arange(2.0)
        elif column.kind is Kind.INTEGER:
            allowed = np.arange(known.min(), known.max() + 1)
        else:
            allowed = np.random.default_rng(0).choice(known, 40)
        is_missing = np.isnan(own) or (column.kind is Kind.CATEGORY and own < 0)
        if column.changeable == "up" and not is_missing:
            allowed = allowed[allowed > own]
        if column.changeable == "down" and not is_missing:
            allowed = allowed[allowed < own]
        values[column.name] = allowed
    for count in (1, 2):
        for names in itertools.combinations(values, count):
            grids = [grid.ravel() for grid in np.meshgrid(*(values[name] for name in names))]
            if len(grids[0]) and brings_under(scorer, customer, dict(zip(names, grids, strict=True))):
                return count
    return None


def brings_under(scorer: Scorer, customer: Customer, changed: dict[str, np.ndarray]) -> bool:
    count = len(next(iter(changed.values())))
    columns = {name: np.repeat(own, count) for name, own in customer.columns.items()}
    columns |= {name: values.astype(columns[name].dtype) for name, values in changed.items()}
    under = scorer.score(columns, customer.as_of).probability < scorer.thresholds.value
    for rule in compile_rules(scorer.contract):
        under &= ~rule(columns, customer.as_of)
    return bool(under.any())


@settings(max_examples=60)
@given(
    row=st.sampled_from(ROWS),
    kind=st.sampled_from(KINDS),
    threshold=st.sampled_from([0.05, 0.15, 0.3, 0.5]),
    marks=MARKS,
)
def test_changes_are_allowed_enough_and_found_where_brute_force_finds_any(row, kind, threshold, marks):
    scorer, customer, told = changes_of(row, kind, threshold, marks)
    assert told.churn == (told.churn_probability >= threshold)
    if not told.churn:
        assert (told.status, told.counterfactuals) == ("below_threshold", [])
        return
    number = smallest_number(scorer, customer)
    assert told.status == ("changed" if told.counterfactuals else "none_found")
    if number is not None:
        assert told.counterfactuals, "brute force finds some"
        assert len(told.counterfactuals[0].changes) <= number
    for option in told.counterfactuals:
        changed = {**row, **{change.column: change.after for change in option.changes}}
        assert {name for name in row if changed[name] != row[name]} == {change.column for change in option.changes}
        assert all(marks[change.column] and change.before == row[change.column] for change in option.changes)
        again = scorer.score_rows([changed], DAY).probability[0]
        assert again < threshold
        assert again == pytest.approx(option.churn_probability, abs=1e-9)
        for change in option.changes:
            if marks[change.column] in ("up", "down") and change.before is not None:
                assert (change.after > change.before) == (marks[change.column] == "up")
        assert changed["lastorder"] is None or changed["created"] <= changed["lastorder"] <= AS_OF


def test_a_rule_that_only_warns_may_stay_broken_and_is_not_broken_anew():
    """No order before the customer is a rule of the tiny contract; here it warns."""
    rules = tuple(dataclasses.replace(rule, severity=Severity.WARN) for rule in CONTRACT.rules)
    contract = dataclasses.replace(contract_with({"lastorder": "any"}), rules=rules)
    scorer = dataclasses.replace(scorer_of("logistic"), contract=contract)
    search = CounterfactualSearch(CustomerScorer(scorer), Reference.of(scorer, TRAINING, AS_OF))
    row = {**ROWS[0], "created": "2012-01-01", "lastorder": "2013-01-01"}
    whole, broken = (
        Customer.read(search.scorer, {**row, "lastorder": day}, AS_OF, DAY) for day in ("2013-01-01", "2011-01-01")
    )
    early = {"lastorder": np.array([15000.0])}  # 2011-01-26
    assert search.probability(whole, early, 1)[0] == np.inf
    assert search.probability(broken, early, 1)[0] < 1.0


def test_dates_move_with_the_day_of_scoring():
    """A year later the training customers are taken a year later, so that a new order may be of that year."""
    row = {**ROWS[0], "created": "2012-01-01", "lastorder": "2012-06-01"}
    day = DAY + 365.0
    for kind in ("boosted", "logistic"):
        _, _, told = changes_of(row, kind, 0.01, {"lastorder": "any"}, day)
        for option in told.counterfactuals:
            assert "2012-01-01" <= str(option.changes[0].after) <= "2015-01-20"


@pytest.mark.parametrize("day", [FIRST_DAY + 200.0, LAST_DAY])
def test_no_change_is_a_date_beyond_the_calendar(day):
    row = {**ROWS[0], "lastorder": None}
    for kind in ("boosted", "logistic"):
        _, _, told = changes_of(row, kind, 0.01, {"lastorder": "any", "sent": "any"}, day)
        for change in (change for option in told.counterfactuals for change in option.changes):
            if change.column == "lastorder":
                dt.date.fromisoformat(str(change.after))


def test_the_smallest_change_of_a_number_is_smallest():
    """One step back and the customer is over the threshold again."""
    steps = 0
    for row in ROWS:
        scorer, _, told = changes_of(row, "boosted", 0.3, {"sent": "up"})
        for option in told.counterfactuals:
            (change,) = option.changes
            assert all(
                scorer.score_rows([{**row, "sent": sent}], DAY).probability[0] >= 0.3
                for sent in range(int(str(row["sent"])), int(str(change.after)))
            )
            steps += 1
    assert steps > 20


def test_without_a_changeable_column_there_is_no_change():
    row = next(row for row in ROWS if changes_of(row, "boosted", 0.3, {})[2].churn)
    _, _, told = changes_of(row, "boosted", 0.3, {})
    assert (told.status, told.counterfactuals, told.changeable) == ("none_found", [], [])
