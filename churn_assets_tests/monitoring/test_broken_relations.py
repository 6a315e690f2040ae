"""Values of other customers are told from customers who changed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from churn_assets.contract.model import Kind
from churn_assets.monitoring.faults.basis import fit_basis
from churn_assets.monitoring.faults.broken_relations import find_broken_relations
from churn_assets_tests.monitoring.test_special_values import KINDS, ROWS, customers

REFERENCE = pa.table(customers(10_000, seed=1))


def broken(rows, names=None):
    return [relation.column for relation in find_broken_relations(REFERENCE, pa.table(rows), KINDS, names)]


def permuted(rows, name, share, seed=0):
    count = int(share * ROWS)
    rows[name][:count] = np.random.default_rng(seed).permutation(rows[name][:count])
    return rows


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_values_of_other_customers_are_found_with_their_share(share):
    rows = permuted(customers(ROWS, seed=7), "spent", share)
    relation = find_broken_relations(REFERENCE, pa.table(rows), KINDS)[0]
    assert relation.column in ("spent", "orders")  # each is known from the other, so either may be the foreign one
    assert relation.share == pytest.approx(share, abs=0.1)


def test_a_unit_that_is_wrong_in_some_rows_is_a_broken_relation():
    rows = customers(ROWS, seed=7)
    rows["spent"][: ROWS // 3] *= 10
    assert broken(rows)[0] == "spent"


@pytest.mark.parametrize("activity", [-0.8, -0.4, 0.4, 0.8])
def test_customers_who_changed_are_no_fault(activity):
    assert broken(customers(ROWS, seed=7, activity=activity)) == []


@pytest.mark.parametrize("factor", [0.7, 1.25, 3.0])
def test_a_change_that_keeps_the_order_of_everybody_is_no_broken_relation(factor):
    rows = customers(ROWS, seed=7)
    rows["spent"] = rows["spent"] * factor
    assert broken(rows) == []


def test_nothing_is_found_where_nothing_changed():
    assert [broken(customers(ROWS, seed=seed)) for seed in range(50, 70)] == [[]] * 20


def test_only_the_columns_that_are_named_are_tested():
    rows = permuted(customers(ROWS, seed=7), "spent", 1.0)
    assert broken(rows, ["city"]) == []


def test_of_two_columns_that_explain_each_other_the_late_one_is_not_named():
    def pair(rows, seed):
        random = np.random.default_rng(seed)
        first = random.normal(size=rows)
        return {"first": first, "second": first + random.normal(0, 0.5, rows)}

    kinds, now = dict.fromkeys(("first", "second"), Kind.NUMBER), pair(ROWS, 2)
    now["first"][: ROWS // 2] = np.random.default_rng(3).permutation(now["first"][: ROWS // 2])
    sides = pa.table(pair(10_000, 1)), pa.table(now)
    named = [find_broken_relations(*sides, kinds, last=[late])[0].column for late in kinds]
    assert named == ["second", "first"]


@pytest.mark.parametrize(("factor", "share"), [(1.25, 0.5), (0.8, 0.4), (1.4, 0.6)])
def test_growth_that_begins_within_the_window_is_drift(factor, share):
    rows = customers(ROWS, seed=7)
    rows["spent"][: int(share * ROWS)] *= factor
    assert broken(rows) == []


def test_few_rows_say_nothing():
    few = {name: values[:200] for name, values in permuted(customers(ROWS, seed=7), "spent", 1.0).items()}
    assert broken(few) == []


def test_the_cost_of_many_columns_is_bounded():
    rows = np.random.default_rng(0).normal(size=(500, 300))
    assert fit_basis(rows, [True] * 300).of(rows).shape == (500, 300)
    assert fit_basis(rows[:, :10], [True] * 10).of(rows[:, :10]).shape == (500, 50)
