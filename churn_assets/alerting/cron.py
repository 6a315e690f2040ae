"""When a schedule is due next: cron expressions in UTC, read without Dagster."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

_SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = {
    **{"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6},
    **{"jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12},
}
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_RANGES: tuple[tuple[int, int, Mapping[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 7, _DAYS),
)
_LONGEST_DAYS = 366 * 8  # from one 29 February to the next


def next_tick(cron: str, after: datetime) -> datetime | None:
    """The first minute after `after` that `cron` names; None for an expression beyond plain cron, or one that names no
    day. As in Dagster, a day fits by its number or its weekday if both are given."""
    try:
        minutes, hours, days, months, weekdays = _fields(cron)
    except ValueError:
        return None
    day_text, weekday_text = (_SHORT.get(cron.strip().lower(), cron).split()[place] for place in (2, 4))
    # Dagster's parser (croniter) takes a full field for * where the other one has a star.
    any_day = day_text == "*" or (len(days) == 31 and "*" in weekday_text)
    any_weekday = weekday_text == "*" or (len(weekdays) == 7 and "*" in day_text)
    start = after.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    for offset in range(_LONGEST_DAYS):
        day = start.date() + timedelta(days=offset)
        by_number, by_weekday = day.day in days, day.isoweekday() % 7 in weekdays
        fits = (by_number and by_weekday) if any_day or any_weekday else (by_number or by_weekday)
        if day.month not in months or not fits:
            continue
        for hour in sorted(hours):
            for minute in sorted(minutes):
                tick = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                if tick >= start:
                    return tick
    return None


def _fields(cron: str) -> list[frozenset[int]]:
    parts = _SHORT.get(cron.strip().lower(), cron).lower().split()
    if len(parts) != len(_RANGES):
        raise ValueError(cron)
    fields = [_field(part, *limits) for part, limits in zip(parts, _RANGES, strict=True)]
    return [*fields[:4], frozenset(day % 7 for day in fields[4])]


def _field(text: str, low: int, high: int, names: Mapping[str, int]) -> frozenset[int]:
    values: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = names[first] if first in names else int(first)
            end = (names[last] if last in names else int(last)) if dash else (high if step else begin)
        if not low <= begin <= end <= high:
            raise ValueError(text)
        values.update(range(begin, end + 1, int(step) if step else 1))
    return frozenset(values)
