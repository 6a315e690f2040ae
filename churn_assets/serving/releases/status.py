"""How a release stands, for the API: from policy, ledger, and what the processes of the service have counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from churn_assets.promotion.records import PolicyMove
from churn_assets.promotion.releases import Releases
from churn_assets.promotion.rollout.status import live_counts
from churn_assets.release.counts import REPORT, ArmCounts, PairCounts, ReleaseCounts, counts_folder
from churn_assets.release.policy import Policy, PolicyArm
from churn_assets.serving.releases.messages import ArmShare, LiveArm, LivePairs, MoveFacts, PolicyFacts, ReleaseResponse
from churn_assets.storage.files import read_json_object

MOVES = 20  # of the answer, the newest


def describe_release(releases: Releases, home: Path) -> ReleaseResponse:
    """Raises as `Releases.status`."""
    status = releases.status()
    policy = status.policy
    counts = live_counts(status, home)
    moves = [move_facts(move) for move in reversed(status.moves) if move.status == "done"]
    return ReleaseResponse(
        policy=None if policy is None else policy_facts(policy),
        running=status.is_running,
        rollout=list(status.rollout),
        waits_for=status.waits_for,
        arms=describe_arms(policy, counts) if status.is_running and policy is not None else [],
        pairs=describe_pairs(counts.pairs),
        guardrails=None if status.guardrails is None else dict(status.guardrails),
        report=_newest_report(home, status.rollout or _let_in(status.moves)),
        moves=moves[:MOVES],
        problem=status.problem or None,
    )


def policy_facts(policy: Policy) -> PolicyFacts:
    """A policy without its salt: who knows that could choose an arm by choosing an id."""
    return PolicyFacts(
        id=policy.id,
        kind=policy.kind,
        arms=[ArmShare(arm.name, arm.version, arm.weight) for arm in policy.arms],
        by=policy.by,
        why=policy.why,
        at=_text(policy.at),
        step=policy.step + 1 if policy.steps else None,
        steps=[step.weight for step in policy.steps],
        deadline_at=None if policy.deadline_at is None else _text(policy.deadline_at),
    )


def move_facts(move: PolicyMove) -> MoveFacts:
    """A move of the ledger."""
    before = None if move.before is None else move.before.id
    return MoveFacts(move.kind, before, move.after.id, move.outcome, move.by, move.why, _text(move.intended_at))


def describe_arms(policy: Policy, counts: ReleaseCounts) -> list[LiveArm]:
    """The arms of the policy in their order, then those that the release had before."""
    own = {arm.name: arm for arm in policy.arms}
    arms = []
    for name in dict.fromkeys((*own, *counts.arms)):
        arms.append(_describe_arm(name, own.get(name), counts.arms.get(name, ArmCounts())))
    return arms


def _describe_arm(name: str, arm: PolicyArm | None, counts: ArmCounts) -> LiveArm:
    return LiveArm(
        name=name,
        version=None if arm is None else arm.version,
        weight=None if arm is None else arm.weight,
        rows=counts.rows,
        errors=counts.errors,
        refused=counts.refused,
        called_share=counts.share(counts.called),
        warned_share=counts.share(counts.warned),
        mean_score=counts.share(counts.score_sum),
        scoring_p50_ms=counts.quantile_ms(0.5),
        scoring_p99_ms=counts.quantile_ms(0.99),
    )


def describe_pairs(pairs: PairCounts) -> LivePairs | None:
    """None while no row was scored by both, and none was dropped."""
    if not pairs.rows and not pairs.dropped:
        return None
    return LivePairs(
        pairs.rows, pairs.flips, pairs.agreement, pairs.mean_difference, pairs.sd_difference, pairs.dropped
    )


def _let_in(moves: Sequence[PolicyMove]) -> list[str]:
    """Ids of the newest policies that let a version in: of the last release, which has ended."""
    return [move.after.id for move in moves if move.status == "done" and move.after.kind != "champion"][-MOVES:]


def _newest_report(home: Path, rollout: Sequence[str]) -> dict[str, Any] | None:
    """The report of a release, which lies beside the policy that was its newest when it was made."""
    for policy_id in reversed(rollout):
        try:
            return read_json_object(counts_folder(home, policy_id) / REPORT)
        except (OSError, ValueError):
            continue
    return None


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")
