"""The champion pointer: which bundle answers now. One small file, replaced atomically."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from churn_assets.errors import HomeBusy, NoChampion, PointerCorrupt, has_controls
from churn_assets.release.policy import Policy, write_policy
from churn_assets.storage.files import read_json_object, write_json
from churn_assets.storage.lock import file_lock
from churn_assets.storage.sealed import MANIFEST

POINTER = "champion.json"
REFUSAL = "refusal.json"  # while the newest model of a home is not registered: its version and the message
LOCK = ".champion.lock"
LOCK_S = 20.0


@dataclass(frozen=True)
class Champion:
    """The bundle that answers. `bundle` is its path relative to the home; `since_at` is UTC; `registered_version` is
    MLflow's number, None while the registry did not answer."""

    version: str
    bundle: str
    fingerprint: str
    registered_version: int | None
    since_at: datetime
    by: str
    reason: str

    def __post_init__(self) -> None:
        if self.since_at.tzinfo is None:
            raise ValueError(f"since_at is {self.since_at}, expected an instant with a time zone")
        path = PurePosixPath(self.bundle)
        if path.is_absolute() or ".." in path.parts or not path.parts or has_controls(self.bundle):
            raise ValueError(f"bundle is {self.bundle[:80]!r}, expected a path inside the home")

    def path(self, home: Path) -> Path:
        """The bundle's folder in this home."""
        return home / self.bundle

    def to_json(self) -> dict[str, Any]:
        """As the pointer file and the ledger store it; `msgspec.convert` is the inverse."""
        return {**asdict(self), "since_at": self.since_at.astimezone(UTC).isoformat()}


class ChampionPointer:
    """The pointer file of a home, and the policy's beside it. `promotion.champion` alone writes the one,
    `promotion.rollout.policies` the other, both inside `locked`."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def write(self, champion: Champion) -> None:
        """As `write_champion`."""
        write_champion(self.home, champion)

    def write_policy(self, policy: Policy) -> None:
        """As `release.policy.write_policy`."""
        write_policy(self.home, policy)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time moves the champion. Raises HomeBusy after 20 s of waiting for another."""

        def busy(holder: str) -> HomeBusy:
            return HomeBusy(
                f"{self.home}: {holder} has been moving the champion for {LOCK_S:.0f} s, expected less than a second; "
                "find the process that holds the lock, then try again"
            )

        with file_lock(self.home / LOCK, LOCK_S, busy):
            yield


def read_champion(home: Path) -> Champion | None:
    """The champion of a home, None before the first. Raises PointerCorrupt if it cannot be read."""
    path = home / POINTER
    try:
        stored = read_json_object(path)
        if unknown := stored.keys() - Champion.__dataclass_fields__.keys():
            raise ValueError(f"unknown fields {sorted(unknown)}")
        return msgspec.convert(stored, Champion)
    except FileNotFoundError:
        return None
    except OSError as error:  # of this process or the system: the pointer itself may be sound
        raise PointerCorrupt(
            f"{path}: cannot be read ({error.strerror or error}), expected a file that this process may read; correct "
            "its permissions, or free what the system lacks"
        ) from error
    except ValueError as error:
        message = " ".join(str(error).split())[:160]
        raise PointerCorrupt(
            f"{path}: cannot be read ({message}), expected a champion as this package writes it; "
            "restore it, or remove it: the next `churn run` makes a new champion"
        ) from error


def require_champion(home: Path) -> Champion:
    """The champion of a home. Raises NoChampion before the first, PointerCorrupt if unreadable."""
    champion = read_champion(home)
    if champion is None:
        remedy = read_refusal(home) or "run `make run`"
        raise NoChampion(f"{home / POINTER}: not there, no model has been promoted in this home; {remedy}")
    return champion


def champion_bundle(home: Path) -> Path:
    """The folder of the bundle that the pointer names. Raises NoChampion, and PointerCorrupt if that is another version
    than the pointer says."""
    champion = require_champion(home)
    path = champion.path(home)
    try:
        version = read_json_object(path / MANIFEST).get("version")
    except (OSError, ValueError):  # who loads the bundle says what is wrong with it
        return path
    if version != champion.version:
        raise PointerCorrupt(
            f"{home / POINTER}: says version {champion.version[:40]}, but {champion.bundle} is version "
            f"{str(version)[:40]}, expected the same; restore the pointer, or move the champion: `churn rollback`"
        )
    return path


def read_refusal(home: Path) -> str:
    """Why the newest model of a home was not registered, and what to do; '' if it was, or the file cannot be read."""
    try:
        return str(read_json_object(home / REFUSAL)["message"])
    except (OSError, ValueError, KeyError):
        return ""


def write_champion(home: Path, champion: Champion) -> Path:
    """Point to `champion`; a reader sees the old pointer or the new one, never a part of either."""
    return write_json(home / POINTER, champion.to_json())
