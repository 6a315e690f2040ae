"""Levels under other names are told from customers who changed."""

from __future__ import annotations

import numpy as np
import pytest

from churn_assets.monitoring.faults.relabelled import find_relabelled

SHARES = {"fiber": 0.5, "dsl": 0.3, "none": 0.15, "cable": 0.05}
BEFORE = {name: int(10_000 * share) for name, share in SHARES.items()}
SHIFTED = {"fiber": "dsl", "dsl": "none", "none": "cable", "cable": "fiber"}


def counts(shares, rows=2_000, seed=0):
    drawn = np.random.default_rng(seed).multinomial(rows, [shares[name] for name in SHARES])
    return dict(zip(SHARES, drawn.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_shifted_codes_are_named(seed):
    shifted = find_relabelled(BEFORE, counts({new: SHARES[old] for new, old in SHIFTED.items()}, seed=seed))
    assert shifted is not None
    assert shifted.renamed == SHIFTED
    assert 0.3 < shifted.moved < 0.6


@pytest.mark.parametrize(
    ("shares", "rows"),
    [
        (SHARES, 2_000),
        ({"fiber": 0.4, "dsl": 0.35, "none": 0.2, "cable": 0.05}, 2_000),  # customers who changed
        ({"fiber": 0.3, "dsl": 0.5, "none": 0.15, "cable": 0.05}, 2_000),  # two that only change places
        ({"fiber": 0.2, "dsl": 0.1, "none": 0.4, "cable": 0.3}, 2_000),  # another order, other shares
        ({"fiber": 0.5, "dsl": 0.05, "none": 0.3, "cable": 0.15}, 2_000),  # three that do
        ({"fiber": 0.9, "dsl": 0.05, "none": 0.03, "cable": 0.02}, 2_000),
        ({new: SHARES[old] for new, old in SHIFTED.items()}, 200),  # too few to tell
    ],
)
def test_customers_who_changed_are_no_other_names(shares, rows):
    assert all(find_relabelled(BEFORE, counts(shares, rows, seed)) is None for seed in range(20))


def test_an_empty_side_is_not_judged():
    assert find_relabelled(BEFORE, {}) is None
    assert find_relabelled({}, BEFORE) is None
