"""Monitoring and performance: their numbers are those of the report files and of the log."""

from __future__ import annotations

import json
import shutil

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from churn_assets_tests.dashboard.browser import visit
from churn_assets_tests.test_home_0_1 import FINGERPRINT, INGESTED, WINDOWS


@pytest.fixture(scope="module")
def log(made):
    with duckdb.connect(str(made.warehouse_dir / "published.duckdb"), read_only=True) as connection:
        yield connection


def window_file(made, window, name):
    return json.loads((made.monitoring_dir / FINGERPRINT[:12] / f"{window:04d}" / name).read_text())


@pytest.mark.parametrize("window", [1, 4, WINDOWS])
def test_a_window_is_shown_as_its_files_have_it(visitor, made, window):
    page = visitor.json(f"/monitoring.json?window={window}")
    drift, quality = window_file(made, window, "drift.json"), window_file(made, window, "quality.json")
    assert page["detail"]["entry"]["drift"] == drift["status"]
    assert page["detail"]["entry"]["quality"] == quality["status"]
    assert page["detail"]["entry"]["customers"] == drift["customers"]
    told = {column["column"]: (column["effect"], column["p_value"]) for column in drift["columns"]}
    assert {row["column"]: (row["effect"], row["p_value"]) for row in page["detail"]["columns"]} == told
    assert len(page["detail"]["findings"]) == len(quality["findings"])
    assert [entry["window"] for entry in page["windows"]] == list(range(1, WINDOWS + 1))


def rows_of(made, window):
    """SQL that is true for the answers of a window."""
    stored = window_file(made, window, "window.json")
    return f"fingerprint = '{FINGERPRINT}' AND seq BETWEEN {stored['from_seq']} AND {stored['to_seq']}"


@pytest.mark.parametrize(("segment", "where"), [("", "true"), ("&segment=paperless%3Dyes", "x_paperless")])
def test_the_distribution_counts_the_customers_of_the_window_and_the_training_rows(visitor, made, log, segment, where):
    page = visitor.json(f"/monitoring.json?window=4&column=avgorder{segment}")
    shown = page["distributions"][0]
    values = log.execute(
        f"SELECT arg_max(x_avgorder, seq) FROM predictions WHERE {rows_of(made, 4)} AND {where} "
        "GROUP BY coalesce(customer_id, prediction_id)"
    ).fetchall()
    numbers = np.array([value for (value,) in values if value is not None])
    edges = np.array(shown["edges"])
    counts = np.histogram(np.clip(numbers, edges[0], edges[-1]), edges)[0]
    assert shown["window"] == pytest.approx((counts / len(numbers)).tolist())
    assert shown["window_values"] == len(numbers)
    version = page["detail"]["entry"]["model_version"]
    reference = pq.read_table(made.bundles_dir / version / "reference.parquet")["avgorder"].drop_null()
    assert shown["reference_values"] == len(reference)
    assert sum(shown["reference"]) == pytest.approx(1.0)


def test_every_column_of_the_report_has_its_distribution(visitor):
    page = visitor.json("/monitoring.json?window=4&every=1")
    drifted = page["detail"]["entry"]["drifted"]
    assert {d["column"] for d in page["distributions"]} == set(page["columns"]) > set(drifted) - {"(score)"}
    assert page["columns"][0] in drifted
    levels = next(d for d in page["distributions"] if d["column"] == "favday")
    assert not levels["edges"]
    assert sum(level["window"] for level in levels["levels"]) == pytest.approx(1.0)
    text = visitor.get("/monitoring?window=4&every=1").text
    assert all(level["level"] in text for level in levels["levels"])


def test_the_score_of_a_segment_is_that_of_its_customers(visitor, made, log):
    every, some = (visitor.json(f"/monitoring.json?{query}")["scores"] for query in ("", "segment=favday%3DMonday"))
    drift = window_file(made, 4, "drift.json")
    own = drift["customers"] - drift["scored_by_others"]
    assert (every[3]["customers"], every[3]["mean_score"]) == (own, drift["score"]["mean"])
    (row,) = log.execute(
        "SELECT count(*), avg(score), avg(decision::INT) FROM predictions WHERE x_favday = 'Monday' "
        f"AND model_version = '{drift['model_version']}' AND seq IN (SELECT max(seq) FROM predictions "
        f"WHERE {rows_of(made, 4)} GROUP BY coalesce(customer_id, prediction_id))"
    ).fetchall()
    assert (some[3]["customers"], some[3]["positive_share"]) == (row[0], row[2])
    assert some[3]["mean_score"] == pytest.approx(row[1])


def test_drift_events_are_the_columns_that_drifted_in_the_windows(visitor, made):
    events = visitor.json("/monitoring.json")["events"]
    files = {window: window_file(made, window, "drift.json") for window in range(1, WINDOWS + 1)}
    drifted = {
        (window, c["column"]): (c["p_value"], c["effect"], c["effect_measure"])
        for window, file in files.items()
        for c in file["columns"]
        if c["column"] in file["drifted"]
    }
    assert {(e["window"], e["column"]): (e["p_value"], e["effect"], e["effect_measure"]) for e in events} == drifted
    assert [e["window"] for e in events] == sorted((e["window"] for e in events), reverse=True)


def test_the_newest_rows_beyond_the_training_rows_are_shown(settings):
    changed(settings, "UPDATE predictions SET x_avgorder = 1e6 WHERE seq IN (SELECT max(seq) FROM predictions)")
    newest = visit(settings).json("/monitoring.json?every=1")["windows"][-1]["window"]
    changed(settings, f"UPDATE predictions SET x_avgorder = 1e6 WHERE seq = {last_seq(settings, newest)}")
    visitor = visit(settings)
    (row,) = visitor.json("/monitoring.json")["outliers"]
    (cell,) = row["cells"]
    assert (cell["column"], cell["value"]) == ("avgorder", 1e6)
    assert 0 < cell["low"] < cell["high"] < 1e6
    assert row["prediction_id"] in visitor.get("/monitoring").text


def last_seq(settings, window):
    return window_file(settings, window, "window.json")["to_seq"]


def changed(settings, sql):
    """Replace the published copy by one that this SQL has changed."""
    published, copy = settings.warehouse_dir / "published.duckdb", settings.warehouse_dir / "copy.duckdb"
    shutil.copy(published, copy)
    copy.chmod(0o644)
    with duckdb.connect(str(copy)) as log:
        log.execute(sql)
    copy.replace(published)


def test_the_service_is_that_of_the_log_in_the_days_chosen(visitor, log):
    page = visitor.json("/monitoring.json?days=30")["service"]
    p99, fast = log.execute(
        "SELECT quantile_cont(latency_us, 0.99) / 1000, count(*) FILTER (latency_us < 500) FROM predictions"
    ).fetchall()[0]
    assert (page["requests"]["predictions"], page["requests"]["p99_ms"]) == (INGESTED, p99)
    assert page["latency"][0] == {"from_ms": 0.0, "answers": fast}
    assert sum(entry["answers"] for entry in page["latency"]) == INGESTED
    assert sum(hour["answers"] for hour in page["hours"]) == INGESTED
    assert [(s["status"], s["answers"], s["p99_ms"]) for s in page["statuses"]] == [("ok", INGESTED, p99)]


def test_refused_requests_are_counted_by_cause_and_hour(settings):
    changed(
        settings,
        "INSERT INTO rejections SELECT 1, '2026-11-26 09:00', '2026-11-26 09:01', 'w', cause, n, 's' "
        "FROM (VALUES ('busy', 3), ('invalid', 4)) r(cause, n)",
    )
    page = visit(settings).json("/monitoring.json?segment=favday%3DMonday")["service"]
    assert [(r["cause"], r["requests"], r["is_fault"]) for r in page["refusals"]] == [
        ("invalid", 4, False), ("busy", 3, True)
    ]  # fmt: skip
    assert (page["requests"]["refused"], page["requests"]["faults"]) == (7, 3)
    assert sum(hour["refused"] for hour in page["hours"]) == 7
    assert 0 < sum(hour["answers"] for hour in page["hours"]) < INGESTED


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("window=99", 404, "there is no window '99'"),
        ("window=<b>", 404, "there is no window '<b>'"),
        ("column=nothing", 404, "there is no column 'nothing'"),
        ("segment=favday%3D<b>", 400, "there is no segment 'favday=<b>'"),
        ("segment=esent%3D1", 400, "there is no segment 'esent=1'"),
        ("days=365", 400, "days is '365', expected one of: 1, 7, 30"),
    ],
)
def test_a_choice_that_there_is_not_is_said(visitor, query, status, message):
    assert message in visitor.get(f"/monitoring?{query}", status).text


def test_windows_of_one_model_are_chosen(visitor):
    versions = visitor.json("/monitoring.json")["versions"]
    page = visitor.json(f"/monitoring.json?version={versions[0]}")
    assert {entry["model_version"] for entry in page["windows"]} == {versions[0]}


def test_evidentlys_page_runs_in_a_sandbox(settings):
    folder = settings.monitoring_dir / FINGERPRINT[:12] / f"{WINDOWS:04d}"
    (folder / "drift.html").write_text("<p>Evidently</p>")
    visitor = visit(settings)
    assert f"/monitoring/{WINDOWS}/evidently" in visitor.get("/monitoring").addresses
    response = visitor.client.get(f"/monitoring/{WINDOWS}/evidently")
    assert response.text == "<p>Evidently</p>"
    assert response.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    for window in ("1", "..", "%2e%2e", "99999999999"):
        assert visitor.client.get(f"/monitoring/{window}/evidently").status_code == 404


def test_a_half_written_report_takes_its_window_away(settings):
    folder = settings.monitoring_dir / FINGERPRINT[:12]
    (folder / f"{WINDOWS:04d}" / "drift.json").write_text('{"status": "dri')
    visitor = visit(settings)
    assert "drift.json: cannot be read" in visitor.get("/monitoring").text
    assert visitor.json("/monitoring.json?window=1")["problems"] == []


def test_performance_is_the_report(visitor, made):
    page = visitor.json("/performance.json")["report"]
    stored = json.loads((made.assets_dir / "performance_report.json").read_text())
    assert page["made_at"] == stored["made_at"]
    known = {row["period"]: row["measured"].get("pr_auc") for row in stored["periods"]}
    shown = {row["period"]: row["realized"]["metrics"] for row in page["periods"]}
    assert {name: metrics and metrics["pr_auc"]["value"] for name, metrics in shown.items()} == known
    assert any(known.values())
    assert page["labels"]["final"] == stored["labels"]["final"]


def test_a_damaged_performance_report_is_named(settings):
    (settings.assets_dir / "performance_report.json").write_text("{")
    assert "performance_report.json: cannot be read" in visit(settings).get("/performance").text
