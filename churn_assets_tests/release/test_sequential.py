"""Intervals that hold at every look: exact properties by enumeration, coverage and detection by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.release import sequential
from churn_assets.release.counts import SECONDS_GROWTH, seconds_bin
from churn_assets.release.sequential import JEFFREYS, LESS, MORE, RARE, Sums

ALPHA, LOOKS, BATCH = 0.05, 60, 50
MOST_WRONG = 0.075  # of 400 paths: three standard errors over ALPHA are 0.083


def paths(seed: int, shares, count: int = 400):
    """Hits and rows (looks, count, periods) of an arm, as they grow; a period after the other."""
    rng = np.random.default_rng(seed)
    drawn = rng.binomial(BATCH, np.asarray(shares), size=(LOOKS, count, len(shares)))
    began = np.repeat(np.arange(len(shares)), -(-LOOKS // len(shares)))[:LOOKS, None, None] == np.arange(len(shares))
    rows = np.broadcast_to(began * BATCH, drawn.shape)
    return np.cumsum(drawn * began, axis=0), np.cumsum(rows, axis=0)


@pytest.mark.parametrize("prior", [JEFFREYS, RARE])
def test_the_mixture_over_the_likelihood_has_a_mean_of_1(prior):
    rows, share = 14, 0.03
    hits = np.arange(rows + 1.0)
    count = np.array([math.comb(rows, int(k)) for k in hits])
    likely = sequential._log_likelihood(hits, np.full_like(hits, rows), np.asarray(share))
    mixed = sequential._log_mixture(hits, np.full_like(hits, rows), prior)
    assert math.isclose(np.sum(count * np.exp(likely) * np.exp(mixed - likely)), 1.0, rel_tol=1e-8)


def test_the_log_gamma_function_is_that_of_the_standard_library():
    values = np.array([0.1, 0.5, 1.0, 2.0, 3.7, 40.0, 1e6])
    expected = [math.lgamma(value) for value in values]
    np.testing.assert_allclose(sequential._log_gamma(values), expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("share", [0.002, 0.2])
def test_an_interval_of_a_share_holds_it_at_every_look(share):
    hits, rows = paths(1, [share])
    interval = sequential.share_interval(hits[..., 0], rows[..., 0], ALPHA)
    wrong = (interval.low > share) | (interval.high < share)
    assert wrong.any(axis=0).mean() <= MOST_WRONG
    assert (interval.high - interval.low)[-1].mean() < 0.06


@pytest.mark.parametrize("factors", [MORE, LESS])
def test_evidence_for_more_or_for_less_than_a_share_has_a_mean_of_1_and_less_on_the_other_side(factors):
    rows, share = 40, 0.03
    hits = np.arange(rows + 1.0)
    count = np.array([math.comb(rows, int(k)) for k in hits])
    ratio = np.exp(sequential._mixed_ratio(hits, np.full_like(hits, rows), share, factors))

    def mean(true_share):
        return np.sum(count * true_share**hits * (1.0 - true_share) ** (rows - hits) * ratio)

    assert math.isclose(sum(factors.values()), 1.0)
    assert math.isclose(mean(share), 1.0, rel_tol=1e-8)
    other_side = np.array([0.1, 0.5, 0.9]) if factors is MORE else 1.0 / np.array([0.1, 0.5, 0.9])
    assert all(mean(share * factor) < 1.0 for factor in other_side)


COUNTS = st.tuples(st.integers(1, 4000), st.integers(1, 4000)).flatmap(
    lambda rows: st.tuples(st.integers(0, rows[0]), st.just(rows[0]), st.integers(0, rows[1]), st.just(rows[1]))
)


@given(COUNTS, st.one_of(st.sampled_from([0.0, 0.005, -0.005, 0.99]), st.floats(-0.999, 0.999)))
def test_two_shares_with_a_given_difference_have_the_largest_likelihood(counts, rise):
    hits, rows, base_hits, base_rows = sequential._floats(*counts)

    def likely(own, base):
        return sequential._log_likelihood(hits, rows, own) + sequential._log_likelihood(base_hits, base_rows, base)

    own, base = sequential._constrained(hits, rows, base_hits, base_rows, np.asarray(rise))
    assert math.isclose(own - base, rise, abs_tol=1e-12)
    low, high = max(0.0, -rise), min(1.0, 1.0 - rise)
    grid = low + (high - low) * np.concatenate([np.linspace(0, 1, 2001), np.geomspace(1e-7, 1, 500)])
    assert likely(own, base) >= likely(grid + rise, grid).max() - 1e-6


@pytest.mark.parametrize(
    ("shares", "rows_of_base"),
    [([0.001], 19), ([0.1], 3), ([0.002, 0.03], 1)],
    ids=["rare", "often", "a day that is worse"],
)
def test_equal_shares_are_told_apart_by_chance_only(shares, rows_of_base):
    own, rows = paths(2, shares)
    base = np.random.default_rng(3).binomial(np.diff(rows, axis=0, prepend=0) * rows_of_base, shares)
    interval = sequential.rise_interval(own, rows, np.cumsum(base, axis=0), rows * rows_of_base, ALPHA)
    assert (interval.low > 0.0).any(axis=0).mean() <= MOST_WRONG
    assert (interval.high < 0.0).any(axis=0).mean() <= MOST_WRONG


def test_a_rise_is_found_and_its_end_under_it():
    own, rows = paths(4, [0.021])
    base = np.cumsum(np.random.default_rng(5).binomial(BATCH * 3, 0.001, size=own.shape), axis=0)
    interval = sequential.rise_interval(own, rows, base, rows * 3, ALPHA)
    assert (interval.low[-1] > 0.005).mean() > 0.95
    assert ((interval.low > 0.02) | (interval.high < 0.02)).any(axis=0).mean() <= MOST_WRONG


def test_an_arm_without_rows_tells_nothing():
    nothing = sequential.rise_interval([0.0], [0.0], [0.0], [0.0], ALPHA)
    assert (nothing.low, nothing.high) == (-1.0, 1.0)
    alone = sequential.rise_interval([900.0], [1000.0], [0.0], [0.0], ALPHA)  # the base may be as bad
    assert alone.low < 0.0


def grown(values, mask=None):
    """Sums of values (looks, paths, batch) as they grow (looks, paths)."""
    rows = np.ones_like(values) if mask is None else mask.astype(float)
    parts = (rows, values * rows, values**2 * rows)
    return Sums(*(np.cumsum(part.sum(axis=-1), axis=0) for part in parts))


def test_equal_skewed_scores_are_told_apart_by_chance_only():
    rng = np.random.default_rng(6)
    scores, mine = rng.beta(0.3, 2.0, (LOOKS, 400, BATCH)), rng.random((LOOKS, 400, BATCH)) < 0.25
    sums = [grown(scores, mask) for mask in (mine, ~mine)]
    own, base = (Sums(*(part[..., None] for part in vars(each).values())) for each in sums)
    _, interval = sequential.mean_shift(own, base, ALPHA)
    enough = sums[0].rows >= 200
    assert (((interval.low > 0) | (interval.high < 0)) & enough).any(axis=0).mean() <= MOST_WRONG
    _, shifted = sequential.mean_shift(Sums(own.rows, own.total + 0.05 * own.rows, own.squares), base, ALPHA)
    assert (shifted.low[-1] > 0).mean() > 0.5


def test_paired_differences_are_told_from_nothing_by_chance_only():
    sums = grown(np.random.default_rng(7).exponential(0.02, (LOOKS, 400, BATCH)) - 0.02)
    _, interval = sequential.mean_interval(sums, ALPHA)
    enough = sums.rows >= 200
    assert (((interval.low > 0) | (interval.high < 0)) & enough).any(axis=0).mean() <= MOST_WRONG


def test_a_rollout_that_grows_while_customers_change_is_no_difference():
    """At night scores are .1 and the challenger has 5 % of the customers, at day .3 and it has half of them."""
    rng = np.random.default_rng(8)
    night, day = rng.beta(1, 9, 20_000), rng.beta(3, 7, 20_000)
    arms = [(night[:1000], day[:10_000]), (night[1000:], day[10_000:])]
    own, base = (
        Sums(*(np.array([f(period) for period in arm]) for f in (len, np.sum, lambda v: np.sum(v**2)))) for arm in arms
    )
    shift, interval = sequential.mean_shift(own, base, ALPHA)
    assert interval.low < 0 < interval.high
    assert abs(shift) < 0.01
    first, second = (Sums(*(np.array([part.sum()]) for part in vars(each).values())) for each in (own, base))
    assert sequential.mean_shift(first, second, ALPHA)[1].low > 0.05  # what a comparison without periods would say


def histogram(times):
    """Counts by bin (..., bins) of times (..., n)."""
    places = np.vectorize(seconds_bin)(times)
    return (places[..., None, :] == np.arange(400)[:, None]).sum(axis=-1).astype(float)


def test_a_ratio_of_quantiles_holds_at_every_look_and_finds_what_is_twice_as_slow():
    rng = np.random.default_rng(9)
    times = 60e-6 * np.exp(0.5 * rng.normal(size=(2, 10, 60, 300)))
    own, base = (np.cumsum(histogram(arm), axis=0)[..., None, :] for arm in times)
    low, high = sequential.quantile_ratio(own, base, 0.99, ALPHA)
    assert not ((low > 0) | (high < 0)).any(axis=0).any()
    doubled = round(math.log(2.0, SECONDS_GROWTH))
    slower = np.roll(own, doubled, axis=-1)
    low, high = sequential.quantile_ratio(slower, base, 0.99, ALPHA)
    assert not ((low > doubled) | (high < doubled)).any()
    assert (SECONDS_GROWTH ** low[-1] > 1.5).mean() > 0.8
    assert (SECONDS_GROWTH ** high[-1]).mean() < 4.0


def evidence(hits, rows, share, factors):
    """Of a share, over so many values: the mixture, as its definition says."""
    parts = [w * f**hits * ((1 - share * f) / (1 - share)) ** (rows - hits) for f, w in factors.items()]
    return math.log(sum(parts))


@pytest.mark.parametrize("periods", [1, 2])
def test_a_ratio_of_quantiles_is_what_remains_when_each_edge_of_the_base_was_tried(periods):
    rng = np.random.default_rng(periods)
    own, base = np.zeros((2, periods, 30))
    for arm, middle in ((own, 16), (base, 12)):
        for period in range(periods):
            np.add.at(arm[period], rng.normal(middle, 2.0, 400).astype(int), 1.0)
    share = 0.1

    def over(histogram, edge):  # values over the lower end of a bin, whatever number it has
        return histogram[max(edge, 0) :].sum()

    def is_shown(shift, first, second, before, after):
        """Whether the product of both is large wherever the base's quantile may be, in bin -200 to 200."""
        total = 0.0
        for mine, other in zip(own, base, strict=True):
            least = min(
                evidence(over(other, place + before), other.sum(), share, first)
                + evidence(over(mine, place + shift + after), mine.sum(), share, second)
                for place in range(-200, 200)
            )
            total += least if periods == 1 else math.log(0.5 + 0.5 * math.exp(least))
        return total >= math.log(1.0 / ALPHA)

    low, high = sequential.quantile_ratio(own, base, 1.0 - share, ALPHA)
    assert 0 < low < high < 12
    assert [is_shown(int(low) + more, LESS, MORE, 0, 1) for more in (0, 1)] == [True, False]
    assert [is_shown(int(high) - less, MORE, LESS, 1, 0) for less in (0, 1)] == [True, False]


def test_times_of_which_nothing_is_known_have_no_ratio():
    none, some = np.zeros((1, 400)), np.zeros((1, 400))
    some[0, 100] = 5000.0
    for own, base in itertools.product((none, some), repeat=2):
        low, high = sequential.quantile_ratio(own, base, 0.99, ALPHA)
        known = own is some and base is some
        assert (low > -sequential.REACH) == known
        assert (high < sequential.REACH) == known


def test_the_value_against_the_sample_ratio_has_a_mean_of_1():
    rows, weights = 9, np.array([0.2, 0.3, 0.5])
    total = 0.0
    for first in range(rows + 1):
        for second in range(rows - first + 1):
            counts = np.array([first, second, rows - first - second])
            ways = math.factorial(rows) / math.prod(math.factorial(k) for k in counts)
            total += ways * np.prod(weights**counts) * float(sequential.sample_ratio(counts, weights))
    assert math.isclose(total, 1.0, rel_tol=1e-7)


def test_a_sample_that_does_not_fit_its_weights_is_found():
    rng = np.random.default_rng(10)
    right = np.cumsum(rng.multinomial(100, [0.5, 0.3, 0.2], size=(100, 300)), axis=0)
    assert (sequential.sample_ratio(right, [5, 3, 2]) >= 1 / ALPHA).any(axis=0).mean() <= MOST_WRONG
    wrong = np.cumsum(rng.multinomial(100, [0.46, 0.3, 0.24], size=(100, 300)), axis=0)
    assert (sequential.sample_ratio(wrong, [5, 3, 2])[-1] >= 1 / ALPHA).mean() > 0.95
    assert sequential.sample_ratio([10, 0], [1.0, 0.0]) < 1 / ALPHA
    assert sequential.sample_ratio([10, 1], [1.0, 0.0]) > 1 / ALPHA  # an arm without weight has a customer


def test_looks_double_and_spend_alpha_once():
    assert sequential.look_sizes(500, 499) == []
    assert sequential.look_sizes(500, 2100) == [500, 1000, 2000]
    spent = sum(sequential.alpha_at_look(ALPHA, look) for look in range(1, 20_000))
    assert 0.9999 * ALPHA < spent < ALPHA


@pytest.mark.parametrize(("moved", "distance"), [((0.01, 0.25, 0.74), 0.0), ((0.01, 0.1, 0.89), 0.15)])
def test_the_distance_of_two_distributions_is_held_at_every_look(moved, distance):
    """A challenger with a twentieth of the rows, and an edge that one row in a hundred lies under."""
    rng, looks, base = np.random.default_rng(12), 40, (0.01, 0.25, 0.74)
    own_rows, base_rows = 50, 950
    arms = [
        np.cumsum(np.cumsum(rng.multinomial(rows, shares, size=(looks, 400)), axis=0), axis=-1)[..., :2, None]
        for rows, shares in ((own_rows, moved), (base_rows, base))
    ]
    counted = np.arange(1, looks + 1)[:, None, None, None]
    own, champion = (
        Sums.of_share(hits, counted * rows) for hits, rows in zip(arms, (own_rows, base_rows), strict=True)
    )
    value, interval = sequential.distribution_shift(own, champion, ALPHA)
    enough = slice(3, None)  # from 200 rows on
    wrong = (interval.low > distance) | (interval.high < distance)
    assert wrong[enough].any(axis=0).mean() <= MOST_WRONG
    assert value[-1].mean() == pytest.approx(distance, abs=0.015)
    assert (interval.low[-1] > distance / 2).mean() > 0.9 or distance == 0.0
    assert np.all((interval.low >= 0.0) & (interval.low <= value + 1e-12) & (value <= interval.high + 1e-12))
