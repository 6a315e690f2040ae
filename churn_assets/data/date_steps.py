"""A shifted block in a table sorted by a date: the order itself steps by 1462 days at its borders."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from churn_assets.data.date_edges import SHIFT_DAYS

_SLACK_DAYS = 31  # a step is 1462 days and the ordinary step that it replaces
_TIMES_ORDINARY = 5.0

Days = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Steps:
    """Rows `first` to `end - 1`, and `nats`: how unlikely steps of just that size are by chance."""

    first: int
    end: int
    nats: float


def find_by_steps(column: Days) -> Steps | None:
    """The block that, moved back by 1462 days, makes `column` (days, NaN missing) sorted.

    The column must be sorted in either direction but for the block, and no other step may come near
    the size of the shift; else None.
    """
    rows = np.flatnonzero(~np.isnan(column))
    if len(rows) < 3:
        return None
    found = _ascending(column[rows])
    if found is not None:
        first, end, nats = found
        return Steps(int(rows[first]), int(rows[end - 1]) + 1, nats)
    found = _ascending(column[rows][::-1])
    if found is None:
        return None
    first, end, nats = len(rows) - found[1], len(rows) - found[0], found[2]
    return Steps(int(rows[first]), int(rows[end - 1]) + 1, nats)


def _ascending(days: Days) -> tuple[int, int, float] | None:
    steps = np.diff(days)
    falls = np.flatnonzero(steps < 0)
    if len(falls) > 1:
        return None
    rise = int(np.argmax(steps))
    largest_first = np.sort(np.abs(np.delete(steps, falls)))[::-1]
    if len(falls) == 1:
        fall = int(falls[0])
        over = float(steps[fall] + SHIFT_DAYS)
        if not 0 <= over <= _SLACK_DAYS:
            return None
        if not _fits(steps[rise] - SHIFT_DAYS):
            inside_order = largest_first[0] * _TIMES_ORDINARY < SHIFT_DAYS
            return (0, fall + 1, _nats(over) - 2.0) if inside_order else None
        if rise > fall or largest_first[1] * _TIMES_ORDINARY >= SHIFT_DAYS:
            return None
        return rise + 1, fall + 1, _nats(over) + _nats(float(steps[rise] - SHIFT_DAYS))
    if not _fits(steps[rise] - SHIFT_DAYS) or largest_first[1] * _TIMES_ORDINARY >= SHIFT_DAYS:
        return None
    # One border alone could be a pause of four years: it must fit better than two that agree.
    return rise + 1, len(days), _nats(float(steps[rise] - SHIFT_DAYS)) - 2.0


def _fits(over: float) -> bool:
    return bool(0 <= over <= _SLACK_DAYS)


def _nats(over: float) -> float:
    return math.log(SHIFT_DAYS / (2.0 * over + 1.0))
