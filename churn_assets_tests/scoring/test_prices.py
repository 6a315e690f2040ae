"""Value and save rate of each customer: expressions, segments, and what counts where a cell gives no amount."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest

from churn_assets.contract.edit import exclude
from churn_assets.contract.load import parse_contract
from churn_assets.errors import ExpressionError
from churn_assets.scoring.call_list import call_list, calls_of, expected_value, in_control_group
from churn_assets.scoring.prices import prices
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, TEXT, customers, scorer_of

CONSTANT, RATE = "monthly_value = 25.0\nmonths = 12\n", "save_rate = 0.15"
TABLE = customers(60, seed=3)
SPENT = np.array([math.nan if v is None else v for v in TABLE["spent"].to_pylist()])


def _contract(value: str = CONSTANT, rate: str = RATE):
    return parse_contract(TEXT.replace(CONSTANT, value).replace(RATE, rate), "tiny.toml")


VALUES = {
    "a constant": (CONSTANT, np.full(60, 300.0)),
    "an expression": ('value = "spent * 30"\n', np.nan_to_num(SPENT * 30.0, nan=0.0)),
    "an expression beside the constant": (
        'value = "spent * 30"\n' + CONSTANT,
        np.where(np.isnan(SPENT), 300.0, SPENT * 30.0),
    ),
    "negative values": ('value = "fill(spent, 0) - 100"\n', np.maximum(np.nan_to_num(SPENT, nan=0.0) - 100.0, 0.0)),
    "a division by zero": ('value = "spent / 0"\nmonthly_value = 7\n', np.full(60, 7.0)),
    "a number alone": ('value = "12"\n', np.full(60, 12.0)),
}


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
def test_the_value_of_each_customer(value, expected):
    np.testing.assert_allclose(prices(_contract(value), TABLE, AS_OF).customer_value, expected)


RATES = {
    "a number": (RATE, lambda row: 0.15),
    "a column, cut to 0 and 1": ('save_rate = "sent"', lambda row: min(1.0, row["sent"])),
    "a column with a default": (
        'save_rate = { column = "spent", default = 0.2 }',
        lambda row: 0.2 if row["spent"] is None else min(1.0, row["spent"]),
    ),
    "a segment": (
        'save_rate = { column = "city", BLR = 0.1, DEL = 0.3, default = 0.15 }',
        lambda row: {"BLR": 0.1, "DEL": 0.3}.get(row["city"], 0.15),
    ),
    "yes or no": (
        'save_rate = { column = "paperless", true = 0.5, default = 0.0 }',
        lambda row: 0.5 if row["paperless"] else 0.0,
    ),
}


@pytest.mark.parametrize(("rate", "expected"), RATES.values(), ids=RATES)
def test_the_save_rate_of_each_customer(rate, expected):
    worth = prices(_contract(rate=rate), TABLE, AS_OF)
    np.testing.assert_allclose(worth.save_rate, [expected(row) for row in TABLE.to_pylist()])


EXPRESSIONS = {
    "an unknown name": ("spnt * 30", "did you mean 'spent'?"),
    "a category": ("city", "is not a number; expected an amount"),
    "a fitted function": ("typical(spent, sent)", "only a feature may use it"),
    "no expression": ("spent *", "does not parse"),
}


@pytest.mark.parametrize(("expression", "message"), EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_a_mistake_in_the_value_is_one_line_with_its_place(expression, message):
    with pytest.raises(ExpressionError) as raised:
        _contract(f'value = "{expression}"\n')
    assert str(raised.value).startswith("tiny.toml, [value] 'value', position ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_money_by_customer_is_no_part_of_the_fingerprint_and_show_is_none_either():
    priced = _contract(
        'value = "spent * 30"\n' + CONSTANT, 'save_rate = { column = "city", BOM = 0.4, default = 0.15 }'
    )
    shown = TEXT.replace('name = "lastorder"', 'name = "lastorder"\nshow = true')
    assert priced.fingerprint == CONTRACT.fingerprint == parse_contract(shown).fingerprint
    assert parse_contract(shown).column("lastorder").show


def test_a_value_may_read_an_excluded_column_also_where_the_table_lacks_it(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TEXT.replace(CONSTANT, 'value = "spent * 2"\nmonthly_value = 9\n'), encoding="utf-8")
    contract, _ = exclude(path, "spent")
    given = prices(contract, TABLE, AS_OF)
    np.testing.assert_allclose(given.customer_value, np.where(np.isnan(SPENT), 9.0, SPENT * 2.0))
    assert given.missing == np.isnan(SPENT).sum() > 0
    assert set(prices(contract, TABLE.drop_columns(["spent"]), AS_OF).customer_value) == {9.0}


def test_the_list_is_ranked_by_money_and_expected_value_is_no_copy_of_the_probability():
    contract = _contract('value = "spent * 30"\n')
    scorer = dataclasses.replace(scorer_of(), contract=contract)
    probability = scorer.score_table(TABLE, AS_OF).probability
    worth = prices(contract, TABLE, AS_OF)
    listed = call_list(scorer, TABLE["id"], probability, AS_OF, worth)
    expected = expected_value(probability, contract.value, worth)
    assert listed["expected_value"].to_pylist() == sorted(expected.tolist(), reverse=True)
    assert listed["customer_id"].to_pylist() != TABLE["id"].take(pa.array(np.argsort(-probability))).to_pylist()
    np.testing.assert_allclose(sorted(listed["customer_value"].to_numpy()), sorted(worth.customer_value))


def test_a_control_group_is_drawn_by_id_takes_no_capacity_and_grows_with_its_share():
    ids = pa.array([f"c{i}" for i in range(4000)])
    fifth, half = in_control_group(ids, 0.2), in_control_group(ids, 0.5)
    assert 0.17 < fifth.mean() < 0.23
    assert not (fifth & ~half).any()
    assert (in_control_group(ids.take(pa.array([7, 3])), 0.2) == fifth[[7, 3]]).all()
    assert not in_control_group(ids, 0.0).any()
    value = dataclasses.replace(CONTRACT.value, control_share=0.2)
    scorer = dataclasses.replace(scorer_of(), contract=dataclasses.replace(CONTRACT, value=value))
    listed = call_list(scorer, ids, np.linspace(0.5, 1.0, 4000), AS_OF)
    calls = calls_of(listed)
    assert sum(listed["contact"].to_pylist()) == CONTRACT.value.capacity == sum(calls["contact"].to_pylist())
    assert all(c["contact"] is not c["control"] for c in calls.to_pylist())
    assert calls["contact"][-1].as_py()
    assert calls["rank"].to_pylist() == list(range(1, calls.num_rows + 1))
