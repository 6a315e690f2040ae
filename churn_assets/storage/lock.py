"""One lock for processes: a file held by flock. The system releases it when its holder ends, however it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.01, 0.25


class LockBusy(Exception):
    """Another process held the lock for the whole timeout; the message names it."""


@contextmanager
def file_lock(
    path: Path, timeout_s: float = 0.0, busy: Callable[[str], Exception] | type[LockBusy] = LockBusy
) -> Iterator[int]:
    """Hold the lock file `path`, whose folder is made, while the block runs.

    Waits up to `timeout_s`, then raises `busy(holder)`, where the holder is "process 123", or "another process"
    if it wrote no number. Raises OSError if the file cannot be made. Without flock (Windows) nobody is kept out.
    Yields the open file: a child process that inherits it holds the lock too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        end, wait_s = time.monotonic() + timeout_s, _FIRST_WAIT_S
        while not try_lock(handle):
            left_s = end - time.monotonic()
            if left_s <= 0:
                raise busy(_holder(handle))
            time.sleep(min(wait_s, left_s))  # flock waits for ever or not at all
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, str(os.getpid()).encode())
        yield handle
    finally:
        os.close(handle)


if sys.platform == "win32":

    def try_lock(handle: int) -> bool:
        """True: there is no flock on this system."""
        return True

else:
    import fcntl

    def try_lock(handle: int) -> bool:
        """Lock an open file without waiting; False if another process holds its lock."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _holder(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    number = os.read(handle, 20).decode(errors="replace").strip()
    return f"process {number}" if number.isdigit() else "another process"
