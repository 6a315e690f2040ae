"""A text and a format give one day, or none; a name of a month counts in every language that is listed."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.data.validation.dates import in_english, read_day

READ = [
    ("2024-03-06", (), "2024-03-06"),
    ("20240306", (), None),  # eight digits may be any number
    ("2024-W10-3", (), None),
    ("20240306", ("%Y%m%d",), "2024-03-06"),
    ("2024030", ("%Y%m%d",), None),  # strptime alone reads 3 March
    ("202403", ("%Y%m",), "2024-03-01"),
    ("20243", ("%Y%m",), None),
    ("2024-03", ("%Y-%m",), "2024-03-01"),
    ("Mar-2024", ("%b-%Y",), "2024-03-01"),
    ("12 de marzo de 2024", ("%d %B %Y",), "2024-03-12"),
    ("12 mar. 2024", ("%d %b %Y",), "2024-03-12"),
    ("1º de dezembro de 2024", ("%d %B %Y",), "2024-12-01"),
    ("1er févr. 2024", ("%d %b %Y",), "2024-02-01"),
    ("15 août 2023", ("%d %B %Y",), "2023-08-15"),
    ("12. März 2024", ("%d %B %Y",), "2024-03-12"),
    ("12. Mrz. 2024", ("%d %b %Y",), "2024-03-12"),
    ("3 sett 2024", ("%d %b %Y",), "2024-09-03"),
    ("10 ottobre 2024", ("%d %B %Y",), "2024-10-10"),
    ("5 мая 2024 г.", ("%d %B %Y",), "2024-05-05"),  # noqa: RUF001
    ("5 ФЕВ 2024", ("%d %b %Y",), "2024-02-05"),
    ("март 2024", ("%B %Y",), "2024-03-01"),
    ("March 5th, 2024", ("%B %d, %Y",), "2024-03-05"),
    ("Wed, 06 Mar 2024", ("%d %b %Y",), "2024-03-06"),
    ("2024年3月6日", ("%Y年%m月%d日",), "2024-03-06"),
    ("12 Foo 2024", ("%d %b %Y",), None),
    ("06/03/2024 23:30 -0500", ("%d/%m/%Y %H:%M %z",), "2024-03-07"),  # an instant is its UTC day
    ("1709683200", ("epoch_seconds",), "2024-03-06"),
    ("1709683200.5", ("epoch_seconds",), "2024-03-06"),
    ("-1", ("epoch_seconds",), "1969-12-31"),
    ("1709683200000", ("epoch_milliseconds",), "2024-03-06"),
    ("1709683200000000000", ("epoch_nanoseconds",), "2024-03-06"),
    ("1e300", ("epoch_seconds",), None),
    ("45357", ("excel_serial",), "2024-03-06"),
    ("45357.99", ("excel_serial",), "2024-03-06"),
    ("nan", ("excel_serial",), None),
    ("1_000", ("excel_serial",), None),
    ("", ("%d.%m.%Y",), None),
]


@pytest.mark.parametrize(("text", "formats", "day"), READ)
def test_a_text_is_the_day_that_its_format_says_or_none(text, formats, day):
    assert read_day(text, formats) == (None if day is None else dt.date.fromisoformat(day))


@given(st.dates(dt.date(1955, 1, 1), dt.date(2099, 12, 31)))
def test_a_day_that_is_written_as_a_number_is_read_back(day):
    seconds = int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp())
    written = {
        "%Y%m%d": f"{day:%Y%m%d}",
        "excel_serial": str((day - dt.date(1899, 12, 30)).days),
        "epoch_seconds": str(seconds + 86_399),
        "epoch_milliseconds": str(seconds * 1000),
        "epoch_microseconds": str(seconds * 10**6),
        "epoch_nanoseconds": str(seconds * 10**9),
    }
    assert {format_: read_day(text, (format_,)) for format_, text in written.items()} == dict.fromkeys(written, day)


@given(st.dates(dt.date(1900, 1, 1), dt.date(2099, 12, 31)), st.sampled_from(["%d %B %Y", "%b %d, %Y", "%d-%b-%y"]))
def test_english_stays_as_it_is(day, format_):
    assert in_english(day.strftime(format_)) == day.strftime(format_)
