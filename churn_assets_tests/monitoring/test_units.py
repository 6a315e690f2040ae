"""Another unit, swapped columns and numbers far out are told from growth and from customers who changed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from churn_assets.contract.model import Kind
from churn_assets.monitoring.faults.units import FACTORS, find_foreign_numbers, growth

KINDS = {"spent": Kind.NUMBER, "mails": Kind.INTEGER, "rate": Kind.NUMBER, "flag": Kind.BOOLEAN}
ROWS = 2000


def customers(rows, seed, activity=0.0):
    random = np.random.default_rng(seed)
    active = random.normal(activity, 1.0, rows)
    return {
        "spent": np.exp(4.0 + 0.5 * active + random.normal(0, 0.3, rows)).round(2),
        "mails": random.poisson(np.exp(2.5 + 0.6 * active)).astype(float),
        "rate": np.where(random.random(rows) < 0.3, 0.0, 100 / (1 + np.exp(-active + random.normal(0, 1, rows)))),
        "flag": (active > 0).astype(float),
    }


REFERENCE = pa.table(customers(10_000, seed=1))


def result_of(rows):
    return find_foreign_numbers(REFERENCE, pa.table(rows), KINDS)


def multiplied(name, factor, share, seed=7):
    rows = customers(ROWS, seed)
    rows[name][: int(share * ROWS)] *= factor
    return rows


@pytest.mark.parametrize("share", [0.06, 0.3, 1.0])
@pytest.mark.parametrize("factor", [100, 1000, 60, 1 / 60, 0.01])
def test_a_unit_is_found_with_its_share(factor, share):
    (result,) = result_of(multiplied("spent", factor, share))
    assert (result.kind, result.column) == ("scaled", "spent")
    assert result.share == pytest.approx(share, abs=0.04)
    if share > 0.1:  # of a few rows, neighbours such as 1/60 and 1/30.4 look alike
        assert result.factor == pytest.approx(factor)


@pytest.mark.parametrize("factor", [4.2, 1 / 50, 1.6093, 1 / 2.2046])
def test_a_constant_for_everybody_is_a_unit_though_it_is_none_of_the_usual(factor):
    (result,) = result_of(multiplied("spent", factor, 1.0))
    assert (result.kind, result.share) == ("scaled", 1.0)
    assert result.factor == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("name", ["spent", "mails", "rate"])
@pytest.mark.parametrize("factor", [0.7, 0.8, 1.1, 1.25, 1.5])
def test_growth_is_drift(name, factor):
    assert result_of(multiplied(name, factor, 1.0)) == []


@pytest.mark.parametrize("activity", [-0.8, -0.4, 0.4, 0.8])
def test_customers_who_changed_are_no_unit(activity):
    assert result_of(customers(ROWS, seed=7, activity=activity)) == []


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_swapped_columns_name_each_other(share):
    rows, count = customers(ROWS, seed=7), int(share * ROWS)
    rows["spent"][:count], rows["rate"][:count] = rows["rate"][:count].copy(), rows["spent"][:count].copy()
    results = {result.column: result for result in result_of(rows)}
    assert {name: result.other for name, result in results.items()} == {"spent": "rate", "rate": "spent"}
    assert results["spent"].share == pytest.approx(share, abs=0.05)


def test_the_largest_two_percent_times_ten_lie_far_out():
    rows = customers(ROWS, seed=7)
    rows["spent"][rows["spent"] > np.quantile(rows["spent"], 0.98)] *= 10
    (result,) = result_of(rows)
    assert (result.kind, result.column) == ("far", "spent")
    assert result.share == pytest.approx(0.02, abs=0.005)
    assert result.bound > REFERENCE["spent"].to_numpy().max()


def test_nothing_is_found_where_nothing_changed():
    assert [result_of(customers(ROWS, seed=seed)) for seed in range(50, 110)] == [[]] * 60


def test_empty_short_and_negative_columns_are_left_out():
    rows = customers(ROWS, seed=7)
    rows["spent"][:] = np.nan
    rows["mails"] = -rows["mails"] - 1
    assert [result for result in result_of(rows) if result.kind == "scaled"] == []
    assert find_foreign_numbers(REFERENCE, pa.table(customers(100, seed=7)), KINDS) == []


def test_the_factors_are_named_once():
    assert len({*FACTORS, *(1 / factor for factor in FACTORS)}) == 2 * len(FACTORS)


@pytest.mark.parametrize("whole", [np.rint, np.floor])
@pytest.mark.parametrize("factor", [0.8, 1.25, 1.5])
def test_whole_numbers_that_grow_and_are_made_whole_are_growth(factor, whole):
    before, now = (customers(rows, seed)["mails"] for rows, seed in ((10_000, 1), (ROWS, 7)))
    assert growth(before, whole(now * factor)) == pytest.approx(factor, rel=0.06)


@pytest.mark.parametrize("whole", [np.rint, np.floor])
@pytest.mark.parametrize("factor", [1.6, 1.8, 2.2, 2.55])
def test_counts_that_stay_whole_are_not_in_miles_or_pounds(factor, whole):
    rows = customers(ROWS, seed=7)
    rows["mails"] = whole(rows["mails"] * factor)
    assert result_of(rows) == []
    rows["mails"] = customers(ROWS, seed=7)["mails"] * 1.6093
    assert [result.column for result in result_of(rows)] == ["mails"]


def test_zeros_and_units_are_no_growth():
    before, now = (customers(rows, seed)["mails"] for rows, seed in ((10_000, 1), (ROWS, 7)))
    assert growth(before, now) is None
    assert growth(before, now * 10) is None
    now[: ROWS // 5] = 0.0
    assert growth(before, now) is None
