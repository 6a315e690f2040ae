"""What the processes of a service count of a release, by arm: sums and sets only, so that counts of processes add up.

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

from churn_assets.storage.files import read_file, write_json_unsynced

FOLDER = "releases"
GUARDRAILS, LABELS = "guardrails.json", "labels.json"  # beside the counts: what they show, and what labels show
REPORT = "report.json"  # of the asset `release_report`, beside the counts of the release's newest policy
SECONDS_GROWTH = 1.02  # from one edge of the scoring times to the next: a quantile is known to 2 %
_SECONDS_0 = 1e-6
SCORE_BINS = 20
_PLACES = 2**16  # for customers that were seen: 8 kB an arm

_Counts = TypeVar("_Counts", bound=msgspec.Struct)
_Signature = tuple[int, int, int]  # of a file: another one has another inode, time or size


class ArmCounts(msgspec.Struct):
    """The rows of one arm, or those that a shadow has scored.

    `rows` were scored, `errors` of further rows were not (an unexpected error, no finite score), and `refused` of
    further rows break the arm's contract. Of the scored: `warned` had a warning, `called` are over the threshold,
    `score_sum` and `score_squares` are of the probabilities, `scores` their counts in 20 equal bins; `seconds` counts
    scoring times by `seconds_bin`, of rows that were scored alone: the time of a batch depends on how many of its rows
    the arm has, and is no row's own. `seen` are the customers whose rows they are, as `seen_customers` counts them,
    empty where that is not known; `customers` is their number, which `sum_counts` finds.
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
    seen: bytearray = msgspec.field(default_factory=bytearray)

    def __post_init__(self) -> None:
        if len(self.seen) not in (0, _PLACES // 8):
            raise ValueError(f"seen has {len(self.seen)} bytes, expected none or {_PLACES // 8}")

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

    def saw(self, share: float) -> None:
        """Note the customer whose hash is `share` (`policy.share_of`, in [0, 1)); again changes nothing."""
        if not self.seen:
            self.seen = bytearray(_PLACES // 8)
        # The lowest bits: an arm has the hashes of one interval, so that the highest are much the same.
        place, bit = divmod(int(share * 2.0**53) % _PLACES, 8)
        self.seen[place] |= 1 << bit

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


def seen_customers(seen: bytes | bytearray) -> int:
    """How many customers are in such a set: by linear counting (Whang et al. 1990), from the places that are still
    empty, as two customers may have one place. Its standard error is 0.3 % of a thousand and of a hundred thousand
    customers; a full set counts as 727,000, too few if there are more."""
    if not seen:
        return 0
    empty = _PLACES - int.from_bytes(seen, "big").bit_count()
    return round(_PLACES * math.log(_PLACES / max(empty, 1)))


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


_DECODER = msgspec.json.Decoder(ReleaseCounts)


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
    return CountsReader(home).read(policy_id)


class CountsReader:
    """`read_counts` of one home again and again: a file that was not replaced since is not read again."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._files: dict[str, dict[str, tuple[_Signature, ReleaseCounts | None]]] = {}  # by policy and name
        self._sums: dict[str, ReleaseCounts] = {}

    def read(self, policy_id: str) -> ReleaseCounts:
        """The sum over all writers, which is not to be changed."""
        folder, known = counts_folder(self._home, policy_id), self._files.get(policy_id, {})
        files = {}
        for path in _files_in(folder):
            try:
                status = path.stat()
                signature = status.st_ino, status.st_mtime_ns, status.st_size
                before = known.get(path.name)
                is_same = before is not None and before[0] == signature
                files[path.name] = before if is_same and before is not None else (signature, _decode(path))
            except OSError:
                continue
        if policy_id not in self._sums or files != known:
            self._files[policy_id] = files
            self._sums[policy_id] = sum_counts(counts for _, counts in files.values() if counts is not None)
        return self._sums[policy_id]


def sum_counts(parts: Iterable[ReleaseCounts]) -> ReleaseCounts:
    """Counts of several processes as one: a customer of several of them is one customer."""
    total = ReleaseCounts()
    for part in parts:
        for name, own in part.arms.items():
            total.arms[name] = _sum(total.arm(name), own)
        total.pairs = _sum(total.pairs, part.pairs)
    for arm in total.arms.values():
        arm.customers = seen_customers(arm.seen) if arm.seen else arm.customers
    return total


def writer_name(part: str) -> str:
    """A name for the counts of one policy by this process, another at each call; `part` says what it does."""
    return f"{part}-{os.getpid()}-{token_hex(6)}"


def _files_in(folder: Path) -> list[Path]:
    """The files of counts, none where there is no folder yet."""
    return [path for path in sorted(folder.glob("*.json")) if path.name not in (GUARDRAILS, LABELS, REPORT)]


def _decode(path: Path) -> ReleaseCounts | None:
    """None for a file that holds no counts. Raises OSError."""
    try:
        return _DECODER.decode(read_file(path))
    except ValueError:
        return None


def _sum(left: _Counts, right: _Counts) -> _Counts:
    """The sum, field by field."""
    values = ((getattr(left, name), getattr(right, name)) for name in left.__struct_fields__)
    return type(left)(*(_add(a, b) for a, b in values))


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, bytearray):
        return _union(left, right)
    if isinstance(left, dict):
        return {place: left.get(place, 0) + right.get(place, 0) for place in left.keys() | right.keys()}
    return [a + b for a, b in zip(left, right, strict=True)] if isinstance(left, list) else left + right


def _union(left: bytearray, right: bytearray) -> bytearray:
    """Whoever was seen by one of two processes."""
    if not left or not right:
        return bytearray(left or right)
    return bytearray((int.from_bytes(left, "big") | int.from_bytes(right, "big")).to_bytes(len(left), "big"))
