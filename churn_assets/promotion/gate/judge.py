"""May the challenger replace the champion? Both are measured on the same rows; every number is in the verdict.

docs/release.md has the rules. On the frozen holdout the ranking is tested for non-inferiority (Piaggio et al.,
2012), for "not shown to be worse" is what every small sample says. Somewhere the challenger must be shown to be
better, at 99 %: 95 % would let 2.5 % of equal challengers through. Recent labels need not show it if the holdout
does, for a few hundred seldom prove a thing by themselves. Rates of wrong verdicts: `benchmarks/gate_simulation.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from churn_assets.contract.gate_limits import Release
from churn_assets.contract.model import Contract
from churn_assets.errors import GateRefused
from churn_assets.evaluation.bootstrap import DRAWS, interval, paired_difference, statistics_under, stratified_samples
from churn_assets.evaluation.metrics import Ranking, ece, ece_by_chance, losses
from churn_assets.promotion.gate.inputs import Evidence, Floats, GateInputs, Labels
from churn_assets.promotion.records import FORBIDDEN, Check, Verdict
from churn_assets.promotion.registration import check_registration

CALIBRATED_DRAWS = 200
FEWEST = 30  # of churned or kept customers; with fewer, a percentile interval of PR-AUC is too narrow
SURE_QUANTILE = 0.005  # lower end of a 99 % interval


@dataclass(frozen=True)
class Comparison:
    """PR-AUC of both, and bootstrapped differences challenger minus champion, (draws,) each, of PR-AUC and of
    mean log-loss."""

    evidence: Evidence
    champion: float
    challenger: float
    pr_auc: Floats
    log_loss: Floats
    log_loss_point: float

    @property
    def gain(self) -> float:
        """The difference in PR-AUC."""
        return self.challenger - self.champion


def judge(inputs: GateInputs, seed: int = 0) -> Verdict:
    """The verdict on these facts: those about the challenger itself, then the comparison by `judge_evidence`."""
    champion, challenger = inputs.champion, inputs.challenger
    if champion == challenger:
        message = f"{challenger} is the champion already, expected another model"
        return Verdict(champion, challenger, (Check("another_model", None, None, False, message),))
    frozen = f"customers frozen on {inputs.frozen_at:%Y-%m-%d}" if inputs.frozen_at else ""
    checks: tuple[Check, ...] = (
        _fact("bundle", inputs.bundle_problem, f"{inputs.bundle} is complete and reproduces its golden rows"),
        _fact(
            "attested",
            inputs.registration_problem or _registration_problem(inputs),
            "its test PR-AUC reaches the floor, and every column its audit found over a limit is attested",
        ),
        _fact("holdout", inputs.holdout_problem, frozen),
    )
    if inputs.change:
        changed = (
            f"its inputs differ from those of {champion} ({inputs.change}), so that no rows compare the two; the rules "
            "of registration decide"
        )
        return Verdict(champion, challenger, (*checks, Check("inputs", None, None, True, changed)))
    if inputs.holdout is None or inputs.recent is None:
        return Verdict(champion, challenger, checks)
    verdict = judge_evidence(inputs.contract, champion, challenger, inputs.holdout, inputs.recent, seed)
    compared = verdict.checks
    if inputs.forbidden:
        compared = tuple(_not_held_against(check) for check in compared)
        checks = (*checks, _forbidden(champion, inputs.forbidden))
    return Verdict(champion, challenger, (*checks, *compared), verdict.draws, verdict.evidence)


def _forbidden(champion: str, columns: Sequence[str]) -> Check:
    names = ", ".join(f"'{name}'" for name in columns)
    message = f"champion {champion} reads {names}, which no model may read now: a person decides, not the comparison"
    return Check(FORBIDDEN, float(len(columns)), None, True, message)


def _not_held_against(check: Check) -> Check:
    """A failed comparison with a champion that may not read what it reads: passed, with the figures as they are."""
    return check if check.passed else replace(check, passed=True, message=f"{check.message}; not held against it")


def superseded(challenger: str, newer: str) -> Verdict:
    """The verdict on a challenger while a newer one has just been promoted."""
    message = f"superseded by {newer}, a newer challenger that was promoted"
    return Verdict(newer, challenger, (Check("not_superseded", None, None, False, message),))


def judge_evidence(
    contract: Contract, champion: str, challenger: str, holdout: Evidence, recent: Evidence, seed: int = 0
) -> Verdict:
    """The verdict on two versions by the contract's `[release]`, recent labels counting from
    `monitoring.label_floor` of them."""
    enough = len(recent.churned) >= contract.monitoring.label_floor
    comparisons = compare(holdout, seed), compare(recent, seed + 1) if enough else None
    return judge_comparisons(contract, champion, challenger, holdout, recent, comparisons, seed)


def judge_comparisons(
    contract: Contract,
    champion: str,
    challenger: str,
    holdout: Evidence,
    recent: Evidence,
    comparisons: tuple[Comparison | None, Comparison | None],
    seed: int,
) -> Verdict:
    """The verdict once both comparisons (of the holdout, of recent labels) are made; without the first it never
    passes."""
    release, (frozen, late) = contract.release, comparisons
    checks = [_holdout_rows(holdout, frozen), _recent_rows(contract, recent, late)]
    sure = frozen is not None and _lower_99(frozen) > max(release.holdout_margin, 0.0)
    if frozen is not None:
        checks += [
            _holdout(release, frozen, alone=late is None),
            *_guard_checks("holdout", release, frozen, late is None, seed),
        ]
    if late is not None:
        checks += [_recent(release, late, sure), *_guard_checks("recent", release, late, True, seed)]
    draws = {made.evidence.name: made.pr_auc for made in comparisons if made is not None}
    return Verdict(champion, challenger, tuple(checks), draws, holdout)


def compare(evidence: Evidence, seed: int, draws: int = DRAWS) -> Comparison | None:
    """Both models on the same rows under the same bootstrap samples; None if there are not FEWEST of each class."""
    if evidence.fewest < FEWEST:
        return None
    champion = Ranking(evidence.churned, evidence.champion)
    challenger = Ranking(evidence.churned, evidence.challenger)
    rise = losses(evidence.churned, evidence.challenger) - losses(evidence.churned, evidence.champion)
    gains, rises = statistics_under(
        stratified_samples(evidence.churned, draws, seed),
        lambda w: challenger.pr_auc(w) - champion.pr_auc(w),
        lambda w: float(w @ rise) / len(rise),
    )
    return Comparison(evidence, champion.pr_auc(), challenger.pr_auc(), gains, rises, float(np.mean(rise)))


def _registration_problem(inputs: GateInputs) -> str | None:
    """Why the challenger could not be registered today: the contract may have changed since it was."""
    if inputs.registered is None:
        return None
    try:
        check_registration(inputs.registered, inputs.contract)
    except GateRefused as refusal:
        return str(refusal)
    return None


def _fact(check: str, problem: str | None, message: str) -> Check:
    return Check(check, None, None, problem is None, message if problem is None else problem)


def _holdout_rows(holdout: Evidence, comparison: Comparison | None) -> Check:
    rows, fewest = len(holdout.churned), holdout.fewest
    message = f"the frozen holdout has {rows:,} customers, {holdout.churners:,} of them churned"
    if comparison is None:
        message += f": too few to compare on, expected at least {FEWEST} churned and as many kept"
    return Check("holdout_rows", float(fewest), float(FEWEST), comparison is not None, message)


def _recent_rows(contract: Contract, recent: Evidence, comparison: Comparison | None) -> Check:
    rows, floor = len(recent.churned), contract.monitoring.label_floor
    message = f"{rows:,} customers have recent final labels set apart for the gate, {recent.churners:,} of them churned"
    if comparison is None:
        least = f"{floor:,}" if rows < floor else f"{FEWEST} churned and as many kept"
        message += f"; fewer than {least}, so the frozen holdout decides alone, by a stricter rule"
    return Check("recent_rows", float(rows), float(floor), True, message)


def _lower_99(comparison: Comparison) -> float:
    return float(np.quantile(comparison.pr_auc, SURE_QUANTILE))


def _holdout(release: Release, comparison: Comparison, alone: bool) -> Check:
    if alone:
        return _ranking("holdout", comparison, _lower_99(comparison), max(release.holdout_margin, 0.0), "99 %")
    return _ranking("holdout", comparison, interval(comparison.pr_auc)[0], release.holdout_margin, "95 %")


def _recent(release: Release, comparison: Comparison, sure: bool) -> Check:
    margin = release.recent_margin
    check = _ranking("recent", comparison, _lower_99(comparison), margin, "99 %")
    if check.passed or not (sure and comparison.gain > margin):
        return check
    message = (
        f"{_describe(comparison)}; that agrees with the frozen holdout, which by itself shows an improvement at 99 %"
    )
    return Check(check.check, comparison.gain, margin, True, message)


def _ranking(name: str, comparison: Comparison, low: float, margin: float, level: str) -> Check:
    passed = low > margin
    over = "over" if passed else "not over"
    message = f"{_describe(comparison)}, at least {low:+.4f} at {level}, {over} the margin {margin:+.4f}"
    if not passed and comparison.gain > margin:
        rows, provable = len(comparison.evidence.churned), comparison.gain - low + margin
        message += f" ({rows:,} rows prove nothing below {provable:+.4f})"
    return Check(f"{name}_pr_auc", low, margin, passed, message)


def _describe(comparison: Comparison) -> str:
    return (
        f"on {comparison.evidence.name} PR-AUC is {comparison.challenger:.4f}, the champion's "
        f"{comparison.champion:.4f}: {comparison.gain:+.4f}"
    )


def _guard_checks(name: str, release: Release, comparison: Comparison, decides: bool, seed: int) -> Iterator[Check]:
    """Log-loss, segments and calibration; `decides` says whether the verdict depends on these rows alone."""
    yield _log_loss(name, comparison, decides)
    yield _segments(name, release, comparison.evidence, seed)
    yield _calibration(name, release, comparison.evidence, seed)


def _log_loss(name: str, comparison: Comparison, decides: bool) -> Check:
    point, (low, high) = comparison.log_loss_point, interval(comparison.log_loss)
    value = point if decides else low
    rule = "may not rise" if decides else "may not rise beyond noise"
    message = (
        f"on {comparison.evidence.name} log-loss changes by {point:+.4f} (95 % {low:+.4f} to {high:+.4f}) and {rule}"
    )
    return Check(f"{name}_log_loss", value, 0.0, value <= 0.0, message)


def _segments(name: str, release: Release, evidence: Evidence, seed: int) -> Check:
    """None may fall beyond the limit and its own noise: one churner can move a small segment by more than any limit."""
    limit, worst, worst_segment, fallen, compared = release.segment_drop, 0.0, "", "", 0
    for segment, label, champion, challenger in _rankings_by_segment(release.segment_rows, evidence):
        compared += 1
        drop = champion.pr_auc() - challenger.pr_auc()
        if drop > worst:
            worst, worst_segment = drop, segment
        if drop > limit and not fallen and _is_worse(champion, challenger, label, seed):
            fallen = f"PR-AUC of '{segment}' ({len(label):,} rows) falls by {drop:.4f}"
    where = f"on {evidence.name}"
    if fallen:
        return Check(f"{name}_segments", worst, limit, False, f"{where} {fallen}, more than {limit:.4f} and noise")
    largest = f"the largest fall is {worst:.4f}, '{worst_segment}'" if worst_segment else "none falls"
    noise = ", which is noise" if worst > limit else ""
    message = f"{where}, {compared} segments of at least {release.segment_rows:,} rows: {largest}{noise}"
    return Check(f"{name}_segments", worst, limit, True, message)


def _rankings_by_segment(least: int, evidence: Evidence) -> Iterator[tuple[str, Labels, Ranking, Ranking]]:
    """Name, labels, champion and challenger of each segment with `least` rows and both classes."""
    for segment, rows in evidence.segments.items():
        label = evidence.churned[rows]
        if len(label) >= least and label.min() != label.max():
            yield segment, label, Ranking(label, evidence.champion[rows]), Ranking(label, evidence.challenger[rows])


def _is_worse(champion: Ranking, challenger: Ranking, label: Labels, seed: int) -> bool:
    gain = paired_difference(stratified_samples(label, DRAWS, seed), challenger.pr_auc, champion.pr_auc)
    return gain.interval[1] < 0.0


def _calibration(name: str, release: Release, evidence: Evidence, seed: int) -> Check:
    value, limit = ece(evidence.churned, evidence.challenger), release.max_ece
    message = f"on {evidence.name} the calibration error is {value:.4f}, allowed {limit:.4f}"
    if value > limit:
        by_chance = ece_by_chance(evidence.challenger, CALIBRATED_DRAWS, seed)
        limit = max(limit, float(np.quantile(by_chance, 0.975)))
        message += f" or what perfect probabilities may show on so few rows, {limit:.4f}"
    return Check(f"{name}_calibration", value, limit, value <= limit, message)
