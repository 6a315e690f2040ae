"""The shifted block: found wherever it lies, and never where there is none."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.data.repairs.excel_1904 import MIN_BLOCK_ROWS, MIN_OTHER_ROWS, SHIFT_DAYS, find_shifted_block
from churn_assets.data.repairs.repairs import date_matrix
from churn_assets.synthetic.generate import generate
from churn_assets_tests.strategies import STORE

# Fixed examples: whether a block of twenty customers can be told from chance is itself a matter of chance.
fixed = settings(derandomize=True, max_examples=80)
SEEDS = st.integers(0, 2**16)


@functools.cache
def pool(seed):
    return date_matrix(generate(STORE, 20_000, seed), STORE)


def customers(rows, seed, missing=0.0):
    """Dates of `rows` generated customers in random order, a share of the cells missing."""
    rng = np.random.default_rng(seed)
    days = pool(seed % 3)[rng.choice(20_000, rows, replace=False)].copy()
    days[rng.random(days.shape) < missing] = np.nan
    return days


def shifted(days, first, size):
    found = days.copy()
    found[first : first + size] += SHIFT_DAYS
    return found


def place(where, rows, size, seed):
    return {"start": 0, "end": rows - size, "middle": (rows - size) // (2 + seed % 3)}[where]


def assert_found(days, first, size, block):
    """The block is the planted one, up to border rows whose own dates do not tell."""
    assert block is not None
    wrong = np.ones(len(days), dtype=bool)
    wrong[max(first, block.first) : min(first + size, block.end)] = False
    outside = np.ones(len(days), dtype=bool)
    outside[min(first, block.first) : max(first + size, block.end)] = False
    wrong &= ~outside
    snapshot = np.nanmax(days)
    planted = shifted(days, first, size)[wrong]
    assert wrong.sum() <= 5
    assert not np.any(planted[~np.isnan(planted)] > snapshot + 92)


@fixed
@given(st.integers(200, 3000), st.floats(0.02, 0.9), st.sampled_from(["start", "middle", "end"]), SEEDS)
def test_a_shifted_block_is_found_whatever_its_size_and_place(rows, share, where, seed):
    days = customers(rows, seed, missing=0.05)
    size = min(max(2 * MIN_BLOCK_ROWS, int(share * rows)), int(rows / 1.06) - MIN_OTHER_ROWS)
    first = place(where, rows, size, seed)
    assert_found(days, first, size, find_shifted_block(shifted(days, first, size)))


@fixed
@given(st.integers(1000, 3000), st.floats(0.1, 0.9), st.sampled_from(["start", "middle", "end"]), st.booleans(), SEEDS)
def test_a_shifted_block_is_found_in_a_table_sorted_by_created(rows, share, where, newest_first, seed):
    days = customers(rows, seed)
    days = days[np.argsort(-days[:, 0] if newest_first else days[:, 0], kind="stable")]
    size = int(share * rows)
    first = place(where, rows, size, seed)
    assert_found(days, first, size, find_shifted_block(shifted(days, first, size)))


ORDERS = {
    "as it comes": lambda days, rng: np.arange(len(days)),
    "created": lambda days, rng: np.argsort(days[:, 0], kind="stable"),
    "newest first": lambda days, rng: np.argsort(-days[:, 0], kind="stable"),
    "last order": lambda days, rng: np.argsort(days[:, 2], kind="stable"),
    "roughly by created": lambda days, rng: np.argsort(days[:, 0] + rng.normal(0, 60, len(days))),
    "two sorted files in one": lambda days, rng: np.concatenate(
        [np.argsort(days[: len(days) // 3, 0]), len(days) // 3 + np.argsort(days[len(days) // 3 :, 0])]
    ),
}


@pytest.mark.parametrize("order", ORDERS)
@settings(max_examples=40)
@given(st.integers(1, 3000), st.sampled_from([0.0, 0.05, 0.5]), st.integers(1, 3), SEEDS)
def test_an_unshifted_table_is_left_alone(order, rows, missing, columns, seed):
    days = customers(rows, seed, missing)
    days = days[ORDERS[order](days, np.random.default_rng(seed))][:, :columns]
    assert find_shifted_block(days) is None


@pytest.mark.parametrize("rows", [0, 1, 2, 39])
def test_a_table_too_small_to_tell_is_left_alone(rows):
    days = customers(100, 1)[:rows]
    assert find_shifted_block(shifted(days, 0, rows // 2)) is None


def test_a_table_without_dates_is_left_alone():
    assert find_shifted_block(np.empty((500, 0))) is None
    assert find_shifted_block(np.full((500, 2), np.nan)) is None


def test_a_single_date_far_in_the_future_neither_hides_a_block_nor_makes_one():
    days = customers(1000, 5)
    days[17, 2] = 40_000.0
    assert find_shifted_block(days) is None
    assert_found(customers(1000, 5), 600, 300, find_shifted_block(shifted(days, 600, 300)))


def test_two_unshifted_files_four_years_apart_are_recognised_by_their_weekdays():
    """A file of 2020 and one of 2024 end almost 1462 days apart; a shop that closes on Sunday tells."""
    rng = np.random.default_rng(0)

    def export(end, rows):
        days = end - np.floor(rng.exponential(200, rows))
        return np.where((days + 4) % 7 == 0, days - 1, days)[:, None]  # no Sunday

    end = 18_261.0
    both = np.vstack([export(end, 3000), export(end + 1461, 1000)])
    assert find_shifted_block(both) is None
    pasted = np.vstack([export(end, 3000), export(end, 1000) + SHIFT_DAYS])
    assert find_shifted_block(pasted) is not None


def test_repeated_customers_whose_dates_agree_are_evidence_against_a_block():
    days = customers(1000, 3)
    found = shifted(days, 700, 300)
    ids = [f"c{row}" for row in range(1000)]
    assert find_shifted_block(found, ids).repeats_for == 0
    ids[710] = ids[10]
    found[710] = found[10] + SHIFT_DAYS
    assert find_shifted_block(found, ids).repeats_for == 1
    found[710] = found[10]
    against = find_shifted_block(found, ids)
    assert against is None or against.repeats_against == 1
