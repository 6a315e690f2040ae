"""Writes the policy of a home: intended in the ledger, then `policy.json`, then done. A kill leaves no half of it.

Between releases the policy is of kind champion. The ledger decides what the policy is; the file is its copy for the
services. Whatever moves the champion ends the release that was running: `settle` finds out from the two files and
the ledger alone, so a mover that died, or knew nothing of releases, is followed as well.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from churn_assets.contract.limits import Guardrails
from churn_assets.errors import BundleCorrupt, PointerCorrupt, PolicyCorrupt
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import Champion, ChampionPointer, read_champion
from churn_assets.promotion.records import Gate, PolicyMove, PolicyMoveKind, ReleaseOutcome
from churn_assets.release.counts import FOLDER
from churn_assets.release.policy import ANSWERING, CHAMPION, Policy, PolicyArm, PolicyKind, read_policy
from churn_assets.storage.sealed import bundle_hash

RUNNING: tuple[PolicyKind, ...] = ("shadow", "canary", "ab")
_ID = re.compile(r"r(\d{6,})")


@dataclass(frozen=True)
class Draft:
    """A move of the policy that is not numbered yet. `approved` as in `Ledger.intend_policy`."""

    kind: PolicyMoveKind
    policy: Policy
    by: str
    why: str
    outcome: ReleaseOutcome = ""
    numbers: Mapping[str, Any] | None = None
    decides: Mapping[int, Any] | None = None
    approved: Mapping[str, str] | None = None


class Policies:
    """The policy of one home. What writes is called inside the pointer's lock."""

    def __init__(self, ledger: Ledger, pointer: ChampionPointer, clock: Callable[[], datetime]) -> None:
        self._ledger, self._pointer, self._clock = ledger, pointer, clock

    @property
    def current(self) -> Policy | None:
        """The policy by the ledger; by its file if the ledger was lost; None before the first."""
        newest = self._ledger.newest_policy_move("done")
        return newest.after if newest is not None else self._in_file()

    @property
    def in_force(self) -> Policy | None:
        """The current policy if it names the champion."""
        current, champion = self.current, self._champion()
        return current if current and champion and _names(current, champion) else None

    def is_settled(self) -> bool:
        """Whether `settle` would change nothing; needs no lock."""
        unfinished, newest = self._ledger.policy_heads()
        return unfinished is None and self._next(newest) is None

    def settle(self, numbers: Mapping[str, Any] | None = None) -> None:
        """Finish or abandon what a killed process left, follow the champion, and write the file again if it is not the
        ledger's policy. `numbers` are noted in a move that follows the champion."""
        unfinished, newest = self._ledger.policy_heads()
        if unfinished is not None:
            written = self._in_file() == unfinished.after
            end = self._ledger.finish_policy if written else self._ledger.abandon_policy
            end(unfinished.number, self._clock())
            newest = unfinished if written else newest
        step = self._next(newest)
        if isinstance(step, Draft):
            self.put(replace(step, numbers=numbers))
        elif step is not None:
            with contextlib.suppress(OSError):  # the champion answers meanwhile, and the next call tries again
                self._pointer.write_policy(step)

    def put(self, draft: Draft) -> PolicyMove:
        """Put a policy in force. Raises TransitionRefused, and OSError on a full disk: the move is abandoned."""
        at, number = self._clock(), self._free_number()
        since = at if draft.policy.steps else None
        policy = replace(draft.policy, id=policy_id(number), by=draft.by, why=draft.why, at=at, step_since=since)
        move = PolicyMove(
            number, draft.kind, self.current, policy, draft.by, draft.why, draft.outcome, "intended", at,
            numbers=draft.numbers, decides=draft.decides or {},
        )  # fmt: skip
        self._ledger.intend_policy(move, draft.approved or {})
        try:
            self._pointer.write_policy(policy)
        except OSError:
            self._ledger.abandon_policy(number, at)
            raise
        self._ledger.finish_policy(number, at)
        return replace(move, status="done", ended_at=at)

    def _next(self, newest: PolicyMove | None) -> Draft | Policy | None:
        """What is still to be done after the newest done move: a move, or its policy, which the file does not hold."""
        champion = self._champion()
        if champion is None:
            return None
        current = newest.after if newest is not None else self._in_file()
        if current is None or not _names(current, champion):
            return self._following(champion, current)
        if (thrown_out := self._thrown_out(current)) is not None:
            return thrown_out
        return current if newest is not None and self._in_file() != current else None

    def _following(self, champion: Champion, current: Policy | None) -> Draft | None:
        """The policy of a champion that another policy, or none, was made for; None if its bundle cannot be read: then
        no policy is in force."""
        moves = self._ledger.moves("done")
        by, why = champion.by, champion.reason
        if moves and moves[-1].to.version == champion.version:
            by, why = moves[-1].by, moves[-1].why
        try:
            arm = PolicyArm(
                CHAMPION, champion.version, champion.bundle, bundle_hash(champion.path(self._pointer.home)), 1.0
            )
        except BundleCorrupt:
            return None
        if current is None or current.kind not in RUNNING:
            return Draft("champion", champion_policy(arm, current), by, why)
        if champion.version in {arm.version for arm in current.arms}:
            return Draft("promote", champion_policy(arm, current), by, why, "promoted")
        why = f"the champion moved to {champion.version}: {why}"
        return Draft("champion", champion_policy(arm, current), by, why, "champion_moved")

    def _thrown_out(self, current: Policy) -> Draft | None:
        """The end of a release that lets a version answer which was refused or rejected since."""
        if current.kind not in ANSWERING:
            return None
        for arm in current.arms:
            rounds = self._ledger.rounds(arm.version)
            if arm.name != CHAMPION and rounds and rounds[-1].status in ("refused", "rejected"):
                approvals = [a for a in self._ledger.approvals() if a.version == arm.version]
                by = str(approvals[-1].by if rounds[-1].status == "rejected" and approvals else Gate())
                why = f"challenger {arm.version} was {rounds[-1].status}: {rounds[-1].message}"
                return Draft("end", champion_policy(current.champion, current), by, why, "rolled_back")
        return None

    def _champion(self) -> Champion | None:
        """The champion; None as well if the pointer is damaged: a move of the champion repairs it."""
        try:
            return read_champion(self._pointer.home)
        except PointerCorrupt:
            return None

    def _in_file(self) -> Policy | None:
        """The policy of the file; None as well if it cannot be read."""
        try:
            return read_policy(self._pointer.home)
        except PolicyCorrupt:
            return None

    def _free_number(self) -> int:
        """One that no policy of this home has had, even if its ledger was lost."""
        in_file, moves = self._in_file(), self._ledger.newest_policy_move()
        names = [in_file.id if in_file else "", *_names_in(self._pointer.home / FOLDER)]
        used = [int(match[1]) for name in names if (match := _ID.fullmatch(name))]
        return max([moves.number if moves else 0, *used]) + 1


def policy_id(number: int) -> str:
    """The id of a policy by the number of its move."""
    return f"r{number:06d}"


def champion_policy(arm: PolicyArm, before: Policy | None) -> Policy:
    """The champion answers everybody; who, why and when are the move's."""
    limits = Guardrails() if before is None else before.limits
    arms = (replace(arm, name=CHAMPION, weight=1.0),)
    return Policy(policy_id(0), "champion", arms, "", "", "", datetime.fromtimestamp(0, UTC), limits=limits)


def _names(policy: Policy, champion: Champion) -> bool:
    return policy.champion.version == champion.version


def _names_in(folder: Any) -> Sequence[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []
