"""What a budget buys: never more than it pays for, than capacity allows or than is worth it."""

import dataclasses
import itertools
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.limits import Value
from churn_assets.contract.load import load_contract
from churn_assets.errors import BundleMismatch, ContractError, SettingsError
from churn_assets.scoring.budget import Offers, plan, plan_call_list
from churn_assets.scoring.bundle import contract_in_use, describe_value_in_use
from churn_assets.scoring.call_list import call_list
from churn_assets.scoring.list_money import saved_interval
from churn_assets.scoring.prices import prices
from churn_assets.scoring.scorer import Discount
from churn_assets_tests.scoring.tiny import AS_OF, TEXT, customers, scorer_of

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


def test_money_goes_to_the_customers_who_bring_most_not_to_the_riskiest():
    churn, worth = np.array([0.9, 0.5, 0.3, 0.8]), np.array([60.0, 900.0, 2000.0, 10.0])
    offers = Offers(churn, churn * 0.2, worth, Discount())
    best = plan(churn, VALUE, 20.0, offers=offers)
    assert (best.contacts, best.limit) == (2, "budget")
    assert best.net_value == pytest.approx(0.3 * 0.2 * 2000.0 + 0.5 * 0.2 * 900.0 - 20.0)
    assert best.expected_churners == pytest.approx(0.8)
    assert plan(churn, VALUE, 1000.0, offers=offers).limit == "value"
    wider = plan(churn, VALUE, 20.0, offers=dataclasses.replace(offers, discount=Discount(0.8, 0.4, 1.0, "random")))
    assert wider.low <= best.low
    assert wider.high > best.high


def test_a_plan_of_a_list_agrees_with_the_list(tmp_path):
    text = TEXT.replace("monthly_value = 25.0", 'value = "spent * 20"\nmonthly_value = 25.0\ncontrol_share = 0.2')
    (tmp_path / "contract.toml").write_text(text.replace("capacity = 10", "capacity = 30"), encoding="utf-8")
    card = {"contract": "tiny", "fingerprint": "f", "model_kind": "logistic", "model_cost": 1.0}
    card |= {"thresholds": {"values": {"profit": 0.2}, "chosen": "profit"}, "bands": {"medium": 0.2, "high": 0.5}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    contract = load_contract(tmp_path / "contract.toml")
    scorer, table = dataclasses.replace(scorer_of(), contract=contract), customers(200, 8)
    probability = np.random.default_rng(5).random(200)
    listed = call_list(scorer, table["id"], probability, AS_OF, prices(contract, table, AS_OF))
    pq.write_table(listed, tmp_path / "risk_list.parquet")
    best, value = plan_call_list(tmp_path, tmp_path / "risk_list.parquet", 1e6)
    contacts = listed.filter(listed["contact"])
    assert (best.contacts, best.limit, value) == (contacts.num_rows, "capacity", contract.value)
    assert best.net_value == pytest.approx(sum(contacts["expected_value"].to_pylist()))
    old = listed.select(["customer_id", "churn_probability", "expected_value"])  # as an earlier release wrote it
    pq.write_table(old.replace_schema_metadata(None), tmp_path / "old.parquet")
    assert plan_call_list(tmp_path, tmp_path / "old.parquet", 50.0)[0].contacts == 5
    # The contract was edited, or a challenger's is in use: the list is as it was.
    (tmp_path / "contract.toml").write_text(TEXT.replace("offer_cost = 10.0", "offer_cost = 3.0"), encoding="utf-8")
    assert plan_call_list(tmp_path, tmp_path / "risk_list.parquet", 1e6) == (best, value)


def test_the_value_in_use_is_that_of_a_contract_whose_tables_the_bundle_scores(tmp_path):
    (tmp_path / "contract.toml").write_text(TEXT, encoding="utf-8")
    texts = {
        "repriced.toml": (TEXT.replace("offer_cost = 10.0", "offer_cost = 3.0"), 3.0),
        "other.toml": (TEXT.replace('"DEL", "MAA"]', '"DEL", "MAA", "GOI"]'), None),
        "another.toml": (TEXT.replace('name = "tiny"', 'name = "small"'), None),
        "broken.toml": ("no = toml =", None),
    }
    for name, (text, cost) in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        contract = contract_in_use(tmp_path, tmp_path / name)
        assert (contract and contract.value.offer_cost) == cost, name
        if cost is None:  # what the environment names may be another contract; what a user names may not
            with pytest.raises((BundleMismatch, ContractError), match=r"expected|is not TOML"):
                contract_in_use(tmp_path, tmp_path / name, is_named=True)
    assert contract_in_use(tmp_path, tmp_path / "none.toml") is None
    assert "edited since the model was trained" in describe_value_in_use(
        tmp_path, contract_in_use(tmp_path, tmp_path / "repriced.toml")
    )
    assert describe_value_in_use(tmp_path, contract_in_use(tmp_path, tmp_path / "contract.toml")) == ""
    assert "for an edited one: --contract FILE" in describe_value_in_use(tmp_path, None)
