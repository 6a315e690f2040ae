"""Watches the release of a home: reads what all processes have counted and what final labels show, judges it, and makes
the move that follows, without a person.

Each worker of the service looks every `LOOK_S` seconds, or its shadow process in its place, and the loop at each tick
of its sensor; the one that gets the lock judges. The report is on disk before the move, but a disk that takes nothing
holds no rollback up. A check that was crossed once stays crossed for this policy: if the ledger is locked, the next
look ends the release, whatever the counts show by then. A step or promotion that is refused is tried again until the
deadline; then the release ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from churn_assets.errors import BundleCorrupt, ChurnError, TransitionRefused, one_line
from churn_assets.promotion.pointer import read_champion
from churn_assets.release.counts import LABELS, CountsReader, counts_folder
from churn_assets.release.guardrails import (
    GuardrailReport,
    LabelFigures,
    Period,
    judge_guardrails,
    read_label_figures,
    write_report,
)
from churn_assets.release.policy import CHAMPION, Policy, read_policy
from churn_assets.settings import Settings
from churn_assets.storage.lock import LockBusy, file_lock

WATCHED = ("shadow", "canary", "ab")
LOCK = ".guard.lock"
LOOK_S = 2.0  # between two looks of a process of the service
NONE_RUNS = "no release runs"


class ReleaseMoves(Protocol):
    """What the guard may do: `promotion.releases.Releases`."""

    def advance(self, policy_id: str, by: str, why: str, numbers: Mapping[str, Any] | None) -> object:
        """The next step of a canary, after its last one the promotion."""

    def end(
        self,
        policy_id: str,
        outcome: Literal["rolled_back", "inconclusive"],
        why: str,
        numbers: Mapping[str, Any] | None,
        by: str,
    ) -> object:
        """End a release."""


class ReleaseGuard:
    """The guard of one home in one process; `check` is called from one thread at a time.

    `by` is who moves, for the history. `moves` and `history` (the policies of this home that were in force, oldest
    first) are opened when they are needed. `report` tells what happened, as `log_event` does. A look that any
    process began less than `every_s` seconds ago is enough.
    """

    def __init__(
        self,
        settings: Settings,
        report: Callable[..., None],
        *,
        by: str = "service",
        moves: Callable[[], ReleaseMoves] | None = None,
        history: Callable[[], Sequence[Policy]] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        every_s: float = 0.0,
    ) -> None:
        self._home, self._report, self._by, self._clock = settings.home, report, by, clock
        self._every_s = every_s
        self._moves = moves or (lambda: _releases_of(settings))
        self._history = history or (lambda: _policies_of(settings))
        self._counts = CountsReader(settings.home)
        self._rollout: tuple[Policy, ...] = ()
        self._crossed: GuardrailReport | None = None
        self._written: GuardrailReport | None = None
        self._problems: set[str] = set()  # of this look, and of the one before
        self._reported: set[str] = set()

    def check(self) -> str:
        """Look once; what was done, or why nothing was. What goes wrong is reported when it is new, and tried again at
        the next look."""
        self._reported, self._problems = self._problems, set()
        try:
            policy = self._policy_in_force()
            if policy is None or policy.kind not in WATCHED:
                self._rollout, self._crossed, self._written = (), None, None
                return NONE_RUNS
            lock = counts_folder(self._home, policy.id) / LOCK
            if self._crossed is None and self._is_recent(lock):
                return f"{policy.id}: looked at a moment ago"
            with file_lock(lock):
                return f"{policy.id}: {self._judge(policy)}"
        except LockBusy as busy:  # another worker, or the loop, looks
            return f"{busy} looks at the release"
        except (ChurnError, OSError, ValueError) as error:
            return self._tell(f"{type(error).__name__}: {error}")

    def _is_recent(self, lock: Path) -> bool:
        """Whether the lock was taken a moment ago."""
        try:
            age_s = time.time() - lock.stat().st_mtime
        except FileNotFoundError:
            return False
        return 0.0 <= age_s < self._every_s  # a clock that was set back holds no look up

    def _policy_in_force(self) -> Policy | None:
        """The policy that workers follow now. Raises PolicyCorrupt, PointerCorrupt."""
        policy, champion = read_policy(self._home), read_champion(self._home)
        if policy is None or champion is None or champion.version != policy.champion.version:
            return None
        return policy

    def _judge(self, policy: Policy) -> str:
        report = self._crossed if self._crossed is not None and self._crossed.policy == policy.id else None
        if report is None:
            report = judge_guardrails(policy, self._periods(policy), self._labels(policy), now=self._clock())
            if report.move == "rollback":
                self._crossed = report
        self._write(report)
        try:
            return self._move(report)
        except (TransitionRefused, BundleCorrupt) as refusal:  # somebody was faster, or a rule forbids it
            if report.move in ("advance", "promote") and policy.deadline_at and report.made_at >= policy.deadline_at:
                return self._give_up(report, policy.deadline_at, one_line(refusal, 400))
            return self._tell(str(refusal))  # a person decides

    def _periods(self, policy: Policy) -> list[Period]:
        """What was counted in each step of this release so far."""
        if not self._rollout or self._rollout[-1].id != policy.id:
            self._rollout = self._rollout_of(policy)
        return [
            Period(sum(arm.weight for arm in each.arms if arm.name != CHAMPION), self._counts.read(each.id))
            for each in self._rollout or (policy,)
        ]

    def _rollout_of(self, policy: Policy) -> tuple[Policy, ...]:
        """The policies of this release so far, a canary's one a step; empty while the ledger cannot be read: then the
        present step is judged by itself."""
        if policy.kind != "canary" or not policy.step:
            return (policy,)
        try:
            past = self._history()
        except (ChurnError, OSError) as error:
            self._tell(f"{type(error).__name__}: {error}")
            return ()
        same = (each for each in past if each.salt == policy.salt and each.kind == "canary" and each.id < policy.id)
        return (*same, policy)

    def _labels(self, policy: Policy) -> Mapping[str, LabelFigures]:
        """What final labels show: those of an earlier step hold until the loop has made new ones; nothing while their
        file is damaged."""
        for each in reversed(self._rollout or (policy,)):
            try:
                if figures := read_label_figures(self._home, each.id):
                    return figures
            except (OSError, ValueError) as error:
                self._tell(f"{counts_folder(self._home, each.id) / LABELS}: cannot be read ({error})")
        return {}

    def _write(self, report: GuardrailReport) -> None:
        """Write a report that says something else than the one before it."""
        if self._written is not None and _same(self._written, report):
            return
        try:
            write_report(self._home, report)
            self._written = report
        except OSError as error:
            self._tell(f"{type(error).__name__}: {error}")

    def _move(self, report: GuardrailReport) -> str:
        """Make the move of a report. Raises TransitionRefused, BundleCorrupt."""
        policy_id, why, numbers = report.policy, report.message, report.to_json()
        if report.move in ("advance", "promote"):
            self._moves().advance(policy_id, self._by, why, numbers)
        elif report.move == "rollback":
            self._moves().end(policy_id, "rolled_back", why, numbers, self._by)
        elif report.move == "inconclusive":
            self._moves().end(policy_id, "inconclusive", why, numbers, self._by)
        if report.move != "hold":
            level = logging.ERROR if report.move == "rollback" else logging.INFO
            self._report(level, "release moved", policy=policy_id, move=report.move, reason=why)
        return f"{report.move}: {why}"

    def _give_up(self, report: GuardrailReport, deadline: datetime, refusal: str) -> str:
        """End a release whose next move is refused when its deadline has passed: nobody has mended the reason."""
        why = f"the deadline {deadline:%Y-%m-%d %H:%M} UTC has passed, and the move {report.move} is refused: {refusal}"
        late = replace(report, move="inconclusive", message=why)
        try:
            outcome = self._move(late)
        except TransitionRefused as conflict:  # somebody was faster: the report stays what it was
            return self._tell(str(conflict))
        self._write(late)
        return outcome

    def _tell(self, problem: str) -> str:
        """Report a problem that the look before did not have; the problem, on one line."""
        self._problems.add(problem)
        if problem not in self._reported:
            self._reported.add(problem)
            self._report(logging.ERROR, "guardrails of the release", reason=problem)
        return one_line(problem, 400)


def _releases_of(settings: Settings) -> ReleaseMoves:
    from churn_assets.promotion.releases import Releases  # which a service without a release does not need

    return Releases.of(settings)


def _policies_of(settings: Settings) -> Sequence[Policy]:
    from churn_assets.promotion.ledger import Ledger

    return [move.after for move in Ledger(settings.ledger_path).policy_moves("done")]


def _same(one: GuardrailReport, other: GuardrailReport) -> bool:
    """Whether two reports differ in nothing but the instant."""
    return vars(one) == {**vars(other), "made_at": one.made_at}
