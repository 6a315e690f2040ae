"""How a release stands: its policy, what it waits for, what its guardrails say, and every move there was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from churn_assets.errors import PolicyCorrupt
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.records import PolicyMove
from churn_assets.promotion.rollout.policies import RUNNING, Policies
from churn_assets.release.counts import GUARDRAILS, ReleaseCounts, counts_folder, read_counts, sum_counts
from churn_assets.release.policy import CHAMPION, POLICY, Policy, read_policy
from churn_assets.storage.files import read_json_object


@dataclass(frozen=True)
class ReleaseStatus:
    """The release of a home. `policy` is in force, None before the first champion; `rows` are answered (of a shadow:
    scored) by its challenger.

    `rollout` are the ids of the policies of the running release, oldest first: a canary has one for each step.
    `guardrails` is the newest report, as its file has it. `moves` are all moves of the policy, oldest first. `problem`
    says what is wrong with the file of the policy, "" if nothing.
    """

    policy: Policy | None
    rollout: tuple[str, ...]
    rows: int
    guardrails: Mapping[str, Any] | None
    moves: tuple[PolicyMove, ...]
    problem: str

    @property
    def is_running(self) -> bool:
        """Whether a shadow, canary or ab runs."""
        return self.policy is not None and self.policy.kind in RUNNING

    @property
    def waits_for(self) -> str:
        """What a running release waits for, "" without one."""
        policy = self.policy
        if policy is None or policy.kind not in RUNNING:
            return ""
        deadline = f"a decision until {policy.deadline_at:%Y-%m-%d %H:%M} UTC" if policy.deadline_at else "a decision"
        if policy.kind == "canary" and policy.steps and policy.step_since:
            step = policy.steps[policy.step]
            held = policy.step_since + timedelta(minutes=step.hold_minutes)
            then = "the next step" if policy.step + 1 < len(policy.steps) else "the promotion"
            return (
                f"{then}: not before {held:%Y-%m-%d %H:%M} UTC, {self.rows:,} of {step.rows:,} rows of the challenger, "
                f"and guardrails that hold; {deadline}"
            )
        return f"{deadline}, {self.rows:,} rows so far"

    @property
    def lines(self) -> list[str]:
        """A line each: the policy, what it waits for, its guardrails, and what is wrong with its file."""
        if self.policy is None:
            return [self.problem] if self.problem else []
        policy, lines = self.policy, []
        if self.is_running:
            lines.append(f"{describe_policy(policy)}; policy {policy.id} by {policy.by} since {minute(policy.at)}")
            lines.append(f"it waits for {self.waits_for}")
            lines += guardrail_lines(self.guardrails)
        elif (end := self._last_end) is not None:
            lines.append(f"the last release ended on {minute(end.intended_at)}: {describe_move(end)}: {end.why}")
        return [*lines, self.problem] if self.problem else lines

    @property
    def _last_end(self) -> PolicyMove | None:
        """The move that ended the last release, unless its challenger has become champion."""
        done = [move for move in self.moves if move.status == "done"]
        end = next((move for move in reversed(done) if move.outcome not in ("", "replaced")), None)
        return end if end is not None and end.outcome != "promoted" and end.after == self.policy else None

    def to_json(self) -> dict[str, Any]:
        """Plain values for scripts and the HTTP interface. The salt stays in the home: who knows it can choose ids."""
        policy = None if self.policy is None else _without_salt(self.policy.to_json())
        moves = [
            {**move.to_json(), "before": move.before and move.before.id, "after": _without_salt(move.after.to_json())}
            for move in self.moves
        ]
        return {
            "policy": policy,
            "running": self.is_running,
            "rollout": list(self.rollout),
            "rows": self.rows,
            "waits_for": self.waits_for,
            "guardrails": None if self.guardrails is None else dict(self.guardrails),
            "problem": self.problem or None,
            "moves": moves,
        }


def read_release_status(ledger: Ledger, policies: Policies, home: Path) -> ReleaseStatus:
    """How the release of a home stands; writes nothing. Raises LedgerCorrupt, LedgerUnavailable."""
    policy, moves = policies.in_force, tuple(ledger.policy_moves())
    running = policy is not None and policy.kind in RUNNING
    return ReleaseStatus(
        policy=policy,
        rollout=tuple(m.after.id for m in moves if policy and m.status == "done" and m.after.salt == policy.salt)
        if running
        else (),
        rows=challenger_rows(home, policy) if policy is not None and running else 0,
        guardrails=None if policy is None else read_guardrails(home, policy.id),
        moves=moves,
        problem=_problem(home, policy),
    )


def read_guardrails(home: Path, policy_id: str) -> Mapping[str, Any] | None:
    """The newest report on the guardrails of a policy, None if there is none or it cannot be read."""
    try:
        return read_json_object(counts_folder(home, policy_id) / GUARDRAILS)
    except (OSError, ValueError):
        return None


def challenger_rows(home: Path, policy: Policy) -> int:
    """How many rows arms other than the champion's have scored under this policy."""
    counts = read_counts(home, policy.id).arms
    return sum(counts[arm.name].rows for arm in policy.arms if arm is not policy.champion and arm.name in counts)


def live_counts(status: ReleaseStatus, home: Path) -> ReleaseCounts:
    """Arms of the policies of the kind that is in force, pairs of the whole release: what a shadow has scored is no
    answer of the canary that follows it."""
    kinds = {move.after.id: move.after.kind for move in status.moves}
    parts = {policy_id: read_counts(home, policy_id) for policy_id in status.rollout}
    own = [part for policy_id, part in parts.items() if status.policy and kinds[policy_id] == status.policy.kind]
    return ReleaseCounts(sum_counts(own).arms, sum_counts(parts.values()).pairs)


def _problem(home: Path, policy: Policy | None) -> str:
    try:
        in_file = read_policy(home)
    except PolicyCorrupt as error:
        return str(error)
    if policy is None or in_file == policy:
        return ""
    return f"{home / POLICY}: is not policy {policy.id} of the ledger; churn release status writes it again"


def guardrail_lines(numbers: Mapping[str, Any] | None) -> list[str]:
    """A report of the guardrails, a line for each check; nothing for what is no such report."""
    checks = numbers.get("checks") if numbers else None
    return [
        f"  {check.get('check')}: {check.get('status') or 'no status'}, {_figures(check)}"
        for check in (checks if isinstance(checks, list | tuple) else ())
        if isinstance(check, Mapping)
    ]


def _figures(check: Mapping[str, Any]) -> str:
    if check.get("message"):
        return str(check["message"])
    values = {name: check.get(name) for name in ("value", "limit")}
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, int | float))


def describe_move(move: PolicyMove) -> str:
    """What a move did to the release, in a few words."""
    before, outcome = move.before.kind if move.before else "release", move.outcome.replace("_", " ")
    match move.kind:
        case "shadow" | "ab":
            return move.kind
        case "canary" | "advance":
            return f"canary, step {move.after.step + 1} of {len(move.after.steps)} ({move.after.arms[0].weight:.4g})"
        case "champion":
            return f"{before} ended" if outcome else "champion"
    return f"{before} {outcome or move.kind}"


def versions_of(move: PolicyMove) -> str:
    """The versions that a move is about: those let in, or that were."""
    before = [arm.version for arm in move.before.arms if arm.name != CHAMPION] if move.before else []
    after = [arm.version for arm in move.after.arms if arm.name != CHAMPION]
    return ", ".join(after or before) or move.after.champion.version


def describe_policy(policy: Policy) -> str:
    """A policy in a few words."""
    others = [arm for arm in policy.arms if arm is not policy.champion]
    match policy.kind:
        case "champion":
            return f"champion {policy.champion.version} answers everybody"
        case "shadow":
            return f"shadow of {others[0].version} beside champion {policy.champion.version}"
        case "canary":
            share = f"{others[0].weight:.4g} of the customers, step {policy.step + 1} of {len(policy.steps)}"
            return f"canary of {others[0].version} ({share}) beside champion {policy.champion.version}"
    arms = ", ".join(f"{arm.name} = {arm.version} ({arm.weight:.4g})" for arm in policy.arms)
    return f"ab of {arms}"


def minute(at: datetime) -> str:
    """An instant for people."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _without_salt(policy: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in policy.items() if name != "salt"}
