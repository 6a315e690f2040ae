"""Windows are runs of rows with enough distinct customers; they close once, and where they end stays."""

from __future__ import annotations

import dataclasses
import json

import pyarrow as pa
import pytest

from churn_assets.errors import WindowUnreadable
from churn_assets.monitoring.windows import (
    Report,
    close_windows,
    read_open_window,
    read_window_report,
    read_windows,
    window_folder,
)
from churn_assets_tests.monitoring.logs import Log, contract_of, scored

FINGERPRINT = contract_of().fingerprint
LIMITS = contract_of().monitoring


def closed(log, limits=LIMITS):
    """The windows that this call closes."""
    before = read_windows(log.settings, FINGERPRINT)
    with log.open() as connection:
        windows = close_windows(connection, log.settings, FINGERPRINT, limits)
    assert windows[: len(before)] == before
    return windows[len(before) :]


def bounds(windows):
    return [(w.from_seq, w.to_seq, w.customers, w.rows) for w in windows]


def test_a_window_closes_at_its_number_of_customers(log):
    log.add(399)
    assert closed(log) == []
    log.add(1, seed=6)
    assert bounds(closed(log)) == [(0, 399, 400, 400)]


def test_several_windows_close_at_once_and_a_second_call_closes_nothing(log):
    log.add(1300)
    assert bounds(closed(log)) == [(0, 399, 400, 400), (400, 799, 400, 400), (800, 1199, 400, 400)]
    assert closed(log) == []
    assert [w.window for w in read_windows(log.settings, FINGERPRINT)] == [1, 2, 3]


def test_a_customer_who_is_scored_again_counts_once(log):
    for _ in range(5):
        log.add(300)
    assert closed(log) == []
    log.add(100, seed=6)
    assert bounds(closed(log)) == [(0, 1599, 400, 1600)]


def test_customers_are_looked_for_beyond_four_rows_each(log):
    for _ in range(9):
        log.add(300)
    log.add(100, seed=6)
    assert bounds(closed(log)) == [(0, 2799, 400, 2800)]


def test_rows_without_an_id_count_as_a_customer_each(log):
    log.add(400, change=lambda t: t.set_column(0, "id", pa.nulls(400, pa.string())))
    assert bounds(closed(log)) == [(0, 399, 400, 400)]


def test_rows_of_another_contract_are_counted_and_not_mixed_in(log):
    log.add(200)
    log.add(150, seed=6, fingerprint="f" * 64)
    log.add(200, seed=7)
    (window,) = closed(log)
    assert (window.customers, window.rows, window.other_rows) == (400, 400, 150)


def test_by_time_a_window_closes_with_the_first_row_after_it(log):
    limits = dataclasses.replace(LIMITS, window_days=2)
    table, scores = scored(240, 5)
    log.append(table, scores.probability, every_s=3600)  # ten days
    assert bounds(closed(log, limits)) == [(48 * d, 48 * d + 47, 48, 48) for d in range(4)]
    assert {w.closed_by for w in read_windows(log.settings, FINGERPRINT)} == {"days"}


def test_a_larger_window_moves_no_boundary_that_was_written(log):
    log.add(500)
    closed(log)
    log.add(700, seed=6)
    assert bounds(closed(log, dataclasses.replace(LIMITS, window=600))) == [(400, 999, 600, 600)]


def test_windows_are_the_same_whenever_the_log_is_read(log, tmp_path, made):
    other = Log(dataclasses.replace(log.settings, home=_copy(made.home, tmp_path / "other")))
    for seed in range(5, 12):
        log.add(190, seed=seed)
        other.add(190, seed=seed)
        closed(log)
    closed(other)
    windows = read_windows(log.settings, FINGERPRINT)
    assert len(windows) == 3
    assert windows == read_windows(other.settings, FINGERPRINT)


def test_what_is_open_says_when_it_closes_and_when_it_never_will(log):
    log.add(30)
    with log.open() as connection:
        assert "the open window has 30 customers" in read_open_window(connection, FINGERPRINT, LIMITS, []).message
        connection.execute("CREATE TABLE more AS SELECT * FROM predictions")
    tiny = dataclasses.replace(LIMITS, window=31)
    for copy in range(1, 12):
        log.sql(
            "INSERT INTO predictions SELECT * REPLACE (seq + ? * 30 AS seq, prediction_id || '-' || ? AS prediction_id)"
            " FROM more",
            [copy, copy],
        )
    with log.open() as connection:
        waiting = read_open_window(connection, FINGERPRINT, tiny, [])
        assert waiting.never_full
        assert "set [monitoring] window below 30" in waiting.message


@pytest.mark.parametrize("text", ["{", "[]", '{"window": 1}', "\xff"])
def test_a_window_that_was_changed_by_hand_is_refused(log, text):
    log.add(400)
    (window,) = closed(log)
    path = window_folder(log.settings, window) / "window.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(WindowUnreadable, match=r"window\.json.*remove its folder"):
        read_windows(log.settings, FINGERPRINT)


def test_a_report_that_is_not_an_object_is_refused(log):
    log.add(400)
    (window,) = closed(log)
    assert read_window_report(log.settings, window, "quality.json", Report) is None
    (window_folder(log.settings, window) / "quality.json").write_text(json.dumps([1]))
    with pytest.raises(WindowUnreadable, match="expected an object"):
        read_window_report(log.settings, window, "quality.json", Report)


def _copy(home, to):
    import shutil

    return shutil.copytree(home, to)
