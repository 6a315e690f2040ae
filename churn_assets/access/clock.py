"""The time by which keys expire: it does not go back with the clock."""

from __future__ import annotations

import time
from collections.abc import Callable


class ForwardClock:
    """Seconds since 1970 that pass also while the clock of the system is set back: a key that has expired stays so in
    this process. A clock that is set forward counts at once, and no longer once that is corrected."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._steady = wall, steady
        self._started = wall() - steady()

    def __call__(self) -> float:
        """The later one of the system's time and of the time since the start."""
        return max(self._wall(), self._started + self._steady())
