"""What the processes of a service count of a release, by arm: sums only, so that counts of processes add up.

Each process that answers or shadows writes its own file `<home>/releases/<policy id>/<writer>.json` about once a second
while the policy is in force; the files of killed processes stay and count. The guardrails read their sum.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

import msgspec

from churn_assets.storage.files import read_json_object, write_json_unsynced

FOLDER = "releases"
GUARDRAILS, LABELS = "guardrails.json", "labels.json"  # beside the counts: what they show, and what labels show
REPORT = "report.json"  # of the asset `release_report`, beside the counts of the release's newest policy
SECONDS_GROWTH = 1.02  # from one edge of the scoring times to the next: a quantile is known to 2 %
_SECONDS_0 = 1e-6
SCORE_BINS = 20

_Counts = TypeVar("_Counts", bound=msgspec.Struct)


class ArmCounts(msgspec.Struct):
    """The rows of one arm, or those that a shadow has scored.

    `rows` were scored, `errors` of further rows were not (an unexpected error, no finite score), and `refused` of
    further rows break the arm's contract. Of the scored: `warned` had a warning, `called` are over the threshold,
    `score_sum` and `score_squares` are of the probabilities, `scores` their counts in 20 equal bins; `seconds` counts
    scoring times by `seconds_bin`, of rows that were scored alone: the time of a batch depends on how many of its rows
    the arm has, and is no row's own. `customers` are those whose rows they are, each counted once by a process; 0 where
    that is not known.
    """

    rows: int = 0
    customers: int = 0
    errors: int = 0
    refused: int = 0
    warned: int = 0
    called: int = 0
    score_sum: float = 0.0
    score_squares: float = 0.0
    scores: list[int] = msgspec.field(default_factory=lambda: [0] * SCORE_BINS)
    seconds: dict[int, int] = msgspec.field(default_factory=dict)

    def scored(self, score: float, called: bool, warned: bool, seconds: float | None) -> None:
        """Count a scored row; `seconds` is None for one of a batch."""
        self.rows += 1
        self.called += called
        self.warned += warned
        self.score_sum += score
        self.score_squares += score * score
        self.scores[min(int(score * SCORE_BINS), SCORE_BINS - 1)] += 1
        if seconds is not None:
            place = seconds_bin(seconds)
            self.seconds[place] = self.seconds.get(place, 0) + 1

    def share(self, total: float) -> float | None:
        """A sum of the scored rows as a mean over them, None without a row."""
        return total / self.rows if self.rows else None

    def quantile_ms(self, share: float) -> float | None:
        """A quantile of the scoring times in milliseconds, the upper end of its bin; None without a time."""
        total, up_to = sum(self.seconds.values()), 0
        for place in sorted(self.seconds):
            up_to += self.seconds[place]
            if up_to >= share * total:
                return seconds_of(place) * 1e3
        return None


class SeenCustomers:
    """Which customers were counted before, in half a megabyte: a bit for each of four million places of their hash.

    With a million customers one in ten new ones is taken for another, whoever it is: counts of customers are a little
    low then, and no less of a sample.
    """

    _BITS = 2**22

    def __init__(self) -> None:
        self._seen = bytearray(self._BITS // 8)

    def is_new(self, share: float) -> bool:
        """Whether nobody was seen at this hash (`policy.share_of`, in [0, 1)) before; now somebody is."""
        place, bit = divmod(int(share * self._BITS), 8)
        was_seen = self._seen[place] >> bit & 1
        self._seen[place] |= 1 << bit
        return not was_seen


class PairCounts(msgspec.Struct):
    """Rows that both models have scored: a shadow's. `difference` is challenger minus champion; `flips` are rows that
    one of them calls and the other does not; `dropped` rows found the shadow's queue full."""

    rows: int = 0
    flips: int = 0
    difference_sum: float = 0.0
    difference_squares: float = 0.0
    dropped: int = 0

    @property
    def agreement(self) -> float:
        """The share of rows that both decide alike; 1 without a row."""
        return 1.0 - self.flips / max(1, self.rows)

    @property
    def mean_difference(self) -> float:
        """The mean difference of the scores; 0 without a row."""
        return self.difference_sum / max(1, self.rows)

    @property
    def sd_difference(self) -> float:
        """The standard deviation of the differences; 0 without a row."""
        return float(max(0.0, self.difference_squares / max(1, self.rows) - self.mean_difference**2) ** 0.5)


class ReleaseCounts(msgspec.Struct):
    """Counts of one policy: by the name of the arm, and of pairs."""

    arms: dict[str, ArmCounts] = msgspec.field(default_factory=dict)
    pairs: PairCounts = msgspec.field(default_factory=PairCounts)

    def arm(self, name: str) -> ArmCounts:
        """The counts of an arm, which begin with nothing."""
        return self.arms.setdefault(name, ArmCounts())


def seconds_bin(seconds: float) -> int:
    """The bin of a time; bin k reaches up to `seconds_of(k)`."""
    return max(0, math.ceil(math.log(max(seconds, _SECONDS_0) / _SECONDS_0, SECONDS_GROWTH) - 1e-9))


def seconds_of(place: int) -> float:
    """The upper end of a bin of times."""
    return _SECONDS_0 * SECONDS_GROWTH**place


def counts_folder(home: Path, policy_id: str) -> Path:
    """Where the counts of a policy lie."""
    return home / FOLDER / policy_id


def write_counts(home: Path, policy_id: str, writer: str, counts: ReleaseCounts) -> None:
    """Replace the file of one writer (its name and process id). Raises OSError on a full disk. A loss of power may cost
    the file, never a part of it."""
    folder = counts_folder(home, policy_id)
    folder.mkdir(parents=True, exist_ok=True)
    write_json_unsynced(folder / f"{writer}.json", msgspec.to_builtins(counts, str_keys=True))


def read_counts(home: Path, policy_id: str) -> ReleaseCounts:
    """The sum over all writers; a file that cannot be read is left out."""
    parts = []
    for path in sorted(counts_folder(home, policy_id).glob("*.json")):
        if path.name in (GUARDRAILS, LABELS, REPORT):
            continue
        try:
            parts.append(msgspec.convert(read_json_object(path), ReleaseCounts, strict=False))
        except (OSError, ValueError):
            continue
    return sum_counts(parts)


def sum_counts(parts: Iterable[ReleaseCounts]) -> ReleaseCounts:
    """Counts of several processes as one."""
    total = ReleaseCounts()
    for part in parts:
        for name, own in part.arms.items():
            total.arms[name] = _sum(total.arm(name), own)
        total.pairs = _sum(total.pairs, part.pairs)
    return total


def writer_name(part: str) -> str:
    """A name for the counts of one policy by this process, another at each call; `part` says what it does."""
    return f"{part}-{os.getpid()}-{token_hex(6)}"


def _sum(left: _Counts, right: _Counts) -> _Counts:
    """The sum, field by field."""
    values = ((getattr(left, name), getattr(right, name)) for name in left.__struct_fields__)
    return type(left)(*(_add(a, b) for a, b in values))


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, dict):
        return {place: left.get(place, 0) + right.get(place, 0) for place in left.keys() | right.keys()}
    return [a + b for a, b in zip(left, right, strict=True)] if isinstance(left, list) else left + right
