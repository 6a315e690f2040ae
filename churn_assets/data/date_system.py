"""Finds the block of rows whose dates were pasted from a 1904-system workbook into a 1900 one.

Excel counts days from 1900, or on old Macs from 1904-01-01. A block of rows that crosses from the one
to the other moves by +1462 days, in every date column at once. Nothing marks the block, so it is found
by what such a paste cannot help leaving behind. With `latest(row)` the newest date of a row:

1. *Two edges 1462 days apart, and a break* (`date_edges`). No customer is newer than the day the table
   was taken, so rows outside the block end at that day and rows inside end 1462 days after it. If a
   block exists, the newest date of all belongs to it, and `newest - 1462` is where the others must end.
   Rows well beyond that day are inside; the contiguous run that holds them is the candidate
   (maximum-sum run: +1 a row beyond, -1/2 a row not beyond), and outside it hardly any may be beyond.
   The median of `latest` must jump up where the run begins and down where it ends, by far more than it
   moves elsewhere: this tells a pasted block from a table sorted by date, of which every tail reaches
   beyond some day. Rows at the border whose own dates do not tell go to the side they resemble.
2. *Or steps in a sorted column* (`date_steps`). If a date column is sorted but for a rise and a fall of
   1462 days (one of them, at an end of the file), and no other step comes near that size, the block
   between them needs no edge; it may hold the oldest customers only.

What was found by either is then weighed, in nats: how unlikely a fit that close is by chance, which is
ln(1462 / (2 |gap| + 1)) for edges, and the same of each step, less 2 if there is but one,
less the same of how well the edges agree as found; *weekdays*
(1462 is 6 modulo 7: customers who order on Monday would order on Sunday in the block), half the
difference of the two-sample G statistics as found and undone, within +-12 and ignored below 8, which
is what chance gives; *repeated customers* on both sides of the border, 5 for each whose dates differ by
exactly 1462 days, -5 for each whose dates agree as found. A block is undone at SCORE_NEEDED and above.

All figures go into the report: a person can see why. What stays undecided: a block under 20 dated rows,
one that leaves fewer than 60 others, and one of old customers only in a table that is sorted by no date column.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from churn_assets.data.date_edges import MIN_BLOCK_ROWS, SHIFT_DAYS, find_by_edges, refined
from churn_assets.data.date_steps import find_by_steps

SCORE_NEEDED = 3.0

_LONELY_DAYS = 366  # a date this far beyond the next is a typing error,
_LONELY_ROWS = 3  # if it is one of so few
_NOISE_NATS = 8.0
_WEEKDAY_LIMIT = 12.0
_REPEAT_NATS = 5.0

Days = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ShiftedBlock:
    """Rows `first` to `end - 1` (0-based) are shifted, and the evidence for it.

    `found_by` is "edges" or "steps"; `block_ends_day` the block's newest date as found and
    `others_end_day` the other rows' (days since 1970-01-01); `weekday_nats` how much better weekdays
    agree after undoing; repeats are customers on both sides, differing by exactly 1462 days or by none.
    """

    first: int
    end: int
    found_by: str
    block_ends_day: int
    others_end_day: int
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
    if (~np.isnan(latest)).sum() < 2 * MIN_BLOCK_ROWS:
        return None
    weighed = [_weighed(days, latest, ids, candidate) for candidate in _candidates(days, latest)]
    evident = [block for block in weighed if block is not None and block.score >= SCORE_NEEDED]
    return max(evident, key=lambda block: block.score, default=None)


def _candidates(days: Days, latest: Days) -> Iterator[tuple[str, int, int, float]]:
    """(found by, first, end, nats)."""
    for column in range(days.shape[1]):
        steps = find_by_steps(days[:, column])
        if steps is not None:
            yield "steps", *refined(days, steps.first, steps.end), steps.nats
    edges = find_by_edges(days, latest)
    if edges is not None:
        yield "edges", edges.first, edges.end, edges.nats


def _weighed(
    days: Days, latest: Days, ids: Sequence[str | None] | None, candidate: tuple[str, int, int, float]
) -> ShiftedBlock | None:
    """The candidate with all its evidence; None if it leaves too few rows on a side."""
    found_by, first, end, nats = candidate
    inside = np.zeros(len(latest), dtype=bool)
    inside[first:end] = True
    ins, outs = latest[inside & ~np.isnan(latest)], latest[~inside & ~np.isnan(latest)]
    if min(len(ins), len(outs)) < MIN_BLOCK_ROWS:
        return None
    as_found = math.log(SHIFT_DAYS / (2.0 * abs(float(ins.max() - outs.max())) + 1.0))
    weekdays = _weekday_nats(ins, outs)
    agree, against = _repeats(days, ids, inside) if ids is not None else (0, 0)
    score = nats - max(0.0, as_found) + _REPEAT_NATS * (agree - against)
    return ShiftedBlock(
        first=first,
        end=end,
        found_by=found_by,
        block_ends_day=int(ins.max()),
        others_end_day=int(outs.max()),
        weekday_nats=weekdays,
        repeats_for=agree,
        repeats_against=against,
        score=score + (weekdays if abs(weekdays) >= _NOISE_NATS else 0.0),
    )


def _latest(days: Days) -> Days:
    """Newest date of each row, NaN if it has none; lonely dates far in the future count as none."""
    if days.shape[1] == 0:
        return np.full(len(days), np.nan)
    latest: Days = np.fmax.reduce(days, axis=1)
    known = latest[~np.isnan(latest)]
    if len(known) <= _LONELY_ROWS:
        return latest
    newest = np.sort(np.partition(known, -_LONELY_ROWS - 1)[-_LONELY_ROWS - 1 :])
    gaps = np.flatnonzero(np.diff(newest) > _LONELY_DAYS)
    if len(gaps):
        with np.errstate(invalid="ignore"):
            latest = np.where(latest > newest[gaps[0]], np.nan, latest)
    return latest


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
    return np.bincount(which.astype(np.int64) % 7, weights=capped, minlength=7).astype(np.float64)


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
