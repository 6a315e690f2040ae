"""How many requests a key may make: one limit over all workers of a host that serve a home.

The generic cell rate algorithm (ITU-T I.371) needs one number a key, the instant up to which its requests are paid for.
So the workers share a file of eight bytes a key, changed under a lock of these bytes that ends with its process. A
kill at any point leaves the old or the new number. Times are of the host's monotonic clock, which no setting moves.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

FILE = "rate_limits.bin"
_CELL = struct.Struct("<d")
_TRIES, _WAIT_S = 50, 0.0001  # for another worker, which holds the lock for microseconds unless it is stopped


@dataclass(frozen=True)
class RateLimit:
    """At most `per_s` requests a second on average, `burst` of them at once. `per_s` 0: no limit."""

    per_s: float
    burst: int

    @property
    def window_s(self) -> float:
        """Seconds in which a used up burst is whole again."""
        return self.burst / self.per_s


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request is let in, how many more would be now, and the seconds until one is, or until all are."""

    admitted: bool
    remaining: int
    reset_s: int


class RateLimiter:
    """Counts the requests of each key of a home. Not safe from several threads: locks are of the process.

    `folder` is one of this host: another host's clock has another beginning. Raises OSError if the file can neither be
    opened nor made.
    """

    def __init__(self, folder: Path, limit: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self._clock = limit, clock
        self._interval_s = 1 / limit.per_s
        self._handle = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def admit(self, slot: int) -> Admission:
        """Count a request of the key with this number, if it is let in. Raises OSError for a disk that takes no number
        and for a lock that is held for too long; then none is let in."""
        offset = slot * _CELL.size
        self._lock(offset)
        try:
            return self._count(offset)
        finally:
            fcntl.lockf(self._handle, fcntl.LOCK_UN, _CELL.size, offset)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def _count(self, offset: int) -> Admission:
        now, interval_s, window_s = self._clock(), self._interval_s, self.limit.window_s
        cell = os.pread(self._handle, _CELL.size, offset)
        paid_until = _CELL.unpack(cell)[0] if len(cell) == _CELL.size else 0.0
        if not now <= paid_until <= now + window_s:  # unused for long, or of the time before the host's last start
            paid_until = now
        after = paid_until + interval_s
        if after > now + window_s:
            return Admission(False, 0, max(1, ceil(after - now - window_s)))
        os.pwrite(self._handle, _CELL.pack(after), offset)
        return Admission(True, int((now + window_s - after) / interval_s + 1e-9), max(1, ceil(after - now)))

    def _lock(self, offset: int) -> None:
        for _ in range(_TRIES):
            try:
                fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, _CELL.size, offset)
                return
            except (BlockingIOError, PermissionError):
                time.sleep(_WAIT_S)  # to wait for the lock in the kernel would wait for a stopped worker for ever
        raise TimeoutError("another worker holds the lock")
