"""Where windows end: a pure rule, the same rule on a log in DuckDB, and what people do who score in batches."""

from __future__ import annotations

import dataclasses
import datetime as dt

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from churn_assets.contract.limits import Monitoring
from churn_assets.monitoring.cutting import Batch, End, choose_end, find_end
from churn_assets.monitoring.data_quality import hours_to_stale, report_quality, windows_alike
from churn_assets.monitoring.drift.evidently import Comparison, EvidentlyDrift
from churn_assets.monitoring.drift.report import report_drift
from churn_assets.monitoring.windows import Window, full_window, record_open_window
from churn_assets_tests.monitoring.logs import NOW, contract_of, scored

START = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)  # a Monday
LATER = START + dt.timedelta(days=400)
BATCH = Batch(100, 199)


@pytest.mark.parametrize(
    ("reached", "batch", "before", "end"),
    [
        (None, None, 0, None),
        (50, None, 0, End(50, "customers")),
        (50, BATCH, 40, End(50, "customers")),
        (None, BATCH, 0, End(199, "batch")),
        (150, BATCH, 9, End(199, "batch")),
        (150, BATCH, 10, End(99, "before_batch")),
        (None, BATCH, 10, End(99, "before_batch")),
        (150, Batch(100, 199, is_complete=False), 9, None),
        (150, Batch(100, 199, is_complete=False), 10, End(99, "before_batch")),
    ],
)
def test_a_window_ends_at_its_customers_before_a_batch_or_with_it(reached, batch, before, end):
    assert choose_end(reached, batch, lambda _: before, floor=10) == end


# -- against the definition, row by row ----------------------------------------------------------------

FLOOR, WINDOW, PAUSE_S = 3, 6, 600
LIMITS = Monitoring(window=WINDOW, floor=FLOOR)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a log; `at` in seconds."""

    who: int
    request: str
    arm: str
    at: int


@st.composite
def logs(draw):
    """Requests, bulk requests and scored files, of few customers, with short and long pauses between them."""
    rows, at = [], 0
    for number in range(draw(st.integers(0, 8))):
        arm = draw(st.sampled_from(["champion", "champion", "batch"]))
        for who in draw(st.lists(st.integers(0, 14), min_size=1, max_size=9)):
            rows.append(Row(who, f"r{number}", arm, at))
        at += draw(st.sampled_from([1, 60, PAUSE_S, 90_000]))
    return rows


def open_log(rows):
    connection = duckdb.connect()
    names = ("seq", "customer_id", "prediction_id", "request_id", "arm", "fingerprint", "scored_at")
    instants = [(START + dt.timedelta(seconds=row.at)).replace(tzinfo=None) for row in rows]
    values = [[*range(len(rows))], [f"c{row.who}" for row in rows], [f"p{n}" for n in range(len(rows))]]
    values += [[row.request for row in rows], [row.arm for row in rows], ["f"] * len(rows), instants]
    kinds = [pa.int64(), *[pa.string()] * 5, pa.timestamp("us")]
    table = pa.table([pa.array(v, k) for v, k in zip(values, kinds, strict=True)], names=names)
    connection.register("answers", table)
    return connection


def windows_of(rows, limits, now=LATER):
    """The windows as (first row, last row, closed by)."""
    windows, after = [], -1
    with open_log(rows) as connection:
        while (end := find_end(connection, "f", limits, after, now)) is not None:
            assert end.seq > after, "a window has rows, or the cutting would never end"
            windows.append((after + 1, end.seq, end.closed_by))
            after = end.seq
    return windows


def groups(rows, pause_s=0):
    """Rows that belong together, as (first, last): files, or runs without a pause."""

    def begins(place):
        gap = rows[place].at - rows[place - 1].at >= pause_s
        return gap if pause_s else rows[place].request != rows[place - 1].request

    starts = [place for place in range(len(rows)) if place == 0 or begins(place)]
    ranges = [(a, b - 1) for a, b in zip(starts, [*starts[1:], len(rows)], strict=False)]
    return [r for r in ranges if (pause_s or rows[r[0]].arm == "batch") and customers(rows, *r) >= FLOOR]


def customers(rows, first, last):
    return len({row.who for row in rows[first : last + 1]})


@hypothesis_settings(max_examples=25, deadline=None)
@given(logs(), st.booleans())
@example([Row(0, "r0", "champion", 0), *[Row(n, "r1", "batch", 60) for n in range(9)]], False)
def test_no_window_holds_a_part_of_a_batch_and_no_customers_are_lost(rows, paused):
    limits = dataclasses.replace(LIMITS, batch_pause_minutes=PAUSE_S / 60 if paused else 0)
    windows, batches = windows_of(rows, limits), groups(rows, PAUSE_S if paused else 0)
    for first, last in batches:
        assert all(end < first or start > last or (start <= first and last <= end) for start, end, _ in windows)
    for start, end, closed_by in windows:
        assert customers(rows, start, end) >= FLOOR
        inside = [b for b in batches if start <= b[0] <= end]
        assert (closed_by == "batch") == bool(inside)
        if closed_by == "batch":
            assert len(inside) == 1
            assert customers(rows, start, inside[0][0] - 1) < FLOOR
            assert end == inside[0][1]
        elif closed_by == "customers":
            assert customers(rows, start, end) >= WINDOW
    rest = windows[-1][1] + 1 if windows else 0
    assert customers(rows, rest, len(rows)) < WINDOW, "a window that is full is closed"
    assert not [b for b in batches if b[0] >= rest], "each batch is in a window"


@hypothesis_settings(max_examples=20, deadline=None)
@given(logs(), st.booleans(), st.data())
def test_windows_are_the_same_whenever_the_log_is_read(rows, paused, data):
    """Read after any whole request, some windows are closed; they are the first ones of the whole log's."""
    limits = dataclasses.replace(LIMITS, batch_pause_minutes=PAUSE_S / 60 if paused else 0)
    ends = [n for n in range(1, len(rows)) if rows[n].request != rows[n - 1].request]
    cut = data.draw(st.sampled_from([0, *ends, len(rows)]))
    read = rows[:cut]
    now = START + dt.timedelta(seconds=read[-1].at + 1 if read else 0)
    early = windows_of(read, limits, now)
    assert early == windows_of(rows, limits)[: len(early)]


def test_a_run_is_a_batch_when_its_pause_is_over():
    rows = [Row(n, f"r{n}", "champion", n) for n in range(12)]
    limits = dataclasses.replace(LIMITS, batch_pause_minutes=10)
    assert windows_of(rows, limits, START + dt.timedelta(seconds=600)) == []
    assert windows_of(rows, limits, START + dt.timedelta(seconds=611)) == [(0, 11, "batch")]


def test_a_bulk_request_is_not_cut():
    rows = [
        Row(0, "r0", "champion", 0),
        *[Row(n, "r1", "champion", 1) for n in range(1, 12)],
        Row(12, "r2", "champion", 2),
    ]
    assert windows_of(rows, LIMITS) == [(0, 11, "customers")]
    by_days = dataclasses.replace(LIMITS, window_days=1)
    night = [dataclasses.replace(row, at=row.at + 86_390 * (n > 0) + n) for n, row in enumerate(rows)]
    assert windows_of([*night, Row(1, "r3", "champion", 200_000)], by_days) == [(0, 11, "days"), (12, 12, "days")]


# -- what people do ------------------------------------------------------------------------------------

TINY = contract_of("window = 400\nfloor = 200")


def no_evidently(*_):
    return Comparison(EvidentlyDrift("not asked"))


def score_file(log, rows=1500, seed=5, ordered_by=None, at=None, name="file"):
    """What `churn score --log` writes of a table, which may be in the order of a column."""
    table, scores = scored(rows, seed)
    order = (
        np.argsort(np.array(table[ordered_by].to_pylist(), dtype=float), kind="stable")
        if ordered_by
        else np.arange(rows)
    )
    log.at = at or log.at
    log.append(table.take(pa.array(order)), scores.probability[order], every_s=0.01, arm="batch", request_id=name)


def test_the_training_table_in_the_order_of_a_column_is_neither_broken_nor_drift(log):
    score_file(log, rows=1500, seed=1, ordered_by="sent")  # the reference itself
    quality, drift = report_quality(log.settings, TINY, NOW), report_drift(log.settings, TINY, evidently=no_evidently)
    assert [(w.closed_by, w.customers, w.status) for w in quality.windows] == [("batch", 1500, "ok")]
    assert [(w.status, w.drifted) for w in drift.windows] == [("stable", ())]
    table, scores = scored(1500, 1)
    pieces = np.argsort(np.array(table["sent"].to_pylist(), dtype=float), kind="stable")
    log.append(table.take(pa.array(pieces)), scores.probability[pieces])  # the same, one by one
    report = report_drift(log.settings, TINY, evidently=no_evidently)
    assert "drift" in {w.status for w in report.windows[1:]}, "without the batch its pieces are unlike the whole"


def test_monthly_batches_are_windows_of_their_own_and_neither_their_volume_nor_their_pauses_alarm(log):
    first = dt.datetime(2026, 1, 5)
    for month in range(4):
        score_file(log, rows=600, seed=20 + month, at=first + dt.timedelta(days=30 * month), name=f"month {month}")
        log.at += dt.timedelta(days=3)
        log.add(40, seed=40 + month)  # somebody asks for a few customers between
    now = (log.at + dt.timedelta(days=20)).replace(tzinfo=dt.UTC)
    report = report_quality(log.settings, TINY, now)
    assert [(w.closed_by, w.status) for w in report.windows] == [("batch", "ok")] * 4
    assert [finding.check for w in report.windows for finding in w.findings if finding.blocks] == []
    assert not report.blocks


def test_a_batch_amid_requests_has_its_own_window_and_its_own_volume(log):
    for day in range(4):
        log.at = dt.datetime(2026, 1, 5) + dt.timedelta(days=7 * day)
        log.add(250, seed=50 + day)
        score_file(log, rows=1500, seed=60 + day, name=f"file {day}", at=log.at + dt.timedelta(days=1))
    report = report_quality(log.settings, TINY, log.at.replace(tzinfo=dt.UTC))
    assert [w.closed_by for w in report.windows] == ["before_batch", "batch"] * 4
    assert {w.status for w in report.windows} == {"ok"}


def test_a_small_batch_is_full_before_the_window_has_its_customers(log):
    log.add(100)
    assert record_open_window(log.settings, TINY).full is False
    score_file(log, rows=250, seed=7)
    assert record_open_window(log.settings, TINY).full is True
    assert full_window(log.settings).endswith("-0001")
    report_quality(log.settings, TINY, NOW)
    assert record_open_window(log.settings, TINY).full is False


def window(number, closed_by, hours):
    at = (START + dt.timedelta(hours=hours)).isoformat()
    return Window(number, "f", number, number, 9, 9, 0, at, at, closed_by)


@pytest.mark.parametrize(
    ("hours", "closed_by", "waiting", "expected"),
    [
        ([0], "customers", 0, 48),
        ([0], "batch", 0, 32 * 24),
        ([0, 1, 2], "batch", 0, 32 * 24),
        ([0, 24, 48], "batch", 0, 48),
        ([0, 24, 96], "batch", 0, 108),
        ([0, 168], "batch", 0, 252),
        ([0, 168], "batch", 499, 252),
        ([0, 168], "batch", 500, 48),
        ([0, 168], "before_batch", 0, 48),
        ([], "batch", 0, 48),
    ],
    ids=[
        "requests",
        "first batch",
        "first day",
        "daily",
        "not at weekends",
        "weekly",
        "a few requests since",
        "requests since",
        "amid requests",
        "nothing",
    ],
)
def test_a_log_of_batches_is_stale_when_a_batch_is_late(hours, closed_by, waiting, expected):
    windows = [window(number, closed_by, hour) for number, hour in enumerate(hours)]
    assert hours_to_stale(windows, waiting, Monitoring()) == expected


def test_the_volume_of_a_day_is_compared_with_the_same_day_of_the_week():
    days = [window(number, "days", 24 * number) for number in range(16)]
    assert [w.window for w in windows_alike(days, 15, 1)] == [1, 8]
    assert windows_alike(days, 5, 1) == []
    weeks = [window(number, "days", 168 * number) for number in range(8)]
    assert [w.window for w in windows_alike(weeks, 7, 7)] == [2, 3, 4, 5, 6]
    mixed = [window(number, "batch" if number % 3 == 0 else "customers", number) for number in range(8)]
    assert [w.window for w in windows_alike(mixed, 6, 0)] == [0, 3]
    assert [w.window for w in windows_alike(mixed, 7, 0)] == [1, 2, 4, 5]
