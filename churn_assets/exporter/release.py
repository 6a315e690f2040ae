"""The champion, the release, what was decided about retraining, and what the gate made of challengers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import get_args

import msgspec

from churn_assets.exporter.metrics import Samples
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import read_champion
from churn_assets.promotion.records import (
    ChallengerStatus,
    DecisionKind,
    MoveKind,
    ReleaseOutcome,
    RequestStatus,
    Verdict,
)
from churn_assets.promotion.rollout.status import read_guardrails
from churn_assets.release.counts import SCORE_BINS, ArmCounts, ReleaseCounts, read_counts, seconds_of
from churn_assets.release.guardrails import CheckStatus, GuardrailCheck
from churn_assets.release.policy import CHAMPION, Policy, PolicyKind, read_policy
from churn_assets.settings import Settings

SECONDS_EDGES = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
_WAITING: ChallengerStatus = "waiting_approval"
_OUTCOMES = [outcome for outcome in get_args(ReleaseOutcome) if outcome]


def read_champion_part(settings: Settings, samples: Samples) -> None:
    """The champion, its moves, and the policy in force with its arms. Raises PointerCorrupt, PolicyCorrupt."""
    champion = read_champion(settings.home)
    if champion is None:
        return
    samples.set("churn_champion_info", 1, model_version=champion.version)
    samples.set("churn_champion_since_timestamp_seconds", champion.since_at)
    policy = read_policy(settings.home)
    in_force = policy if policy is not None and policy.champion.version == champion.version else None
    kind = in_force.kind if in_force is not None else "champion"
    samples.one_of("churn_release_kind", "kind", get_args(PolicyKind), kind)
    arms = [(arm.name, arm.version, arm.weight) for arm in in_force.arms] if in_force else []
    for name, version, weight in arms or [(CHAMPION, champion.version, 1.0)]:
        samples.set("churn_release_arm_weight_ratio", weight, arm=name, model_version=version)
    samples.set("churn_release_steps", len(in_force.steps) if in_force else 0)
    samples.set("churn_release_step", in_force.step + 1 if in_force and in_force.steps else 0)
    if in_force is not None:
        samples.set("churn_release_deadline_timestamp_seconds", in_force.deadline_at)


def read_release_part(settings: Settings, samples: Samples) -> None:
    """What was counted under the newest policy, by arm, and how its guardrails stand; these stay when it has ended and
    the champion answers alone. Raises PolicyCorrupt."""
    policy = _newest_release(settings)
    if policy is None:
        return
    counts = read_counts(settings.home, policy.id)
    for arm in policy.arms:
        _count_arm(arm.name, counts, samples)
    if policy.kind == "shadow":
        pairs = counts.pairs
        samples.set("churn_release_pairs_total", pairs.rows)
        samples.set("churn_release_flips_total", pairs.flips)
        samples.set("churn_release_pairs_dropped_total", pairs.dropped)
        if pairs.rows:
            samples.set("churn_release_score_difference", pairs.difference_sum / pairs.rows)
    report = read_guardrails(settings.home, policy.id) or {}
    for check in msgspec.convert(report.get("checks", []), list[GuardrailCheck]):
        labels = {"check": check.check, "arm": check.arm}
        for name in ("value", "low", "high", "limit"):
            samples.set(f"churn_guardrail_{name}", getattr(check, name), **labels)
        samples.one_of("churn_guardrail_status", "status", get_args(CheckStatus), check.status, **labels)


def read_decisions_part(settings: Settings, samples: Samples) -> None:
    """Decisions, requests, challengers, moves and ended releases, by the ledger. Raises LedgerCorrupt,
    LedgerUnavailable."""
    ledger = Ledger(settings.ledger_path)
    decisions = ledger.count_decisions()
    for kind in get_args(DecisionKind):
        samples.set("churn_decisions_total", 0, kind=kind, trigger="")
    for (kind, trigger), count in decisions.items():
        samples.set("churn_decisions_total", count, kind=kind, trigger=trigger)
    requests = [request.status for request in ledger.requests()]
    _count(samples, "churn_retraining_requests", "status", get_args(RequestStatus), requests)
    challengers = ledger.challengers()
    statuses = [challenger.status for challenger in challengers]
    _count(samples, "churn_challengers", "status", get_args(ChallengerStatus), statuses)
    waiting = [challenger.changed_at for challenger in challengers if challenger.status == _WAITING]
    samples.set("churn_approvals_waiting", len(waiting))
    samples.set("churn_approval_waiting_since_timestamp_seconds", min(waiting, default=None))
    judged = [challenger.verdict for challenger in challengers if challenger.verdict is not None]
    if judged:
        _show_verdict(judged[-1], samples)
    moves = [move.kind for move in ledger.moves("done")]
    _count(samples, "churn_champion_moves_total", "kind", get_args(MoveKind), moves)
    ended = Counter((m.outcome, "service" if m.kind == "end" else "person") for m in ledger.policy_moves("done"))
    for outcome in _OUTCOMES:
        for by in ("service", "person"):
            samples.set("churn_releases_ended_total", ended[outcome, by], outcome=outcome, by=by)


def _newest_release(settings: Settings) -> Policy | None:
    """The policy in its file; while that is the champion alone, the release that ended before it, for its figures."""
    policy = read_policy(settings.home)
    if policy is None or policy.kind != "champion":
        return policy
    move = Ledger(settings.ledger_path).newest_policy_move("done")
    before = move.before if move is not None else None
    return before if before is not None and before.kind != "champion" else None


def _count_arm(name: str, counts: ReleaseCounts, samples: Samples) -> None:
    arm = counts.arms.get(name, ArmCounts())
    for metric in ("rows", "errors", "refused", "warned", "called"):
        samples.set(f"churn_release_{metric}_total", getattr(arm, metric), arm=name)
    edges = [*(f"{(place + 1) / SCORE_BINS:g}" for place in range(SCORE_BINS - 1)), "+Inf"]
    buckets = [*zip(edges, map(float, accumulate(arm.scores)), strict=True)]
    samples.histogram("churn_release_score", buckets, arm.score_sum, arm=name)
    times = {seconds_of(place): count for place, count in arm.seconds.items()}
    up_to = [(f"{edge:g}", float(sum(n for at, n in times.items() if at <= edge))) for edge in SECONDS_EDGES]
    timed, total = float(sum(times.values())), sum(at * count for at, count in times.items())
    samples.histogram("churn_release_scoring_seconds", [*up_to, ("+Inf", timed)], total, arm=name)


def _show_verdict(verdict: Verdict, samples: Samples) -> None:
    for check in verdict.checks:
        samples.set("churn_gate_check_passed", check.passed, check=check.check)
        samples.set("churn_gate_check_value", check.value, check=check.check)
        samples.set("churn_gate_check_limit", check.limit, check=check.check)


def _count(samples: Samples, name: str, label: str, values: Sequence[str], rows: Sequence[str]) -> None:
    """A count for each value of a closed list."""
    counts = Counter(rows)
    for value in values:
        samples.set(name, counts[value], **{label: value})
