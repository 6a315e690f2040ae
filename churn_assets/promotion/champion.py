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
from churn_assets.storage.sealed import verified_bundle_hash, verify


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
        """Go back to the champion before the present one, or to version `to`; twice in a row goes back twice.

        `to` is a former champion: one that a finished move led to, or the one that the first move replaced. Raises
        RollbackRefused for any other, and if its bundle is gone or is not what it was when it became champion.
        """
        with self._pointer.locked():
            self.recover_held()
            return self.rollback_held(to, by, why)

    def rollback_held(self, to: str | None, by: str, why: str, numbers: Mapping[str, Any] | None = None) -> Move:
        """As `rollback`."""
        target, known_sha256 = self._rollback_target(to)
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
        champion = replace(target, since_at=self._clock(), by=by, reason=f"rollback: {why}")
        return self.move_held(champion, "rollback", by, why, None, numbers)

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

    def _rollback_target(self, to: str | None) -> tuple[Champion, str | None]:
        """Where to go back to, and its manifest's hash when it became champion; None if that is before the ledger."""
        done = self._ledger.moves("done")
        past = {move.to.version: move for move in done}
        oldest = done[0].before if done else None  # the champion of a home that is older than its ledger
        present = self._present()
        now = present.version if present else None
        former = [version for version in (*reversed(past), oldest) if version and version != now]
        names = ", ".join(dict.fromkeys(former)) or "there is none yet"
        if to is None:
            to = _champion_before(done, now, names)
        if to in past:
            return past[to].to, past[to].bundle_sha256
        if to == oldest:
            return self._champion_before_ledger(to), None
        raise RollbackRefused(
            f"version {to} never was champion of this home, expected a former champion: {names}; "
            "a challenger becomes champion through the gate alone: churn status"
        )

    def _champion_before_ledger(self, version: str) -> Champion:
        path = self._bundles_dir / version
        try:
            fingerprint = str(verify(path).get("fingerprint"))
        except BundleCorrupt as error:
            raise RollbackRefused(f"cannot go back to {version}: {error}") from error
        return Champion(version, path.relative_to(self._home).as_posix(), fingerprint, None, self._clock(), "", "")


def _champion_before(done: Sequence[Move], now: str | None, former: str) -> str:
    line = champions_in_line(done)
    if line and line[-1] == now:
        line.pop()
    if not line:
        raise RollbackRefused(
            "there is no champion before the present one in this home's history, expected a former champion: "
            f"{former}; name it: --to"
        )
    return line[-1]


def champions_in_line(done: Sequence[Move]) -> list[str]:
    """Champions one behind the other, the present one last; a rollback removes what came after its target."""
    line: list[str] = []
    if done and done[0].before is not None:  # the champion of a home that is older than its ledger
        line.append(done[0].before)
    for move in done:
        if move.kind == "rollback" and move.to.version in line:
            del line[line.index(move.to.version) + 1 :]
        elif not line or line[-1] != move.to.version:
            line.append(move.to.version)
    return line
