"""The reports as Dagster makes them: on a fresh home, with windows, and with windows that alarm."""

from __future__ import annotations

import sys

import dagster as dg
import pytest

from churn_assets.definitions import build
from churn_assets.monitoring.open_window import read_open_window_file
from churn_assets_tests.defs.home import checks, metadata, run, settings
from churn_assets_tests.monitoring.logs import Log, contract_of, make_home, set_column

REPORTS = ["data_quality_report", "drift_report"]
CHECKS = ("no_broken_data_was_found", "no_drift_was_found")


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_a_fresh_home_reports_what_is_missing_and_gets_no_folder(tmp_path, instance):
    of = settings(tmp_path / "home")
    result = run(of, instance, REPORTS)
    assert result.success
    assert checks(result) == dict.fromkeys(CHECKS, True)
    for name in REPORTS:
        assert metadata(result, name)["message"].startswith("no champion yet")
    assert not of.monitoring_dir.exists()


def test_windows_are_reported_with_figures_and_pictures(tmp_path, instance, monkeypatch):
    monkeypatch.setitem(sys.modules, "evidently", None)  # its page is tested where it is drawn
    of = make_home(tmp_path / "home")
    log = Log(of)
    log.add(400)
    # The log is stale by the clock of the machine; what is asked here is the data.
    result = run(of, instance, REPORTS)
    assert result.success
    told = metadata(result, "data_quality_report")
    assert told["status"] == "ok"
    assert told["stale"] or told["message"].startswith("window 1: the data is ok")
    assert told["volume"].startswith("![volume](data:image/svg+xml;base64,")
    assert metadata(result, "drift_report")["asks_for_retraining"] == "none"
    waiting = read_open_window_file(of)
    assert (waiting.window, waiting.customers, waiting.full) == (2, 0, False), "the next segments may complete window 2"
    for seed in (6, 7):
        log.add(400, seed=seed, change=set_column("sent", lambda v: [int(1.15 * x) + 3 for x in v]))
    result = run(of, instance, REPORTS)
    assert checks(result)["no_drift_was_found"] is False
    told = metadata(result, "drift_report")
    assert (told["drifted"], told["asks_for_retraining"], told["windows_closed"]) == ("sent", "sent", 3)
    assert told["evidently_failed"].startswith("no Evidently page")
    assert told["evidently"].startswith("not computed: ModuleNotFoundError")
    assert told["effects"].startswith("![effect by column](data:image/svg+xml;base64,")
    assert "| sent | integer |" in told["newest_window"]
    assert "n/a" in told["newest_window"]
    (evaluation,) = [e for e in result.get_asset_check_evaluations() if e.check_name == CHECKS[1]]
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    assert "sent drifted in 2 windows in a row" in evaluation.description


def test_a_damaged_window_stops_the_reports_and_not_the_ingest(tmp_path, instance):
    of = make_home(tmp_path / "home")
    Log(of).add(1)
    place = of.monitoring_dir / contract_of().fingerprint[:12] / "0001"
    place.mkdir(parents=True)
    (place / "window.json").write_text("{")
    assert run(of, instance, ["prediction_log"]).success
    assert not run(of, instance, ["data_quality_report"]).success


def test_the_job_monitors_everything_that_watches(tmp_path):
    job = build(settings(tmp_path)).get_repository_def().get_job("monitor")
    selected = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
    assert {"prediction_log", "feedback_log", *REPORTS} <= selected
