"""The prediction log as an outbox: messages of the rows after a position, in the order of each segment.

An open segment is read as far as the disk has it: this process syncs the file before it reads what came since, so that
a row in a topic survives a loss of power as the log does. A segment that was handed over is read to its end, also when
the ingest has archived it meanwhile; then its lines, and so the offsets, are those of the archive.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from churn_assets.errors import LogUnreadable
from churn_assets.events.messages import Message, prediction_message
from churn_assets.events.positions import ENDED, NOWHERE, Position, Positions, archive_key, segment_key
from churn_assets.prediction_log.records import decode_head, parse_instant
from churn_assets.prediction_log.segment import DONE, OPEN, READY, open_segment, segments_of
from churn_assets.prediction_log.warehouse.archive import PARQUET, read_archive

MAX_ROWS, MAX_BYTES = 5_000, 8 * 2**20  # of one batch; a segment or a line may pass the bytes
_CHUNK = 2**20
_FORGET_S = 3600.0  # without a file; a rename hides one for an instant
_SYNC = getattr(os, "fdatasync", os.fsync)


@dataclass
class Batch:
    """Messages, and the positions that hold once they are taken. `rows` are lines, `skipped` those that no message can
    be made of."""

    messages: list[Message] = field(default_factory=list)
    changes: dict[str, Position | None] = field(default_factory=dict)
    rows: int = 0
    skipped: int = 0
    size: int = 0

    @property
    def full(self) -> bool:
        """Whether it has enough for one transaction."""
        return self.rows >= MAX_ROWS or self.size >= MAX_BYTES

    def add(self, topic: str, line: bytes) -> None:
        """The message of one line of the log, if it is a prediction."""
        self.rows += 1
        self.size += len(line)
        head = decode_head(line)
        if head is not None and head.kind != "prediction":
            return
        try:
            message = prediction_message(topic, line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.skipped += 1
            return
        if message is not None:
            self.messages.append(message)


@dataclass(frozen=True)
class Backlog:
    """What is on disk and not relayed: bytes of segments and archives, when its oldest row was written (None if there
    is none, or if it cannot be told)."""

    size: int = 0
    oldest_at: datetime | None = None


class Outbox:
    """The log of one home. `report` is called with a line for people about what cannot be relayed any more."""

    def __init__(
        self,
        log: Path,
        archive: Path,
        topic: str,
        report: Callable[[str], None] = lambda problem: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._archive, self._topic, self._report, self._clock = log, archive, topic, report, clock
        self._absent: dict[str, float] = {}  # key -> since when there is no file for it
        self._reading: tuple[str, Iterator[tuple[str, int, bytes]]] | None = None  # an archive
        self.lost_segments = 0

    def restart(self) -> None:
        """Forget what was read and not committed."""
        self._reading = None

    def collect(self, positions: Positions, batch: Batch) -> None:
        """Add to a batch what comes after the positions. Raises LogUnreadable, OSError."""
        sealed = self._segments()
        for name, is_sealed in sealed.items():
            if batch.full:
                return
            position = positions.get(segment_key(name), NOWHERE)
            if not position.ended:
                self._collect_segment(name, is_sealed, position, batch)
        waiting = self._unread_archives(positions)
        if not batch.full and waiting:
            self._collect_archive(waiting[0], positions, batch)
        elif not waiting:
            self._forget(sealed, positions, batch)

    def backlog(self, positions: Positions) -> Backlog:
        """What is not relayed. Raises LogUnreadable."""
        size, oldest = 0, None
        for name in self._segments():
            position = positions.get(segment_key(name), NOWHERE)
            file = None if position.ended else open_segment(self._log, name)
            if file is None:
                continue
            with file:
                waiting = os.fstat(file.fileno()).st_size - position.offset
                if waiting <= 0:
                    continue
                size += waiting
                if oldest is None:
                    file.seek(position.offset)
                    oldest = _written_at(file.readline())
        for path in self._unread_archives(positions):
            size += path.stat().st_size
        return Backlog(size, oldest)

    def _segments(self) -> dict[str, bool]:
        """Names of the segments in order, and whether they are complete. A name may be seen twice while it changes:
        the listing that saw it open decides."""
        sealed: dict[str, bool] = {}
        for path in segments_of(self._log, OPEN, READY, DONE):
            sealed[path.stem] = path.suffix != OPEN and sealed.get(path.stem, True)
        return sealed

    def _collect_segment(self, name: str, is_sealed: bool, position: Position, batch: Batch) -> None:
        file = open_segment(self._log, name)
        if file is None:  # archived since it was listed
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            if not is_sealed and size > position.offset:
                _SYNC(file.fileno())
            file.seek(position.offset)
            offset, ended = self._read_lines(file, size, position.offset, batch)
        if offset != position.offset or (is_sealed and ended):
            batch.changes[segment_key(name)] = Position(offset, is_sealed and ended)

    def _read_lines(self, file: BinaryIO, size: int, offset: int, batch: Batch) -> tuple[int, bool]:
        """The offset after the last line that was taken, and whether nothing but a torn tail is left before `size`."""
        while not batch.full:
            line = file.readline()
            if not line.endswith(b"\n") or offset + len(line) > size:
                return offset, True
            batch.add(self._topic, line)
            offset += len(line)
        return offset, offset >= size

    def _unread_archives(self, positions: Positions) -> list[Path]:
        try:
            paths = sorted(path for path in self._archive.iterdir() if path.suffix == PARQUET)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LogUnreadable(f"{self._archive}: cannot be listed ({error.strerror}); correct it") from error
        return [path for path in paths if archive_key(path.name) not in positions]

    def _collect_archive(self, path: Path, positions: Positions, batch: Batch) -> None:
        if self._reading is None or self._reading[0] != path.name:
            self._reading = (path.name, self._archived_lines(path, positions))
        for name, offset, line in self._reading[1]:
            key = segment_key(name)
            position = batch.changes.get(key) or positions.get(key, NOWHERE)
            if position.ended or offset <= position.offset:  # it was read from its file
                continue
            batch.add(self._topic, line)
            batch.changes[key] = Position(offset)
            if batch.full:
                return
        self._reading = None
        archive = read_archive(path)
        if archive is not None:
            batch.changes[archive_key(path.name)] = ENDED
            batch.changes.update({segment_key(name): ENDED for name in archive.names})

    def _archived_lines(self, path: Path, positions: Positions) -> Iterator[tuple[str, int, bytes]]:
        """(segment, offset after the line, line) of the segments that are not relayed to their end."""
        archive = read_archive(path)
        if archive is None:  # it has expired since it was listed
            return
        wanted = frozenset(name for name in archive.names if not positions.get(segment_key(name), NOWHERE).ended)
        offsets = dict.fromkeys(wanted, 0)
        for name, line in archive.lines(wanted) if wanted else ():
            offsets[name] += len(line)
            if line.endswith(b"\n"):
                yield name, offsets[name], line

    def _forget(self, sealed: dict[str, bool], positions: Positions, batch: Batch) -> None:
        """Drop the positions of segments and archives that are gone for an hour; what was not relayed of them is lost.
        Only while no archive waits: what is archived is not gone."""
        there = {segment_key(name) for name in sealed}
        if self._archive.is_dir():
            there |= {archive_key(path.name) for path in self._archive.iterdir()}
        tracked = {key for key in positions if key.startswith(("segment/", "archive/"))}
        now = self._clock()
        self._absent = {key: self._absent.get(key, now) for key in tracked - there}
        for key, since in self._absent.items():
            if now - since < _FORGET_S:
                continue
            batch.changes[key] = None
            if not positions[key].ended:
                self.lost_segments += 1
                self._report(
                    f"{key}: was deleted before it was relayed, expected it in the log or an archive; restore it from "
                    "a backup, or do without its events"
                )


def _written_at(line: bytes) -> datetime | None:
    """When a line of the log was written, None if it does not say so."""
    try:
        row = msgspec.json.decode(line)
        instants = [row[name] for name in ("scored_at", "received_at", "until_at", "noted_at") if name in row]
        return parse_instant(instants[0]).astimezone(UTC)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError, LookupError, OverflowError):
        return None
