"""The report as a whole: on an empty home, over windows and months, remembered and rendered."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import Any

import pytest

from churn_assets.monitoring.data_quality import Traffic, WindowQuality
from churn_assets.monitoring.performance import estimated, realized
from churn_assets.monitoring.performance.estimated import BLIND, HISTORY
from churn_assets.monitoring.performance.labels import label_schema, labelled
from churn_assets.monitoring.performance.realized import Period
from churn_assets.monitoring.performance.report import (
    Champion,
    PerformanceInputs,
    compute_performance,
    render_performance,
)
from churn_assets.monitoring.windows import PERFORMANCE_JSON, QUALITY_JSON, to_json, write_report
from churn_assets_tests.monitoring.log import AS_OF, DAY, NOW, log
from churn_assets_tests.monitoring.outcomes import calibrated
from churn_assets_tests.scoring.tiny import CONTRACT

ROWS = 1600
CARD = {"test_pr_auc": 0.45, "test_pr_auc_low": 0.40, "test_pr_auc_high": 0.50, "test_churn_rate": 0.2}


@pytest.fixture(scope="module")
def scored():
    """1,600 customers over two months, the first 1,200 of them with a report."""
    score, churned = calibrated(ROWS, seed=8)
    predictions = [
        {"score": float(p), "as_of": at, "scored_at": at}
        for n, p in enumerate(score)
        for at in [AS_OF + (0 if n < 800 else 30) * DAY]
    ]
    reports = [
        {
            "customer_id": f"c{n + 1}",
            "churned": bool(c),
            "observed_at": predictions[n]["as_of"] + (5 if c else 30) * DAY,
        }
        for n, c in enumerate(churned[:1200])
    ]
    with log(predictions, reports) as connection:
        yield connection


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """How intervals are drawn is tested elsewhere."""
    monkeypatch.setattr(realized, "DRAWS", 60)
    monkeypatch.setattr(realized, "_CALIBRATED_DRAWS", 20)
    monkeypatch.setattr(estimated, "DRAWS", 40)


CHAMPION = Champion("v1", CONTRACT.fingerprint, CARD, None, 1000)


def inputs(connection, folder, windows=(), champion=CHAMPION, now=NOW):
    table = labelled(connection, CONTRACT, now) if connection is not None else label_schema(CONTRACT).empty_table()
    return PerformanceInputs(connection, CONTRACT, champion, table, windows, folder, now)


def windows(folder, last=None):
    result = [Period("0001", 1, 800, folder=folder / "0001"), Period("0002", 801, 1500, folder=folder / "0002")]
    return result[:last]


def break_window(folder):
    """Leave a quality report there that calls the data broken."""
    traffic = Traffic(700, 700, 700.0, 0.1, 0.01, 0, {})
    window = (2, CONTRACT.fingerprint, 801, 1500, 700, 700, 0, "2026-01-01", "2026-02-01", "customers")
    names = ("window", "fingerprint", "from_seq", "to_seq", "customers", "rows", "other_rows")
    named: dict[str, Any] = dict(zip((*names, "first_scored_at", "last_scored_at", "closed_by"), window, strict=True))
    about: dict[str, Any] = {
        "status": "broken",
        "message": "it broke",
        "model_version": "v1",
        "findings": (),
        "missing": {},
    }
    write_report(folder / QUALITY_JSON, WindowQuality(**named, **about, traffic=traffic))


def test_a_home_without_anything_has_a_report_that_says_so(tmp_path):
    result = compute_performance(inputs(None, tmp_path, champion=None))
    assert result.messages == ("no predictions yet: nothing has been ingested from the prediction log",)
    assert (result.pr_auc_dropped, result.periods, result.service) == (False, (), None)
    assert result.fall.message.startswith("no champion yet")
    assert "no predictions yet" in render_performance(result)
    assert list(tmp_path.iterdir()) == []


def test_windows_have_their_figures_and_what_follows_them_is_open(scored, tmp_path):
    result = compute_performance(inputs(scored, tmp_path, windows(tmp_path)))
    assert [(row.period, row.closed) for row in result.periods] == [("0001", True), ("0002", True), ("open", False)]
    first, second, rest = (row.realized for row in result.periods)
    assert (first.status, first.rows) == ("ok", 800)
    assert (second.status, second.rows) == ("insufficient", 400)
    assert rest.rows == 0
    assert result.versions[0].rows == result.labels.final_of_champion == 1200
    assert result.versions[0].metrics.at_capacity.share == pytest.approx(0.01)
    assert result.service.total.predictions == ROWS
    assert json.dumps(to_json(result), allow_nan=False)


def test_months_stand_in_while_no_window_is_closed(scored, tmp_path):
    result = compute_performance(inputs(scored, tmp_path))
    assert [row.period for row in result.periods] == ["2026-01", "2026-02"]
    assert result.periods[0].realized.rows == 800
    early = inputs(scored, tmp_path, now=dt.datetime(2026, 2, 11, tzinfo=dt.UTC))
    assert [row.closed for row in compute_performance(early).periods] == [True, False]


def test_an_estimate_is_kept_and_later_set_beside_its_labels(scored, tmp_path):
    before = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)  # no label is final yet
    early = compute_performance(inputs(scored, tmp_path, windows(tmp_path), now=before))
    assert [row.realized.rows for row in early.periods] == [0, 0, 0]
    assert "no past estimate has its labels yet (2 wait)" in early.estimates.record.message
    kept = (tmp_path / HISTORY).read_bytes()
    late = compute_performance(inputs(scored, tmp_path, windows(tmp_path)))
    assert (tmp_path / HISTORY).read_bytes() == kept, "what was estimated is not estimated again"
    assert "Of 1 past estimates 1 had the labelled PR-AUC in their interval" in render_performance(late)
    (row,) = late.estimates.record.rows
    assert row.made_at.startswith("2026-02-01")
    assert row.labelled == late.periods[0].realized.metrics.pr_auc.value
    assert row.held
    assert row.labels_then == 0
    assert late.estimates.record.waiting == 1


def test_every_estimate_is_shown_with_what_it_cannot_see(scored, tmp_path):
    result = compute_performance(inputs(scored, tmp_path, windows(tmp_path)))
    assert any(BLIND in message for message in result.messages)
    page = render_performance(result)
    assert "How past estimates came out" in page
    assert BLIND in page.split("How past estimates came out")[1]


def test_broken_inputs_of_a_window_are_named_beside_its_estimate(scored, tmp_path):
    break_window(tmp_path / "0002")
    result = compute_performance(inputs(scored, tmp_path, windows(tmp_path)))
    assert "inputs were broken in 0002: the estimates of these periods mean nothing" in result.messages


def test_labels_of_broken_data_are_counted_and_neither_new_nor_a_fall(scored, tmp_path):
    break_window(tmp_path / "0002")
    result = compute_performance(inputs(scored, tmp_path, windows(tmp_path)))
    labels = {name: getattr(result.labels, name) for name in ("final", "final_of_champion", "new", "of_broken_data")}
    assert labels == {"final": 800, "final_of_champion": 800, "new": 800, "of_broken_data": 400}
    assert result.fall.rows == 800
    assert any(words.startswith("400 final labels are of broken data") for words in result.messages)
    assert result.periods[1].realized.rows == 400


def test_a_windows_figures_are_kept_until_its_labels_change(scored, tmp_path):
    first = compute_performance(inputs(scored, tmp_path, windows(tmp_path, 1)))
    path = tmp_path / "0001" / PERFORMANCE_JSON
    stored = json.loads(path.read_text())
    assert (stored["window"], stored["status"], stored["from_seq"]) == (1, "ok", 1)
    again = compute_performance(inputs(scored, tmp_path, windows(tmp_path, 1)))
    assert again == first
    stored["realized"]["message"] = "read again"
    path.write_text(json.dumps(stored))
    assert compute_performance(inputs(scored, tmp_path, windows(tmp_path, 1))).periods[0].realized.message == (
        "read again"
    )
    fewer = inputs(scored, tmp_path, windows(tmp_path, 1))
    some = PerformanceInputs(
        scored, CONTRACT, fewer.champion, fewer.labelled.slice(0, 600), fewer.windows, tmp_path, NOW
    )
    assert compute_performance(some).periods[0].realized.rows == 600
    path.write_text("{")
    assert compute_performance(fewer).periods[0].realized.rows == 800


def test_a_fall_is_concluded_from_the_newest_labels_of_the_champion(scored, tmp_path):
    better = {**CARD, "test_pr_auc": 0.9, "test_pr_auc_low": 0.88, "test_pr_auc_high": 0.92}
    holds = compute_performance(inputs(scored, tmp_path))
    falls = compute_performance(inputs(scored, tmp_path, champion=Champion("v1", CONTRACT.fingerprint, better)))
    other = compute_performance(inputs(scored, tmp_path, champion=Champion("v2", CONTRACT.fingerprint, better)))
    bare = compute_performance(inputs(scored, tmp_path, champion=Champion("v1", CONTRACT.fingerprint)))
    assert not holds.pr_auc_dropped
    assert falls.pr_auc_dropped
    assert (other.pr_auc_dropped, other.fall.status) == (False, "insufficient")
    assert "nothing to compare with" in bare.fall.message


@pytest.mark.parametrize(("trained_at", "new"), [(None, 1200), (AS_OF + 20 * DAY, 1200), (AS_OF + 31 * DAY, 400)])
def test_new_labels_are_those_settled_after_the_training(scored, tmp_path, trained_at, new):
    at = trained_at.replace(tzinfo=dt.UTC) if trained_at else None
    result = compute_performance(inputs(scored, tmp_path, champion=Champion("v1", CONTRACT.fingerprint, CARD, at)))
    assert result.labels.new == new


def test_a_customer_is_news_once_in_each_stretch_of_the_horizon(tmp_path):
    rows = [{"customer_id": f"c{n}", "as_of": AS_OF + days * DAY} for n in range(20) for days in (0, 1, 30, 60)]
    reports = [
        {"customer_id": f"c{n}", "churned": False, "observed_at": AS_OF + days * DAY}
        for n in range(20)
        for days in range(30, 120)
    ]
    champion = Champion("v1", CONTRACT.fingerprint, CARD, (AS_OF + 75 * DAY).replace(tzinfo=dt.UTC))
    result = compute_performance(inputs(log(rows, reports), tmp_path, champion=champion))
    assert result.labels.final == 20
    assert (result.labels.events, result.labels.new) in {(60, 20), (80, 20)}  # two days may lie in two stretches


def test_nothing_is_concluded_from_labels_of_churners_alone(scored, tmp_path):
    result = compute_performance(inputs(scored, tmp_path))
    assert (result.labels.selective, result.fall.status) == ("", "ok")
    table = labelled(scored, CONTRACT, NOW)
    churners = dataclasses.replace(inputs(scored, tmp_path), labelled=table.filter(table["churned"]))
    result = compute_performance(churners)
    assert "churners seem to be reported" in result.labels.selective
    assert (result.fall.status, result.fall.message) == ("unknown", result.labels.selective)
    assert not result.pr_auc_dropped


def test_customers_who_are_scored_often_and_all_reported_are_a_fair_sample(tmp_path):
    score, churned = calibrated(800, seed=8)
    rows = [
        {"customer_id": f"c{n}", "as_of": at, "scored_at": at, "score": float(p)}
        for n, p in enumerate(score)
        for days in (0, 30, 60)
        for at in [AS_OF + days * DAY]
        if days == 60 or p > 0.2  # who seems likely to leave is scored every month
    ]
    reports = [
        {"customer_id": f"c{n}", "churned": bool(c), "observed_at": AS_OF + (75 if c else 90) * DAY}
        for n, c in enumerate(churned)
    ]
    with log(rows, reports) as connection:
        # A customer's label is that of the last prediction; the months before are no customers without a label.
        result = compute_performance(inputs(connection, tmp_path))
    assert result.labels.final_of_champion == 800
    assert (result.labels.selective, result.fall.status) == ("", "ok")


def test_rows_of_another_contract_are_not_measured(scored, tmp_path):
    result = compute_performance(inputs(scored, tmp_path, champion=Champion("v1", "f" * 64, CARD)))
    assert (result.periods, result.versions, result.labels.final) == ((), (), 0)


def test_the_page_has_every_table(scored, tmp_path):
    page = render_performance(compute_performance(inputs(scored, tmp_path, windows(tmp_path))))
    for title in ("Against the card", "By period", "By model version", "How past estimates came out", "The service"):
        assert f"\n## {title}\n" in page
    assert "insufficient: 400 customers" in page
    tables = [[line.count("|") for line in part.splitlines()] for part in page.split("\n\n") if part.startswith("|")]
    assert len(tables) == 6
    assert all(len(set(table)) == 1 for table in tables)


def test_an_outcome_of_long_ago_that_is_reported_now_is_new(tmp_path):
    trained_at = (AS_OF + 31 * DAY).replace(tzinfo=dt.UTC)
    report = {"customer_id": "c1", "churned": True, "observed_at": AS_OF + DAY}
    champion = Champion("v1", CONTRACT.fingerprint, CARD, trained_at)
    for received_at, new in ((AS_OF + 30 * DAY, 0), (AS_OF + 32 * DAY, 1)):
        with log([{"as_of": AS_OF, "scored_at": AS_OF}], [{**report, "received_at": received_at}]) as connection:
            result = compute_performance(inputs(connection, tmp_path / str(new), champion=champion))
        assert result.labels.new == new
