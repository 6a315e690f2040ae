"""The guardrails of a release: what its counts show against the limits of the contract, and what follows.

Each check has a confidence sequence (`sequential`): its ends hold at every look together, so that the first look that
crosses a limit decides. Of `limits.false_rollbacks` each of the eight checks has an equal part, whether it can be read
yet or not, and with several arms each arm an equal part of that: the chance that any of them is ever crossed by an
equal model is at most the sum.

    crossed     the interval lies beyond the limit
    ok          the interval lies within it
    undecided   neither, or too few rows

A canary takes its next step once time and rows of the present one are reached and nothing is crossed. Before a step
that leaves the champion no customer to compare with, and before it is promoted, every check of traffic must be ok; but
for the p99 where neither arm has a time, as customers are asked only in batches.
Final labels come later than most releases end: their checks cross, and hold nobody up. A release that has concluded
nothing by its deadline is inconclusive, and ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from churn_assets.contract.limits import Guardrails
from churn_assets.release.counts import (
    GUARDRAILS,
    LABELS,
    SECONDS_GROWTH,
    ArmCounts,
    PairCounts,
    ReleaseCounts,
    counts_folder,
)
from churn_assets.release.policy import CHALLENGER, CHAMPION, Policy
from churn_assets.release.sequential import (
    JEFFREYS,
    RARE,
    REACH,
    Floats,
    Ints,
    Sums,
    distribution_shift,
    mean_interval,
    mean_shift,
    quantile_ratio,
    rise_interval,
    share_interval,
)
from churn_assets.storage.files import read_json_object, write_json

CheckName = Literal[
    "error_rate", "p99", "score_shift", "score_distribution", "decisions", "flips", "quality", "pr_auc", "log_loss"
]
CheckStatus = Literal["ok", "crossed", "undecided"]
ReportStatus = Literal["clear", "crossed", "undecided"]
Move = Literal["hold", "advance", "promote", "inconclusive", "rollback"]
# What a release that holds waits for: the step's time or rows, a check that is undecided, or a person.
Waiting = Literal["", "time", "rows", "checks", "person"]

CHECKS = 8  # that share `false_rollbacks`
FLOOR = 200  # rows of each arm below which no asymptotic interval is read
LABELLED: tuple[CheckName, ...] = ("pr_auc", "log_loss")
ENDING_AB: tuple[CheckName, ...] = ("error_rate", "p99")  # what ends an A/B: its arms may differ in the rest
QUANTILE = 0.99
_BINS = 770  # of times, to 4 seconds; longer ones count in the last
_LEAST_VARIANCE = 1e-4  # of a score
SCORE_EDGES = (1, 2, 4, 6, 8, 10, 12, 14, 16, 18)  # of the bins of scores: shares of scores under .05, .1, .2, ...

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ArmSums:
    """Counts of one arm by period, arrays (..., K) as in `ArmCounts`, scores (..., K, `SCORE_BINS`) and times
    (..., K, bins). `attempts` are rows and errors. Rows of one customer are alike: all counts but the times are scaled
    to one row a customer."""

    rows: Floats
    attempts: Floats
    errors: Floats
    refused: Floats
    warned: Floats
    called: Floats
    score_sum: Floats
    score_squares: Floats
    scores: Floats
    seconds: Floats


@dataclass(frozen=True)
class PairSums:
    """Counts of pairs, arrays (...) as in `PairCounts`."""

    rows: Floats
    flips: Floats
    difference_sum: Floats
    difference_squares: Floats


@dataclass(frozen=True)
class Measured:
    """A check before it is judged: what is measured, its interval and its rows, arrays (...). `both_ways`: a fall
    beyond minus the limit crosses it as well."""

    check: CheckName
    value: Floats
    low: Floats
    high: Floats
    limit: float
    rows: Floats
    both_ways: bool = False

    @property
    def crossed(self) -> Booleans:
        """Where the interval lies beyond the limit (...)."""
        fallen = self.high < -self.limit if self.both_ways else False
        return np.asarray((self.low > self.limit) | fallen)

    @property
    def ok(self) -> Booleans:
        """Where it lies within (...)."""
        risen = self.low >= -self.limit if self.both_ways else True
        return np.asarray((self.high <= self.limit) & risen & ~self.crossed)


@dataclass(frozen=True)
class Period:
    """What was counted while the challenger's `weight` was the same: one step of a canary, or the whole release."""

    weight: float
    counts: ReleaseCounts


@dataclass(frozen=True)
class LabelFigures:
    """What final labels show of one arm against the champion, made by the loop: challenger minus champion.

    `rows` are labels of the arm that has fewer, or pairs. The interval of the PR-AUC is that of the last look at a
    doubled number of labels, at the level that this look spends; the log-loss has a confidence sequence.
    """

    rows: int
    pr_auc: float
    pr_auc_low: float
    pr_auc_high: float
    log_loss: float
    log_loss_low: float
    log_loss_high: float


@dataclass(frozen=True)
class GuardrailCheck:
    """One check of one arm: value, limit and interval in the check's unit, None where there is nothing to tell yet.

    `rows` are the arm's rows that it is read from. The p99 is a ratio, PR-AUC a fall, all others are a rise or a move.
    """

    check: CheckName
    arm: str
    status: CheckStatus
    value: float | None
    limit: float
    low: float | None
    high: float | None
    rows: int
    message: str


@dataclass(frozen=True)
class GuardrailReport:
    """What the guardrails show of a policy at `made_at` (UTC), and the next move: `message` says why in a line.

    `waiting` says what a release that holds waits for, "" otherwise.
    """

    policy: str
    kind: str
    step: int
    made_at: datetime
    status: ReportStatus
    move: Move
    waiting: Waiting
    message: str
    checks: tuple[GuardrailCheck, ...]

    def to_json(self) -> dict[str, Any]:
        """As `guardrails.json` and the ledger store it."""
        return {"version": 1, **msgspec.to_builtins(self)}


def judge_guardrails(
    policy: Policy, periods: Sequence[Period], labels: Mapping[str, LabelFigures] | None = None, *, now: datetime
) -> GuardrailReport:
    """Judge a shadow, canary or A/B. Pure.

    `periods` are those of the release, oldest first; the last is that of `policy`. `labels` are by the name of the arm;
    they were made with `label_alpha`.
    """
    others = [arm.name for arm in policy.arms if arm.name != CHAMPION]
    checks: list[GuardrailCheck] = []
    for name in others:
        measured = _measure(policy, periods, name, alpha_of(policy))
        checks += [_check(each, name) for each in measured]
        if labels is not None and name in labels:
            checks += [_check(each, name) for each in _label_checks(labels[name], policy.limits)]
    crossed = [check for check in checks if check.status == "crossed"]
    awaited = [check for check in checks if check.check not in LABELLED and not _is_untimed(check, periods)]
    unclear = [check for check in awaited if check.status != "ok"]
    status: ReportStatus = "crossed" if crossed else "undecided" if unclear else "clear"
    move, waiting, message = _next_move(policy, periods, crossed, unclear, now)
    return GuardrailReport(policy.id, policy.kind, policy.step, now, status, move, waiting, message, tuple(checks))


def _is_untimed(check: GuardrailCheck, periods: Sequence[Period]) -> bool:
    """Whether the check is the p99 of an arm that is asked only in batches, as the champion is: no row of theirs has a
    time, nor will one that is asked in the same way."""
    arms = [each.counts.arm(name) for each in periods if each.weight < 1.0 for name in (check.arm, CHAMPION)]
    return check.check == "p99" and not any(arm.seconds for arm in arms)


def alpha_of(policy: Policy) -> float:
    """The level of one check of one arm."""
    return policy.limits.false_rollbacks / (CHECKS * (len(policy.arms) - 1))


def measure_canary(own: ArmSums, base: ArmSums, limits: Guardrails, alpha: float) -> list[Measured]:
    """The checks of traffic for an arm that answers some of the customers, against the champion's; alpha for each."""
    scores = _scores(own), _scores(base)
    called = Sums.of_share(own.called, own.rows), Sums.of_share(base.called, base.rows)
    return [
        _errors(own, base, limits, alpha),
        _times(own, base, limits, alpha),
        _shift("score_shift", scores, limits.max_score_shift, alpha, _LEAST_VARIANCE),
        _distribution(own, base, limits, alpha),
        _shift("decisions", called, limits.max_decision_shift, alpha, _least_share_variance(own, base)),
        _quality(own, base, limits, alpha),
    ]


def measure_shadow(own: ArmSums, base: ArmSums, pairs: PairSums, limits: Guardrails, alpha: float) -> list[Measured]:
    """The checks of traffic for a shadow, which scores rows that the champion has scored: its errors and refusals count
    against none, mean score and decisions are paired. The shares under an edge are not: both arms have the same rows,
    so that their difference varies less than that of strangers, and the interval is wider than it need be. Sums of one
    period (..., 1)."""
    differences = Sums(pairs.rows, pairs.difference_sum, pairs.difference_squares)
    mean, shift = mean_interval(differences, alpha, _LEAST_VARIANCE)
    enough = pairs.rows >= FLOOR
    flips = share_interval(pairs.flips, pairs.rows, alpha, JEFFREYS)
    flip_share = pairs.flips / np.maximum(pairs.rows, 1.0)
    champion = _without_faults(base, own)
    return [
        _errors(own, champion, limits, alpha),
        _times(own, base, limits, alpha),
        Measured(
            "score_shift", mean, np.where(enough, shift.low, -1.0), np.where(enough, shift.high, 1.0),
            limits.max_score_shift, pairs.rows, both_ways=True,
        ),
        _distribution(own, base, limits, alpha),
        Measured("flips", flip_share, flips.low, flips.high, limits.max_flips, pairs.rows),
        _quality(own, champion, limits, alpha),
    ]  # fmt: skip


def _errors(own: ArmSums, base: ArmSums, limits: Guardrails, alpha: float) -> Measured:
    rise = rise_interval(own.errors, own.attempts, base.errors, base.attempts, alpha, RARE)
    value = _share(own.errors, own.attempts) - _share(base.errors, base.attempts)
    return Measured("error_rate", value, rise.low, rise.high, limits.max_error_rise, own.attempts.sum(axis=-1))


def _times(own: ArmSums, base: ArmSums, limits: Guardrails, alpha: float) -> Measured:
    """The ratio of the 99th percentiles, to the 2 % of the bins; a limit beyond `REACH` is none."""
    low, high = quantile_ratio(own.seconds, base.seconds, QUANTILE, alpha)
    own_bin, base_bin = (_quantile_bin(arm.seconds.sum(axis=-2)) for arm in (own, base))
    slowest = np.where(low <= -REACH, 0.0, SECONDS_GROWTH**low)
    fastest = np.where(high >= REACH, np.inf, SECONDS_GROWTH**high)
    if limits.max_p99_ratio >= SECONDS_GROWTH**REACH:
        slowest, fastest = np.zeros_like(slowest), np.full_like(fastest, limits.max_p99_ratio)
    rows = own.seconds.sum(axis=(-1, -2))
    value = SECONDS_GROWTH ** (own_bin - base_bin).astype(np.float64)
    return Measured("p99", value, slowest, fastest, limits.max_p99_ratio, rows)


def _shift(
    check: CheckName,
    arms: tuple[Sums, Sums],
    limit: float,
    alpha: float,
    least_variance: float | Floats,
    both_ways: bool = True,
) -> Measured:
    own, base = arms
    value, interval = mean_shift(own, base, alpha, least_variance)
    enough = (own.rows.sum(axis=-1) >= FLOOR) & (base.rows.sum(axis=-1) >= FLOOR)
    low, high = np.where(enough, interval.low, -1.0), np.where(enough, interval.high, 1.0)
    return Measured(check, value, low, high, limit, own.rows.sum(axis=-1), both_ways)


def _distribution(own: ArmSums, base: ArmSums, limits: Guardrails, alpha: float) -> Measured:
    """The largest difference of the shares of scores under an edge: a change that the mean does not show."""
    least = _least_share_variance(own, base)[..., None]
    value, interval = distribution_shift(_shares_under(own), _shares_under(base), alpha, least)
    enough = (own.rows.sum(axis=-1) >= FLOOR) & (base.rows.sum(axis=-1) >= FLOOR)
    low, high = np.where(enough, interval.low, -1.0), np.where(enough, interval.high, 1.0)
    limit, rows = limits.max_distribution_shift, own.rows.sum(axis=-1)
    return Measured("score_distribution", value, low, high, limit, rows)


def _shares_under(arm: ArmSums) -> Sums:
    return Sums.of_share(scores_under(arm.scores), arm.rows[..., None, :])


def scores_under(scores: Floats) -> Floats:
    """Of counts by bin (..., K, `SCORE_BINS`) those under each of `SCORE_EDGES` (..., edges, K)."""
    under = np.cumsum(scores, axis=-1)[..., [edge - 1 for edge in SCORE_EDGES]]
    return np.asarray(np.swapaxes(under, -1, -2))


def _quality(own: ArmSums, base: ArmSums, limits: Guardrails, alpha: float) -> Measured:
    """The larger rise of two shares, each at half of alpha: rows refused of all, rows with a warning of the scored."""
    refused = _refusals(own), _refusals(base)
    warned = Sums.of_share(own.warned, own.rows), Sums.of_share(base.warned, base.rows)
    least, limit = _least_share_variance(own, base), limits.max_quality_rise
    parts = [_shift("quality", arms, limit, alpha / 2, least, both_ways=False) for arms in (refused, warned)]
    value, low, high = (np.maximum(*(getattr(part, name) for part in parts)) for name in ("value", "low", "high"))
    return Measured("quality", value, low, high, limit, (own.attempts + own.refused).sum(axis=-1))


def _scores(arm: ArmSums) -> Sums:
    return Sums(arm.rows, arm.score_sum, arm.score_squares)


def _refusals(arm: ArmSums) -> Sums:
    return Sums.of_share(arm.refused, arm.attempts + arm.refused)


def _without_faults(base: ArmSums, own: ArmSums) -> ArmSums:
    """The champion on the rows of a shadow: of those that it scored it refused none and failed at none."""
    none, tried = np.zeros_like(own.rows), own.attempts + own.refused
    return replace(base, attempts=tried, errors=none, refused=none)


def _least_share_variance(own: ArmSums, base: ArmSums) -> Floats:
    """Of rows of which none is counted, one more may be (..., 1)."""
    fewest = np.minimum(own.rows.sum(axis=-1), base.rows.sum(axis=-1))
    return np.asarray(1.0 / np.maximum(fewest, 1.0))[..., None]


def _share(hits: Floats, rows: Floats) -> Floats:
    return np.asarray(hits.sum(axis=-1) / np.maximum(rows.sum(axis=-1), 1.0))


def _quantile_bin(histogram: Floats) -> Ints:
    over = histogram.sum(axis=-1, keepdims=True) - np.cumsum(histogram, axis=-1)
    return np.asarray((over <= (1.0 - QUANTILE) * histogram.sum(axis=-1, keepdims=True)).argmax(axis=-1))


def _measure(policy: Policy, periods: Sequence[Period], name: str, alpha: float) -> list[Measured]:
    """The checks of traffic of one arm, from counts."""
    compared = [period for period in periods if period.weight < 1.0] or [Period(0.0, ReleaseCounts())]
    alone = [period for period in periods if period.weight >= 1.0]
    planned = max(len(compared), sum(step.weight < 1.0 for step in policy.steps))
    own, base = (
        _sums([each.counts.arm(arm) for each in compared], [each.counts.arm(arm) for each in alone], planned)
        for arm in (name, CHAMPION)
    )
    if policy.kind != "shadow":
        return measure_canary(own, base, policy.limits, alpha)
    last = periods[-1].counts
    return measure_shadow(own, base, _pair_sums(last.pairs, _one_a_customer(last.arm(name))), policy.limits, alpha)


def _sums(compared: Sequence[ArmCounts], alone: Sequence[ArmCounts], planned: int) -> ArmSums:
    """Counts of an arm by period, the `planned` periods to come empty. In the periods `alone` one arm has all
    customers; only its errors are compared, with the champion's of the period before: those are faults of the model,
    the rest depends on who asks, and when."""
    arms = [*compared, *(ArmCounts() for _ in range(planned - len(compared)))]
    names = ("rows", "errors", "refused", "warned", "called", "score_sum", "score_squares")
    scale = np.array([_one_a_customer(arm) for arm in arms])
    sums = {name: np.array([float(getattr(arm, name)) for arm in arms]) * scale for name in names}
    sums["scores"] = np.array([arm.scores for arm in arms], dtype=np.float64) * scale[:, None]
    last, attempts = len(compared) - 1, sums["rows"] + sums["errors"]
    attempts[last] += sum((arm.rows + arm.errors) * _one_a_customer(arm) for arm in alone)
    sums["errors"][last] += sum(arm.errors * _one_a_customer(arm) for arm in alone)
    seconds = np.zeros((planned, _BINS))
    for row, arm in zip(seconds, arms, strict=True):
        for place, count in arm.seconds.items():
            row[min(place, _BINS - 1)] += count
    return ArmSums(attempts=attempts, seconds=seconds, **sums)


def _one_a_customer(arm: ArmCounts) -> float:
    """What the counts of an arm are multiplied by, to have as much weight as one row of each of its customers: rows of
    one customer say little more than one of them. A design effect as large as can be (Kish 1965)."""
    return min(1.0, arm.customers / arm.rows) if arm.customers and arm.rows else 1.0


def _pair_sums(pairs: PairCounts, scale: float) -> PairSums:
    values = (pairs.rows, pairs.flips, pairs.difference_sum, pairs.difference_squares)
    return PairSums(*(np.array(value * scale) for value in values))


def _label_checks(figures: LabelFigures, limits: Guardrails) -> list[Measured]:
    """PR-AUC as a fall, log-loss as a rise."""
    fall, rise = -figures.pr_auc, figures.log_loss
    ends = ((-figures.pr_auc_high, -figures.pr_auc_low), (figures.log_loss_low, figures.log_loss_high))
    limit = (limits.max_pr_auc_drop, limits.max_log_loss_rise)
    rows = np.array(figures.rows)
    return [
        Measured(name, np.array(value), np.array(low), np.array(high), of, rows)
        for name, value, (low, high), of in zip(LABELLED, (fall, rise), ends, limit, strict=True)
    ]


def _check(measured: Measured, arm: str) -> GuardrailCheck:
    status: CheckStatus = "crossed" if measured.crossed else "ok" if measured.ok else "undecided"
    value, low, high = (float(each) for each in (measured.value, measured.low, measured.high))
    is_ratio = measured.check == "p99"
    known_low = None if low <= (0.0 if is_ratio else -1.0) else low
    known_high = None if not np.isfinite(high) or (high >= 1.0 and not is_ratio) else high
    rows = int(measured.rows)
    text = _form(measured.check)
    ends = " to ".join("?" if end is None else text(end) for end in (known_low, known_high))
    message = f"{TITLES[measured.check]} {text(value)} ({ends}), limit {text(measured.limit)}, {rows:,} rows: {status}"
    return GuardrailCheck(
        measured.check, arm, status, value if rows else None, measured.limit, known_low, known_high, rows, message
    )


TITLES: dict[CheckName, str] = {
    "error_rate": "rows with an error, rise",
    "p99": "99th percentile of the scoring time, ratio",
    "score_shift": "mean score, move",
    "score_distribution": "share of scores under an edge, largest move",
    "decisions": "share of calls, move",
    "flips": "rows decided otherwise, share",
    "quality": "refused rows or rows with a warning, rise",
    "pr_auc": "PR-AUC, fall",
    "log_loss": "log-loss, rise",
}


def _form(check: CheckName) -> Callable[[float], str]:
    """How a value of the check reads: points of a share, a factor, or a plain number."""
    if check == "p99":
        return lambda value: f"{value:.2f}"
    if check in ("score_shift", *LABELLED):
        return lambda value: f"{value:.3f}"
    return lambda value: f"{value:.2%}"


def _next_move(
    policy: Policy,
    periods: Sequence[Period],
    crossed: list[GuardrailCheck],
    unclear: list[GuardrailCheck],
    now: datetime,
) -> tuple[Move, Waiting, str]:
    """The move, what it waits for, and why in a line."""
    ending = [check for check in crossed if policy.kind != "ab" or check.check in ENDING_AB]
    if ending:
        return "rollback", "", "; ".join(f"{check.arm}: {check.message}" for check in ending)
    undecided = ", ".join(dict.fromkeys(check.check for check in unclear))
    move, waiting, message = _next_step(policy, periods, undecided, now)
    late = policy.deadline_at is not None and now >= policy.deadline_at
    if late and move == "hold" and (waiting != "person" or policy.kind == "ab"):
        return "inconclusive", "", f"the deadline {policy.deadline_at:%Y-%m-%d %H:%M} UTC has passed; {message}"
    return move, waiting, message


def _next_step(policy: Policy, periods: Sequence[Period], undecided: str, now: datetime) -> tuple[Move, Waiting, str]:
    """As `_next_move`, where nothing is crossed."""
    if policy.kind != "canary" or not policy.steps:
        if undecided:
            return "hold", "checks", f"not decided yet: {undecided}"
        return "hold", "person", "every check of traffic is ok; a person decides what follows"
    step = policy.steps[policy.step]
    until = (policy.step_since or policy.at) + timedelta(minutes=step.hold_minutes)
    rows = periods[-1].counts.arm(CHALLENGER).rows if periods else 0
    name = f"step {policy.step + 1} of {len(policy.steps)} ({step.weight:.0%})"
    if now < until:
        return "hold", "time", f"{name} is held until {until:%Y-%m-%d %H:%M} UTC"
    if rows < step.rows:
        return "hold", "rows", f"{name} has {rows:,} rows of the challenger, expected {step.rows:,}"
    if undecided and (policy.step + 1 == len(policy.steps) or policy.steps[policy.step + 1].weight >= 1.0):
        return "hold", "checks", f"{name} was held; not decided yet: {undecided}"
    if policy.step + 1 < len(policy.steps):
        return "advance", "", f"{name} was held with {rows:,} rows of the challenger and no check crossed"
    return "promote", "", f"{name} was held, and every check of traffic is ok"


def more_rows(check: GuardrailCheck) -> int | None:
    """About how many more rows of the arm decide a check that is undecided, if its value stays: an interval narrows
    with the root of its rows. None where that is not to be told: it is decided, has no interval yet, or its value is at
    the limit."""
    if check.status != "undecided" or check.value is None or not check.rows:
        return None
    unread = max(0, FLOOR - check.rows)
    value, low, high = (_on_line(check.check, end) for end in (check.value, check.low, check.high))
    limit = _on_line(check.check, check.limit)
    if value is None or limit is None:
        return unread or None
    if check.check in _BOTH_WAYS and value < 0.0:
        value, low, high = -value, None if high is None else -high, None if low is None else -low
    end, room = (high, limit - value) if value < limit else (low, value - limit)
    if end is None or room <= 0.0:
        return unread or None
    needed = check.rows * ((abs(end - value) / room) ** 2 - 1.0)
    return max(unread, math.ceil(needed), 1)


def _on_line(check: CheckName, value: float | None) -> float | None:
    """A value where its interval has about equal halves: a ratio by its logarithm."""
    if check != "p99" or value is None:
        return value
    return math.log(value) if value > 0.0 else None


_BOTH_WAYS: tuple[CheckName, ...] = ("score_shift", "decisions")  # a fall crosses them as a rise does


def write_report(home: Path, report: GuardrailReport) -> Path:
    """Replace `guardrails.json` of the policy. Raises OSError on a full disk."""
    path = counts_folder(home, report.policy) / GUARDRAILS
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_json(path, report.to_json())


def read_report(home: Path, policy_id: str) -> GuardrailReport | None:
    """The last report of a policy, None before the first. Raises ValueError for what is none, and OSError."""
    try:
        stored = read_json_object(counts_folder(home, policy_id) / GUARDRAILS)
    except FileNotFoundError:
        return None
    if (version := stored.pop("version", None)) != 1:
        raise ValueError(f"is a report of version {version}, expected 1")
    return msgspec.convert(stored, GuardrailReport)


def write_label_figures(home: Path, policy_id: str, figures: Mapping[str, LabelFigures]) -> Path:
    """Let the guard know what final labels show, by the name of the arm. Raises OSError on a full disk."""
    path = counts_folder(home, policy_id) / LABELS
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_json(path, {"version": 1, "arms": msgspec.to_builtins(dict(figures))})


def read_label_figures(home: Path, policy_id: str) -> dict[str, LabelFigures]:
    """What final labels show, empty before there are enough. Raises ValueError for what is none, and OSError."""
    try:
        stored = read_json_object(counts_folder(home, policy_id) / LABELS)
    except FileNotFoundError:
        return {}
    return msgspec.convert(stored.get("arms"), dict[str, LabelFigures])
