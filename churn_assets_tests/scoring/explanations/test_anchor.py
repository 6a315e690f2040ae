"""Rules: their bounds hold on customers that neither search nor bound has seen."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.features.encode import encode_table
from churn_assets.features.functions import FIRST_DAY, LAST_DAY
from churn_assets.scoring.explanations.anchor import PRECISION, Anchor, AnchorSearch, Condition, lower_bound
from churn_assets.scoring.explanations.customer import Customer, cell_value
from churn_assets.scoring.explanations.reference import Reference
from churn_assets.scoring.online import CustomerScorer
from churn_assets_tests.scoring.explanations.test_counterfactual import DAY
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, customers, json_rows, scorer_of

ROWS = json_rows(customers(60, seed=4))
FRESH = customers(20_000, seed=77)


@cache
def search_of(kind: str) -> AnchorSearch:
    scorer = scorer_of(kind)
    return AnchorSearch(CustomerScorer(scorer), Reference.of(scorer, customers(6000, seed=9), AS_OF))


def anchor_of(kind: str, row: dict[str, object], day: float = DAY) -> Anchor:
    scorer = CustomerScorer(scorer_of(kind))
    return search_of(kind).search(Customer.read(scorer, row, AS_OF, day), [])


@cache
def fresh_decisions(kind: str) -> np.ndarray:
    scorer = scorer_of(kind)
    return scorer.score_table(FRESH, AS_OF).probability >= scorer.thresholds.value


def fulfils(condition: Condition, values: np.ndarray) -> np.ndarray:
    """Which of the values, as a request has them, fulfil a condition."""
    match condition.operator:
        case "is missing":
            return np.array([value is None for value in values])
        case "=":
            return np.array([value == condition.value for value in values])
        case "<=":
            return np.array([value is not None and value <= condition.value for value in values])
    return np.array([value is not None and value >= condition.value for value in values])


@pytest.mark.parametrize("kind", ["boosted", "logistic"])
def test_bounds_hold_on_fresh_customers(kind):
    """95 % confidence each, shared among six: of some fifty rules one may fail, and two hardly ever do."""
    encoded = encode_table(CONTRACT, FRESH)
    cells = {
        column.name: np.array([cell_value(column, float(x)) for x in encoded[column.name]], dtype=object)
        for column in CONTRACT.scoring_columns
    }
    shown, broken, lengths = 0, 0, []
    for row in ROWS:
        rule = anchor_of(kind, row)
        assert (rule.status == "holds") == (rule.precision_low >= PRECISION)
        covered = np.ones(FRESH.num_rows, dtype=bool)
        for condition in rule.conditions:
            assert fulfils(condition, np.array([row[condition.column]], dtype=object))[0], "the customer's own"
            covered &= fulfils(condition, cells[condition.column])
        assert covered.mean() == pytest.approx(rule.coverage, abs=0.03)
        if rule.status == "holds":
            shown += 1
            lengths.append(len(rule.conditions))
            broken += np.mean(fresh_decisions(kind)[covered] == rule.churn) < rule.precision_low
    assert shown > 30
    assert broken <= 1
    assert np.median(lengths) <= 4


@given(share=st.floats(0.5, 1.0), counted=st.integers(1, 3000))
def test_the_lower_bound_is_exact(share, counted):
    right = math.ceil(share * counted)
    low = lower_bound(right, counted, 0.01)
    assert 0.0 <= low <= right / counted
    if right == counted:
        assert low == pytest.approx(0.01 ** (1 / counted), abs=1e-9)
    assert low <= lower_bound(right, counted, 0.05)


def test_the_lower_bound_fails_no_more_often_than_it_says():
    rng = np.random.default_rng(3)
    for true in (0.9, 0.95, 0.99):
        seen = rng.binomial(400, true, 4000)
        assert np.mean([lower_bound(int(right), 400, 0.05) > true for right in seen]) <= 0.05


def test_a_model_without_signal_decides_the_same_for_everybody():
    scorer = dataclasses.replace(scorer_of("boosted"), no_signal=True)
    search = AnchorSearch(CustomerScorer(scorer), Reference.of(scorer, customers(3000, seed=9), AS_OF))
    rule = search.search(Customer.read(CustomerScorer(scorer), ROWS[0], AS_OF, DAY), [])
    assert (rule.churn, rule.status, rule.precision, len(rule.conditions)) == (False, "holds", 1.0, 1)


def test_few_training_customers_show_nothing():
    scorer = scorer_of("boosted")
    search = AnchorSearch(CustomerScorer(scorer), Reference.of(scorer, customers(60, seed=9), AS_OF))
    rule = search.search(Customer.read(CustomerScorer(scorer), ROWS[0], AS_OF, DAY), [])
    assert rule.status == "not_shown"
    assert rule.precision_low < PRECISION


@pytest.mark.parametrize("day", [FIRST_DAY + 200.0, LAST_DAY])
def test_no_rule_has_a_date_beyond_the_calendar(day):
    """At its ends training customers, whose dates move with the day of scoring, have dates that nobody can write."""
    for row in ROWS[:20]:
        anchor = anchor_of("boosted", {**row, "lastorder": None}, day)
        for condition in anchor.conditions:
            if condition.column in ("created", "lastorder") and condition.value is not None:
                dt.date.fromisoformat(str(condition.value))


def test_dates_of_rules_move_with_the_day_of_scoring():
    """A year later: the same customer, a year later, gets the same rule, a year later."""
    for row in ROWS[:20]:
        moved = {
            name: f"{int(value[:4]) + 1}{value[4:]}" if name in ("created", "lastorder") and value else value
            for name, value in ((name, row[name]) for name in row)
        }
        if any(str(row[name])[5:] == "02-29" for name in ("created", "lastorder")):
            continue
        before, after = anchor_of("boosted", row), anchor_of("boosted", moved, DAY + 365.0)
        assert [(c.column, c.operator) for c in before.conditions] == [(c.column, c.operator) for c in after.conditions]
