"""Profit on test rows: the same sums as by hand, intervals that hold them, and words from figures."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.policy import Value
from churn_assets.training.profit import profit_report
from churn_assets.training.thresholds import profit_threshold

VALUE = Value(monthly_value=20.0, months=10, offer_cost=5.0, save_rate=0.1)
RNG = np.random.default_rng(8)
PROBABILITY = RNG.beta(0.5, 1.5, 900)
CHURNED = (RNG.random(900) < PROBABILITY).astype(np.int8)
THRESHOLDS = {"f1": 0.5, "profit": profit_threshold(VALUE)}
REPORT = profit_report(CHURNED, PROBABILITY, VALUE, THRESHOLDS)


def test_the_curve_is_the_sum_over_the_riskiest_as_by_hand():
    share = np.arange(1, 901) / 900
    profit = np.cumsum(CHURNED[np.argsort(-PROBABILITY)] * 0.1 * 200.0 - 5.0) / 900
    assert REPORT["curve"][0] | {"profit": 0.0} == REPORT["curve"][0]
    for row in REPORT["curve"][1:]:
        at = int(np.argmin(np.abs(share - row["contacted_share"])))
        assert row["profit"] == pytest.approx(profit[at])
        assert row["low"] <= row["profit"] <= row["high"]
    assert REPORT["best"]["profit"] == max(row["profit"] for row in REPORT["curve"])


def test_the_chosen_point_is_the_threshold_the_contract_decides_by():
    said = THRESHOLDS["profit"] <= PROBABILITY
    expected = (CHURNED[said].sum() * 0.1 * 200.0 - said.sum() * 5.0) / 900
    assert REPORT["chosen"]["profit"] == pytest.approx(expected)
    assert REPORT["chosen"]["contacted_share"] == pytest.approx(said.mean())


@given(save_rate=st.floats(0.01, 1.0), cost=st.floats(0.0, 50.0), worth=st.floats(1.0, 500.0))
def test_at_the_break_even_of_an_assumption_nothing_is_earned(save_rate, cost, worth):
    value = Value(monthly_value=worth, months=1, offer_cost=cost, save_rate=save_rate)
    found = profit_report(CHURNED[:60], PROBABILITY[:60], value, THRESHOLDS)
    for name, key in (("save_rate", "save_rate"), ("offer_cost", "offer_cost"), ("customer_value", "monthly_value")):
        at = found["break_even"][name]
        if at is not None:
            there = profit_report(CHURNED[:60], PROBABILITY[:60], dataclasses.replace(value, **{key: at}), THRESHOLDS)
            assert there["chosen"]["profit"] == pytest.approx(0.0, abs=1e-6 * max(1.0, cost, worth))


def test_the_assumption_named_first_moves_the_profit_most():
    swings = [row["swing"] for row in REPORT["tornado"]]
    assert swings == sorted(swings, reverse=True)
    assert {row["assumption"] for row in REPORT["tornado"]} == {
        "save_rate", "offer_cost", "customer_value", "which customers were tested",
    }  # fmt: skip
    dear = dataclasses.replace(VALUE, offer_cost=30.0, decide_by="f1")
    assert "What matters most is the offer cost" in profit_report(CHURNED, PROBABILITY, dear, THRESHOLDS)["words"]
    assert "What matters most is the save rate and customer value" in REPORT["words"]


def test_where_no_contact_pays_it_says_so():
    nobody = profit_report(CHURNED, PROBABILITY, VALUE, {"profit": 1.0, "f1": 1.0})
    assert nobody["words"].startswith("Under the contract's values no contact is expected to pay")
    assert nobody["chosen"]["profit"] == 0.0
    assert nobody["break_even"] == {"save_rate": None, "offer_cost": None, "customer_value": None}


def test_it_is_json_and_the_same_every_time():
    again = profit_report(CHURNED, PROBABILITY, VALUE, THRESHOLDS)
    assert json.dumps(again, allow_nan=False) == json.dumps(REPORT, allow_nan=False)
    assert len(json.dumps(REPORT)) < 30_000
