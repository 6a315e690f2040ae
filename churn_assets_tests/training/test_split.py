"""Training, validation and test customers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from churn_assets.errors import TrainingError
from churn_assets.training.split import (
    out_of_time_split,
    random_split,
    read_split,
    split_around,
    split_table,
    straddlers,
)
from churn_assets_tests.strategies import STORE, TELECOM


def parts(split):
    return split.train, split.validation, split.test


@given(rows=st.integers(60, 400), customers=st.integers(40, 400), seed=st.integers(0, 2**31 - 1))
@pytest.mark.parametrize("method", ["hash", "published"])
def test_a_customer_is_in_one_part_only(method, rows, customers, seed):
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, customers, rows)
    churned = (groups % 3 == 0).astype(int)
    split = random_split(churned, groups, seed, method)
    sides = [set(groups[part]) for part in parts(split)]
    assert not (sides[0] & sides[1])
    assert not (sides[0] & sides[2])
    assert not (sides[1] & sides[2])
    assert sorted(np.concatenate(parts(split))) == list(range(rows))


@given(seed=st.integers(0, 1000))
def test_with_one_row_a_customer_it_is_the_published_split(seed):
    churned = (np.random.default_rng(seed).random(500) < 0.3).astype(int)
    ids = np.random.default_rng(seed).permutation(500).astype(str)
    split = random_split(churned, ids, seed, "published")
    train, rest = train_test_split(np.arange(500), test_size=0.3, random_state=seed, stratify=churned)
    validation, test = train_test_split(rest, test_size=0.5, random_state=seed, stratify=churned[rest])
    for result, expected in zip(parts(split), (train, validation, test), strict=True):
        assert set(result) == set(expected)


@given(seed=st.integers(0, 1000), order=st.randoms())
def test_the_part_of_a_customer_does_not_depend_on_the_order_of_the_rows(seed, order):
    ids, churned = np.arange(300).astype(str), np.arange(300) % 7 == 0
    moved = np.array(order.sample(range(300), 300))
    first, second = (random_split(churned[rows], ids[rows], seed) for rows in (np.arange(300), moved))
    for one, other in zip(parts(first), parts(second), strict=True):
        assert set(ids[one]) == set(ids[moved][other])


def test_another_seed_draws_others_and_each_class_is_shared_out_alike():
    ids, churned = np.arange(1000), np.arange(1000) < 40
    first, second = random_split(churned, ids, 0), random_split(churned, ids, 1)
    for split in (first, second):
        assert [int(churned[part].sum()) for part in parts(split)] == [28, 6, 6]
        assert [len(part) for part in parts(split)] == [700, 150, 150]
    assert len(set(first.test) & set(second.test)) < 60


def test_a_customer_moves_at_the_edge_of_a_part_only_when_others_come():
    churned = np.arange(1100) % 5 == 0
    before, after = random_split(churned[:1000], np.arange(1000), 3), random_split(churned, np.arange(1100), 3)
    assert len(set(before.test) - set(after.test)) < 15


@given(cohort=st.lists(st.integers(0, 50), min_size=100, max_size=300))
def test_out_of_time_training_customers_are_older_than_test_customers(cohort):
    values = np.asarray(cohort, dtype=float)
    split = out_of_time_split(values, np.arange(len(values)))
    if split is None:
        return
    assert values[split.train].max() < values[split.validation].min()
    assert values[split.validation].max() < values[split.test].min()
    assert sorted(np.concatenate(parts(split))) == list(range(len(values)))


def test_equal_cohorts_give_no_out_of_time_split():
    assert out_of_time_split(np.zeros(100), np.arange(100)) is None


def test_distinct_cohorts_are_cut_at_70_and_85_percent():
    split = out_of_time_split(np.arange(1000.0), np.arange(1000))
    assert split is not None
    assert [len(part) for part in parts(split)] == [700, 150, 150]


def test_a_row_without_a_cohort_counts_as_oldest():
    cohort = np.append(np.arange(100.0), np.nan)
    split = out_of_time_split(cohort, np.arange(101))
    assert split is not None
    assert 100 in split.train


@pytest.mark.parametrize("method", ["hash", "published"])
def test_too_few_churners_are_an_error(method):
    with pytest.raises(TrainingError, match=r"10 customers with 1 churned cannot be split"):
        random_split(np.array([1] + [0] * 9), np.arange(10), method=method)


@pytest.mark.parametrize(("churners", "kind"), [(6, "churned"), (2994, "kept")])
def test_a_table_with_few_customers_of_a_class_is_refused_before_anything_is_trained(churners, kind):
    import pyarrow as pa

    columns = {"customer_id": list(map(str, range(3000))), "churned": (np.arange(3000) < churners).astype(np.int8)}
    with pytest.raises(TrainingError, match=f"^6 of 3,000 customers {kind}, expected at least 20 .*; use a table"):
        split_table(TELECOM, pa.table(columns))


def test_splits_are_read_back_from_the_table(customers, splits):
    assert straddlers(splits) == {"random": [], "out_of_time": []}
    split = read_split(splits, "random")
    assert split is not None
    churned = customers.column("churned").to_numpy()
    shares = [churned[part].mean() for part in parts(split)]
    assert max(shares) - min(shares) < 0.01
    created = customers.column("created").to_numpy()
    later = read_split(splits, "out_of_time")
    assert later is not None
    assert created[later.train].max() < created[later.test].min()


def test_a_straddling_customer_is_reported(splits):
    import pyarrow as pa

    twice = pa.concat_tables([splits, splits.slice(0, 1)]).to_pydict()
    twice["random"][-1] = "test" if twice["random"][0] != "test" else "train"
    assert straddlers(pa.table(twice))["random"] == [twice["customer_id"][0]]


def test_a_tenure_orders_cohorts_in_reverse():
    import pyarrow as pa

    rows = 1000
    generator = np.random.default_rng(0)
    table = pa.table(
        {
            "customer_id": [str(i) for i in range(rows)],
            "tenure_months": pa.array(generator.integers(0, 72, rows)),
            "churned": pa.array((generator.random(rows) < 0.3).astype(np.int8)),
        }
    )
    split = read_split(split_table(TELECOM, table), "out_of_time")
    assert split is not None
    tenure = table.column("tenure_months").to_numpy()
    assert tenure[split.train].min() > tenure[split.test].max()
    assert STORE.time.cohort == "created"


@given(
    rows=st.integers(120, 400), repeats=st.integers(0, 80), share=st.floats(0.0, 0.5), seed=st.integers(0, 2**31 - 1)
)
def test_frozen_customers_are_in_the_test_part_only(rows, repeats, share, seed):
    generator = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(rows), generator.integers(0, rows + 40, repeats)])
    churned = (groups % 3 == 0).astype(int)
    frozen = np.isin(groups, np.flatnonzero(generator.random(rows) < share))
    table = np.arange(len(groups)) < rows
    split = split_around(churned, groups, frozen, table, seed)
    sides = [set(groups[part]) for part in parts(split)]
    assert set(groups[frozen]) <= sides[2]
    assert not (sides[0] & sides[1])
    assert not (sides[0] & sides[2])
    assert not (sides[1] & sides[2])
    assert sorted(np.concatenate(parts(split))) == list(range(len(groups)))
    others = len(sides[0] | sides[1])
    assert abs(len(sides[1]) - others * 15 / 85) <= 1
    test_size = int(np.ceil(np.ceil(0.3 * rows) / 2))
    if frozen.any():
        assert len(sides[2]) == max(test_size, len(set(groups[frozen]))) or len(set(groups[frozen])) == test_size - 1


@given(seed=st.integers(0, 1000), method=st.sampled_from(["hash", "published"]))
def test_a_table_whose_test_customers_are_the_frozen_ones_is_split_as_before(seed, method):
    churned = (np.random.default_rng(seed).random(500) < 0.3).astype(int)
    first = random_split(churned, np.arange(500), seed, method)
    frozen = np.isin(np.arange(500), first.test)
    again = split_around(churned, np.arange(500), frozen, np.ones(500, dtype=bool), seed, method)
    for result, expected in zip(parts(again), parts(first), strict=True):
        assert result.tolist() == expected.tolist()


def test_frozen_customers_of_one_class_are_an_error():
    churned = np.arange(400) < 100
    frozen = churned.copy()
    with pytest.raises(TrainingError, match=r"the 100 rows of frozen .* all of one class, expected both; use"):
        split_around(churned.astype(int), np.arange(400), frozen, np.ones(400, dtype=bool))
