"""Finds the block of rows whose dates were pasted from a 1904-system workbook into a 1900 one.

Excel counts days from 1900, or on old Macs from 1904-01-01. A block of rows that crosses from the one
to the other moves by +1462 days, in every date column at once. Nothing marks the block, so it is found
by what such a paste cannot help leaving behind. With `latest(row)` the newest date of a row:

1. *Two edges 1462 days apart.* No customer is newer than the day the table was taken, so rows outside
   the block end at that day and rows inside end 1462 days after it. If a block exists, the newest date
   of all belongs to it, and `newest - 1462` is where the others must end. Rows well beyond that day are
   inside; the contiguous run that holds them is the candidate (maximum-sum run: +1 a row beyond, -1/2
   a row not beyond), and outside it hardly any may be beyond.
2. *A break in the order.* The median of `latest` jumps up where the block begins and down where it
   ends, by far more than it moves anywhere else in the file. This is what tells a pasted block from a
   table that is sorted by date, of which every tail reaches beyond some day.
3. *Weekdays.* 1462 is 6 modulo 7: customers who order on Monday would order on Sunday in the block. A
   two-sample G-test compares the block's weekdays with the others' as found and after undoing.
4. *Repeated customers* on both sides of the border whose dates differ by exactly 1462 days (for), or
   agree as found (against).

1 and 2 are demanded. The score then adds up what is worth how much, in nats: how unlikely edges that
close are by chance, ln(1462 / (2 |gap| + 1)); half the difference of the two G statistics, within
+-10 and ignored below 4, which is what chance gives; 5 for each repeated customer that agrees. A block
is undone at SCORE_NEEDED and above. The exact first and last rows, where a row's dates alone do not
tell, go to the side whose neighbours they resemble.

All figures go into the report: a person can see why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHIFT_DAYS = 1462
MIN_BLOCK_ROWS = 20  # dated rows, on either side; fewer have no edge to speak of
SCORE_NEEDED = 3.0

_BEYOND_SLACK_DAYS = 92  # the block's newest customer may be this much older than the snapshot
_EDGE_DAYS = 31  # edges this close agree; farther apart only if chance explains it
_MAX_STRAY_SHARE = 0.002  # typing errors beyond the edge that do not belong to the block
_LONELY_DAYS = 366  # a date this far beyond the next is a typing error,
_LONELY_ROWS = 3  # if it is one of so few
_WINDOW_ROWS = 100
_MIN_BREAK_DAYS = SHIFT_DAYS / 4
_BREAK_RATIO = 3.0
_NOISE_NATS = 4.0
_WEEKDAY_LIMIT = 10.0
_REPEAT_NATS = 5.0

Days = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ShiftedBlock:
    """Rows `first` to `end - 1` (0-based) are shifted, and the evidence for it.

    `block_ends_day` is the block's newest date as found, `others_end_day` the other rows' (days since
    1970-01-01); `break_days` the smaller of the jumps at its borders; `weekday_nats` how much better
    weekdays agree after undoing; repeats are customers on both sides, differing by exactly 1462 days
    or by none.
    """

    first: int
    end: int
    dated_rows: int
    block_ends_day: int
    others_end_day: int
    break_days: float
    weekday_nats: float
    repeats_for: int
    repeats_against: int
    score: float

    @property
    def gap_days(self) -> int:
        """How far the two edges are from lying exactly 1462 days apart."""
        return self.block_ends_day - SHIFT_DAYS - self.others_end_day


def find_shifted_block(days: Days, ids: Sequence[str | None] | None = None) -> ShiftedBlock | None:
    """The shifted block in `days`, shape (rows, date columns), days since 1970-01-01, NaN missing.

    `ids`, one a row, let repeated customers speak. Returns None if no block is evident.
    """
    latest = _latest(days)
    dated = ~np.isnan(latest)
    if dated.sum() < 2 * MIN_BLOCK_ROWS:
        return None
    expected_end = np.nanmax(latest) - SHIFT_DAYS
    with np.errstate(invalid="ignore"):
        beyond = latest > expected_end + _BEYOND_SLACK_DAYS
    first, end = _refined(days, *_densest_run(beyond, dated))
    inside = np.zeros(len(latest), dtype=bool)
    inside[first:end] = True
    ins, outs = inside & dated, ~inside & dated
    if min(ins.sum(), outs.sum()) < MIN_BLOCK_ROWS or (beyond & outs).sum() > _MAX_STRAY_SHARE * outs.sum():
        return None
    others_end = np.max(latest[outs & ~beyond])
    gap = float(expected_end - others_end)
    break_days = _break(latest[dated], int(dated[:first].sum()), int(dated[:end].sum()))
    if break_days is None or not _edges_agree(latest, ins, outs, gap):
        return None
    weekdays = _weekday_nats(latest[ins], latest[outs])
    agree, against = _repeats(days, ids, inside) if ids is not None else (0, 0)
    score = math.log(SHIFT_DAYS / (2.0 * abs(gap) + 1.0)) + _REPEAT_NATS * (agree - against)
    score += weekdays if abs(weekdays) >= _NOISE_NATS else 0.0
    if score < SCORE_NEEDED:
        return None
    return ShiftedBlock(
        first=first,
        end=end,
        dated_rows=int(ins.sum()),
        block_ends_day=int(expected_end + SHIFT_DAYS),
        others_end_day=int(others_end),
        break_days=break_days,
        weekday_nats=weekdays,
        repeats_for=agree,
        repeats_against=against,
        score=score,
    )


def _latest(days: Days) -> Days:
    """Newest date of each row, NaN if it has none; lonely dates far in the future count as none."""
    if days.shape[1] == 0:
        return np.full(len(days), np.nan)
    latest: Days = np.fmax.reduce(days, axis=1)
    known = latest[~np.isnan(latest)]
    newest = (
        np.sort(np.partition(known, -_LONELY_ROWS - 1)[-_LONELY_ROWS - 1 :]) if len(known) > _LONELY_ROWS else known
    )
    gaps = np.flatnonzero(np.diff(newest) > _LONELY_DAYS)
    if len(gaps):
        with np.errstate(invalid="ignore"):
            latest = np.where(latest > newest[gaps[0]], np.nan, latest)
    return latest


def _densest_run(beyond: Mask, dated: Mask) -> tuple[int, int]:
    """[first, end) of the run with the largest sum of +1 beyond, -1/2 dated and not beyond."""
    weights = np.where(beyond, 1.0, np.where(dated, -0.5, 0.0))
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    lowest = np.minimum.accumulate(sums)
    end = int(np.argmax(sums - lowest))
    first = int(np.flatnonzero(sums[: end + 1] == lowest[end])[-1])
    return first, end


def _refined(days: Days, first: int, end: int) -> tuple[int, int]:
    """Borders moved outwards over rows that resemble the block more than what lies outside."""
    new_first = first - _joining(days[:first][::-1], days[first:end])
    new_end = end + _joining(days[end:], days[first:end][::-1])
    return new_first, new_end


def _joining(outside: Days, inside: Days) -> int:
    """How many rows at the start of `outside` (nearest first) belong to `inside` (nearest first)."""
    zone = outside[:_WINDOW_ROWS]
    if len(zone) == 0 or len(inside) == 0:
        return 0
    near_in = _medians(inside[:_WINDOW_ROWS])
    far = outside[len(zone) // 2 : 2 * _WINDOW_ROWS]
    # A handful of rows at the file's end tell no neighbourhood: what is not shifted lies 1462 days below.
    near_out = _medians(far) if len(far) >= 5 else near_in - SHIFT_DAYS
    cost = np.nansum(np.abs(zone - near_in) - np.abs(zone - near_out), axis=1)
    sums = np.concatenate([[0.0], np.cumsum(cost)])
    return int(np.argmin(sums))


def _medians(days: Days) -> Days:
    known = ~np.all(np.isnan(days), axis=0)
    out: Days = np.full(days.shape[1], np.nan)
    out[known] = np.nanmedian(days[:, known], axis=0)
    return out


def _edges_agree(latest: Days, ins: Mask, outs: Mask, gap: float) -> bool:
    """Whether the two ends, after undoing, differ by no more than a few weeks, or than chance allows.

    Chance: were both sides one population, the newest `k` customers would all be on one side with
    probability (its share) ** k.
    """
    if abs(gap) <= _EDGE_DAYS:
        return True
    if abs(gap) > _BEYOND_SLACK_DAYS:
        return False
    inside, outside = latest[ins] - SHIFT_DAYS, latest[outs]
    longer, shorter = (inside, outside) if gap > 0 else (outside, inside)
    newest = int((longer > shorter.max()).sum())
    return newest * math.log(len(longer) / (len(longer) + len(shorter))) > math.log(0.01)


def _break(latest: Days, first: int, end: int) -> float | None:
    """The smaller jump of the median at the borders within the file; None if it is no clear break."""
    rows = len(latest)
    window = max(5, min(_WINDOW_ROWS, (end - first) // 2, (rows - end + first) // 2))
    jumps = [sign * _jump(latest, at, window) for sign, at in ((1, first), (-1, end)) if 0 < at < rows]
    if not jumps:
        return None
    ordinary = [
        abs(_jump(latest, at, window))
        for at in range(window, rows - window + 1, max(window, rows // 500))
        if min(abs(at - first), abs(at - end)) >= window
    ]
    usual = float(np.median(ordinary)) if ordinary else 0.0
    smallest = float(min(jumps))
    return smallest if smallest >= max(_MIN_BREAK_DAYS, _BREAK_RATIO * usual) else None


def _jump(latest: Days, at: int, window: int) -> float:
    return float(np.median(latest[at : at + window]) - np.median(latest[max(0, at - window) : at]))


def _weekday_nats(inside: Days, outside: Days) -> float:
    """Half the fall of the two-sample G statistic when the block is undone; positive is for undoing."""
    others = _weekdays(outside)
    as_found = _g_statistic(others, _weekdays(inside))
    undone = _g_statistic(others, _weekdays(inside - SHIFT_DAYS))
    return float(np.clip((as_found - undone) / 2.0, -_WEEKDAY_LIMIT, _WEEKDAY_LIMIT))


def _weekdays(days: Days) -> Days:
    # One busy day (a bulk import, the snapshot) would speak for its weekday: counts are capped.
    which, counts = np.unique(days, return_counts=True)
    capped = np.minimum(counts, np.quantile(counts, 0.9))
    return np.bincount(which.astype(np.int64) % 7, weights=capped, minlength=7)


def _g_statistic(one: Days, two: Days) -> float:
    table = np.vstack([one, two])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(table > 0, table * np.log(table / expected), 0.0)
    return float(2.0 * terms.sum())


def _repeats(days: Days, ids: Sequence[str | None], inside: Mask) -> tuple[int, int]:
    """(customers on both sides whose dates all differ by exactly 1462 days, ... agree as found)."""
    seen: dict[str, int] = {}
    agree = against = 0
    for row, name in enumerate(ids):
        if name is None:
            continue
        other = seen.setdefault(name, row)
        if inside[row] == inside[other]:
            continue
        shifted, plain = (row, other) if inside[row] else (other, row)
        differences = (days[shifted] - days[plain])[~np.isnan(days[shifted] - days[plain])]
        if len(differences):
            agree += int(bool(np.all(differences == SHIFT_DAYS)))
            against += int(bool(np.all(differences == 0)))
    return agree, against
