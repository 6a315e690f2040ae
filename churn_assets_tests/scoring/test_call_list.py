"""The call list: money first, ties by id, no more calls than there are people to make them."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.scoring.call_list import SCHEMA, call_list, expected_value
from churn_assets.scoring.card import no_better_than_random
from churn_assets.scoring.online import CustomerScorer
from churn_assets.scoring.scorer import Thresholds
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, scorer_of

SCORER = dataclasses.replace(scorer_of(), version="abc")
PROBABILITIES = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5000001, 0.9, 1.0]), min_size=1, max_size=40)


def test_the_value_of_a_call_is_the_contracts():
    np.testing.assert_allclose(expected_value(np.array([0.0, 0.5, 1.0]), CONTRACT.value), [-10.0, 12.5, 35.0])


@given(probability=PROBABILITIES, seed=st.integers(0, 99))
def test_the_list_does_not_depend_on_the_order_of_the_customers(probability, seed):
    ids = [f"c{i}" for i in range(len(probability))]
    listed = call_list(SCORER, ids, np.array(probability), AS_OF)
    order = np.random.default_rng(seed).permutation(len(ids))
    again = call_list(SCORER, [ids[i] for i in order], np.array(probability)[order], AS_OF)
    assert listed.equals(again)
    assert listed.schema == SCHEMA
    values = listed["expected_value"].to_numpy()
    assert (np.diff(values) <= 0).all()
    assert listed["rank"].to_pylist() == list(range(1, len(ids) + 1))
    called = listed["contact"].to_numpy(zero_copy_only=False)
    assert called.sum() == min(CONTRACT.value.capacity, (values > 0).sum())
    assert called[: called.sum()].all()


def test_ties_are_listed_by_id_and_every_row_says_where_it_comes_from():
    listed = call_list(SCORER, pa.chunked_array([["b"], ["a", "c"]]), np.array([0.8, 0.8, 0.9]), AS_OF)
    assert listed["customer_id"].to_pylist() == ["c", "a", "b"]
    assert set(listed["risk_band"].to_pylist()) == {"high"}
    assert listed["as_of"].to_pylist() == [dt.date(2014, 1, 20)] * 3
    assert listed["model_version"].to_pylist() == ["abc"] * 3
    assert listed["contract"].to_pylist() == ["tiny"] * 3


def test_without_a_capacity_every_call_that_pays_is_made():
    value = dataclasses.replace(CONTRACT.value, capacity=None)
    scorer = dataclasses.replace(SCORER, contract=dataclasses.replace(CONTRACT, value=value))
    listed = call_list(scorer, [f"c{i:03d}" for i in range(50)], np.linspace(0, 1, 50), AS_OF)
    assert sum(listed["contact"].to_pylist()) == (listed["expected_value"].to_numpy() > 0).sum() > 30


def test_customers_may_have_an_instant_each():
    listed = call_list(SCORER, ["a", "b"], np.array([0.9, 0.1]), np.array([16090.0, 16091.0]))
    assert listed["as_of"].to_pylist() == [dt.date(2014, 1, 20), dt.date(2014, 1, 21)]


def test_a_model_without_signal_sends_nobody_and_decides_for_nobody():
    scorer = dataclasses.replace(SCORER, no_signal=True)
    listed = call_list(scorer, ["a", "b"], np.array([0.9, 0.8]), AS_OF)
    assert listed["contact"].to_pylist() == [False, False]
    assert (listed["expected_value"].to_numpy() > 0).all()  # the list itself is as ever
    row = {c.name: 0 if c.kind == "boolean" else (c.low or 1) for c in CONTRACT.scoring_columns}
    row |= {c.name: c.choices[0] for c in CONTRACT.scoring_columns if c.choices}
    row |= {c.name: "2014-01-01" for c in CONTRACT.date_columns}
    always = Thresholds({"profit": 0.0}, "profit")
    for weak in (False, True):
        customers = CustomerScorer(dataclasses.replace(scorer, thresholds=always, no_signal=weak))
        assert customers.score(row, 16090.0).churn is not weak
        assert customers.score_many([row], 16090.0)[0].churn is not weak


@pytest.mark.parametrize(
    ("figures", "weak"),
    [
        ({"test_pr_auc_low": 0.31, "test_roc_auc_low": 0.55}, False),
        ({"test_pr_auc_low": 0.29, "test_roc_auc_low": 0.55}, True),
        ({"test_pr_auc_low": 0.31, "test_roc_auc_low": 0.49}, True),
    ],
)
def test_a_random_list_within_either_interval_is_no_signal(figures, weak):
    assert no_better_than_random({**figures, "test_churn_rate": 0.3}) is weak
