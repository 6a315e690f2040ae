"""Tests and intervals that stay valid however often they are looked at, from sums alone.

An interval at level `alpha` contains the true value at all looks at once with probability at least 1 - alpha
(a confidence sequence): whoever acts at the first look that excludes a value errs with probability alpha at most.
Ville (1939): a nonnegative martingale that begins at 1 ever reaches 1 / alpha with probability alpha at most. Robbins
(1970): a likelihood mixed over a prior, over the likelihood of the truth, is such a martingale.

Comparisons are by period (the last axis, K): the share of customers that the challenger answers is constant in a
period, and only rows of the same period are compared. Otherwise a rollout that grows while customers or load change
would compare the champion's night with the challenger's day.

`hits`, `rows`, sums and squares are arrays (..., K) or (...), of counts by arm; what is returned is (...). Rows are
taken as independent: repeated rows of one customer carry less evidence than their number says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int_]

JEFFREYS = (0.5, 0.5)
RARE = (0.1, 10.0)  # a prior for shares that are nearly always zero: errors
# Factors of a share that is over, or under, another one, with their weights: values over a quantile. What is bet on the
# share itself stays: else many rows of one arm, where they tell against the bet, would drown the few of the other.
MORE = {1.0: 0.05, 1.1: 0.05, 1.35: 0.4, 1.7: 0.35, 2.5: 0.15}
LESS = {1.0: 0.05, 0.9: 0.05, 0.7: 0.3, 0.55: 0.35, 0.35: 0.2, 0.1: 0.05}
TUNED_ROWS = 1500.0  # effective rows at which the asymptotic interval is the narrowest
REACH = 120  # bins of a ratio of quantiles: a factor of 10 where bins grow by 2 %
_FAR = 1 << 30
_STEPS = 60  # of a search at most
_POINTS = 128  # that a search asks at a time: one call of NumPy on few numbers takes as long as on one
_FINE = 2e-6  # to which the end of an interval of shares is computed
_FEW = 16  # numbers for which a loop of Python is faster than NumPy


@dataclass(frozen=True)
class Interval:
    """Ends (...,) of a confidence sequence at this look. Where periods contradict each other `low` may exceed `high`:
    in one the value is over `low`, in another under `high`."""

    low: Floats
    high: Floats


def share_interval(hits: Any, rows: Any, alpha: float, prior: tuple[float, float] = JEFFREYS) -> Interval:
    """Of one share, exact at any number of rows: values at which the beta-binomial mixture over the likelihood is under
    1 / alpha (Robbins 1970; Howard & Ramdas 2022, section 3)."""
    hits, rows = _floats(hits, rows)
    ceiling = _log_mixture(hits, rows, prior) - math.log(1.0 / alpha)

    def excluded(share: Floats) -> npt.NDArray[np.bool_]:
        return _log_likelihood(hits, rows, share) <= ceiling

    best = np.where(rows > 0, hits / np.maximum(rows, 1.0), 0.5)
    return Interval(
        _last_excluded(np.zeros_like(best), best, excluded), _last_excluded(np.ones_like(best), best, excluded)
    )


def rise_interval(
    hits: Any, rows: Any, base_hits: Any, base_rows: Any, alpha: float, prior: tuple[float, float] = RARE
) -> Interval:
    """Of the rise of a share against a base, exact at any number of rows; arrays (..., K).

    The numerator is the product of two beta-binomial mixtures, one an arm, over all periods; the denominator the
    largest likelihood, period by period, under the null "rises by `r` at most in every period" for the low end, "by at
    least" for the high end. Both are at most the martingale of the true shares, so Ville's inequality holds for any
    null, and shares may differ from period to period. The mixture may run over periods, as its prior in a period is
    what was seen before. The constrained maximum is the cubic of Miettinen & Nurminen (1985).
    """
    hits, rows, base_hits, base_rows = _floats(hits, rows, base_hits, base_rows)
    sums = [value.sum(axis=-1) for value in (hits, rows, base_hits, base_rows)]
    ceiling = _log_mixture(sums[0], sums[1], prior) + _log_mixture(sums[2], sums[3], prior) - math.log(1.0 / alpha)
    free, base = _share(hits, rows), _share(base_hits, base_rows)
    known = (rows > 0) & (base_rows > 0)
    best = _log_likelihood(hits, rows, free) + _log_likelihood(base_hits, base_rows, base)

    def of_each_period(rise: Floats) -> Floats:
        return np.broadcast_to(rise[..., None], (*rise.shape, hits.shape[-1]))

    def fitted(rise: Floats) -> Floats:
        """The likelihood (..., K) where the rise of each period is this one."""
        own, shared = _constrained(hits, rows, base_hits, base_rows, rise)
        return _log_likelihood(hits, rows, own) + _log_likelihood(base_hits, base_rows, shared)

    def excluded_below(rise: Floats) -> npt.NDArray[np.bool_]:
        by_period = of_each_period(rise)
        inside = np.where(known, free - base <= by_period, free <= 1.0 + np.minimum(by_period, 0.0))
        return np.asarray(np.where(inside, best, fitted(by_period)).sum(axis=-1) <= ceiling)

    def excluded_above(rise: Floats) -> npt.NDArray[np.bool_]:
        by_period = of_each_period(rise)
        inside = known & (free - base >= by_period)
        return np.asarray(np.where(inside, best, fitted(by_period)).sum(axis=-1) <= ceiling)

    differences = np.where(known, free - base, 0.0)
    top, bottom = differences.max(axis=-1), differences.min(axis=-1)
    low = _last_excluded(np.full_like(top, -1.0), top, excluded_below)
    return Interval(low, _last_excluded(np.ones_like(top), bottom, excluded_above))


@dataclass(frozen=True)
class Sums:
    """Number, sum and sum of squares of bounded values, arrays (..., K)."""

    rows: Any
    total: Any
    squares: Any

    @classmethod
    def of_share(cls, hits: Any, rows: Any) -> Sums:
        """Those of values 0 and 1."""
        return cls(rows, hits, hits)


def mean_shift(own: Sums, base: Sums, alpha: float, least_variance: float | Floats = 0.0) -> tuple[Floats, Interval]:
    """The shift of a mean against a base over periods, and its interval; both (...).

    Asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, Annals of Statistics 52, theorem
    2.2: Robbins' normal mixture with estimated variance). The shift is the mean over periods weighted by
    n0 n1 / (n0 + n1), which is a sum over customers of martingale differences when arms are drawn with a share that is
    constant in a period; a period with one arm has no weight. Read it from some hundred rows an arm on only: there the
    simulations of `benchmarks.release_guardrails` hold. `least_variance` is what a row has at least, so that few equal
    values are no proof.
    """
    n1, s1, q1 = _floats(own.rows, own.total, own.squares)
    n0, s0, q0 = _floats(base.rows, base.total, base.squares)
    weight = n0 * n1 / np.maximum(n0 + n1, 1.0)
    own_variance, base_variance = _variance(n1, s1, q1, weight), _variance(n0, s0, q0, weight)
    per_row = np.maximum(own_variance, least_variance) / np.maximum(n1, 1.0)
    per_row = per_row + np.maximum(base_variance, least_variance) / np.maximum(n0, 1.0)
    differences = s1 / np.maximum(n1, 1.0) - s0 / np.maximum(n0, 1.0)
    time = weight.sum(axis=-1)
    shift = (weight * differences).sum(axis=-1) / np.maximum(time, 1e-9)
    spread = np.sqrt((weight**2 * per_row).sum(axis=-1) / np.maximum(time, 1e-9))
    radius = _radius(time, spread, alpha)
    return shift, Interval(shift - radius, shift + radius)


def distribution_shift(
    own: Sums, base: Sums, alpha: float, least_variance: float | Floats = 0.0
) -> tuple[Floats, Interval]:
    """The largest difference of two cumulative distributions over E edges (a Kolmogorov-Smirnov distance), and its
    interval in [0, 1]; both (...).

    `own`, `base` are `Sums.of_share` of the rows under each edge, arrays (..., E, K). Each edge has a `mean_shift` of
    alpha / E: by the union bound all E intervals hold at once, at every look. The low end exceeds a limit where one
    edge's interval lies beyond it on either side, the high end is within it where all intervals are. Howard & Ramdas
    (2022, Bernoulli 28) bound an empirical distribution at all values and all times; the union over a few fixed edges
    is simpler, and takes periods, but a change between two edges is not seen. `least_variance` broadcasts
    to (..., E, K). A share has in both arms the variance of the arm where that is larger: at the outer edges a few
    hundred rows of one arm have no hit too often for their own variance to be believed.
    """
    edges = np.broadcast_shapes(np.shape(own.total), np.shape(base.total))[-2]
    larger = np.maximum(*(share * (1.0 - share) for share in (_overall(own), _overall(base))))[..., None]
    shift, each = mean_shift(own, base, alpha / edges, np.maximum(larger, least_variance))
    low = np.maximum(np.maximum(each.low, -each.high), 0.0).max(axis=-1)
    high = np.maximum(each.high, -each.low).max(axis=-1)
    return np.abs(shift).max(axis=-1), Interval(low, np.minimum(high, 1.0))


def mean_interval(values: Sums, alpha: float, least_variance: float = 0.0) -> tuple[Floats, Interval]:
    """The mean of bounded values and its interval, for paired differences; arrays (...). As `mean_shift`."""
    rows, total, squares = _floats(values.rows, values.total, values.squares)
    mean = total / np.maximum(rows, 1.0)
    variance = np.maximum(squares / np.maximum(rows, 1.0) - mean**2, least_variance)
    radius = _radius(rows, np.sqrt(variance), alpha)
    return mean, Interval(mean - radius, mean + radius)


def quantile_ratio(own: Floats, base: Floats, quantile: float, alpha: float) -> tuple[Ints, Ints]:
    """Bounds of the ratio of a quantile to that of a base, in bins of a histogram whose edges grow by a factor.

    `own`, `base` (..., K, bins) count values by bin, period by period. Returns (...) the largest number of bins by
    which own quantile is surely over the base's, and the smallest by which it is surely not over it: the ratio is the
    factor to their power. Minus and plus `REACH` where nothing is sure. Each is ever wrong with probability alpha.

    A quantile is over an edge where more than `1 - quantile` of the values are (Howard & Ramdas 2022, Bernoulli 28).
    If own quantile is over the base's by so many bins at most, then for one edge, that of the base's quantile, at least
    this share of the base lies over the edge before, and at most this share of own values over the edge so many bins
    on. The arms are independent: a test martingale of either times one of the other is one. (Rows of a shadow that are
    slow in one arm are rather slow in the other, too. As one martingale grows with such rows and the other falls, the
    mean of the product is less.) So the null is rejected where the product is large at each edge, the base's quantile
    among them, at no cost for not knowing it; and periods multiply, each with half of what was won before.
    """
    tail = 1.0 - quantile
    used = np.flatnonzero((own + base).reshape(-1, own.shape[-1]).any(axis=0))
    bins = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
    (own_more, own_less), (base_more, base_less) = (_share_evidence(arm[..., bins], tail) for arm in (own, base))
    edges = np.arange(own_more.shape[-1])  # that of number k is the lower end of bin k
    after, before = edges + 1, edges - 1
    after[-1], before[0] = _FAR, -_FAR  # the base's quantile may lie beyond all values that were seen

    def is_over(shift: Ints) -> npt.NDArray[np.bool_]:
        return _product(base_less, own_more, after + shift[..., None, None]) >= math.log(1.0 / alpha)

    def is_not_over(shift: Ints) -> npt.NDArray[np.bool_]:
        return _product(base_more, own_less, before + shift[..., None, None]) >= math.log(1.0 / alpha)

    low = _largest_shift(is_over, own.shape[:-2])
    return low, -_largest_shift(lambda shift: is_not_over(-shift), own.shape[:-2])


def sample_ratio(counts: Any, weights: Any, strength: float = 100.0) -> Floats:
    """The e-value against "customers come to the arms by these weights"; (...), of counts (..., arms).

    1 / alpha or more is a mismatch at level alpha, at any look (Lindon & Malek 2022, NeurIPS: a Dirichlet-multinomial
    mixture over the multinomial likelihood; the prior has the weights as its mean and `strength` as its sum). Count
    distinct customers: a customer keeps the arm, so that rows of one customer are one draw.
    """
    (counts,) = _floats(counts)
    shares = np.asarray(weights, dtype=np.float64)
    shares = shares / shares.sum()
    prior = np.maximum(strength * shares, 1e-9)
    rows = counts.sum(axis=-1)
    mixed = (_log_gamma(prior + counts) - _log_gamma(prior)).sum(axis=-1)
    mixed += _log_gamma(prior.sum()) - _log_gamma(prior.sum() + rows)
    likely = (counts * np.log(np.maximum(shares, 1e-300))).sum(axis=-1)
    return np.asarray(np.exp(np.minimum(mixed - likely, 700.0)))


def look_sizes(first: int, labels: int) -> list[int]:
    """Numbers of labels at which a statistic without a confidence sequence is looked at: `first`, twice that, and so on
    up to `labels`."""
    return [first << k for k in range(max(0, (labels // first).bit_length()))]


def alpha_at_look(alpha: float, number: int) -> float:
    """The part of `alpha` that look 1, 2, ... spends: the sum over all looks is `alpha` (sum of 1 / k^2 = pi^2 / 6).

    However often somebody looks, only the numbers of labels in `look_sizes` decide, each once.
    """
    return alpha * 6.0 / (math.pi * number) ** 2


def _floats(*values: Any) -> list[Floats]:
    return [np.asarray(value, dtype=np.float64) for value in values]


def _share(hits: Floats, rows: Floats) -> Floats:
    return np.asarray(hits / np.maximum(rows, 1.0))


def _overall(values: Sums) -> Floats:
    """The mean over all periods."""
    rows, total = _floats(values.rows, values.total)
    return np.asarray(total.sum(axis=-1) / np.maximum(rows.sum(axis=-1), 1.0))


def _log_likelihood(hits: Floats, rows: Floats, share: Floats) -> Floats:
    misses = rows - hits
    own = np.where(hits > 0, hits * np.log(np.maximum(share, 1e-300)), 0.0)
    return np.asarray(own + np.where(misses > 0, misses * np.log1p(-np.minimum(share, 1.0 - 1e-16)), 0.0))


def _log_mixture(hits: Floats, rows: Floats, prior: tuple[float, float]) -> Floats:
    """Logarithm of the likelihood mixed over a beta prior."""
    a, b = prior
    return _log_beta(a + hits, b + rows - hits) - (math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))


def _log_beta(a: Floats, b: Floats) -> Floats:
    return _log_gamma(a) + _log_gamma(b) - _log_gamma(a + b)


def _log_gamma(x: Any) -> Floats:
    """To 1e-10 for x > 0: Stirling's series at x + 8."""
    x = np.asarray(x, dtype=np.float64)
    if x.size <= _FEW:
        return np.array([math.lgamma(value) for value in x.flat]).reshape(x.shape)
    product = x * (x + 1) * (x + 2) * (x + 3) * (x + 4) * (x + 5) * (x + 6) * (x + 7)
    z = x + 8.0
    series = (1.0 / 12 - (1.0 / 360 - 1.0 / (1260 * z * z)) / (z * z)) / z
    return np.asarray((z - 0.5) * np.log(z) - z + 0.5 * math.log(2 * math.pi) + series - np.log(product))


def _constrained(
    hits: Floats, rows: Floats, base_hits: Floats, base_rows: Floats, rise: Floats
) -> tuple[Floats, Floats]:
    """Both shares of largest likelihood whose difference is `rise`."""
    count, total = np.maximum(rows + base_rows, 1.0), hits + base_hits
    square = ((rows + 2 * base_rows) * rise - count - total) / (3 * count)
    linear = ((base_rows * rise - count - 2 * base_hits) * rise + total) / count
    constant = base_hits * rise * (1.0 - rise) / count
    q = square**3 - square * linear / 2 + constant / 2
    p = np.copysign(np.sqrt(np.maximum(square**2 - linear / 3, 0.0)), q)
    cosine = np.clip(q / np.where(p == 0, 1.0, p) ** 3, -1.0, 1.0)
    base = 2 * p * np.cos((math.pi + np.arccos(cosine)) / 3) - square
    base = np.where(base_rows > 0, base, _share(hits, rows) - rise)  # one arm alone: the other share is free
    base = np.where(rows > 0, base, _share(base_hits, base_rows))
    base = np.clip(base, np.maximum(0.0, -rise), np.minimum(1.0, 1.0 - rise))
    return base + rise, base


def _last_excluded(start: Floats, inside: Floats, excluded: Any) -> Floats:
    """The value next to `inside` that is excluded, between it and `start`; `start` where that is not excluded. It is
    excluded for sure, and at most `_FINE` further out than need be.

    `excluded` takes values (..., *start.shape). Few intervals are cut into many parts at a time, many into two.
    """
    outer, inner = start.copy(), np.array(inside, dtype=np.float64)
    none = ~excluded(outer)
    parts = max(2, _POINTS // max(1, outer.size))
    inner_cuts = (np.arange(1, parts) / parts).reshape(-1, *(1,) * outer.ndim)
    for _ in range(_STEPS):
        width = inner - outer
        if np.all(np.abs(width) <= _FINE):
            break
        is_excluded = excluded(outer + width * inner_cuts)
        last = np.logical_and.accumulate(is_excluded, axis=0).sum(axis=0)
        outer, inner = outer + width * (last / parts), outer + width * ((last + 1) / parts)
    return np.where(none, start, outer)


def _variance(rows: Floats, total: Floats, squares: Floats, weight: Floats) -> Floats:
    """Within periods, over all that have both arms (..., 1)."""
    used = weight > 0
    inner = np.where(used, squares - total**2 / np.maximum(rows, 1.0), 0.0).sum(axis=-1)
    count = np.where(used, np.maximum(rows - 1.0, 0.0), 0.0).sum(axis=-1)
    return np.asarray(np.maximum(inner, 0.0) / np.maximum(count, 1.0))[..., None]


def _radius(time: Floats, spread: Floats, alpha: float) -> Floats:
    """Half the width of Robbins' normal mixture after `time` effective rows of this standard deviation."""
    tuned = TUNED_ROWS / (2 * math.log(1 / alpha) + math.log(1 + 2 * math.log(1 / alpha)))
    scaled = (time + tuned) / tuned
    return np.asarray(
        spread * np.sqrt((time + tuned) * (2 * math.log(1 / alpha) + np.log(scaled))) / np.maximum(time, 1e-9)
    )


def _share_evidence(histogram: Floats, share: float) -> tuple[Floats, Floats]:
    """Logarithms (..., K, bins + 1) of test martingales that more, and that less, than `share` of the values lie over
    the lower end of each bin, and over the upper end of the last: a likelihood mixed over some shares on one side, over
    that of `share`. For shares on the other side its mean falls."""
    rows = histogram.sum(axis=-1, keepdims=True)
    over = np.concatenate([rows, rows - np.cumsum(histogram, axis=-1)], axis=-1)
    more, less = (_mixed_ratio(over, rows, share, factors) for factors in (MORE, LESS))
    return more, less


def _mixed_ratio(hits: Floats, rows: Floats, share: float, factors: Mapping[float, float]) -> Floats:
    """Logarithm of the likelihood mixed over `share` times each of the factors, by their weights, over that of
    `share`."""
    parts = []
    for factor, weight in factors.items():
        hit, miss = math.log(factor), math.log1p(-share * factor) - math.log1p(-share)
        parts.append(hits * (hit - miss) + rows * miss + math.log(weight))
    largest = np.maximum.reduce(parts)
    return np.asarray(largest + np.log(sum(np.exp(part - largest) for part in parts)))


def _product(at_edge: Floats, shifted: Floats, places: Ints) -> Floats:
    """Logarithm (...) of the product over periods of the least product of two martingales over all edges; the second is
    taken at `places`, the nearest it has."""
    taken = np.take_along_axis(shifted, np.broadcast_to(np.clip(places, 0, shifted.shape[-1] - 1), at_edge.shape), -1)
    least = (at_edge + taken).min(axis=-1)
    return np.asarray(
        least[..., 0]
        if least.shape[-1] == 1
        else np.logaddexp(0.0, least).sum(axis=-1) - (least.shape[-1] * math.log(2.0))
    )


def _largest_shift(is_shown: Callable[[Ints], npt.NDArray[np.bool_]], shape: tuple[int, ...]) -> Ints:
    """The largest shift (...) up to `REACH` that is shown, where all smaller ones are, too; -REACH where none is."""
    shown, not_shown = np.full(shape, -REACH), np.full(shape, REACH + 1)
    while np.any(not_shown - shown > 1):
        middle = (shown + not_shown) // 2
        is_middle = is_shown(middle)
        shown, not_shown = np.where(is_middle, middle, shown), np.where(is_middle, not_shown, middle)
    return shown
