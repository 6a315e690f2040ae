"""Monitoring and performance: their numbers are those of the report files and of the log."""

from __future__ import annotations

import json

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


def test_the_distribution_counts_the_customers_of_the_window_and_the_training_rows(visitor, made, log):
    page = visitor.json("/monitoring.json?window=4&column=avgorder")
    shown, window = page["distribution"], window_file(made, 4, "window.json")
    values = log.execute(
        "SELECT arg_max(x_avgorder, seq) FROM predictions WHERE fingerprint = ? AND seq BETWEEN ? AND ? "
        "GROUP BY coalesce(customer_id, prediction_id)",
        [FINGERPRINT, window["from_seq"], window["to_seq"]],
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


def test_levels_are_a_table_of_shares(visitor):
    page = visitor.json("/monitoring.json?window=4&column=favday")
    shown = page["distribution"]
    assert not shown["edges"]
    assert sum(level["window"] for level in shown["levels"]) == pytest.approx(1.0)
    text = visitor.get("/monitoring?window=4&column=favday").text
    assert all(level["level"] in text for level in shown["levels"])


def test_the_service_is_that_of_the_log_in_the_days_chosen(visitor, log):
    page = visitor.json("/monitoring.json?days=30")["service"]
    p99, fast = log.execute(
        "SELECT quantile_cont(latency_us, 0.99) / 1000, count(*) FILTER (latency_us < 500) FROM predictions"
    ).fetchall()[0]
    assert (page["requests"]["predictions"], page["requests"]["p99_ms"]) == (INGESTED, p99)
    assert page["latency"][0] == {"from_ms": 0.0, "answers": fast}
    assert sum(entry["answers"] for entry in page["latency"]) == INGESTED
    assert sum(hour["answers"] for hour in page["hours"]) == INGESTED


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("window=99", 404, "there is no window '99'"),
        ("window=<b>", 404, "there is no window '<b>'"),
        ("column=nothing", 404, "there is no column 'nothing'"),
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
