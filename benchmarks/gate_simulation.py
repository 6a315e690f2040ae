"""How often the gate errs: equal, worse and better challengers, judged by the code that promotes.

A customer has a signal (churned: normal around a mean, kept: around zero) from which a perfect reader
would get a PR-AUC a little over .97. A fit reads it with noise of its own, of the size that two
independent fits of this package have on the store table: on halves of its training rows their log-odds
correlate by .92 within the kept and by .98 within the churned, and the standard deviation of their
paired PR-AUC difference on 4,600 rows is .0008 (boosted) to .0012 (logistic); that of a fit and the
same recipe on half as many rows more is .0005. Equal challengers are of both kinds. A worse or better
challenger has the noise that moves its expected PR-AUC by .01. Probabilities are the calibrated ones
of the scores. The verdict looks at 12 segments drawn at random. Of recent labels 70 % are cross-fitted: here a
draw like the others. In some cases both models read the signal badly on recent labels (customers have changed,
the champion has fallen, the challenger is no better), or the holdout has 450 customers.

    python -m benchmarks.gate_simulation [trials] [case]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from benchmarks.customers import CONTRACT
from churn_assets.evaluation.bootstrap import wilson
from churn_assets.evaluation.metrics import pr_auc
from churn_assets.promotion.gate.comparison import Comparison, compare, fall
from churn_assets.promotion.gate.evidence import Evidence
from churn_assets.promotion.gate.judge import Comparisons, judge_comparisons

Floats = npt.NDArray[np.float64]

TRIALS, DRAWS = 500, 600
HOLDOUT, CHURN = 4_600, 0.20
RECENT = (0, 600, 2_000)
NAIVE = -1
RECENT_LABELS, CROSS_FITTED = "recent labels", 0.7
BASE, STEP = 0.97, 0.01
FIT_NOISE = 0.32  # of one fit's log-odds against what all fits agree on; two differ by 1.41 times it
NEAR_NOISE = 0.15  # of a fit on nearly the same rows
SPREAD = 2.0  # of a class's signal in log-odds
FALLEN = 6.0  # noise of both on recent labels of customers who have changed
AIMS = {
    "equal": "at most 2 %",
    "nearly the same": "at most 2 %",
    "worse by .01": "none",
    "better by .01": "at least 90 %",
    "equal, both fallen": "at most 2 %",
    "equal, 450 frozen": "at most 2 %",
    "worse, both fallen": "none",
}


@dataclass(frozen=True)
class World:
    """Distance of the classes, and the noise (log-odds) of a champion and of a challenger."""

    distance: float
    champion: float
    challenger: float


@cache
def world(shift: float, fit_noise: float = FIT_NOISE) -> World:
    """One in which the better of both has an expected PR-AUC of `BASE`, or `BASE + shift` if that is more."""
    distance = _distance(BASE + max(shift, 0.0), fit_noise)
    champion = _noise_of(BASE, distance) if shift > 0 else fit_noise
    challenger = _noise_of(BASE + shift, distance) if shift < 0 else fit_noise
    return World(distance, champion, challenger)


def evidence(name: str, of: World, rows: int, rng: np.random.Generator) -> Evidence:
    """Rows of this world, churned first, with both models' probabilities and 12 random segments."""
    churned = np.zeros(rows, dtype=np.int8)
    churned[: round(rows * CHURN)] = 1
    signal = of.distance * churned + SPREAD * rng.normal(size=rows)
    scores = [signal + noise * rng.normal(size=rows) for noise in (of.champion, of.challenger)]
    one, two = (_probability(s, of.distance, n) for s, n in zip(scores, (of.champion, of.challenger), strict=True))
    kinds = rng.integers(0, 3, size=(4, rows))
    segments = {f"column {c}: {v}": kinds[c] == v for c in range(4) for v in range(3)}
    return Evidence(
        name, churned, one, two, segments, rng.random(rows) < CROSS_FITTED if name == RECENT_LABELS else None
    )


def trial(
    of: World, seed: int, recent: tuple[int, ...] = RECENT, holdout: int = HOLDOUT, later: World | None = None
) -> dict[int, bool]:
    """Whether the gate passes this world's challenger, by the number of recent labels (of the world `later`, if it has
    changed); under `NAIVE` whether a gate does that asks for a higher PR-AUC on the holdout and nothing else."""
    rng = np.random.default_rng(seed)
    frozen = evidence("the frozen holdout", of, holdout, rng)
    on_holdout = compare(frozen, seed, DRAWS)
    found = {NAIVE: on_holdout is not None and on_holdout.gain > 0.0}
    for rows in recent:
        late = evidence(RECENT_LABELS, later or of, rows, rng)
        on_recent: Comparison | None = compare(late, seed + 1, DRAWS) if rows else None
        proven = on_recent is not None and on_recent.lower_99 > 0.0  # else a fall changes nothing
        fallen = fall(frozen, late, seed, DRAWS) if on_holdout is not None and proven else None
        on_rolling = compare(late.rolling(), seed + 1, DRAWS) if proven else None
        comparisons = Comparisons(on_holdout, on_recent, on_rolling, fallen)
        verdict = judge_comparisons(CONTRACT, "champion", "challenger", frozen, late, comparisons, seed)
        found[rows] = verdict.passed
    return found


def fallen_world(shift: float) -> World:
    """What becomes of both on customers who have changed; with `shift` the challenger is the worse."""
    before = world(0.0)
    return World(before.distance, FALLEN, FALLEN * (1.0 - 10 * shift))


def cases() -> dict[str, Callable[[int], dict[int, bool]]]:
    """A trial by the name of the case."""
    late, equal = (2_000,), world(0.0)
    return {
        "equal": lambda seed: trial(equal, seed),
        "nearly the same": lambda seed: trial(world(0.0, NEAR_NOISE), seed),
        "worse by .01": lambda seed: trial(world(-STEP), seed),
        "better by .01": lambda seed: trial(world(STEP), seed),
        "equal, both fallen": lambda seed: trial(equal, seed, late, later=fallen_world(0.0)),
        "equal, 450 frozen": lambda seed: trial(equal, seed, late, holdout=450),
        "worse, both fallen": lambda seed: trial(equal, seed, late, later=fallen_world(-STEP)),
    }


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS
    chosen = cases() if len(sys.argv) <= 2 else {name: cases()[name] for name in sys.argv[2:]}
    for number, (words, one) in enumerate(chosen.items()):
        passed = [one(1_000_000 * number + i) for i in range(trials)]
        for rows in (*(count for count in RECENT if count in passed[0]), NAIVE):
            gate = f"{rows:,} recent labels" if rows != NAIVE else "any higher PR-AUC"
            hits = sum(found[rows] for found in passed)
            low, high = wilson(hits, trials)
            print(
                f"{words:>18}, {gate:>19}: promoted {hits} of {trials} = {hits / trials:.1%} "
                f"(95 % {low:.1%} to {high:.1%}), aim {AIMS[words]}",
                flush=True,
            )


def _probability(score: Floats, distance: float, noise: float) -> Floats:
    """What the score is worth: both classes are normal with one variance, so log-odds are linear in it."""
    variance = SPREAD**2 + noise**2
    margin = distance / variance * (score - distance / 2) + np.log(CHURN / (1 - CHURN))
    return np.asarray(1 / (1 + np.exp(-margin)))


@cache
def _expected(distance: float, noise: float) -> float:
    rng = np.random.default_rng(7)
    churned = (np.arange(100_000) < 100_000 * CHURN).astype(np.int8)
    return pr_auc(churned, distance * churned + np.hypot(SPREAD, noise) * rng.normal(size=len(churned)))


def _distance(wanted: float, noise: float) -> float:
    return _bisect(lambda distance: _expected(distance, noise) < wanted, 0.0, 40.0)


def _noise_of(wanted: float, distance: float) -> float:
    return _bisect(lambda noise: _expected(distance, noise) > wanted, 0.0, 20.0)


def _bisect(too_small, low: float, high: float) -> float:
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return (low + high) / 2


if __name__ == "__main__":
    main()
