"""How often the guardrails on final labels err, and how many labels they need: simulated releases, judged by the
figures that decide (`release.labels`) against the limits of a contract.

A customer churns with a probability (beta, mean .21); a model's score is that probability with noise in log-odds. Equal
models have noise of their own, of the same size. The log-loss is looked at after every 50 labels, the PR-AUC at 200,
400, 800, ... labels of the arm that has fewer. In a shadow both models score the same customers, in a canary each
scores the customers of its arm. Planted: noise that costs .05 of PR-AUC; scores that are too sure of themselves, with a
log-loss .03 higher at the same PR-AUC. Both sizes are set on 400,000 customers.

Nothing was set on these simulations; any seed is a fresh one.

    python -m benchmarks.release_labels [releases] [seed]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.release_guardrails import describe
from churn_assets.contract.limits import Guardrails
from churn_assets.evaluation.metrics import log_loss, losses, pr_auc
from churn_assets.release.guardrails import CHECKS
from churn_assets.release.labels import FIRST_LOOK, LEAST_VARIANCE, Arms, figures_of_arms, figures_of_rows
from churn_assets.release.outcomes import MaturedRows
from churn_assets.release.policy import CHALLENGER, CHAMPION
from churn_assets.release.sequential import Sums, look_sizes, mean_interval, mean_shift

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

RELEASES, SEED = 1_000, 20_261_127
PLANTED_RELEASES = 100
BATCH, NOISE, MANY = 50, 0.7, 400_000
EQUAL_LABELS, MOST_LABELS = 3_200, 6_400  # of a shadow, or of the arm that has fewer
LIMITS = Guardrails()
ALPHA = LIMITS.false_rollbacks / CHECKS
DAY = np.datetime64("2026-11-27")


@dataclass(frozen=True)
class Model:
    """Scores of a model: noise in log-odds, and what the log-odds are multiplied by."""

    noise: float = NOISE
    sureness: float = 1.0

    def score(self, odds: Floats, rng: np.random.Generator) -> Floats:
        noisy = self.sureness * (odds + rng.normal(0, self.noise, len(odds)))
        return np.clip(1.0 / (1.0 + np.exp(-noisy)), 1e-4, 1.0 - 1e-4)


@dataclass
class Outcome:
    """Of each release: labels until it was rolled back (0: never), and whether limits of 0 would have rolled it back;
    how often each check was crossed first."""

    rolled_back: npt.NDArray[np.int64]
    strict: Booleans
    checks: dict[str, int] = field(default_factory=lambda: {"pr_auc": 0, "log_loss": 0})

    def note(self, place: int, pr_auc: dict[int, float], log_loss: dict[int, float]) -> None:
        """The falls of the PR-AUC and the rises of the log-loss that are sure at so many labels."""
        first = {}
        for check, limit, sure in (
            ("pr_auc", LIMITS.max_pr_auc_drop, pr_auc),
            ("log_loss", LIMITS.max_log_loss_rise, log_loss),
        ):
            self.strict[place] |= any(value > 0.0 for value in sure.values())
            first[check] = min((labels for labels, value in sure.items() if value > limit), default=0)
        crossed = {labels: check for check, labels in first.items() if labels}
        if crossed:
            self.rolled_back[place] = min(crossed)
            self.checks[crossed[min(crossed)]] += 1


def customers(count: int, rng: np.random.Generator) -> tuple[Floats, Booleans]:
    """Log-odds of so many customers, and who churned."""
    chance = np.clip(rng.beta(0.6, 2.2, count), 1e-6, 1 - 1e-6)
    return np.log(chance / (1 - chance)), rng.random(count) < chance


def planted(metric: Callable[[Booleans, Floats], float], by: float, model: Callable[[float], Model]) -> Model:
    """The model whose metric is another by so much, found by bisection."""
    odds, churned = customers(MANY, np.random.default_rng(0))
    usual = metric(churned, Model().score(odds, np.random.default_rng(1)))
    low, high = 1.0, 5.0
    for _ in range(16):
        middle = (low + high) / 2
        other = metric(churned, model(middle).score(odds, np.random.default_rng(1)))
        low, high = (middle, high) if abs(other - usual) < by else (low, middle)
    return model(low)


def rows_of(churned: Booleans, scores: dict[str, Floats], minutes: npt.NDArray[np.int64]) -> MaturedRows:
    """Labels that were settled at these minutes."""
    return MaturedRows(np.arange(len(churned)), churned, DAY + minutes.astype("timedelta64[m]"), scores)


def shadows(releases: int, model: Model, seed: int, labels: int) -> Outcome:
    """Releases in which both models score each customer."""
    rng, ends = np.random.default_rng(seed), Outcome(np.zeros(releases, np.int64), np.zeros(releases, np.bool_))
    sizes = np.arange(BATCH, labels + 1, BATCH)
    for place in range(releases):
        odds, churned = customers(labels, rng)
        scores = {CHALLENGER: model.score(odds, rng), CHAMPION: Model().score(odds, rng)}
        difference = losses(churned, scores[CHALLENGER]) - losses(churned, scores[CHAMPION])
        _, loss = mean_interval(_sums_at(difference, sizes), ALPHA, LEAST_VARIANCE)
        falls = {}
        for size in look_sizes(FIRST_LOOK, labels):
            seen = {name: score[:size] for name, score in scores.items()}
            falls[size] = -figures_of_rows(rows_of(churned[:size], seen, np.arange(size)), ALPHA).pr_auc_high
        ends.note(place, falls, dict(zip(sizes.tolist(), loss.low.tolist(), strict=True)))
    return ends


def canaries(releases: int, model: Model, seed: int, labels: int, weight: float) -> Outcome:
    """Releases in which the challenger has a share of the customers, with so many labels of its arm."""
    rng, ends = np.random.default_rng(seed), Outcome(np.zeros(releases, np.int64), np.zeros(releases, np.bool_))
    for place in range(releases):
        odds, churned = customers(int(labels / weight * 1.2), rng)
        mine = rng.random(len(churned)) < weight
        mine &= np.cumsum(mine) <= labels
        score = np.where(mine, model.score(odds, rng), Model().score(odds, rng))
        minutes, loss = np.arange(len(churned)), losses(churned, score)
        arms = [rows_of(churned[each], {"score": score[each]}, minutes[each]) for each in (mine, ~mine)]
        own_sizes = np.arange(BATCH, len(arms[0]) + 1, BATCH)
        at = np.flatnonzero(mine)[own_sizes - 1]  # the label that makes so many of the challenger
        sums = [_sums_at(loss[each], count)
                for each, count in ((mine, own_sizes), (~mine, at + 1 - own_sizes))]  # fmt: skip
        _, interval = mean_shift(*(Sums(*(v[:, None] for v in vars(s).values())) for s in sums), ALPHA, LEAST_VARIANCE)
        falls = {}
        for size in look_sizes(FIRST_LOOK, len(arms[0])):
            last = max(np.flatnonzero(each)[size - 1] for each in (mine, ~mine))
            until = (np.arange(len(mine)) <= last) & mine, (np.arange(len(mine)) <= last) & ~mine
            seen = (rows_of(churned[each], {"score": score[each]}, minutes[each]) for each in until)
            figures = figures_of_arms([Arms(*seen)], ALPHA)
            falls[size] = -1.0 if figures is None else -figures.pr_auc_high
        ends.note(place, falls, dict(zip(own_sizes.tolist(), interval.low.tolist(), strict=True)))
    return ends


def _sums_at(values: Floats, sizes: npt.NDArray[np.int64]) -> Sums:
    """The sums of the first so many values."""
    total, squares = (np.append(0.0, np.cumsum(each))[sizes] for each in (values, values**2))
    return Sums(sizes.astype(np.float64), total, squares)


def _shown(ends: Outcome, releases: int) -> str:
    return describe(ends.rolled_back, releases).replace("requests", "labels of the challenger")


def main() -> None:
    releases = int(sys.argv[1]) if len(sys.argv) > 1 else RELEASES
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else SEED
    few, start = min(releases, PLANTED_RELEASES), time.monotonic()
    for name, ends in (
        ("shadow", shadows(releases, Model(), seed, EQUAL_LABELS)),
        ("canary of 25%", canaries(releases, Model(), seed + 1, EQUAL_LABELS, 0.25)),
    ):
        shown = _shown(ends, releases)
        print(f"equal, {name}, {EQUAL_LABELS:,} labels: rolled back {shown}; aim at most 5 %", flush=True)
        print(f"equal, {name}: limits of 0 would roll back {ends.strict.mean():.1%}; aim at most 5 %", flush=True)
    faults = {
        "PR-AUC down .05": planted(pr_auc, 0.05, lambda factor: Model(noise=NOISE * factor)),
        "log-loss up .03": planted(log_loss, 0.03, lambda factor: Model(sureness=factor)),
    }
    for number, (name, model) in enumerate(faults.items()):
        for kind, ends in (
            ("shadow", shadows(few, model, seed + 10 * number + 2, MOST_LABELS)),
            ("canary of 25%", canaries(few, model, seed + 10 * number + 3, MOST_LABELS, 0.25)),
        ):
            print(f"{name}, {kind}: rolled back {_shown(ends, few)}; crossed first: {ends.checks}", flush=True)
    print(f"{time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
