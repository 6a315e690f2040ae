"""How the champion moves: intended in the ledger, then the pointer, then done. A kill leaves no half of it.

The pointer decides: a move whose pointer was written is finished by the next process that looks, any other
is abandoned, and its challenger stays approved. The routing policy follows each move, see `rollout.policies`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from churn_assets.errors import BundleCorrupt, LedgerUnavailable, PointerCorrupt, RollbackRefused, TransitionRefused
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import Champion, ChampionPointer, read_champion
from churn_assets.promotion.records import Move, MoveKind
from churn_assets.promotion.rollout.policies import Policies
from churn_assets.promotion.rollout.status import minute
from churn_assets.release.policy import read_policy
from churn_assets.settings import Settings
from churn_assets.storage.sealed import verified_bundle_hash, verify

_NONE_BEFORE = (
    "there is no champion before the present one in this home's history, expected a former champion; another version "
    "becomes champion through the gate: churn status"
)


class ChampionMoves:
    """Moves the champion of one home. Every method first finishes or abandons what a killed process left.

    A method whose name ends in `_held` is for a caller that holds the pointer's lock and has called `recover_held`.
    """

    def __init__(
        self, bundles_dir: Path, ledger: Ledger, pointer: ChampionPointer, clock: Callable[[], datetime]
    ) -> None:
        self._home, self._bundles_dir = pointer.home, bundles_dir
        self._ledger, self._pointer, self._clock = ledger, pointer, clock
        self.policies = Policies(ledger, pointer, clock)

    def move(self, to: Champion, kind: MoveKind, by: str, why: str, *, instead_of: str | None = None) -> Move:
        """Make `to` the champion, and record who, why and when.

        `instead_of` is the version that must still be champion: a verdict against it says nothing about another.
        Raises TransitionRefused if it is not, and for a promotion that was not approved; BundleCorrupt unless every
        byte of the bundle is as it was written, HomeBusy if another process moves the champion for 20 s.
        """
        with self._pointer.locked():
            self.recover_held()
            return self.move_held(to, kind, by, why, instead_of)

    def recover(self) -> Move | None:
        """Finish or abandon the move that a killed process left, if there is one, and return it; the policy follows."""
        if self._ledger.unfinished_move() is None and self.policies.is_settled():  # nearly always, and without the lock
            return None
        with self._pointer.locked():
            return self.recover_held()

    def recover_held(self) -> Move | None:
        """As `recover`."""
        move = self._recover()
        self.policies.settle()
        return move

    def rollback(self, to: str | None, by: str, why: str) -> Move:
        """Go back to the champion before the present one, or to version `to`.

        `to` is a former champion: one that a finished move led to, or the one that the first move replaced. Raises
        RollbackRefused for any other, if its bundle is gone or is not what it was when it became champion, and without
        `to` if the newest move has gone back already: of two people who undo the same promotion, the second must not
        undo the one before it.
        """
        with self._pointer.locked():
            self.recover_held()
            return self.rollback_held(to, by, why)

    def rollback_held(self, to: str | None, by: str, why: str, *, again: bool = False) -> Move:
        """As `rollback`; `again` goes back once more after a move that has gone back."""
        return self._return_held(self._rollback_target(to, again=again), "rollback", by, why, f"rollback: {why}", None)

    def promote_former_held(self, version: str, by: str, why: str, numbers: Mapping[str, Any] | None) -> Move:
        """Make a former champion that won a release the champion again: a promotion, which a rollback undoes. Raises as
        `rollback`; `numbers` as of `move_held`."""
        return self._return_held(self._rollback_target(version), "promotion", by, why, why, numbers)

    def champion_before(self) -> str | None:
        """The champion before the present one, None if there was none."""
        return _champion_before(self._ledger.moves("done"), self._present())

    def _return_held(
        self,
        former: tuple[Champion, str | None],
        kind: MoveKind,
        by: str,
        why: str,
        reason: str,
        numbers: Mapping[str, Any] | None,
    ) -> Move:
        target, known_sha256 = former
        path = target.path(self._home)
        try:
            sha256 = verified_bundle_hash(path)
        except BundleCorrupt as error:
            raise RollbackRefused(f"cannot go back to {target.version}: {error}") from error
        if known_sha256 is not None and sha256 != known_sha256:
            raise RollbackRefused(
                f"cannot go back to {target.version}: the manifest of {path} is {sha256[:12]}, "
                f"it was {known_sha256[:12]} when it became champion; restore it, or name another: --to"
            )
        champion = replace(target, since_at=self._clock(), by=by, reason=reason)
        return self.move_held(champion, kind, by, why, None, numbers)

    def set_registered_version(self, version: str, number: int) -> Champion | None:
        """Write the number that the registry gave the champion after its move; returns the champion as it is then."""
        with self._pointer.locked():
            self.recover_held()
            champion = read_champion(self._home)
            if champion is None or champion.version != version or champion.registered_version == number:
                return champion
            champion = replace(champion, registered_version=number)
            self._pointer.write(champion)
            return champion

    def move_held(
        self,
        to: Champion,
        kind: MoveKind,
        by: str,
        why: str,
        instead_of: str | None,
        numbers: Mapping[str, Any] | None = None,
    ) -> Move:
        """As `move`; `numbers` are noted with the end of a release that this move ends."""
        sha256 = verified_bundle_hash(to.path(self._home))
        before = self._present()
        if instead_of is not None and (before is None or before.version != instead_of):
            raise TransitionRefused(
                f"{to.version} was compared with {instead_of}, and {before.version if before else 'no model'} is "
                "champion now, expected the one it was compared with; the gate runs again"
            )
        at = self._clock()
        number = self._ledger.intend_move(kind, before.version if before else None, to, sha256, by, why, at)
        try:
            self._pointer.write(to)
        except OSError:
            self._ledger.abandon_move(number, at)
            raise
        self._ledger.finish_move(number, at)
        with contextlib.suppress(OSError, LedgerUnavailable):  # it answers, without a policy until the next call
            self.policies.settle(numbers)
        return next(move for move in self._ledger.moves() if move.number == number)

    def _recover(self) -> Move | None:
        unfinished = self._ledger.unfinished_move()
        if unfinished is None:
            return None
        end = self._ledger.finish_move if self._present() == unfinished.to else self._ledger.abandon_move
        end(unfinished.number, self._clock())
        return next(move for move in self._ledger.moves() if move.number == unfinished.number)

    def _present(self) -> Champion | None:
        """The champion; None as well if the pointer is damaged: a move repairs it."""
        try:
            return read_champion(self._home)
        except PointerCorrupt:
            return None

    def _rollback_target(self, to: str | None, *, again: bool = False) -> tuple[Champion, str | None]:
        """Where to go back to, and its manifest's hash when it became champion; None if that is before the ledger."""
        done = self._ledger.moves("done")
        past = {move.to.version: move for move in done}
        oldest = done[0].before if done else None  # the champion of a home that is older than its ledger
        present = self._present()
        if to is None:
            if present is not None and not again:
                self._expect_none_went_back(done, present)
            to = _champion_before(done, present)
        elif present is not None and to == present.version:
            raise RollbackRefused(
                f"version {to} is champion, since {minute(present.since_at)} by {present.by} ({present.reason}), "
                "expected a former champion; nothing is left to do"
            )
        if to is None:
            raise RollbackRefused(_NONE_BEFORE)
        if to in past:
            return past[to].to, past[to].bundle_sha256
        if to == oldest:
            return self._champion_before_ledger(to), None
        former = [v for v in (*reversed(past), oldest) if v and (present is None or v != present.version)]
        raise RollbackRefused(
            f"version {to} never was champion of this home, expected a former champion: "
            f"{', '.join(dict.fromkeys(former)) or 'there is none yet'}; "
            "a challenger becomes champion through the gate alone: churn status"
        )

    def _expect_none_went_back(self, done: Sequence[Move], present: Champion) -> None:
        """Raise RollbackRefused if the newest move has gone back, and nobody says that one more is meant."""
        if not _went_back(done):
            return
        last, before, policy = done[-1], _champion_before(done, present), self.policies.current
        once_more = f"churn rollback --to {before}" + (
            f", or churn release rollback --expect {policy.id}" if policy else ""
        )
        raise RollbackRefused(
            f"{last.by} has gone back from {last.before} to {present.version} on {minute(last.intended_at)} "
            f"({last.why}), expected a champion that was promoted since. Nothing is left to undo"
            + (f"; if {present.version} too shall go: {once_more}" if before else f": {_NONE_BEFORE}")
        )

    def _champion_before_ledger(self, version: str) -> Champion:
        path = self._bundles_dir / version
        try:
            fingerprint = str(verify(path).get("fingerprint"))
        except BundleCorrupt as error:
            raise RollbackRefused(f"cannot go back to {version}: {error}") from error
        return Champion(version, path.relative_to(self._home).as_posix(), fingerprint, None, self._clock(), "", "")


def _champion_before(done: Sequence[Move], present: Champion | None) -> str | None:
    line = champions_in_line(done)
    if line and present is not None and line[-1] == present.version:
        line.pop()
    return line[-1] if line else None


def _went_back(done: Sequence[Move]) -> bool:
    """Whether the newest move has undone others: a rollback by name may also have gone forward again."""
    return bool(done) and done[-1].kind == "rollback" and done[-1].to.version in champions_in_line(done[:-1])


def champions_in_line(done: Sequence[Move]) -> list[str]:
    """Champions one behind the other, the present one last; a rollback removes what came after its target."""
    line: list[str] = []
    if done and done[0].before is not None:  # the champion of a home that is older than its ledger
        line.append(done[0].before)
    for move in done:
        if move.kind == "rollback" and move.to.version in line:
            while line[-1] != move.to.version:
                line.pop()
        elif not line or line[-1] != move.to.version:
            line.append(move.to.version)
    return line


def models_in_use(settings: Settings) -> dict[str, str]:
    """Versions and what each is used for: the champion, models of the release that runs, challengers that wait, and
    the champion before, to which a rollback goes. Raises PointerCorrupt, PolicyCorrupt or LedgerCorrupt: what cannot be
    read may name a model."""
    uses: dict[str, str] = {}
    champion, policy = read_champion(settings.home), read_policy(settings.home)
    if champion is not None:
        uses[champion.version] = "champion"
    if policy is not None:
        for arm in policy.arms:
            uses.setdefault(arm.version, f"{policy.kind} {arm.name}")
    ledger = Ledger.of(settings)
    for challenger in ledger.challengers("waiting_gate", "waiting_approval", "approved"):
        uses.setdefault(challenger.version, "challenger")
    former = [v for v in champions_in_line(ledger.moves("done")) if champion is None or v != champion.version]
    if former:
        uses.setdefault(former[-1], "champion before")
    return uses
