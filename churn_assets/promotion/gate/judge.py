"""May the challenger replace the champion? Both are measured on the same rows; every number is in the verdict.

docs/release.md has the rules. Evidence is weighed by its time. On the frozen holdout the ranking is tested for
non-inferiority (Piaggio et al., 2012), for "not shown to be worse" is what every small sample says. Somewhere the
challenger must be shown to be better, at 99 %: 95 % would let 2.5 % of equal challengers through. Where recent labels
show it, they decide, if the champion has fallen or the holdout has too few rows to tell. Recent labels need not show
it if the holdout does. Rates of wrong verdicts: `benchmarks/gate_simulation.py`, `benchmarks/gate_power.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from churn_assets.contract.limits import Release
from churn_assets.contract.model import Contract
from churn_assets.errors import GateRefused
from churn_assets.promotion.gate.comparison import FEWEST, Comparison, Fall, compare, fall
from churn_assets.promotion.gate.evidence import Evidence
from churn_assets.promotion.gate.guards import guard_checks, log_loss_check
from churn_assets.promotion.gate.inputs import GateInputs
from churn_assets.promotion.records import FORBIDDEN, Check, Verdict
from churn_assets.promotion.registration import check_registration

# What the frozen holdout says of the ranking: no worse by the margin, worse beyond noise, or neither.
HoldoutResult = Literal["no worse", "worse", "unknown"]


@dataclass(frozen=True)
class Comparisons:
    """Both models on the frozen holdout, on all recent labels and on the rolling holdout alone, where that is a part of
    them; None where there are too few rows. `fall` is the champion's, None without one of the first two."""

    frozen: Comparison | None
    recent: Comparison | None = None
    rolling: Comparison | None = None
    fall: Fall | None = None


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
        *((Check("training", None, None, True, inputs.training),) if inputs.training else ()),
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
    frozen, late = compare(holdout, seed), compare(recent, seed + 1) if enough else None
    rolling = compare(recent.rolling(), seed + 1) if late is not None and recent.cross_fitted_rows else None
    fallen = fall(holdout, recent, seed) if frozen is not None and late is not None else None
    comparisons = Comparisons(frozen, late, rolling, fallen)
    return judge_comparisons(contract, champion, challenger, holdout, recent, comparisons, seed)


def judge_comparisons(
    contract: Contract,
    champion: str,
    challenger: str,
    holdout: Evidence,
    recent: Evidence,
    comparisons: Comparisons,
    seed: int,
) -> Verdict:
    """The verdict once the comparisons are made; without that of the frozen holdout it never passes."""
    release, frozen, late = contract.release, comparisons.frozen, comparisons.recent
    checks = [_holdout_rows(holdout, frozen), _recent_rows(contract, recent, late)]
    sure = frozen is not None and frozen.lower_99 > max(release.holdout_margin, 0.0)
    if frozen is not None and late is None:
        checks += [_holdout_alone(release, frozen), *guard_checks("holdout", release, frozen, True, seed)]
    if frozen is not None and late is not None:
        checks += _beside_recent(release, frozen, late, comparisons.fall, seed)
    if late is not None:
        checks += [_recent(release, late, sure), *guard_checks("recent", release, late, True, seed)]
    if comparisons.rolling is not None:
        checks += [_rolling(comparisons.rolling), log_loss_check("rolling", comparisons.rolling, False)]
    made = [comparison for comparison in (frozen, late, comparisons.rolling) if comparison is not None]
    draws = {comparison.evidence.name: comparison.pr_auc for comparison in made}
    return Verdict(champion, challenger, tuple(checks), draws, holdout)


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
    message = f"{rows:,} customers have recent final labels, {recent.churners:,} of them churned"
    if fitted := recent.cross_fitted_rows:
        message += (
            f": {rows - fitted:,} set apart (the rolling holdout), {fitted:,} scored by models of the challenger's "
            "recipe that were fitted without them"
        )
    if comparison is None:
        least = f"{floor:,}" if rows < floor else f"{FEWEST} churned and as many kept"
        message += f"; fewer than {least}, so the frozen holdout decides alone, by a stricter rule"
    return Check("recent_rows", float(rows), float(floor), True, message)


def _holdout_alone(release: Release, comparison: Comparison) -> Check:
    return _ranking("holdout", comparison, comparison.lower_99, max(release.holdout_margin, 0.0), "99 %")


def _beside_recent(
    release: Release, frozen: Comparison, late: Comparison, fallen: Fall | None, seed: int
) -> list[Check]:
    """The checks of the frozen holdout where there are recent labels, decisive or only shown, and why."""
    proven = late.lower_99 > max(release.recent_margin, 0.0)  # a margin below 0 shows nobody to be better
    ranking = _ranking("holdout", frozen, frozen.interval[0], release.holdout_margin, "95 %")
    guards = [*guard_checks("holdout", release, frozen, False, seed)]
    checks = [ranking, *guards]
    if fallen is None:
        return checks
    if proven and fallen.beyond_noise:
        reason = "shown, not decisive: the champion has fallen, and recent labels show the challenger to be better"
        checks = [_shown(check, reason) for check in checks]
    elif proven and _holdout_result(release, frozen) == "unknown":
        reason = "shown, not decisive: so few rows cannot tell, and recent labels show the challenger to be better"
        checks = [_shown(ranking, reason), *guards]
    elif proven:
        checks = [_changed(check) for check in checks]
    return [_fall(frozen, fallen), *checks]


def _holdout_result(release: Release, frozen: Comparison) -> HoldoutResult:
    low, high = frozen.interval
    if low > release.holdout_margin:
        return "no worse"
    return "unknown" if release.holdout_margin <= 0.0 <= high and low <= 0.0 else "worse"


def _shown(check: Check, reason: str) -> Check:
    return check if check.passed else replace(check, passed=True, shown=True, message=f"{check.message}; {reason}")


def _changed(check: Check) -> Check:
    if check.passed:
        return check
    message = (
        f"{check.message}; recent labels show the challenger to be better, so customers have changed, but the champion "
        "has not fallen on them beyond noise"
    )
    return replace(check, message=message)


def _fall(frozen: Comparison, fallen: Fall) -> Check:
    low, high = fallen.pr_auc
    message = (
        f"the champion's PR-AUC is {fallen.holdout:.4f} on {frozen.evidence.name} and {fallen.recent:.4f} on recent "
        f"labels at the same share of churners (95 % {low:+.4f} to {high:+.4f}); its log-loss exceeds what its "
        f"probabilities expect by {fallen.excess:+.4f} more than on the holdout (99 % {fallen.excess_99[0]:+.4f} to "
        f"{fallen.excess_99[1]:+.4f}): "
    )
    message += "it has fallen, customers have changed" if fallen.beyond_noise else "it has not fallen beyond noise"
    return Check("champion_fall", fallen.recent - fallen.holdout, None, True, message)


def _recent(release: Release, comparison: Comparison, sure: bool) -> Check:
    margin = release.recent_margin
    check = _ranking("recent", comparison, comparison.lower_99, margin, "99 %")
    if check.passed or not (sure and comparison.gain > margin):
        return check
    message = (
        f"{_describe(comparison)}; that agrees with the frozen holdout, which by itself shows an improvement at 99 %"
    )
    return Check(check.check, comparison.gain, margin, True, message)


def _rolling(comparison: Comparison) -> Check:
    """On the rows that no challenger has learned from, cross-fitting or not, it must not be shown to be worse."""
    low, high = comparison.interval
    message = f"{_describe(comparison)} (95 % {low:+.4f} to {high:+.4f}) and may not fall beyond noise"
    return Check("rolling_pr_auc", high, 0.0, high >= 0.0, message)


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
