"""What the warehouse should have and has not: after it was deleted, damaged or put back from a copy.

Segments come back in the order of the journal, each with the `seq` and the instant it had, from the file or the
archive that holds it; then what the journal does not know. An ingest that finds nothing amiss looks at
one number and one listing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from churn_assets.prediction_log.segment import DONE, READY
from churn_assets.prediction_log.warehouse.journal import last_number, read_journal
from churn_assets.prediction_log.warehouse.sources import Archive, archives
from churn_assets.settings import Settings


class Loader(Protocol):
    """What takes a segment: `warehouse.Session` with its report."""

    def restore(self, name: str, path: Path, told: dict[str, Any] | None) -> None:
        """Load a segment from a file of its lines, as the journal tells of it."""

    def mourn(self, told: dict[str, Any]) -> None:
        """Keep the row of a segment that no file holds any more."""


def discard(database: Path) -> None:
    """Take the warehouse away, its write-ahead log first: an old one must never meet a new warehouse."""
    for path in (database.with_name(f"{database.name}.wal"), database):
        path.unlink(missing_ok=True)


def catch_up(settings: Settings, names: frozenset[str], number: int, loader: Loader) -> None:
    """Restore each segment that was ingested once and is not among `names`; `number` is the last of those.

    Raises LogUnreadable for a damaged archive.
    """
    home, folder = settings.warehouse_dir, settings.predlog_dir
    done = {path.stem for path in folder.glob(f"*{DONE}")}
    if last_number(home) <= number and not done - names and number:
        return
    kept = archives(settings.archive_dir)
    told = {row["name"]: row for row in read_journal(home) if row["number"] > number}
    archived = [name for archive in kept for name in archive.names]
    rest = [name for name in (*archived, *sorted(done)) if name not in told and name not in names]
    with tempfile.TemporaryDirectory(dir=home) as scratch:
        found = _Finder(folder, kept, Path(scratch))
        for name in dict.fromkeys([*told, *rest]):
            path = found(name)
            if path is not None:
                loader.restore(name, path, told.get(name))
            else:
                loader.mourn(told[name])


class _Finder:
    """Files of segments; an archive is unpacked when the first of its segments is asked for."""

    def __init__(self, folder: Path, kept: list[Archive], scratch: Path) -> None:
        self._folder, self._scratch = folder, scratch
        self._archive_of = {name: archive for archive in kept for name in archive.names}
        self._unpacked: Archive | None = None

    def __call__(self, name: str) -> Path | None:
        for suffix in (DONE, READY):
            path = self._folder / f"{name}{suffix}"
            if path.exists():
                return path
        archive = self._archive_of.get(name)
        if archive is None:
            return None
        if archive is not self._unpacked:
            for old in self._scratch.iterdir():
                old.unlink()
            for segment, lines in _by_segment(archive.lines()):
                (self._scratch / segment).write_bytes(b"".join(lines))
            self._unpacked = archive
        path = self._scratch / name
        path.touch()  # a segment of no lines leaves none
        return path


def _by_segment(lines: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, list[bytes]]]:
    name = ""
    group: list[bytes] = []
    for segment, line in lines:
        if segment != name and group:
            yield name, group
            group = []
        name = segment
        group.append(line)
    if group:
        yield name, group
