"""Ticks of a schedule, compared with those that Dagster computes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from dagster._vendored.croniter.croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.alerting.cron import next_tick

NOW = datetime(2026, 11, 26, 23, 17, 31, tzinfo=UTC)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high)
    ends = st.tuples(numbers, numbers).filter(lambda pair: pair[0] != pair[1])  # croniter takes 3-3 for every value
    spans = ends.map(lambda pair: f"{min(pair)}-{max(pair)}")
    steps = st.sampled_from(["*", f"{low}-{high}"]).flatmap(lambda span: st.integers(1, 9).map(lambda n: f"{span}/{n}"))
    parts = st.one_of(numbers.map(str), spans, steps)
    return st.one_of(st.just("*"), st.lists(parts, min_size=1, max_size=2).map(",".join))


CRONS = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)).map(" ".join)
INSTANTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@given(CRONS, INSTANTS)
def test_the_next_tick_is_dagsters(cron, after):
    assert next_tick(cron, after) == croniter(cron, after).get_next(datetime)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("5 * * * *", "2026-11-27 00:05"),
        ("30 4 * * *", "2026-11-27 04:30"),
        ("@hourly", "2026-11-27 00:00"),
        ("@weekly", "2026-11-29 00:00"),
        ("0 3 * * MON-wed", "2026-11-30 03:00"),
        ("0 0 1 jan 7", "2027-01-01 00:00"),
        ("0 12 29 2 *", "2028-02-29 12:00"),
        ("0 0 */1 * */2", "2026-11-28 00:00"),  # every day of the month says nothing: it is a Saturday
        ("0 0 7 * 0-6", "2026-11-27 00:00"),
    ],
)
def test_names_and_short_forms_are_read(cron, expected):
    assert f"{next_tick(cron, NOW):%Y-%m-%d %H:%M}" == expected


@pytest.mark.parametrize(
    "cron", ["", "daily", "* * * *", "61 * * * *", "0 0 L * *", "0 0 30 2 *", "5-1 * * * *", "* * * * */0"]
)
def test_what_is_no_plain_schedule_has_no_tick(cron):
    assert next_tick(cron, NOW) is None
