"""One worker's segment file: append, sync, cut a torn tail, hand over.

A segment is `<name>.open` while its worker appends to it, locked by that worker; it becomes `<name>.ready` by one
rename when it is old or large enough, and is not changed afterwards. The lock of a worker ends with it; then any other
worker (or the next start) cuts off the torn last line, which was never acknowledged, and hands the segment over. The
ingest renames it to `<name>.done` once its rows are in the warehouse, and deletes it when an archive has it. What is
acknowledged has been through `fdatasync`, and the file's name through an `fsync` of its folder.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from churn_assets.errors import LogUnavailable, LogUnreadable
from churn_assets.storage.files import sync_directory
from churn_assets.storage.lock import try_lock

OPEN, READY, DONE = ".open", ".ready", ".done"
# The only file of a home that `storage.files` does not write: it grows by appending, and one fdatasync for all rows
# that wait is what group commit is. macOS has no fdatasync.
_sync_data = getattr(os, "fdatasync", os.fsync)
_BLOCK = 1 << 16


class Segment:
    """The present segment of one worker and its successors. Not safe from several threads.

    A file is made for the first row, so that a worker without rows leaves no empty files. It is handed over at
    `max_bytes` or after `max_age_s`.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int = 64 * 2**20,
        max_age_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._max_bytes, self._max_age_s, self._clock = max_bytes, max_age_s, clock
        self._path: Path | None = None
        self._handle = -1
        self._size = 0
        self._since = 0.0

    def append(self, data: bytes) -> None:
        """Write and sync complete lines; when this returns they survive a loss of power. Raises LogUnavailable; then
        none of them is in the log, and what was written of them is cut off."""
        try:
            if self._path is None:
                self._begin()
            _write(self._handle, data)
            _sync_data(self._handle)
        except OSError as error:
            self._retreat()
            raise LogUnavailable(
                f"{self.folder}: cannot be written ({error.strerror or error}), expected room and write access; "
                "free the disk or correct its permissions; the service then goes on by itself"
            ) from error
        self._size += len(data)
        if self._size >= self._max_bytes:
            self.hand_over()

    def hand_over_if_due(self) -> None:
        """Hand the segment over once it is old enough."""
        if self._path is not None and self._clock() - self._since >= self._max_age_s:
            self.hand_over()

    def hand_over(self) -> None:
        """Close the segment and give it its final name; the next append begins another. If the name cannot be given
        now, a later start gives it."""
        path, self._path = self._path, None
        if path is None:
            return
        try:
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(READY))
                sync_directory(self.folder)
        finally:
            os.close(self._handle)  # the lock is held until the name is given

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
            path = self.folder / f"{now}-{os.getpid()}-{secrets.token_hex(3)}{OPEN}"
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o640)
            if _locked(handle, path):
                break
            os.close(handle)  # another worker adopted the empty file in between
        self._path, self._handle, self._size, self._since = path, handle, 0, self._clock()
        sync_directory(self.folder)

    def _retreat(self) -> None:
        """After a failed write or sync: keep what was acknowledged, and do not append to this file again. A failed
        fdatasync may have dropped pages that a second one would report as written (Rebello et al. 2020)."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, self._size)
            os.fsync(self._handle)
        if self._size == 0:
            path, self._path = self._path, None
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(self._handle)
        else:
            self.hand_over()


def adopt_orphans(folder: Path) -> int:
    """Hand over the segments of workers that died, their torn tails cut; how many those were."""
    adopted = 0
    for path in sorted(folder.glob(f"*{OPEN}")):
        with contextlib.suppress(OSError):  # a disk that cannot be written now: next time
            adopted += _adopt(path)
    return adopted


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


def open_segment(folder: Path, name: str) -> BinaryIO | None:
    """A segment's file for reading bytes, or None if it is not there any more. Raises LogUnreadable."""
    # The name changes twice, open to ready to done: a reader that misses one finds the next.
    for suffix in (OPEN, READY, DONE, DONE):
        try:
            return (folder / f"{name}{suffix}").open("rb")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise LogUnreadable(
                f"{folder / name}{suffix}: cannot be read ({error.strerror}); correct its permissions"
            ) from error
    return None


def _locked(handle: int, path: Path) -> bool:
    """Whether this process now holds the lock of a file that still has its name."""
    try:
        return try_lock(handle) and os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
