"""The champion pointer: which bundle answers now. One small file, replaced atomically."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from churn_assets.errors import NoChampion, PointerCorrupt
from churn_assets.storage.files import write_json

POINTER = "champion.json"


@dataclass(frozen=True)
class Champion:
    """The bundle that answers. `bundle` is its path relative to the home; `since_at` is UTC.

    `registered_version` is MLflow's number, None while the registry did not answer.
    """

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
        inside = PurePosixPath(self.bundle)
        if inside.is_absolute() or ".." in inside.parts or not inside.parts:
            raise ValueError(f"bundle is '{self.bundle}', expected a path inside the home")

    def path(self, home: Path) -> Path:
        """Where the bundle lies in this home."""
        return home / self.bundle


def read_champion(home: Path) -> Champion | None:
    """The champion of a home, None before the first. Raises PointerCorrupt if it cannot be read."""
    path = home / POINTER
    try:
        stored = json.loads(path.read_bytes())
        return _champion(stored)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        words = " ".join(str(error).split())[:160]
        raise PointerCorrupt(
            f"{path}: cannot be read ({words}), expected a champion as this package writes it; "
            "restore it, or remove it: the next `churn run` makes a new champion"
        ) from error


def require_champion(home: Path) -> Champion:
    """The champion of a home. Raises NoChampion before the first, PointerCorrupt if unreadable."""
    champion = read_champion(home)
    if champion is None:
        raise NoChampion(f"{home / POINTER}: not there, no model has been promoted in this home; run `make run`")
    return champion


def write_champion(home: Path, champion: Champion) -> Path:
    """Point to `champion`; a reader sees the old pointer or the new one, never half of either.

    The file is on disk when this returns: it and its folder are synced.
    """
    stored = {**asdict(champion), "since_at": champion.since_at.astimezone(UTC).isoformat()}
    write_json(home / POINTER, stored)
    return home / POINTER


def _champion(stored: object) -> Champion:
    if not isinstance(stored, dict):
        raise ValueError("no JSON object")
    wanted = {field.name for field in fields(Champion)}
    if stored.keys() != wanted:
        raise ValueError(f"fields {sorted(stored.keys() ^ wanted)} are too many or too few")
    number = stored["registered_version"]
    words = {name: stored[name] for name in wanted - {"registered_version", "since_at"}}
    if not all(isinstance(value, str) for value in words.values()) or not isinstance(number, int | None):
        raise ValueError("a field has the wrong type")
    return Champion(**words, registered_version=number, since_at=datetime.fromisoformat(stored["since_at"]))
