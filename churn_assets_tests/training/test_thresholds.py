"""Thresholds: each is the best for what it is named after."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.evaluation.metrics import at_threshold
from churn_assets.training.profit import choose_thresholds, f1_threshold, profit_threshold
from churn_assets_tests.strategies import STORE

VALUE = STORE.value


@given(seed=st.integers(0, 10_000))
def test_no_other_threshold_has_a_larger_f1(seed):
    generator = np.random.default_rng(seed)
    probability = generator.integers(0, 30, 200) / 30
    churned = (generator.random(200) < probability).astype(int)
    churned[0] = 1
    best = at_threshold(churned, probability, f1_threshold(churned, probability))["f1"]
    assert all(at_threshold(churned, probability, cut)["f1"] <= best + 1e-12 for cut in np.unique(probability))


def test_the_profit_threshold_is_cost_over_expected_gain():
    value = dataclasses.replace(VALUE, monthly_value=20.0, months=10, offer_cost=10.0, save_rate=0.2)
    assert profit_threshold(value) == pytest.approx(10 / (0.2 * 200))


@pytest.mark.parametrize("change", [{"save_rate": 0.0}, {"monthly_value": 0.0}, {"offer_cost": 1e9}])
def test_the_profit_threshold_is_one_if_no_contact_pays(change):
    assert profit_threshold(dataclasses.replace(VALUE, **change)) == 1.0


def test_capacity_is_a_share_of_the_table_the_list_is_made_from():
    probability = np.linspace(0, 1, 1000)
    value = dataclasses.replace(VALUE, capacity=500)
    churned = np.append(1, np.zeros(999, int))
    result = choose_thresholds(churned, probability, value, customers=5000)
    assert np.mean(probability >= result["capacity"]) == pytest.approx(0.1, abs=0.002)
    everybody = choose_thresholds(churned, probability, value, customers=100)
    assert everybody["capacity"] == 0.0
    assert "capacity" not in choose_thresholds(churned, probability, dataclasses.replace(value, capacity=None), 10)
