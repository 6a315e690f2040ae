"""How often the guardrails of a release err, and how many requests they need: simulated rollouts, looked at after every
50 requests, judged by the checks that decide (`release.guardrails`).

A request has a score (beta, mean .21), of which those over .5 are called, a scoring time (log-normal, 60 us in the
middle, one in 200 five times as long), an error in a thousand and a warning in 33. Equal models: the challenger draws
from the same distributions; in a shadow it scores the same rows, with noise of .2 in log-odds. A rollout takes the
default steps, 5, 25, 50 and 100 % of the customers, 1,000 rows of the challenger each; time is no matter here. Planted:
errors +2 points, mean score +.05, all scoring times x 2, scores pushed apart at an equal mean (quantile by quantile to
a beta of half the parameters).

The alternative is a test of fixed size (two-sided z, 5 %) of errors, mean score, calls and warnings, at every look.

The constants (`sequential.RARE`, `MORE`, `LESS`, `TUNED_ROWS`, `guardrails.FLOOR`) were set on seed 1; this takes
others.

    python -m benchmarks.release_guardrails [rollouts] [seed] [fault]

Of the faults only the one whose name begins so, if one is named.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from churn_assets.contract.limits import Guardrails, Release
from churn_assets.evaluation.bootstrap import wilson
from churn_assets.release.counts import SCORE_BINS, SECONDS_GROWTH
from churn_assets.release.guardrails import (
    CHECKS,
    FLOOR,
    ArmSums,
    Measured,
    PairSums,
    measure_canary,
    measure_shadow,
    scores_under,
)
from churn_assets.release.sequential import Sums, distribution_shift, mean_shift

Floats = npt.NDArray[np.float64]

ROLLOUTS, SEED = 1_000, 20_261_127
PLANTED_ROLLOUTS = 100
BATCH = 50
SHADOW_ROWS, MOST_REQUESTS = 10_000, 60_000
WEIGHTS, ROWS = Release().canary_weights, Release().canary_rows
LIMITS = Guardrails()
ALPHA = LIMITS.false_rollbacks / CHECKS
NAIVE_Z = 1.96
_FIRST_BIN, _BINS = 130, 260  # of times: 13 us to 2 ms
_SCORES = (0.6, 2.2)  # parameters of the beta of scores
_NAMES = ("rows", "attempts", "errors", "refused", "warned", "called", "score_sum", "score_squares")


@dataclass(frozen=True)
class Fault:
    """What is wrong with the challenger."""

    errors: float = 0.0
    shift: float = 0.0
    slower: float = 1.0
    spread: float = 1.0  # what the parameters of the scores' beta are divided by: the mean stays


EQUAL = Fault()
PLANTED = {
    "errors +2 points": Fault(errors=0.02),
    "mean score +.05": Fault(shift=0.05),
    "times x 2": Fault(slower=2.0),
    "spread: scores pushed apart at equal mean": Fault(spread=2.0),
}


@dataclass
class Outcome:
    """Of each rollout: requests until it was rolled back or promoted (0: neither), whether a naive test and limits of 0
    would have rolled it back; and how often each check was crossed."""

    rolled_back: npt.NDArray[np.int64]
    promoted: npt.NDArray[np.int64]
    naive: npt.NDArray[np.bool_]
    strict: npt.NDArray[np.bool_]
    checks: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rollouts: int) -> Outcome:
        return cls(
            np.zeros(rollouts, dtype=np.int64),
            np.zeros(rollouts, dtype=np.int64),
            np.zeros(rollouts, dtype=np.bool_),
            np.zeros(rollouts, dtype=np.bool_),
        )


class Rollouts:
    """Rollouts side by side: their counts by arm (0 champion, 1 challenger) and period (rollouts, periods)."""

    def __init__(self, rollouts: int, periods: int, fault: Fault, rng: np.random.Generator) -> None:
        self.rng, self.fault, self.place = rng, fault, np.arange(rollouts)
        self.sums = [{name: np.zeros((rollouts, periods)) for name in _NAMES} for _ in range(2)]
        self.scores, self.seconds = ([np.zeros((rollouts, periods, n)) for _ in range(2)] for n in (SCORE_BINS, _BINS))
        chances = np.linspace(0.0, 1.0, 4001)[1:-1]
        spread = [parameter / fault.spread for parameter in _SCORES]
        self.quantiles = beta.ppf(chances, *_SCORES), beta.ppf(chances, *spread)
        self.pairs = {name: np.zeros(rollouts) for name in PairSums.__dataclass_fields__}

    def keep(self, kept: npt.NDArray[np.bool_]) -> None:
        """Go on with some of them."""
        self.place = self.place[kept]
        self.sums = [{name: values[kept] for name, values in arm.items()} for arm in self.sums]
        self.scores, self.seconds = ([values[kept] for values in arms] for arms in (self.scores, self.seconds))
        self.pairs = {name: values[kept] for name, values in self.pairs.items()}

    def answer(self, weight: Floats, period: npt.NDArray[np.int_]) -> None:
        """A batch of requests; `weight` (rollouts,) of them get the challenger."""
        mine = self.rng.random((len(self.place), BATCH)) < weight[:, None]
        score, seconds = self._scores(), self._times()
        score = np.where(mine, self._shifted(score), score)
        seconds = np.where(mine, seconds * self.fault.slower, seconds)
        error = self.rng.random(mine.shape) < 0.001 + np.where(mine, self.fault.errors, 0.0)
        for arm, rows in enumerate((~mine, mine)):
            self._count(arm, period, rows, score, seconds, error)

    def shadow(self) -> None:
        """A batch that both score."""
        score, period = self._scores(), np.zeros(len(self.place), dtype=int)
        other = self._shifted(1 / (1 + np.exp(-np.log(score / (1 - score)) - self.rng.normal(0, 0.2, score.shape))))
        everyone = np.ones(score.shape, dtype=bool)
        none, error = ~everyone, self.rng.random(score.shape) < 0.001 + self.fault.errors
        self._count(0, period, everyone, score, self._times(), none)
        self._count(1, period, everyone, other, self._times() * self.fault.slower, error)
        both, difference = ~error, other - score
        values = (both, both & ((other > 0.5) != (score > 0.5)), both * difference, both * difference**2)
        for name, value in zip(self.pairs, values, strict=True):
            self.pairs[name] += value.sum(axis=1)

    def arms(self) -> tuple[ArmSums, ArmSums]:
        """Challenger and champion, as the checks take them."""
        parts = zip(self.sums, self.scores, self.seconds, strict=True)
        champion, challenger = (ArmSums(**arm, scores=scores, seconds=seconds) for arm, scores, seconds in parts)
        return challenger, champion

    def _scores(self) -> Floats:
        return np.clip(self.rng.beta(*_SCORES, (len(self.place), BATCH)), 1e-6, 1 - 1e-6)

    def _times(self) -> Floats:
        shape = len(self.place), BATCH
        return 60e-6 * np.exp(0.5 * self.rng.normal(size=shape)) * np.where(self.rng.random(shape) < 0.005, 5.0, 1.0)

    def _shifted(self, score: Floats) -> Floats:
        if self.fault.spread != 1.0:
            score = np.interp(score, *self.quantiles)
        return np.asarray(score + self.fault.shift * (1 - score) / (1 - _SCORES[0] / sum(_SCORES)))

    def _count(
        self, arm: int, period: npt.NDArray[np.int_], rows: npt.NDArray[np.bool_], score: Floats, seconds: Floats,
        error: npt.NDArray[np.bool_],
    ) -> None:  # fmt: skip
        here, scored = np.arange(len(self.place)), rows & ~error
        warned = scored & (self.rng.random(rows.shape) < 0.03)
        values = (scored, rows, rows & error, np.zeros(1), warned, scored & (score > 0.5), scored * score)
        for name, value in zip(_NAMES, (*values, scored * score**2), strict=True):
            self.sums[arm][name][here, period] += value.sum(axis=-1)
        bins = np.ceil(np.log(seconds / 1e-6) / np.log(SECONDS_GROWTH)).astype(int) - _FIRST_BIN
        at, _ = np.nonzero(scored)
        np.add.at(self.seconds[arm], (at, period[at], np.clip(bins[scored], 0, _BINS - 1)), 1.0)
        places = np.minimum(score[scored] * SCORE_BINS, SCORE_BINS - 1).astype(int)
        np.add.at(self.scores[arm], (at, period[at], places), 1.0)


def crossings(checks: list[Measured], counted: dict[str, int]) -> npt.NDArray[np.bool_]:
    """Where any check is crossed; counts them by name."""
    for check in checks:
        counted[check.check] = counted.get(check.check, 0) + int(check.crossed.sum())
    return np.any([check.crossed for check in checks], axis=0)


def crossed_without_tolerance(checks: list[Measured]) -> npt.NDArray[np.bool_]:
    """Where any check shows any difference: what the intervals alone err, if limits were 0 (of p99: 1)."""
    equal = {"p99": 1.0}
    risen = [check.low > equal.get(check.check, 0.0) for check in checks if check.check != "flips"]
    fallen = [check.high < 0.0 for check in checks if check.both_ways]
    return np.any([*risen, *fallen], axis=0)


def naive_crossed(own: ArmSums, base: ArmSums) -> npt.NDArray[np.bool_]:
    """Where a test of fixed size finds any difference."""
    first, second = ({name: getattr(arm, name).sum(axis=-1) for name in _NAMES} for arm in (own, base))
    found = np.zeros(len(first["rows"]), dtype=bool)
    for total, squares, rows in (
        ("errors", "errors", "attempts"), ("score_sum", "score_squares", "rows"),
        ("called", "called", "rows"), ("warned", "warned", "rows"),
    ):  # fmt: skip
        count = [np.maximum(arm[rows], 1.0) for arm in (first, second)]
        mean = [arm[total] / n for arm, n in zip((first, second), count, strict=True)]
        spread = [(arm[squares] / n - m**2) / n for arm, n, m in zip((first, second), count, mean, strict=True)]
        found |= (np.abs(mean[0] - mean[1]) > NAIVE_Z * np.sqrt(sum(spread) + 1e-12)) & (count[0] >= 30)
    return found


def canaries(rollouts: int, fault: Fault, seed: int, weights: tuple[float, ...] = WEIGHTS, rows: int = ROWS) -> Outcome:
    """Rollouts through the steps `weights`; one weight alone is held until something is crossed."""
    fleet = Rollouts(rollouts, max(1, sum(weight < 1.0 for weight in weights)), fault, np.random.default_rng(seed))
    step, in_step = np.zeros(rollouts, dtype=int), np.zeros(rollouts)
    ends = Outcome.of(rollouts)
    share = np.array(weights)
    for requests in range(BATCH, MOST_REQUESTS + 1, BATCH):
        before = fleet.sums[1]["rows"].sum(axis=1)
        fleet.answer(share[step], np.minimum(step, fleet.sums[0]["rows"].shape[1] - 1))
        own, base = fleet.arms()
        checks = measure_canary(own, base, LIMITS, ALPHA)
        ends.naive[fleet.place] |= naive_crossed(own, base)
        ends.strict[fleet.place] |= crossed_without_tolerance(checks)
        crossed = crossings(checks, ends.checks)
        ends.rolled_back[fleet.place[crossed]] = requests
        in_step += fleet.sums[1]["rows"].sum(axis=1) - before
        held = in_step >= rows
        clear = np.all([check.ok for check in checks], axis=0)
        is_last = step == len(weights) - 1
        alone = is_last | (share[np.minimum(step + 1, len(weights) - 1)] >= 1.0)
        onward = held & ~crossed & (~alone | clear) & (len(weights) > 1)
        ends.promoted[fleet.place[onward & is_last]] = requests
        step, in_step = np.where(onward & ~is_last, step + 1, step), np.where(onward, 0.0, in_step)
        kept = ~crossed & ~(onward & is_last)
        if not kept.all():
            fleet.keep(kept)
            step, in_step = step[kept], in_step[kept]
        if not len(fleet.place):
            break
    return ends


def shadows(rollouts: int, fault: Fault, seed: int, rows: int = SHADOW_ROWS) -> Outcome:
    """Shadows of so many rows; "promoted" are those whose every check was ok at the end."""
    fleet = Rollouts(rollouts, 1, fault, np.random.default_rng(seed))
    ends = Outcome.of(rollouts)
    for requests in range(BATCH, rows + 1, BATCH):
        fleet.shadow()
        own, base = fleet.arms()
        checks = measure_shadow(own, base, PairSums(**fleet.pairs), LIMITS, ALPHA)
        ends.strict[fleet.place] |= crossed_without_tolerance(checks)
        crossed = crossings(checks, ends.checks)
        ends.rolled_back[fleet.place[crossed]] = requests
        clear = np.all([check.ok for check in checks], axis=0) & ~crossed
        seen = ends.promoted[fleet.place]
        ends.promoted[fleet.place] = np.where(clear & (seen == 0), requests, seen)
        if crossed.any():
            fleet.keep(~crossed)
        if not len(fleet.place):
            break
    return ends


def repeated(rollouts: int, times: int, seed: int, by_customer: bool) -> float:
    """The share of equal canaries that scores or decisions roll back if each customer asks so many times meanwhile, and
    has the same score each time: rows are not independent then. Two workers count each customer once a step and worker
    (`by_customer`), or every row counts. Steps of 20,000, 4,000 and 4,000 requests."""
    rng, steps = np.random.default_rng(seed), ((0.05, 20_000), (0.25, 4_000), (0.5, 4_000))
    customers, batch, rolled_back = sum(requests for _, requests in steps) // times, 5 * BATCH, 0
    for _ in range(rollouts):
        score, share = rng.beta(*_SCORES, customers), rng.random(customers)
        in_bin = np.arange(SCORE_BINS) == np.minimum(score * SCORE_BINS, SCORE_BINS - 1).astype(int)[:, None]
        own = np.column_stack([np.ones(customers), score, score**2, score > 0.5, in_bin])
        sums, crossed = np.zeros((2, len(steps), own.shape[1])), False  # arm, period; as the columns of `own`
        asked = np.zeros((2, len(steps)))
        for period, (weight, requests) in enumerate(steps):
            seen = np.zeros((2, customers), dtype=bool)
            for _ in range(requests // batch):
                who = rng.integers(customers, size=batch)
                values, mine = own[who], share[who] < weight
                sums[0, period] += values[mine].sum(axis=0)
                sums[1, period] += values[~mine].sum(axis=0)
                for worker in range(2):
                    seen[worker, who[worker::2]] = True
                asked[:, period] = seen[:, share < weight].sum(), seen[:, share >= weight].sum()
                scaled = sums * (asked / np.maximum(sums[..., 0], 1.0))[..., None] if by_customer else sums
                if scaled[0, :, 0].sum() >= FLOOR:
                    crossed |= _is_moved(scaled, 1, 2, LIMITS.max_score_shift)
                    crossed |= _is_moved(scaled, 3, 3, LIMITS.max_decision_shift)
                    crossed |= _is_spread(scaled)
        rolled_back += crossed
    return rolled_back / rollouts


def _is_moved(sums: Floats, total: int, squares: int, limit: float) -> bool:
    own, base = (Sums(arm[:, 0], arm[:, total], arm[:, squares]) for arm in sums)
    _, interval = mean_shift(own, base, ALPHA, 1e-3)
    return bool(interval.low > limit or interval.high < -limit)


def _is_spread(sums: Floats) -> bool:
    own, base = (Sums.of_share(scores_under(arm[:, 4:]), arm[None, :, 0]) for arm in sums)
    _, interval = distribution_shift(own, base, ALPHA, 1e-3)
    return bool(interval.low > LIMITS.max_distribution_shift)


def describe(requests: npt.NDArray[np.int64], rollouts: int) -> str:
    """How many, and after how many requests."""
    of = requests[requests > 0]
    if not len(of):
        return f"0 of {rollouts:,}"
    middle, most = np.quantile(of, [0.5, 0.95])
    low, high = wilson(len(of), rollouts)
    share = f"{len(of) / rollouts:.1%} (95 % {low:.1%} to {high:.1%})"
    return f"{len(of):,} of {rollouts:,} = {share}, after {middle:,.0f} requests in the middle, {most:,.0f} for 95 %"


def main() -> None:
    rollouts = int(sys.argv[1]) if len(sys.argv) > 1 else ROLLOUTS
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else SEED
    named = sys.argv[3] if len(sys.argv) > 3 else ""
    planted, start = min(rollouts, PLANTED_ROLLOUTS), time.monotonic()
    equal = canaries(rollouts, EQUAL, seed)
    print(f"equal, canary: rolled back {describe(equal.rolled_back, rollouts)}; aim at most 5 %", flush=True)
    print(f"equal, canary: promoted {describe(equal.promoted, rollouts)}; checks crossed: {equal.checks}", flush=True)
    print(f"equal, canary: a z-test at every look finds a difference in {equal.naive.mean():.1%}", flush=True)
    print(f"equal, canary: limits of 0 would roll back {equal.strict.mean():.1%}; aim at most 5 %", flush=True)
    equal = shadows(rollouts, EQUAL, seed + 1)
    print(f"equal, shadow: rolled back {describe(equal.rolled_back, rollouts)}; aim at most 5 %", flush=True)
    print(f"equal, shadow: every check ok {describe(equal.promoted, rollouts)}", flush=True)
    for number, (name, fault) in enumerate(PLANTED.items()):
        if not name.startswith(named):
            continue
        for weight in (0.05, 0.25, 0.5):
            held = canaries(planted, fault, seed + 10 * number + 2, (weight,))
            print(f"{name}, canary of {weight:.0%}: rolled back {describe(held.rolled_back, planted)}", flush=True)
        steps = canaries(planted, fault, seed + 10 * number + 3)
        print(f"{name}, all steps: rolled back {describe(steps.rolled_back, planted)}", flush=True)
        print(f"{name}, all steps: promoted {describe(steps.promoted, planted)}; crossed: {steps.checks}", flush=True)
        shadow = shadows(planted, fault, seed + 10 * number + 4)
        print(f"{name}, shadow: rolled back {describe(shadow.rolled_back, planted)}", flush=True)
    for times in () if named else (3, 10, 30):
        shares = [repeated(planted, times, seed + 90 + times, by_customer) for by_customer in (True, False)]
        both = f"{shares[0]:.1%}, if every row counted {shares[1]:.1%}"
        print(f"equal, canary, each customer {times} times: rolled back {both} of {planted}", flush=True)
    print(f"{time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
