"""What a budget buys: never more than it pays for, than capacity allows or than is worth it."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.limits import Value
from churn_assets.errors import SettingsError
from churn_assets.scoring.budget import plan, saved_interval

VALUE = Value(monthly_value=25.0, months=12, offer_cost=10.0, save_rate=0.2, capacity=40)
CHANCES = st.lists(st.floats(0.0, 1.0), max_size=60).map(np.array)


@given(chances=CHANCES, budget=st.floats(0.0, 2000.0))
def test_a_plan_keeps_every_limit_and_the_one_it_names_is_the_one_that_binds(chances, budget):
    best = plan(chances, VALUE, budget)
    assert best.cost <= budget
    assert best.contacts <= min(40, len(chances))
    assert best.low <= best.net_value <= best.high or best.contacts == 0
    pays = int(np.sum(chances * 60.0 - 10.0 > 0))
    assert best.contacts == min(len(chances), pays, int(budget // 10.0), 40)
    assert {"customers": len(chances), "value": pays, "budget": budget // 10.0, "capacity": 40}[
        best.limit
    ] == best.contacts


@given(chances=CHANCES, budgets=st.tuples(st.floats(0.0, 900.0), st.floats(0.0, 900.0)))
def test_more_money_never_brings_less(chances, budgets):
    small, large = sorted(budgets)
    assert plan(chances, VALUE, small).net_value <= plan(chances, VALUE, large).net_value + 1e-9


def test_the_interval_is_that_of_all_outcomes():
    chances = np.array([0.9, 0.5, 0.2, 0.05, 0.6])
    mass = np.zeros(6)
    for outcome in itertools.product((0, 1), repeat=5):
        mass[sum(outcome)] += np.prod(np.where(outcome, chances, 1 - chances))
    reached = np.cumsum(mass)
    assert saved_interval(chances) == (np.argmax(reached >= 0.025), np.argmax(reached >= 0.975))


def test_a_long_list_agrees_with_a_short_one_where_the_method_changes():
    rng = np.random.default_rng(0)
    chances = rng.random(2001) * 0.15
    low, high = saved_interval(chances)
    exact_low, exact_high = saved_interval(chances[:2000])
    assert abs(low - exact_low) < 1.5
    assert abs(high - exact_high) < 1.5


def test_capacity_can_be_left_out_and_free_offers_go_to_everybody():
    chances = np.full(100, 0.9)
    assert plan(chances, VALUE, 10_000.0).limit == "capacity"
    assert plan(chances, VALUE, 10_000.0, capacity=False).contacts == 100
    free = dataclasses.replace(VALUE, offer_cost=0.0, capacity=None)
    assert plan(chances, free, 0.0).contacts == 100


@pytest.mark.parametrize("budget", [-1.0, float("nan"), float("inf")])
def test_an_invalid_amount_is_refused(budget):
    with pytest.raises(SettingsError, match="expected an amount of at least 0"):
        plan(np.array([0.5]), VALUE, budget)
