"""Reports are read in the form they are written in, and in the form of release 0.1 (files made by it are kept here)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from churn_assets.errors import WindowUnreadable
from churn_assets.monitoring.data_quality.report import QualityReport, WindowQuality
from churn_assets.monitoring.drift.report import DriftReport, WindowDrift
from churn_assets.monitoring.latest import read_latest_reports
from churn_assets.monitoring.performance.estimated import read_history
from churn_assets.monitoring.performance.report import PerformanceReport, WindowPerformance
from churn_assets.monitoring.report_files import parse_report, read_report, to_json, write_report
from churn_assets.settings import Settings
from churn_assets_tests.strategies import ROOT

OLD = Path(__file__).parent / "version_1"
WINDOWS = sorted((OLD / "monitoring").glob("*/0*"))


def old(name):
    return json.loads((OLD / "assets" / f"{name}.json").read_text())


@pytest.mark.parametrize("folder", WINDOWS, ids=lambda folder: folder.name)
@pytest.mark.parametrize(
    ("name", "kind"),
    [("quality.json", WindowQuality), ("drift.json", WindowDrift), ("performance.json", WindowPerformance)],
)
def test_every_report_of_an_old_window_is_read_and_written_in_the_new_form(tmp_path, folder, name, kind):
    report = read_report(folder / name, kind)
    write_report(tmp_path / name, report)
    assert json.loads((tmp_path / name).read_text())["version"] == 2
    assert read_report(tmp_path / name, kind) == report


def test_an_old_quality_report_has_its_findings_under_their_check():
    report = parse_report(old("data_quality_report"), QualityReport)
    refused, empty = (window.findings[0] for window in report.windows[:2])
    assert (refused.check, refused.cause, refused.column) == ("refused", "validation", "(traffic)")
    assert (empty.check, empty.column, empty.actual, empty.expected) == ("all_missing", "spent", "100.0%", "11.0%")
    assert empty.message == "'spent' says nothing any more: every value is missing"
    assert [window.status for window in report.windows] == ["broken", "broken", "ok"]
    assert report.log.stale
    assert report.log.message.startswith("the log is stale")


def test_an_old_drift_report_keeps_every_measure():
    report = parse_report(old("drift_report"), DriftReport)
    window = report.windows[-1]
    stored = {column["column"]: column for column in old("drift_report")["windows"][-1]["columns"]}
    assert {column.column: column.psi for column in window.columns} == {name: c["psi"] for name, c in stored.items()}
    (sent,) = (column for column in window.columns if column.column == "sent")
    assert (sent.status, sent.check, sent.effect_measure) == ("drift", "ks", "wasserstein")
    assert sent.message == stored["sent"]["words"]
    assert (window.status, window.drifted, window.data) == ("drift", ("sent",), "ok")
    assert window.page.message.startswith("no Evidently page")


def test_an_old_performance_report_keeps_every_figure():
    report, stored = parse_report(old("performance_report"), PerformanceReport), old("performance_report")
    first, was = report.periods[0], stored["periods"][0]
    metrics = first.realized.metrics
    assert (metrics.pr_auc.value, metrics.pr_auc.low) == (was["measured"]["pr_auc"], was["measured"]["pr_auc_low"])
    assert metrics.calibration.gap == was["measured"]["calibration"]["gap"]
    assert first.estimated.metrics.pr_auc.high == was["estimated"]["pr_auc_high"]
    assert (report.periods[-1].realized.metrics, report.periods[-1].estimated.metrics) == (None, None)
    assert report.fall.unweighted.pr_auc == stored["fall"]["as_it_was"]["pr_auc"]
    assert report.fall.message == stored["fall"]["words"]
    assert report.estimates.record.rows[0].error == stored["estimates"]["record"]["rows"][0]["off"]
    assert report.messages == tuple(stored["words"])
    assert report.service.by_day[0].refused == 800
    assert report.labels.counts.feedback.reports == 1125


def test_old_estimates_are_read(tmp_path):
    (folder,) = {path.parent for path in (OLD / "monitoring").glob("*/estimates.json")}
    history, problem = read_history(folder)
    assert problem is None
    assert [past.period for past in history] == ["0001", "0002", "0003"]
    assert history[0].labels_then == 360


def test_the_reports_of_an_old_home_are_read_together_and_missing_ones_are_none(tmp_path):
    settings = Settings.from_environ({"CHURN_HOME": str(OLD)}, ROOT)
    reports = read_latest_reports(settings)
    assert None not in (reports.quality, reports.drift, reports.performance)
    empty = read_latest_reports(Settings.from_environ({"CHURN_HOME": str(tmp_path)}, ROOT))
    assert (empty.quality, empty.drift, empty.performance) == (None, None, None)


def test_a_column_with_a_name_of_the_old_form_keeps_it():
    quality = old("data_quality_report")
    quality["windows"][0]["missing"] = {"words": 0.5, "what": 0.25}
    assert parse_report(quality, QualityReport).windows[0].missing == {"words": 0.5, "what": 0.25}


@pytest.mark.parametrize(
    ("change", "message"),
    [({"version": 3}, "written by a later release"), ({"windows": 7}, "windows"), ({"status": "odd"}, "status")],
)
def test_what_is_no_report_is_refused_with_the_reason(tmp_path, change, message):
    value = to_json(parse_report(old("drift_report"), DriftReport)) | change
    path = tmp_path / "drift.json"
    path.write_text(json.dumps(value))
    with pytest.raises(WindowUnreadable, match=message):
        read_report(path, DriftReport)
