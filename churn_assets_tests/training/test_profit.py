"""Profit on test rows: the sums, their intervals, and the sentences made from them."""

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.limits import Value
from churn_assets.scoring.card import BreakEven, Realized
from churn_assets.scoring.prices import Prices
from churn_assets.scoring.scorer import Discount
from churn_assets.training.profit import (
    describe_profit,
    discount_of,
    profit_report,
    profit_threshold,
    realized_churn,
    threshold_table,
)

VALUE = Value(monthly_value=20.0, months=10, offer_cost=5.0, save_rate=0.1)
RNG = np.random.default_rng(8)
PROBABILITY = RNG.beta(0.5, 1.5, 900)
CHURNED = (RNG.random(900) < PROBABILITY).astype(np.int8)
THRESHOLDS = {"f1": 0.5, "profit": profit_threshold(VALUE)}
REPORT = profit_report(CHURNED, PROBABILITY, VALUE, THRESHOLDS)


def test_a_point_of_the_curve_is_the_profit_of_a_list_of_that_length():
    ranked = CHURNED[np.argsort(-PROBABILITY, kind="stable")]
    assert REPORT.curve[0].profit == 0.0
    for point in REPORT.curve[1:]:
        contacted = round(point.contacted_share * len(ranked))
        gain = ranked[:contacted].sum() * 0.1 * 200.0
        assert point.profit == pytest.approx((gain - contacted * 5.0) / len(ranked))
        assert point.low <= point.profit <= point.high
    assert REPORT.curve[-1].contacted_share == 1.0
    assert REPORT.best.profit == max(point.profit for point in REPORT.curve)


def test_the_chosen_point_uses_the_threshold_of_the_contract():
    contacted = THRESHOLDS["profit"] <= PROBABILITY
    expected = (CHURNED[contacted].sum() * 0.1 * 200.0 - contacted.sum() * 5.0) / 900
    assert REPORT.chosen.profit == pytest.approx(expected)
    assert REPORT.chosen.contacted_share == pytest.approx(contacted.mean())


@given(save_rate=st.floats(0.01, 1.0), cost=st.floats(0.0, 50.0), monthly_value=st.floats(1.0, 500.0))
def test_profit_is_zero_at_the_break_even_of_an_assumption(save_rate, cost, monthly_value):
    value = Value(monthly_value=monthly_value, months=1, offer_cost=cost, save_rate=save_rate)
    result = profit_report(CHURNED[:60], PROBABILITY[:60], value, THRESHOLDS)
    for name, key in (("save_rate", "save_rate"), ("offer_cost", "offer_cost"), ("customer_value", "monthly_value")):
        at = getattr(result.break_even, name)
        if at is not None:
            there = profit_report(CHURNED[:60], PROBABILITY[:60], dataclasses.replace(value, **{key: at}), THRESHOLDS)
            assert there.chosen.profit == pytest.approx(0.0, abs=1e-6 * max(1.0, cost, monthly_value))


def test_the_first_assumption_changes_the_profit_most():
    swings = [row.swing for row in REPORT.tornado]
    assert swings == sorted(swings, reverse=True)
    assert {row.assumption for row in REPORT.tornado} == {
        "save_rate", "offer_cost", "customer_value", "which customers were tested",
    }  # fmt: skip
    dear = dataclasses.replace(VALUE, offer_cost=30.0, decide_by="f1")
    costly = profit_report(CHURNED, PROBABILITY, dear, THRESHOLDS)
    assert "depends most on the offer cost" in describe_profit(costly)
    assert costly.card_sentence == describe_profit(costly)
    assert "depends most on the save rate and customer value" in describe_profit(REPORT)
    assert f"expected profit per customer: {REPORT.chosen.profit:.2f}" in describe_profit(REPORT)


def test_no_contact_pays():
    nobody = profit_report(CHURNED, PROBABILITY, VALUE, {"profit": 1.0, "f1": 1.0})
    assert describe_profit(nobody).startswith("Under the contract's values no contact is expected to pay")
    assert nobody.chosen.profit == 0.0
    assert nobody.break_even == BreakEven(None, None, None)


def test_the_report_is_json_and_deterministic():
    again = profit_report(CHURNED, PROBABILITY, VALUE, THRESHOLDS)
    assert msgspec.json.encode(again) == msgspec.json.encode(REPORT)
    assert len(msgspec.json.encode(REPORT)) < 30_000


def test_the_table_of_thresholds_agrees_with_the_rows_and_marks_the_rule_in_use():
    table = threshold_table(CHURNED, PROBABILITY, VALUE, THRESHOLDS)
    assert [row.threshold for row in table] == sorted({row.threshold for row in table})
    for row in table:
        contacted = row.threshold <= PROBABILITY
        assert row.contacts == contacted.sum()
        assert row.recall == pytest.approx(CHURNED[contacted].sum() / CHURNED.sum())
        assert row.profit == pytest.approx((CHURNED[contacted].sum() * 20.0 - contacted.sum() * 5.0) / 900)
        assert row.low <= row.profit <= row.high
        if row.precision is not None:
            assert row.precision == pytest.approx(CHURNED[contacted].mean())
    (chosen,) = (row for row in table if "chosen" in row.names)
    assert set(chosen.names) == {"profit", "chosen"}
    assert (chosen.profit, chosen.low, chosen.high) == (REPORT.chosen.profit, REPORT.chosen.low, REPORT.chosen.high)
    (nobody,) = (row for row in threshold_table(CHURNED, PROBABILITY * 0.5, VALUE, {"profit": 1.0}) if row.names)
    assert (nobody.contacts, nobody.precision, nobody.profit) == (0, None, 0.0)


def test_profit_follows_each_customers_value():
    worth = Prices(RNG.gamma(2.0, 100.0, 900), RNG.random(900) * 0.2)
    report = profit_report(CHURNED, PROBABILITY, VALUE, THRESHOLDS, prices=worth)
    contacted = THRESHOLDS["profit"] <= PROBABILITY
    expected = ((CHURNED * worth.gain)[contacted].sum() - contacted.sum() * 5.0) / 900
    assert report.chosen.profit == pytest.approx(expected)
    assert report.values["customer_value"] == pytest.approx(worth.customer_value.mean())
    table = threshold_table(CHURNED, PROBABILITY, VALUE, THRESHOLDS, prices=worth)
    assert next(row.profit for row in table if "chosen" in row.names) == report.chosen.profit


def test_what_came_true_is_measured_on_customers_who_may_still_be_there():
    right = realized_churn(CHURNED, PROBABILITY, VALUE)
    assert right.low < 1.0 < right.high
    rng = np.random.default_rng(2)
    fewer = CHURNED * (rng.random(900) < 0.5)
    half = realized_churn(fewer, PROBABILITY, VALUE)
    assert half.high < 1.0
    assert half.share == pytest.approx(right.share * 0.5, abs=0.12)
    # A thousand customers who have certainly left, and were recognised, change nothing.
    gone = np.ones(1000)
    more = realized_churn(np.append(fewer, gone), np.append(PROBABILITY, gone), VALUE)
    assert more.share == pytest.approx(half.share)
    assert realized_churn(CHURNED[:20], PROBABILITY[:20], VALUE) is None


REALIZED = {
    "as predicted": ({"random": (1.02, 0.9, 1.1)}, ("random", 1.0, 0.9, 1.1)),
    "less, but within chance": (
        {"random": (1.0, 0.9, 1.1), "out_of_time": (0.9, 0.7, 1.1)},
        ("out_of_time", 1.0, 0.7, 1.1),
    ),
    "less out of time": ({"random": (1.0, 0.9, 1.1), "out_of_time": (0.6, 0.5, 0.8)}, ("out_of_time", 0.6, 0.5, 0.8)),
    "less on both": ({"random": (0.5, 0.4, 0.6), "out_of_time": (0.7, 0.6, 0.8)}, ("random", 0.5, 0.4, 0.6)),
    "more out of time": ({"random": (1.0, 0.9, 1.1), "out_of_time": (2.0, 1.8, 2.2)}, ("random", 1.0, 0.9, 1.1)),
    "more on both": ({"random": (1.5, 1.2, 1.8), "out_of_time": (2.0, 1.8, 2.2)}, ("random", 1.0, 1.0, 1.8)),
    "not measured": ({}, ("", 1.0, 1.0, 1.0)),
}


@pytest.mark.parametrize(("shares", "expected"), REALIZED.values(), ids=REALIZED)
def test_the_discount_is_the_worse_calibration_and_never_a_bonus(shares, expected):
    discount = discount_of({name: Realized(100, 50.0, 50.0, *share) for name, share in shares.items()})
    assert (discount.split, discount.share) == expected[:2]
    assert (discount.low, discount.high) == pytest.approx(expected[2:])
    assert isinstance(discount, Discount)
