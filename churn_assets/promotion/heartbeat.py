"""The sign of life of the daemon: a file that its sensors touch, read by what must not depend on Dagster."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime

from churn_assets.settings import Settings
from churn_assets.storage.files import read_json_object, write_json

HEARTBEAT = "daemon.json"
_TICKS = 10  # that may be missed
_SHORTEST_S = 300.0


@dataclass(frozen=True)
class Heartbeat:
    """The daemon has run `since_at`, and its sensors were evaluated last `at`."""

    since_at: datetime
    at: datetime


def silence_s(settings: Settings) -> float:
    """Seconds without a tick after which the daemon counts as not alive."""
    return max(_SHORTEST_S, _TICKS * settings.sensor_s)


def beat(settings: Settings, now: datetime) -> None:
    """Note that a sensor is evaluated. Never raises: a home that is full or read-only has its own errors."""
    path = settings.home / HEARTBEAT
    if not settings.home.is_dir():
        return
    with contextlib.suppress(OSError, ValueError):
        before = read_heartbeat(settings)
        if before is None or not 0 <= (now - before.at).total_seconds() <= silence_s(settings):
            write_json(path, {"since_at": now.isoformat(), "folder": settings.home.stat().st_ino})
        os.utime(path, (now.timestamp(), now.timestamp()))


def read_heartbeat(settings: Settings) -> Heartbeat | None:
    """The newest sign of life, None if this home never had a daemon. That of the home that this one is a copy of is
    none: the file names its folder by the number that the disk has for it."""
    path = settings.home / HEARTBEAT
    try:
        at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None
    try:
        life = read_json_object(path)
        if life.get("folder", folder := settings.home.stat().st_ino) != folder:
            return None
        since_at = datetime.fromisoformat(life["since_at"])
    except (OSError, ValueError, KeyError, TypeError):  # damaged: it is known all the same when it was written
        since_at = at
    return Heartbeat(since_at, at)
