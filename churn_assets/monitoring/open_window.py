"""The window that is not closed yet, in a small file: so that sensors and the watchdog need not open the log."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec

from churn_assets.errors import WindowUnreadable
from churn_assets.settings import Settings
from churn_assets.storage.files import read_json_object, write_json

OPEN, WINDOW = "open.json", "window.json"
DECISION = "retraining_decision.json"  # the last asset of `monitor`


@dataclass(frozen=True)
class OpenWindowFile:
    """`open.json`: the number that the open window will have, and the customers at which it closes (0: by days).

    `can_close` says whether the rows that are there are a window; None in files of release 0.2. `since_at` is when the
    ingest first counted it, `full_since_at` when it first found it full, both ISO 8601; those files have neither.
    """

    fingerprint: str
    window: int
    customers: int
    wanted: int
    since_at: str | None = None
    full_since_at: str | None = None
    can_close: bool | None = None

    @property
    def full(self) -> bool:
        """Whether it can be closed."""
        return 0 < self.wanted <= self.customers if self.can_close is None else self.can_close


def keep_open_window(settings: Settings, record: OpenWindowFile, now: datetime) -> OpenWindowFile:
    """Replace the file by `record`, with the instants at which this window was first counted, and first full."""
    try:
        before = read_open_window_file(settings)
    except WindowUnreadable:  # it is replaced
        before = None
    same = before is not None and (before.fingerprint, before.window) == (record.fingerprint, record.window)
    known = before if before is not None and same else record
    record = replace(
        record,
        since_at=known.since_at or now.isoformat(),
        full_since_at=(known.full_since_at or now.isoformat()) if record.full else None,
    )
    write_json(settings.monitoring_dir / OPEN, asdict(record))
    return record


def read_open_window_file(settings: Settings) -> OpenWindowFile | None:
    """The file, None before the first ingest. Raises WindowUnreadable."""
    path = settings.monitoring_dir / OPEN
    try:
        return msgspec.convert(read_json_object(path), OpenWindowFile)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        expected = "expected a file of this package; run `churn log ingest`: it is made again"
        raise WindowUnreadable(f"{path}: cannot be read ({reason}), {expected}") from error


def is_closed(settings: Settings, record: OpenWindowFile) -> bool:
    """Whether monitoring has closed the window since the file was written."""
    return _closed_path(settings, record, record.window).is_file()


def undecided_window(settings: Settings) -> str | None:
    """A name for the newest closed window if no decision has followed it: `monitor` died between the two. None if one
    has, and before the first. Raises WindowUnreadable."""
    record, decision = read_open_window_file(settings), settings.assets_dir / DECISION
    if record is None:
        return None
    number = record.window if is_closed(settings, record) else record.window - 1
    closed = _closed_path(settings, record, number)
    if not closed.is_file() or (decision.is_file() and decision.stat().st_mtime >= closed.stat().st_mtime):
        return None
    return f"{record.fingerprint[:12]}-{number:04d}"


def _closed_path(settings: Settings, record: OpenWindowFile, number: int) -> Path:
    return settings.monitoring_dir / record.fingerprint[:12] / f"{number:04d}" / WINDOW
