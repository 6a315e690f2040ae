"""The champion moves: intended in the ledger, then the pointer, then done. A kill leaves no half of it.

The pointer is what counts: a move whose pointer was written is finished by whoever looks next, any other
is abandoned, and its challenger stays approved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from churn_assets.errors import BundleCorrupt, HomeBusy, PointerCorrupt, RollbackRefused, TransitionRefused
from churn_assets.promotion.ledger.ledger import Ledger
from churn_assets.promotion.ledger.store import now_or
from churn_assets.promotion.pointer import Champion, read_champion, write_champion
from churn_assets.promotion.records import Move, MoveKind
from churn_assets.settings import Settings
from churn_assets.storage.lock import file_lock
from churn_assets.storage.sealed import MANIFEST, verify

LOCK = ".champion.lock"
LOCK_S = 20.0
_UNVERSIONED = frozenset({"provenance.json"})  # as scoring.bundle; not imported, a rollback does not wait for NumPy


def bundle_hash(path: Path) -> str:
    """SHA-256 of the bundle's manifest, which holds that of every other file. Raises BundleCorrupt."""
    try:
        return hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        raise BundleCorrupt(
            f"{path / MANIFEST}: cannot be read ({error.strerror}), expected a bundle's manifest; "
            "take the bundle from its source again"
        ) from error


def sound_hash(path: Path) -> str:
    """As `bundle_hash`, of a bundle whose every byte is as it was written. Raises BundleCorrupt."""
    found = bundle_hash(path)
    verify(path, _UNVERSIONED)
    return found


def move_champion(
    settings: Settings,
    to: Champion,
    kind: MoveKind,
    by: str,
    why: str,
    now: datetime | None = None,
    instead_of: str | None = None,
) -> Move:
    """Make `to` the champion, and keep who, why and when.

    `instead_of` is the version that must be champion still, if any: what was decided by comparing with it says
    nothing about another. Raises TransitionRefused if it is not, and for a promotion that was not approved;
    BundleCorrupt unless every byte of the bundle is as it was written, HomeBusy if somebody else moves the
    champion for 20 s.
    """
    with _alone(settings.home):
        return _move(settings, to, kind, by, why, now, instead_of)


def recover(settings: Settings) -> Move | None:
    """Finish or abandon the move that a killed process left, if there is one, and return it."""
    ledger = Ledger(settings.ledger_path)
    if ledger.unfinished_move() is None:  # nearly always, and without the lock
        return None
    with _alone(settings.home):
        return _recover(settings, ledger)


def rollback(settings: Settings, to: str | None = None, *, by: str, why: str, now: datetime | None = None) -> Move:
    """Go back to the champion before the present one, or to version `to`; takes milliseconds.

    `to` is any champion there ever was, or any bundle of the present champion's contract in this home.
    Twice in a row goes back twice. Raises RollbackRefused if there is none, its bundle is gone, or it is
    not what it was when it became champion.
    """
    at = now_or(now)
    with _alone(settings.home):
        _recover(settings, Ledger(settings.ledger_path))
        moves = history(settings)
        present = _present(settings.home)
        target, known = _target(settings, moves, present, to)
        path = target.path(settings.home)
        try:
            found = sound_hash(path)
        except BundleCorrupt as error:
            raise RollbackRefused(f"cannot go back to {target.version}: {error}") from error
        if known is not None and found != known:
            raise RollbackRefused(
                f"cannot go back to {target.version}: the manifest of {path} is {found[:12]}, "
                f"it was {known[:12]} when it became champion; restore it, or name another: --to"
            )
        again = replace(target, since_at=at, by=by, reason=f"rollback: {why}")
        return _move(settings, again, "rollback", by, why, at, None)


def history(settings: Settings) -> Sequence[Move]:
    """Every move of the champion in this home, oldest first."""
    return Ledger(settings.ledger_path).moves()


def learn_number(settings: Settings, version: str, number: int) -> Champion | None:
    """The registry has given the champion its number late: the pointer says so. It is no move.

    Returns the champion as it is then; another version that has become champion meanwhile stays.
    """
    with _alone(settings.home):
        _recover(settings, Ledger(settings.ledger_path))
        champion = read_champion(settings.home)
        if champion is None or champion.version != version or champion.registered_version == number:
            return champion
        champion = replace(champion, registered_version=number)
        write_champion(settings.home, champion)
        return champion


def _move(
    settings: Settings, to: Champion, kind: MoveKind, by: str, why: str, now: datetime | None, instead_of: str | None
) -> Move:
    ledger, path = Ledger(settings.ledger_path), to.path(settings.home)
    _recover(settings, ledger)
    sha256 = sound_hash(path)
    before = _present(settings.home)
    if instead_of is not None and (before is None or before.version != instead_of):
        raise TransitionRefused(
            f"{to.version} was compared with {instead_of}, and {before.version if before else 'nobody'} is champion by "
            "now, expected the one it was compared with; the gate is held again"
        )
    number = ledger.intend_move(kind, before.version if before else None, to, sha256, by, why, now)
    try:
        write_champion(settings.home, to)
    except OSError:
        ledger.abandon_move(number, now)
        raise
    ledger.finish_move(number, now)
    return ledger.moves()[-1]


def _recover(settings: Settings, ledger: Ledger) -> Move | None:
    left = ledger.unfinished_move()
    if left is None:
        return None
    if _present(settings.home) == left.to:
        ledger.finish_move(left.number)
    else:
        ledger.abandon_move(left.number)
    return next(move for move in ledger.moves() if move.number == left.number)


def _present(home: Path) -> Champion | None:
    """The champion; None as well if the pointer is damaged: moving is how it is mended."""
    try:
        return read_champion(home)
    except PointerCorrupt:
        return None


def _target(
    settings: Settings, moves: Sequence[Move], present: Champion | None, to: str | None
) -> tuple[Champion, str | None]:
    """Where to go back to, and the hash its manifest had when it became champion."""
    done = [move for move in moves if move.status == "done"]
    were = {move.to.version: move for move in done}
    if to is None:
        line = _line(done)
        if present is not None and line and line[-1] == present.version:
            line.pop()
        if not line:
            raise RollbackRefused(
                "there is no champion before the present one in this home's history; name a version: --to, "
                f"one of {_names(settings)}"
            )
        to = line[-1]
    if to in were:
        return were[to].to, were[to].bundle_sha256
    return _of_bundle(settings, present, to), None


def _line(done: Sequence[Move]) -> list[str]:
    """Champions one behind the other, the present one last; going back takes off what came after."""
    line: list[str] = []
    if done and done[0].before is not None:  # the champion of a home that is older than its ledger
        line.append(done[0].before)
    for move in done:
        if move.kind == "rollback" and move.to.version in line:
            del line[line.index(move.to.version) + 1 :]
        elif not line or line[-1] != move.to.version:
            line.append(move.to.version)
    return line


def _of_bundle(settings: Settings, present: Champion | None, version: str) -> Champion:
    path = settings.bundles_dir / version
    if "/" in version or not (path / MANIFEST).is_file():
        raise RollbackRefused(
            f"there is no bundle {version} in {settings.bundles_dir}, expected one of {_names(settings)}; "
            "name one of those"
        )
    try:
        fingerprint = str(verify(path, _UNVERSIONED).get("fingerprint"))
    except BundleCorrupt as error:
        raise RollbackRefused(f"cannot go back to {version}: {error}") from error
    if present is not None and fingerprint != present.fingerprint:
        raise RollbackRefused(
            f"bundle {version} was made under contract {fingerprint[:12]} and never was champion, expected "
            f"{present.fingerprint[:12]} as the champion's; name another: {_names(settings)}"
        )
    bundle = path.relative_to(settings.home).as_posix()
    return Champion(version, bundle, fingerprint, None, now_or(None), "", "")


def _names(settings: Settings) -> str:
    found = sorted(path.parent.name for path in settings.bundles_dir.glob(f"[!.]*/{MANIFEST}"))
    return ", ".join(found[:8]) or "none: this home has no bundle"


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One mover at a time; the system gives the lock back when the process ends, however it ends."""
    with file_lock(
        home / LOCK,
        LOCK_S,
        lambda holder: HomeBusy(
            f"{holder} has been moving the champion of {home} for {LOCK_S:.0f} s, expected a moment; "
            "see who holds the lock, then try again"
        ),
    ):
        yield
