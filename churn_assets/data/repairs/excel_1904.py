"""Finds the block of rows whose dates were pasted from a 1904-system workbook into a 1900 one.

Excel counts days from 1900, or on old Macs from 1904-01-01. Rows copied from the one to the other move by +1462 days,
in every date column at once. Nothing marks the block, so it is found by its traces, in one of two ways:

1. *Two edges 1462 days apart, and a break* (`_find_by_edges`). No customer is newer than the day the table was taken,
   so rows outside the block end at that day and rows inside end 1462 days after it. The candidate is the contiguous
   run that holds the rows well beyond `newest - 1462` (maximum-sum run: +1 for a row beyond, -1/2 for another). The
   median of the rows' newest dates must jump at its borders by far more than elsewhere: in a table sorted by date
   every tail reaches beyond some day. Border rows whose dates do not decide go to the side that they resemble.
2. *Steps in a sorted column* (`_find_by_steps`). A date column is sorted but for a rise and a fall of 1462 days (one
   of them, at an end of the file), and no other step comes near that size. Such a block may have old customers only.

The score of a candidate is in nats, the sum of: how unlikely so close a fit is by chance, ln(1462 / (2 |gap| + 1)) for
edges and for each step, less 2 for a single step, less the same for the edges as found; *weekdays* (1462 is 6 modulo
7), half the fall of the two-sample G statistic when undone, within +-12, ignored below 8, which chance gives;
*repeated customers* across the border, 5 for each whose dates differ by exactly 1462 days, -5 for each whose dates
agree as found. A block is undone at `SCORE_NEEDED`; all figures go into the report, so that a person can check them.

Not found: a block of fewer than 20 dated rows, one that leaves fewer than 60 others, and one that has only old
customers in a table sorted by no date column.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Days = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SHIFT_DAYS = 1462
MIN_BLOCK_ROWS = 20  # dated rows on either side; fewer have no reliable edge
# The few oldest customers of a table that is sorted by date lie far apart, and a border among them looks
# like a break: the others must be more than a thin tail.
MIN_OTHER_ROWS = 60
SCORE_NEEDED = 3.0

# Evidence
_LONELY_DAYS = 366  # a date this far beyond the next is a typing error,
_LONELY_ROWS = 3  # if it is one of so few
_NOISE_NATS = 8.0
_WEEKDAY_LIMIT = 12.0
_REPEAT_NATS = 5.0

# Edges
_BEYOND_SLACK_DAYS = 92  # the block's newest customer may be this much older than the snapshot
_EDGE_DAYS = 31  # edges this close agree; farther apart only if chance explains it
_MAX_STRAY_SHARE = 0.002  # typing errors beyond the edge that do not belong to the block
_REACH_ROWS = 20  # a row beyond the edge this near to the block belongs to it
_BORDER_ROWS = 5
_WINDOW_ROWS = 100
_BREAK_ROWS = 20
_MIN_BREAK_DAYS = 180.0
_BREAK_RATIO = 3.0

# Steps
_SLACK_DAYS = 31  # a step is 1462 days and the ordinary step that it replaces
_TIMES_ORDINARY = 5.0


@dataclass(frozen=True)
class ShiftedBlock:
    """Rows `first` to `end - 1` (0-based) are shifted, and the evidence for it, by "edges" or "steps".

    The two days are the newest as found, since 1970-01-01. Repeats are customers on both sides, whose dates differ by
    exactly 1462 days or by none.
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
    """The shifted block in `days`, shape (rows, date columns), days since 1970-01-01, NaN missing. `ids`, one for each
    row, add the evidence of repeated customers. Returns None if no block is evident."""
    latest = _latest(days)
    if (~np.isnan(latest)).sum() < 2 * MIN_BLOCK_ROWS:
        return None
    scored = [_scored(days, latest, ids, candidate) for candidate in _candidates(days, latest)]
    evident = [block for block in scored if block is not None and block.score >= SCORE_NEEDED]
    return max(evident, key=lambda block: block.score, default=None)


@dataclass(frozen=True)
class _Candidate:
    """Rows `first` to `end - 1`; `nats`: how unlikely edges or steps that fit so closely are by chance."""

    found_by: str
    first: int
    end: int
    nats: float


def _candidates(days: Days, latest: Days) -> Iterator[_Candidate]:
    for column in range(days.shape[1]):
        steps = _find_by_steps(days[:, column])
        if steps is not None:
            first, end = _refined(days, steps.first, steps.end)
            yield replace(steps, first=first, end=end)
    edges = _find_by_edges(days, latest)
    if edges is not None:
        yield edges


def _scored(days: Days, latest: Days, ids: Sequence[str | None] | None, candidate: _Candidate) -> ShiftedBlock | None:
    """The candidate with all its evidence; None if it leaves too few rows on a side."""
    inside = np.zeros(len(latest), dtype=bool)
    inside[candidate.first : candidate.end] = True
    ins, outs = latest[inside & ~np.isnan(latest)], latest[~inside & ~np.isnan(latest)]
    if min(len(ins), len(outs)) < MIN_BLOCK_ROWS:
        return None
    as_found = math.log(SHIFT_DAYS / (2.0 * abs(float(ins.max() - outs.max())) + 1.0))
    weekdays = _weekday_nats(ins, outs)
    agree, against = _repeats(days, ids, inside) if ids is not None else (0, 0)
    score = candidate.nats - max(0.0, as_found) + _REPEAT_NATS * (agree - against)
    return ShiftedBlock(
        first=candidate.first,
        end=candidate.end,
        found_by=candidate.found_by,
        block_ends_day=int(ins.max()),
        others_end_day=int(outs.max()),
        weekday_nats=weekdays,
        repeats_for=agree,
        repeats_against=against,
        score=score + (weekdays if abs(weekdays) >= _NOISE_NATS else 0.0),
    )


def _latest(days: Days) -> Days:
    """Newest date of each row, NaN if it has none; single dates far in the future are ignored."""
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
    expected = _weekdays(outside)
    as_found = _g_statistic(expected, _weekdays(inside))
    undone = _g_statistic(expected, _weekdays(inside - SHIFT_DAYS))
    return float(np.clip((as_found - undone) / 2.0, -_WEEKDAY_LIMIT, _WEEKDAY_LIMIT))


def _weekdays(days: Days) -> Days:
    # One busy day (a bulk import, the snapshot) would decide for its weekday: counts are capped.
    distinct, counts = np.unique(days, return_counts=True)
    capped = np.minimum(counts, np.quantile(counts, 0.9))
    return np.bincount(distinct.astype(np.int64) % 7, weights=capped, minlength=7).astype(np.float64)


def _g_statistic(first: Days, second: Days) -> float:
    table = np.vstack([first, second])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(table > 0, table * np.log(table / expected), 0.0)
    return float(2.0 * terms.sum())


def _repeats(days: Days, ids: Sequence[str | None], inside: Mask) -> tuple[int, int]:
    """(customers on both sides whose dates all differ by exactly 1462 days, ... agree as found)."""
    first_row: dict[str, int] = {}
    agree = against = 0
    for row, name in enumerate(ids):
        if name is None:
            continue
        other = first_row.setdefault(name, row)
        if inside[row] == inside[other]:
            continue
        shifted, plain = (row, other) if inside[row] else (other, row)
        differences = (days[shifted] - days[plain])[~np.isnan(days[shifted] - days[plain])]
        if len(differences):
            agree += int(bool(np.all(differences == SHIFT_DAYS)))
            against += int(bool(np.all(differences == 0)))
    return agree, against


# -- edges ----------------------------------------------------------------------------------------------


def _find_by_edges(days: Days, latest: Days) -> _Candidate | None:
    """The block in `days`, shape (rows, date columns), whose rows end 1462 days after the others. `latest` is the
    newest date of each row; NaN is missing. None if there is none."""
    dated = ~np.isnan(latest)
    expected_end = np.nanmax(latest) - SHIFT_DAYS
    with np.errstate(invalid="ignore"):
        beyond = latest > expected_end + _BEYOND_SLACK_DAYS
    first, end = _refined(days, *_reaching(beyond, *_densest_run(beyond, dated)))
    ins = dated.copy()
    ins[:first] = ins[end:] = False
    outs = dated & ~ins
    if ins.sum() < MIN_BLOCK_ROWS or outs.sum() < MIN_OTHER_ROWS:
        return None
    if (beyond & outs).sum() > _MAX_STRAY_SHARE * outs.sum():
        return None
    # The newest of the others, apart from rows so near the block that they may be its own.
    apart = outs & ~beyond
    near = apart.copy()
    near[max(0, first - _REACH_ROWS) : end + _REACH_ROWS] = False
    others_end = np.max(latest[near if near.sum() >= MIN_BLOCK_ROWS else apart])
    gap = float(expected_end - others_end)
    in_dated = int(dated[:first].sum()), int(dated[:end].sum())
    if not _breaks_off(latest[dated], *in_dated, others_end) or not _edges_agree(latest, ins, apart, gap):
        return None
    # A row at the border that is newer than the day the table was taken belongs to the block, whatever its
    # neighbours are. A week of slack: the newest of the others may itself be at the border.
    with np.errstate(invalid="ignore"):
        first, end = _reaching(latest > max(others_end, expected_end) + 7, first, end, _BORDER_ROWS)
    return _Candidate("edges", first, end, math.log(SHIFT_DAYS / (2.0 * abs(gap) + 1.0)))


def _densest_run(beyond: Mask, dated: Mask) -> tuple[int, int]:
    """[first, end) of the run with the largest sum of +1 beyond, -1/2 dated and not beyond."""
    weights = np.where(beyond, 1.0, np.where(dated, -0.5, 0.0))
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    lowest = np.minimum.accumulate(sums)
    end = int(np.argmax(sums - lowest))
    first = int(np.flatnonzero(sums[: end + 1] == lowest[end])[-1])
    return first, end


def _reaching(beyond: Mask, first: int, end: int, reach: int = _REACH_ROWS) -> tuple[int, int]:
    """The run, extended over rows beyond the edge that only a few rows separate from it."""
    rows = np.flatnonzero(beyond)
    for row in rows[rows < first][::-1]:
        if first - row > reach:
            break
        first = int(row)
    for row in rows[rows >= end]:
        if row - end >= reach:
            break
        end = int(row) + 1
    return first, end


def _refined(days: Days, first: int, end: int) -> tuple[int, int]:
    """Borders moved outwards over rows that resemble the block more than what lies outside."""
    while (more := _joining(days[:first][::-1], days[first:end])) > 0:
        first -= more
    while (more := _joining(days[end:], days[first:end][::-1])) > 0:
        end += more
    return first, end


def _joining(outside: Days, inside: Days) -> int:
    """How many rows at the start of `outside` (nearest first) belong to `inside` (nearest first)."""
    zone = outside[:_WINDOW_ROWS]
    if len(zone) == 0 or len(inside) == 0:
        return 0
    near_in = _medians(inside[:_WINDOW_ROWS])
    far = outside[len(zone) // 2 : 2 * _WINDOW_ROWS]
    # A handful of rows at the file's end is no neighbourhood: rows that are not shifted lie 1462 days below.
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


def _breaks_off(latest: Days, first: int, end: int, others_end: float) -> bool:
    """Whether the newest dates jump clearly at each border within the file.

    The jump is from the median of the rows before the border to that of the rows after it which are
    newer than `others_end` (a block that begins with old customers has others there as well).
    Clear means at least half a year, and three times what is usual in the file and in the neighbourhood
    (in a table sorted by date the median moves all the time, and faster where customers are few).
    """
    rows = len(latest)
    window = max(5, min(_BREAK_ROWS, (end - first) // 2, (rows - end + first) // 2))
    step = max(window // 2, rows // 2000)
    at = np.array([a for a in range(window, rows - window + 1, step) if min(abs(a - first), abs(a - end)) >= window])
    ordinary = np.array([abs(_jump(latest, int(a), window)) for a in at])
    borders = [(sign, border) for sign, border in ((1, first), (-1, end)) if 0 < border < rows]
    for sign, border in borders:
        sides = latest[max(0, border - window) : border], latest[border : border + window]
        outside, inside = sides if sign > 0 else sides[::-1]
        newer = inside[inside > others_end]
        jump = float(np.median(newer) - np.median(outside)) if len(newer) else 0.0
        around = ordinary[np.abs(at - border) <= 10 * max(window, step)] if len(at) else ordinary
        usual = max((float(np.median(jumps)) for jumps in (ordinary, around) if len(jumps)), default=0.0)
        if jump < max(_MIN_BREAK_DAYS, _BREAK_RATIO * usual):
            return False
    return bool(borders)


def _jump(latest: Days, at: int, window: int) -> float:
    return float(np.median(latest[at : at + window]) - np.median(latest[max(0, at - window) : at]))


# -- steps ----------------------------------------------------------------------------------------------


def _find_by_steps(column: Days) -> _Candidate | None:
    """The block that, moved back by 1462 days, makes `column` (days, NaN missing) sorted.

    The column must be sorted in either direction except for the block, and no other step may come near
    the size of the shift; else None.
    """
    rows = np.flatnonzero(~np.isnan(column))
    if len(rows) < 3:
        return None
    for in_order in (rows, rows[::-1]):
        block = _ascending(column[in_order])
        if block is not None:
            first, end, nats = block
            inside = in_order[first:end]
            return _Candidate("steps", int(inside.min()), int(inside.max()) + 1, nats)
    return None


def _ascending(days: Days) -> tuple[int, int, float] | None:
    """(first, end, nats) of the block that interrupts an ascending column of known dates."""
    steps = np.diff(days)
    falls = np.flatnonzero(steps < 0)
    if len(falls) > 1:
        return None
    rise = int(np.argmax(steps))
    rise_over = float(steps[rise] - SHIFT_DAYS)
    ordinary = np.sort(np.abs([0.0, *np.delete(steps, falls)])) * _TIMES_ORDINARY
    if not len(falls):
        # One border alone could be a pause of four years: it must fit better than two that agree.
        return (rise + 1, len(days), _nats(rise_over) - 2.0) if _fits(rise_over) and ordinary[-2] < SHIFT_DAYS else None
    fall = int(falls[0])
    fall_over = float(steps[fall] + SHIFT_DAYS)
    if not _fits(fall_over):
        return None
    if not _fits(rise_over):
        return (0, fall + 1, _nats(fall_over) - 2.0) if ordinary[-1] < SHIFT_DAYS else None
    if rise > fall or ordinary[-2] >= SHIFT_DAYS:
        return None
    return rise + 1, fall + 1, _nats(fall_over) + _nats(rise_over)


def _fits(over: float) -> bool:
    return bool(0 <= over <= _SLACK_DAYS)


def _nats(over: float) -> float:
    return math.log(SHIFT_DAYS / (2.0 * over + 1.0))
