"""A default in the place of real values is told from customers who changed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from churn_assets.contract.model import Kind
from churn_assets.monitoring.faults import special_values
from churn_assets.monitoring.faults.special_values import find_special_values

KINDS = {"orders": Kind.INTEGER, "spent": Kind.NUMBER, "mails": Kind.INTEGER, "city": Kind.CATEGORY}
ROWS = 2000


def customers(rows, seed, activity=0.0):
    """Customers whose columns depend on how active they are; inactive ones have no order and read no mail."""
    random = np.random.default_rng(seed)
    active = random.normal(activity, 1.0, rows)
    orders = random.poisson(np.exp(0.8 + active))
    return {
        "orders": orders.astype(float),
        "spent": np.where(orders > 0, np.exp(3.0 + 0.7 * active + random.normal(0, 0.3, rows)), 0.0).round(2),
        "mails": random.poisson(np.exp(2.0 + 0.6 * active)).astype(float),
        "city": random.choice(["BLR", "HYD"], rows),
    }


def found(changed, share=None, value=0.0, **options):
    rows = customers(ROWS, **{"seed": 7, **options})
    if share is not None:
        rows[changed][: int(share * ROWS)] = value
    return find_special_values(pa.table(customers(8000, seed=1)), pa.table(rows), KINDS)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("value", [0.0, 45.0, 999999.0])
def test_a_default_is_found_with_what_was_to_be_expected(share, value):
    (result,) = found("mails", share, value)
    assert (result.column, result.value) == ("mails", value)
    assert result.share == pytest.approx(share, abs=0.03)
    assert result.expected < 0.1


@pytest.mark.parametrize("activity", [-0.8, -0.4, 0.4, 0.8])
def test_customers_who_changed_are_no_fault(activity):
    rows = customers(ROWS, seed=7, activity=activity)
    usual = customers(8000, seed=1)
    assert (
        abs(np.mean(rows["orders"] == 0) - np.mean(usual["orders"] == 0)) > 0.02
    )  # as many zeros as a fault may leave
    assert find_special_values(pa.table(usual), pa.table(rows), KINDS) == []


def readers(rows, seed, heavier=1.0):
    """Who reads much clicks much; of readers who click nothing there are `heavier` times as many."""
    random = np.random.default_rng(seed)
    read = random.uniform(0, 100, 8 * rows)
    clicks = random.poisson(0.02 * read).astype(float)
    weight = np.where((read > 60) & (clicks == 0), heavier, 1.0)
    drawn = random.choice(8 * rows, rows, replace=False, p=weight / weight.sum())
    return {"read": read[drawn], "clicks": clicks[drawn]}


def test_a_kind_of_customers_that_became_frequent_is_no_fault():
    kinds = {"read": Kind.NUMBER, "clicks": Kind.INTEGER}
    usual, more = readers(8000, seed=1), readers(ROWS, seed=2, heavier=6.0)
    assert np.mean(more["clicks"] == 0) - np.mean(usual["clicks"] == 0) > 0.1
    assert find_special_values(pa.table(usual), pa.table(more), kinds) == []
    broken = readers(ROWS, seed=2)
    broken["clicks"][: ROWS // 5] = 0.0
    (result,) = find_special_values(pa.table(usual), pa.table(broken), kinds)
    assert result.column == "clicks"


def test_nothing_is_found_where_nothing_changed():
    assert [found(None, seed=seed) for seed in range(50, 90)] == [[]] * 40


def test_a_rise_that_moves_no_model_is_none():
    assert found("mails", 0.015) == []


def test_two_columns_that_fail_together_do_not_explain_each_other():
    rows = customers(ROWS, seed=7)
    for name in ("spent", "mails"):
        rows[name][:400] = 0.0
    result = find_special_values(pa.table(customers(8000, seed=1)), pa.table(rows), KINDS)
    assert [value.column for value in result] == ["spent", "mails"]


def test_infinite_numbers_are_no_values():
    rows = customers(ROWS, seed=7)
    rows["mails"][300:600] = np.inf
    assert find_special_values(pa.table(customers(8000, seed=1)), pa.table(rows), KINDS) == []


def test_missing_numbers_are_a_value_that_the_other_columns_may_explain():
    def with_gaps(rows):
        """Who has no order has no sum of orders either, by the same chance as ever."""
        rows["spent"][rows["orders"] == 0] = np.nan
        return rows

    reference, inactive = (pa.table(with_gaps(customers(8000, seed=1, activity=shift))) for shift in (0.0, -0.6))
    assert find_special_values(reference, inactive, KINDS) == []
    rows = with_gaps(customers(ROWS, seed=7))
    rows["spent"][:240] = np.nan
    (result,) = find_special_values(reference, pa.table(rows), KINDS)
    assert result.column == "spent"
    assert np.isnan(result.value)
    assert result.share - result.expected == pytest.approx(0.1, abs=0.02)


def test_the_values_of_many_columns_are_tested_in_bounded_time(monkeypatch):
    random, fits = np.random.default_rng(0), []
    kinds = {f"c{n}": Kind.NUMBER for n in range(120)}
    before, now = ({name: random.normal(size=rows) for name in kinds} for rows in (2000, 1000))
    for name in list(kinds)[:60]:
        now[name][:300] = 0.0
    monkeypatch.setattr(
        special_values, "_chances", lambda has, *sides: fits.append(sides[0].shape) or (np.zeros(1000), 0.0)
    )
    result = find_special_values(pa.table(before), pa.table(now), kinds)
    assert len(fits) == len(result) == 20
    assert {columns for _, columns in fits} == {40}
