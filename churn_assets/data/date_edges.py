"""A shifted block by its two edges and its break: the run of rows beyond the day the others end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHIFT_DAYS = 1462
MIN_BLOCK_ROWS = 20  # dated rows, on either side; fewer have no edge to speak of
# The few oldest customers of a table that is sorted by date lie far apart, and a border among them looks
# like a break: the others must be more than a thin tail.
MIN_OTHER_ROWS = 60

_BEYOND_SLACK_DAYS = 92  # the block's newest customer may be this much older than the snapshot
_EDGE_DAYS = 31  # edges this close agree; farther apart only if chance explains it
_MAX_STRAY_SHARE = 0.002  # typing errors beyond the edge that do not belong to the block
_REACH_ROWS = 20  # a row beyond the edge this near to the block belongs to it
_BORDER_ROWS = 5
_WINDOW_ROWS = 100
_BREAK_ROWS = 20
_MIN_BREAK_DAYS = 180.0
_BREAK_RATIO = 3.0

Days = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Edges:
    """Rows `first` to `end - 1`; `break_days` the smaller jump at its borders; `nats` of the edges' agreement."""

    first: int
    end: int
    break_days: float
    nats: float


def find_by_edges(days: Days, latest: Days) -> Edges | None:
    """The block in `days`, shape (rows, date columns), whose rows end 1462 days after the others.

    `latest` is the newest date of each row; NaN is missing. None if there is none.
    """
    dated = ~np.isnan(latest)
    expected_end = np.nanmax(latest) - SHIFT_DAYS
    with np.errstate(invalid="ignore"):
        beyond = latest > expected_end + _BEYOND_SLACK_DAYS
    first, end = refined(days, *_reaching(beyond, *_densest_run(beyond, dated)))
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
    break_days = _break(latest[dated], int(dated[:first].sum()), int(dated[:end].sum()), others_end)
    if break_days is None or not _edges_agree(latest, ins, apart, gap):
        return None
    # A row at the border that is newer than the day the table was taken is the block's, however it
    # looks. A week's grace: the newest of the others may itself stand at the border.
    with np.errstate(invalid="ignore"):
        first, end = _reaching(latest > max(others_end, expected_end) + 7, first, end, _BORDER_ROWS)
    return Edges(first, end, break_days, math.log(SHIFT_DAYS / (2.0 * abs(gap) + 1.0)))


def _densest_run(beyond: Mask, dated: Mask) -> tuple[int, int]:
    """[first, end) of the run with the largest sum of +1 beyond, -1/2 dated and not beyond."""
    weights = np.where(beyond, 1.0, np.where(dated, -0.5, 0.0))
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    lowest = np.minimum.accumulate(sums)
    end = int(np.argmax(sums - lowest))
    first = int(np.flatnonzero(sums[: end + 1] == lowest[end])[-1])
    return first, end


def _reaching(beyond: Mask, first: int, end: int, reach: int = _REACH_ROWS) -> tuple[int, int]:
    """The run, taking in rows beyond the edge that only a few others part from it."""
    rows = np.flatnonzero(beyond)
    before, after = rows[rows < first][::-1], rows[rows >= end]
    for row in before:
        if first - row > reach:
            break
        first = int(row)
    for row in after:
        if row - end >= reach:
            break
        end = int(row) + 1
    return first, end


def refined(days: Days, first: int, end: int) -> tuple[int, int]:
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


def _break(latest: Days, first: int, end: int, others_end: float) -> float | None:
    """The smaller jump at the borders within the file; None if it is no clear break.

    The jump is from the median of the rows before the border to that of the rows after it which are
    newer than `others_end` (a block that begins with old customers has others there as well).
    Clear is: at least half a year, and thrice what is usual in the file and in the neighbourhood
    (in a table sorted by date the median moves all the time, and faster where customers are few).
    """
    rows = len(latest)
    window = max(5, min(_BREAK_ROWS, (end - first) // 2, (rows - end + first) // 2))
    step = max(window // 2, rows // 2000)
    at = np.array([a for a in range(window, rows - window + 1, step) if min(abs(a - first), abs(a - end)) >= window])
    ordinary = np.array([abs(_jump(latest, int(a), window)) for a in at])
    clear = []
    for sign, border in ((1, first), (-1, end)):
        if not 0 < border < rows:
            continue
        sides = latest[max(0, border - window) : border], latest[border : border + window]
        outside, inside = sides if sign > 0 else sides[::-1]
        newer = inside[inside > others_end]
        jump = float(np.median(newer) - np.median(outside)) if len(newer) else 0.0
        around = ordinary[np.abs(at - border) <= 10 * max(window, step)] if len(at) else ordinary
        usual = max((float(np.median(some)) for some in (ordinary, around) if len(some)), default=0.0)
        if jump < max(_MIN_BREAK_DAYS, _BREAK_RATIO * usual):
            return None
        clear.append(jump)
    return min(clear, default=None)


def _jump(latest: Days, at: int, window: int) -> float:
    return float(np.median(latest[at : at + window]) - np.median(latest[max(0, at - window) : at]))
