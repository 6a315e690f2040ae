"""One worker's segment file: append, sync, cut a torn tail, hand over.

A segment is `<name>.open` while its worker appends to it, locked by that worker; it becomes `<name>.ready` by one
rename when it is old or large enough, and is not changed afterwards. The lock of a worker ends with it; then any other
worker (or the next start) cuts off the torn last line, which was never acknowledged, and hands the segment over. The
ingest renames it to `<name>.done` once its rows are in the warehouse, and deletes it when an archive has it. What is
acknowledged has been through `fdatasync`, and the file's name through an `fsync` of its folder; and the file still
has its name, so that rows in a folder that somebody deletes or replaces are acknowledged for one commit at most.

Names order segments: the stamp of a new one is later than all in the folder, whatever the clock says.

Several hosts may share a log. Each is an *instance* with a folder of its own below the log, and its name ends the names
of its segments, after an `@`. An instance hands over what its own processes left; the ingest does it for the others,
once nothing was written for longer than a running instance keeps a segment open.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from churn_assets.errors import LogUnavailable, LogUnreadable, RowsUncertain, SegmentLost
from churn_assets.storage.files import open_file, sync_directory
from churn_assets.storage.lock import try_lock

OPEN, READY, DONE = ".open", ".ready", ".done"
OF_INSTANCE = "@"  # in the name of a segment, before the instance that wrote it
QUIET_S = 300.0  # without a write: longer than any pause of a worker that answers
_UNUSED_S, _SIGN_OF_LIFE_S = 7 * 86_400.0, 3600.0
# The only file of a home that `storage.files` does not write: it grows by appending, and one fdatasync for all rows
# that wait is what group commit is. macOS has no fdatasync.
_sync_data = getattr(os, "fdatasync", os.fsync)
_BLOCK = 1 << 16
_STAMP, _STAMPED = "%Y%m%dT%H%M%S%f", re.compile("[0-9]{8}T[0-9]{12}")


class Segment:
    """The present segment of one worker and its successors. Not safe from several threads.

    A file is made for the first row, so that a worker without rows leaves no empty files. It is handed over at
    `max_bytes` or after `max_age_s`. `report` is called with a line for people when it cannot be. An `instance`
    ends the names; `folder` is then its own in the log.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int = 64 * 2**20,
        max_age_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        report: Callable[[str], None] = lambda problem: None,
        instance: str = "",
    ) -> None:
        self.folder = folder
        self._ending = f"{OF_INSTANCE}{instance}" if instance else ""
        self._seen_at = -_SIGN_OF_LIFE_S
        self._max_bytes, self._max_age_s, self._clock, self._report = max_bytes, max_age_s, clock, report
        self._path: Path | None = None
        self._held: _HeldFolder | None = None
        self._loss: SegmentLost | None = None
        self._handle = -1
        self._size = self._rows = 0
        self._since = 0.0

    def append(self, data: bytes) -> None:
        """Write and sync complete lines; when this returns they survive a loss of power. Raises LogUnavailable; then
        none of them is in the log, and what was written of them is cut off, but for RowsUncertain. SegmentLost: nor are
        rows of before."""
        loss, self._loss = self._loss, None
        if loss is not None:
            raise loss
        try:
            path = self._path or self._begin()
            _write(self._handle, data)
            _sync_data(self._handle)
            if not _is_named(self._handle, path):
                raise self._lost(path)
        except SegmentLost:
            self._retreat(is_named=False)
            raise
        except OSError as error:
            message = (
                f"{self.folder}: cannot be written ({error.strerror or error}), expected room and write access; "
                "free the disk or correct its permissions; the service then goes on by itself"
            )
            if not self._retreat():
                raise RowsUncertain(message) from error
            raise LogUnavailable(message) from error
        self._size, self._rows = self._size + len(data), self._rows + data.count(b"\n")
        if self._size >= self._max_bytes:
            self.hand_over()

    def hand_over_if_due(self) -> None:
        """Hand the segment over once it is old enough; called at least every few seconds."""
        if self._ending and self._clock() - self._seen_at >= _SIGN_OF_LIFE_S:
            self._seen_at = self._clock()
            with contextlib.suppress(OSError):  # the folder of an idle instance stays: `remove_unused`
                os.utime(self.folder)
        if self._path is not None and self._clock() - self._since >= self._max_age_s:
            self.hand_over()

    def hand_over(self) -> None:
        """Close the segment and give it its final name; the next append begins another. If the name cannot be given
        now, a later start gives it."""
        path, self._path = self._path, None
        if path is None:
            return
        try:
            path.rename(path.with_suffix(READY))
            sync_directory(self.folder)
        except FileNotFoundError:
            self._loss = self._lost(path)
            self._report(str(self._loss))
        except OSError as error:
            self._report(
                f"{path}: cannot be handed over ({error.strerror or error}), expected its folder writable; correct "
                "that, the next ingest or start of the service then takes it"
            )
        finally:
            os.close(self._handle)  # the lock is held until the name is given

    def _begin(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_folder()
        while True:
            stamp = _next_stamp(self.folder)
            path = self.folder / f"{stamp}-{os.getpid()}-{secrets.token_hex(3)}{self._ending}{OPEN}"
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o640)
            if _locked(handle, path):
                break
            os.close(handle)  # another worker adopted the empty file in between
        self._path, self._handle, self._since = path, handle, self._clock()
        self._size = self._rows = 0
        sync_directory(self.folder)
        return path

    def _check_folder(self) -> None:
        """Raise SegmentLost, once, if the folder is another one than before: what it held and was not ingested is
        gone, though nothing of this worker was open."""
        if os.name == "nt":  # a folder has no handle there
            return
        known, self._held = self._held, _HeldFolder(self.folder)
        if known is not None and not known.is_same(self._held):
            raise self._lost(None)

    def _lost(self, path: Path | None) -> SegmentLost:
        self._held = None if path is not None else self._held
        gone = self.folder if path is None else path
        rows = "rows that were not ingested" if path is None else f"{self._rows:,} acknowledged rows"
        return SegmentLost(
            f"{gone}: was deleted or moved away while the service ran, with {rows}, expected the log where it was; put "
            "it back, or restore it from a backup",
            "" if path is None else path.stem,
            0 if path is None else self._rows,
        )

    def _retreat(self, is_named: bool = True) -> bool:
        """After a failed write or sync: keep what was acknowledged, and do not append to this file again. A failed
        fdatasync may have dropped pages that a second one would report as written (Rebello et al. 2020). Whether the
        rest is cut off."""
        if self._path is None:
            return True
        is_cut = False
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, self._size)
            os.fsync(self._handle)
            is_cut = True
        if not is_named:  # a file that was moved away keeps its rows and its name there
            self._path = None
            os.close(self._handle)
        elif self._size == 0:
            path, self._path = self._path, None
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(self._handle)
        else:
            self.hand_over()
        return is_cut


class _HeldFolder:
    """An open folder: as long as it is held, no other one gets its number of the file system."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._handle)

    def is_same(self, other: _HeldFolder) -> bool:
        """Whether both are one folder."""
        return os.path.samestat(os.fstat(self._handle), os.fstat(other._handle))


def _next_stamp(folder: Path) -> str:
    """The time, or the instant after the newest name in the folder if the clock was set back since."""
    now = datetime.now(UTC).strftime(_STAMP)
    stamps = (_STAMPED.match(path.name) for path in folder.iterdir())
    newest = max((match[0] for match in stamps if match), default="")
    if newest >= now:
        with contextlib.suppress(ValueError, OverflowError):  # no instant: the name is somebody else's
            return (datetime.strptime(newest, _STAMP) + timedelta(microseconds=1)).strftime(_STAMP)
    return now


def adopt_orphans(folder: Path, quiet_s: float = 0.0) -> int:
    """Hand over the segments of workers that died, their torn tails cut; how many those were. With `quiet_s` only those
    that nobody has written to for so long."""
    adopted = 0
    for path in sorted(folder.glob(f"*{OPEN}")):
        with contextlib.suppress(OSError):  # a disk that cannot be written now: next time
            if not quiet_s or _quiet_s(path) >= quiet_s:
                adopted += _adopt(path)
    return adopted


def adopt_all_orphans(log: Path, instance: str) -> int:
    """The same for a whole log, by a process of this instance. A lock may not reach other hosts, and one that does ends
    when its host is cut off: their segments are left alone as long as they may be in use."""
    here = {log, log / instance}
    return sum(adopt_orphans(folder, 0.0 if folder in here else QUIET_S) for folder in _folders(log))


def remove_unused(log: Path) -> list[str]:
    """Remove the empty folders of instances that gave no sign of life for a week; their names."""
    removed = []
    for folder in _folders(log)[1:]:
        with contextlib.suppress(OSError):  # it has files, or went already
            if _quiet_s(folder) >= _UNUSED_S:
                folder.rmdir()
                removed.append(folder.name)
    return removed


def _quiet_s(path: Path) -> float:
    """Seconds since a file or folder was changed. Both instants are of the file system, not of a host's clock."""
    probe = path.parent / f".now-{secrets.token_hex(8)}"
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink()


def _adopt(path: Path) -> bool:
    handle = os.open(path, os.O_RDWR)
    try:
        if not _locked(handle, path):
            return False
        whole = last_line_end(handle)
        os.ftruncate(handle, whole)
        os.fsync(handle)
        if whole:
            path.rename(path.with_suffix(READY))
        else:
            path.unlink()
        sync_directory(path.parent)
    finally:
        os.close(handle)
    return True


def last_line_end(handle: int) -> int:
    """Offset after the last newline of an open file, 0 if there is none."""
    end = os.fstat(handle).st_size
    while end > 0:
        start = max(0, end - _BLOCK)
        position = os.pread(handle, end - start, start).rfind(b"\n")
        if position >= 0:
            return start + position + 1
        end = start
    return 0


def files_of(folder: Path, *suffixes: str) -> list[Path]:
    """The files of a folder with these suffixes, by name; none if there is no folder. Raises LogUnreadable."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in suffixes)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LogUnreadable(f"{folder}: cannot be listed ({error.strerror}); name a folder you may read") from error


def _folders(log: Path) -> list[Path]:
    """The folder of a log, and those of instances below it. Raises OSError."""
    try:
        return [log, *sorted(path for path in log.iterdir() if path.is_dir())]
    except FileNotFoundError:
        return []


def segments_of(log: Path, *suffixes: str) -> list[Path]:
    """The segments of a log with these suffixes, of all instances, by name. Raises LogUnreadable."""
    paths = files_of(log, *suffixes)
    with contextlib.suppress(OSError):  # `files_of` has told
        for folder in _folders(log)[1:]:
            paths += files_of(folder, *suffixes)
    return sorted(paths, key=lambda path: path.name)


def segment_path(log: Path, name: str, suffix: str) -> Path:
    """Where the segment of this name lies in a log."""
    return log / name.partition(OF_INSTANCE)[2] / f"{name}{suffix}"


def open_segment(log: Path, name: str) -> BinaryIO | None:
    """A segment's file for reading bytes, or None if it is not there any more. Raises LogUnreadable."""
    # The name changes twice, open to ready to done: a reader that misses one finds the next.
    for suffix in (OPEN, READY, DONE, DONE):
        path = segment_path(log, name, suffix)
        try:
            return open_file(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise LogUnreadable(f"{path}: cannot be read ({error.strerror}); correct its permissions") from error
    return None


def _locked(handle: int, path: Path) -> bool:
    """Whether this process now holds the lock of a file that still has its name."""
    return try_lock(handle) and _is_named(handle, path)


def _is_named(handle: int, path: Path) -> bool:
    """Whether the path leads to the open file."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
