"""Two ways to do one thing, timed in turns, so that whatever else the machine does hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Paired:
    """Seconds of both sides, repeat by repeat, in the same order."""

    ours: Sequence[float]
    theirs: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast ours is, repeat by repeat, ascending."""
        return sorted(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))

    def line(self, name: str, rows: int, other: str) -> str:
        """One line: rows a second of both (medians), ratio (median) and its smallest and largest."""
        ours, theirs = (rows / statistics.median(seconds) for seconds in (self.ours, self.theirs))
        low, middle, high = self.ratios[0], statistics.median(self.ratios), self.ratios[-1]
        return (
            f"{name}: {ours:,.0f} rows/s, {other} {theirs:,.0f} rows/s, "
            f"ratio {middle:.2f} ({low:.2f} to {high:.2f} in {len(self.ratios)} repeats)"
        )


def timed(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> Paired:
    """Run both once to warm up, then `repeats` times, the order changing each time."""
    ours(), theirs()
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats):
        for side in (0, 1) if repeat % 2 else (1, 0):
            start = time.perf_counter()
            (ours, theirs)[side]()
            seconds[side].append(time.perf_counter() - start)
    return Paired(*seconds)
