"""What a worker counts of a canary or A/B, by arm, and the files in which the guardrails read it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from churn_assets.release.counts import ReleaseCounts, sum_counts, write_counts, writer_name
from churn_assets.release.policy import FALLBACK

if TYPE_CHECKING:
    from churn_assets.serving.routing.router import Arm

KEPT_S = 60  # a replaced policy may still get rows of requests in work


@dataclass(frozen=True, slots=True)
class SplitRow:
    """A row where several models answer: the arm that answered it, and what is counted of it; `share` is the hash of
    the customer, `seconds` is None where it was scored with others."""

    arm: Arm
    status: str
    score: float
    called: bool
    warned: bool
    seconds: float | None
    share: float


@dataclass(slots=True)
class SplitRows:
    """The answered rows of a request under a canary or A/B; how many of them, by the name of the arm, its model could
    not score (`errors`) or refused although the champion does not; and where the last error came from. Those of a
    `test` are not counted."""

    rows: Sequence[SplitRow] = ()
    errors: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    reason: str = ""
    test: bool = False


class ArmCounter:
    """The counts of one policy by one worker; safe to call from any thread. `reason` is that of the last error."""

    def __init__(self, policy_id: str) -> None:
        self.policy_id, self.writer, self.reason = policy_id, writer_name("worker"), ""
        self._counts, self._lock, self._changed = ReleaseCounts(), threading.Lock(), False

    def count(self, split: SplitRows) -> None:
        """Count the rows of a request. Those that the champion answered in place of another arm are no rows of the
        champion: they are not of its customers."""
        if split.test:
            return
        with self._lock:
            for row in split.rows:
                if row.status != FALLBACK:
                    arm = self._counts.arm(row.arm.name)
                    arm.scored(row.score, row.called, row.warned, row.seconds)
                    arm.saw(row.share)
            for name, rows in split.errors.items():
                self._counts.arm(name).errors += rows
            for name, rows in split.refused.items():
                self._counts.arm(name).refused += rows
            self.reason = split.reason or self.reason
            self._changed = True

    def take(self) -> ReleaseCounts | None:
        """A copy of the counts if they have changed since the last one, else None."""
        with self._lock:
            if not self._changed:
                return None
            self._changed = False
            return sum_counts([self._counts])

    def put_back(self) -> None:
        """The last copy is not on disk: the next `take` gives one again."""
        with self._lock:
            self._changed = True


class CountsWriter:
    """Writes the counts of a worker's policies to the home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._ages: dict[ArmCounter, int] = {}  # writes since it was replaced
        self._counter: ArmCounter | None = None
        self._seen: set[tuple[str, str]] = set()

    def new_errors(self) -> list[tuple[str, str]]:
        """(policy, where it came from) of errors of a kind that was not given yet."""
        with self._lock:
            seen = {(c.policy_id, c.reason) for c in (self._counter, *self._ages) if c is not None and c.reason}
            new, self._seen = sorted(seen - self._seen), seen
            return new

    def follow(self, counter: ArmCounter | None) -> None:
        """The counter of the router in use, None if it counts nothing. Those before it are written as long as requests
        may have them."""
        with self._lock:
            if self._counter is not None:
                self._ages[self._counter] = 0
            self._counter = counter

    def write(self) -> None:
        """Write what has changed. Raises OSError; then the next call writes it."""
        with self._lock:
            present = [] if self._counter is None else [self._counter]
            self._ages = {counter: age + 1 for counter, age in self._ages.items() if age < KEPT_S}
            counters = [*present, *self._ages]
        for counter in counters:
            if (counts := counter.take()) is None:
                continue
            try:
                write_counts(self._home, counter.policy_id, counter.writer, counts)
            except OSError:
                counter.put_back()
                raise
