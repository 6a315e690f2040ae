"""The money of a list: contacts only, of customers who have not left, discounted where churners were fewer."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from churn_assets.scoring.call_list import call_list, calls_of
from churn_assets.scoring.list_money import describe_list_money, list_money, saved_value_interval
from churn_assets.scoring.scorer import Discount
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, scorer_of

WORSE = Discount(0.6, 0.5, 0.7, "out_of_time")


def _money(probability, discount=Discount(), left=0, **value):  # noqa: B008  # a frozen value
    contract = dataclasses.replace(CONTRACT, value=dataclasses.replace(CONTRACT.value, **value))
    scorer = dataclasses.replace(scorer_of(), contract=contract, discount=discount)
    listed = call_list(scorer, [f"c{i:04d}" for i in range(len(probability))], np.asarray(probability), AS_OF)
    return list_money(calls_of(listed), contract.value, discount, len(probability), left), listed


def test_only_contacts_within_capacity_are_money():
    money, listed = _money(np.linspace(0.0, 0.9, 100), left=900)
    contacts = listed.filter(listed["contact"])
    assert (money.contacts, money.customers, money.left, money.capacity) == (10, 100, 900, 10)
    assert money.profit == pytest.approx(sum(contacts["expected_value"].to_pylist()))
    assert money.undiscounted == money.profit
    assert money.cost == 100.0
    assert money.low < money.profit < money.high
    headline = describe_list_money(money)
    assert headline[0].startswith(
        "Contact 10 of 100 customers who have not left, within a capacity of 10; 900 marked as churned are left out. "
    )
    assert len(headline) == 1


def test_a_discount_lowers_every_expected_value_and_is_said_with_what_it_would_be_without():
    probability = np.linspace(0.0, 0.9, 100)
    money, listed = _money(probability, WORSE)
    assert sorted(listed["expected_value"].to_pylist()) == pytest.approx(probability * 0.6 * 45.0 - 10.0)
    full, _ = _money(probability)
    assert money.profit < money.undiscounted == pytest.approx(full.profit)
    assert money.saved * 300.0 - money.cost == pytest.approx(money.profit)
    (_, basis) = describe_list_money(money)
    assert "counts 60% of the churners" in basis
    assert "the newest customers, by a model trained on older ones" in basis
    assert "(95 % interval 50% to 70%)" in basis


@pytest.mark.parametrize(
    ("discount", "basis"),
    [
        (Discount(1.0, 0.7, 1.1, "out_of_time"), "on older ones, 70% to 110% churned (95 % interval)."),
        (Discount(1.0, 1.0, 1.8, "random"), "no fewer churned among test customers, drawn at random."),
    ],
)
def test_where_all_churners_count_the_measured_share_is_said(discount, basis):
    money, _ = _money(np.linspace(0.0, 0.9, 100), discount)
    (_, sentence) = describe_list_money(money)
    assert sentence.startswith("It counts all churners that the probabilities predict")
    assert sentence.endswith(basis)


def test_a_model_no_better_than_random_calls_nobody_and_says_so():
    money, _ = _money([0.9] * 5, capacity=0)
    assert money.contacts == 0
    assert describe_list_money(money) == [
        "The model is no better than random: nobody is to be contacted, of 5 customers who have not left."
    ]


def test_the_control_group_is_no_money():
    money, _ = _money(np.linspace(0.4, 0.9, 200), control_share=0.3)
    assert money.contacts == 10
    assert money.control > 0
    assert f"{money.control:,} more are a control group" in describe_list_money(money)[-1]


@pytest.mark.parametrize("discount", [Discount(), WORSE, Discount(0.0, 0.0, 0.1, "random")])
def test_nobody_pays(discount):
    money, _ = _money([0.1] * 5, discount)
    assert (money.contacts, money.profit, money.low, money.high) == (0, 0.0, 0.0, 0.0)
    assert describe_list_money(money)[0].startswith("Under the contract's values no contact is expected to pay")


@pytest.mark.parametrize("worth", [np.full(300, 200.0), np.linspace(10.0, 900.0, 300)], ids=["one value", "own values"])
def test_the_interval_holds_95_percent_of_what_can_happen(worth):
    rng = np.random.default_rng(4)
    chance = rng.random(300) * 0.3
    low, high = saved_value_interval(chance, worth, Discount())
    drawn = (rng.random((4000, 300)) < chance) @ worth
    assert 0.93 < np.mean((drawn >= low) & (drawn <= high)) < 0.98
    wider = saved_value_interval(chance, worth, Discount(0.8, 0.6, 1.1, "random"))
    assert wider[0] < low
    assert wider[1] > high
    assert saved_value_interval(chance[:0], worth[:0], Discount()) == (0.0, 0.0)


def test_a_customer_without_value_saves_nothing():
    money, _ = _money(np.linspace(0.0, 0.9, 20), monthly_value=0.0)
    assert (money.contacts, money.saved) == (0, 0.0)
    assert pa.types.is_boolean(_money([0.5])[1]["control"].type)
