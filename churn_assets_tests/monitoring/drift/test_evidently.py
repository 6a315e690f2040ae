"""Evidently's own statistics stand beside ours in every window, and its workspace shows the windows by name."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys

import numpy as np
import pyarrow as pa
import pytest

from churn_assets.contract.model import Kind
from churn_assets.monitoring.drift import evidently_workspace, multivariate
from churn_assets.monitoring.drift.evidently import CELLS, Run, compare_with_evidently
from churn_assets.monitoring.drift.report import report_drift
from churn_assets.monitoring.profile import SCORE
from churn_assets_tests.monitoring.logs import contract_of, more, set_column

CONTRACT = contract_of()
ROWS = 1200


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    """What the classifier finds has tests of its own."""
    monkeypatch.setattr(multivariate, "_ROUNDS", 4)


@pytest.fixture
def loop(log):
    """(the log, the report): a stable window, one with drift, one that is broken."""
    log.add(400)
    log.add(400, seed=6, change=set_column("sent", more))
    log.add(400, seed=7, change=set_column("sent", lambda v: v * 0))
    return log, report_drift(log.settings, CONTRACT)


def test_every_window_has_evidentlys_statistics_of_every_column_and_says_where_they_agree(loop):
    log, report = loop
    for window in report.windows:
        drift = window.evidently
        assert {column.column for column in drift.columns} == {"sent", "spent", "paperless", "city", SCORE}
        status = {column.column: column.status for column in window.columns}
        for column in drift.columns:
            assert column.agrees == (column.drift == (status[column.column] == "drift"))
            assert column.drift == (column.value >= column.threshold)  # of distances, with 1,500 rows to compare with
        assert drift.drift_share == sum(column.drift for column in drift.columns) / len(drift.columns)
        agreed = sum(column.agrees for column in drift.columns)
        assert drift.message.startswith(f"Evidently agrees with the rule on {agreed} of 5 columns")
        assert drift.rows == 400
    stored = json.loads(next(log.settings.monitoring_dir.rglob("0001/drift.json")).read_text())
    assert [c["column"] for c in stored["evidently"]["columns"]] == [
        c.column for c in report.windows[0].evidently.columns
    ]
    assert (
        "| sent | Wasserstein distance (normed) |"
        in next(log.settings.monitoring_dir.rglob("0002/drift.md")).read_text()
    )
    assert [window.page and window.page.file for window in report.windows][:2] == [None, "drift.html"]


def test_evidentlys_numbers_are_those_of_its_documented_distances():
    """Wasserstein distance over the standard deviation of the reference; Jensen-Shannon distance of the shares."""
    from scipy import stats
    from scipy.spatial.distance import jensenshannon

    rng = np.random.default_rng(3)
    before = {"n": rng.gamma(2.0, 10.0, ROWS), "c": rng.choice(list("abc"), ROWS, p=[0.6, 0.3, 0.1])}
    now = {"n": rng.gamma(2.0, 13.0, ROWS), "c": rng.choice(list("abc"), ROWS, p=[0.3, 0.3, 0.4])}
    kinds = {"n": Kind.NUMBER, "c": Kind.CATEGORY}
    result = compare_with_evidently(pa.table(before), pa.table(now), kinds, {"n": True, "c": False}, Run("w")).drift
    values = {column.column: column for column in result.columns}
    distance = stats.wasserstein_distance(before["n"], now["n"]) / before["n"].std()
    assert values["n"].value == pytest.approx(distance, rel=1e-6)
    shares = [[np.mean(side["c"] == level) for level in "abc"] for side in (before, now)]
    assert values["c"].value == pytest.approx(jensenshannon(*shares), rel=1e-6)
    assert (values["n"].agrees, values["c"].agrees) == (True, False)
    assert result.message == "Evidently agrees with the rule on 1 of 2 columns; c: drift by Evidently's limits only"


@pytest.mark.parametrize(
    "values", [[1e308, -1e308], [np.inf, 3.0], [np.nan, 1.0], [5.0], [1e-310, 0.0]], ids=lambda values: str(values)
)
def test_numbers_of_any_size_cost_no_other_column_its_statistics(values):
    rng = np.random.default_rng(0)
    before = pa.table({"odd": np.resize(values, ROWS), "n": rng.normal(size=ROWS)})
    now = pa.table({"odd": np.resize(values[::-1], ROWS), "n": rng.normal(size=ROWS)})
    result = compare_with_evidently(before, now, {"odd": Kind.NUMBER, "n": Kind.NUMBER}, {"n": False}, Run("w")).drift
    columns = {column.column: column for column in result.columns}
    assert columns["n"].agrees is True
    assert "odd" in columns or result.left_out["odd"].startswith("Evidently fails on it: ")
    json.dumps(dataclasses.asdict(result), allow_nan=False)


def test_the_sample_is_bounded():
    wide = {f"n{place}": np.arange(5000.0) for place in range(300)}
    few = compare_with_evidently(pa.table({"n": np.arange(50_000.0)}), pa.table(wide), {"n": Kind.NUMBER}, {}, Run("w"))
    assert few.drift.message == "not computed: no column has values on both sides"
    kinds = dict.fromkeys(wide, Kind.NUMBER)
    columns = ("n0", "n1")
    side = pa.table(wide).select(columns)
    result = compare_with_evidently(side, side, kinds, {}, Run("w")).drift
    assert result.rows == result.reference_rows == CELLS // 300
    assert set(result.left_out) == set(wide) - set(columns)


# -- the workspace -------------------------------------------------------------------------------------


def _workspace(log):
    from evidently.ui.workspace import Workspace

    workspace = Workspace(str(log.settings.monitoring_dir / evidently_workspace.WORKSPACE))
    (project,) = workspace.list_projects()
    return workspace, project


def test_the_workspace_names_each_window_with_its_verdict_and_every_panel_has_points(loop):
    log, report = loop
    workspace, project = _workspace(log)
    runs = [workspace.get_run(project.id, run) for run in workspace.list_runs(project.id)]
    named = {run.metadata["window"]: (run.name, run.tags) for run in runs}
    assert named == {
        "1": ("window 1: stable", ["drift: stable", "data: ok"]),
        "2": (f"window 2: drift ({', '.join(report.windows[1].drifted)})", ["drift: drift", "data: ok"]),
        "3": (
            f"window 3: drift ({', '.join(report.windows[2].drifted)}); the data is broken",
            ["drift: drift", "data: broken"],
        ),
    }
    assert project.name == f"tiny {CONTRACT.fingerprint[:12]}"
    series = {panel.title: _points(log, project, panel) for panel in workspace.get_dashboard(project.id).panels}
    assert [len(values) for values in series["Drift share"].values()] == [3]
    assert {len(values) for values in series["Drift by column"].values()} == {3}
    assert len(series["Drift by column"]) == len(series["Missing values"]) == 5
    assert next(iter(series["Drift share"].values())) == [window.evidently.drift_share for window in report.windows]
    assert next(iter(series["Score"].values()))[0] == pytest.approx(report.windows[0].score.mean, abs=1e-6)
    assert list(series["Broken data"].values()) == [[400]]
    assert all(series.values())


def _points(log, project, panel):
    """What Evidently's service draws in a panel: label -> values."""
    from evidently.ui.service.base import SeriesFilter
    from evidently.ui.service.storage.local.base import InMemoryDataStorage

    storage = InMemoryDataStorage(str(log.settings.monitoring_dir / evidently_workspace.WORKSPACE))
    filters = [
        SeriesFilter(**value.dict(include={"tags", "metadata", "metric", "metric_labels"})) for value in panel.values
    ]
    response = asyncio.run(storage.get_data_series(project.id, filters, None, None))
    return {str(sorted(one.params.items())): one.values for one in response.series}


def test_a_dashboard_that_somebody_changed_stays_and_a_window_has_one_run(loop, monkeypatch):
    log, _ = loop
    workspace, project = _workspace(log)
    project.dashboard.delete_panel("Customers", "Windows")
    monkeypatch.setattr(evidently_workspace, "RUNS", 3)
    for page in log.settings.monitoring_dir.rglob("0003/drift.html"):
        page.unlink()
    report_drift(log.settings, CONTRACT, pages=True)  # the newest window again
    assert len(workspace.list_runs(project.id)) == 3
    log.add(400, seed=8)
    report_drift(log.settings, CONTRACT)
    runs = [workspace.get_run(project.id, run) for run in workspace.list_runs(project.id)]
    assert sorted(run.metadata["window"] for run in runs) == ["2", "3", "4"]
    assert "Customers" not in {panel.title for panel in workspace.get_dashboard(project.id).panels}


def test_a_page_is_drawn_on_demand_for_the_newest_window(log):
    log.add(800)
    report_drift(log.settings, CONTRACT)
    asked = report_drift(log.settings, CONTRACT, pages=True).windows
    assert [w.page and w.page.file for w in asked] == [None, "drift.html"]
    assert "Evidently's page: drift.html" in next(
        log.settings.monitoring_dir.rglob("0002/drift.md")
    ).read_text().replace("\\", "")


def test_without_evidently_the_rule_stands_and_the_report_says_why(log, monkeypatch):
    monkeypatch.setitem(sys.modules, "evidently", None)
    log.add(400, change=set_column("sent", more))
    report = report_drift(log.settings, CONTRACT)
    assert report.drifted == ("sent",)
    assert report.windows[0].evidently.message.startswith("not computed: ModuleNotFoundError")
    assert report.windows[0].page.message.startswith("no Evidently page: ModuleNotFoundError")
    assert "not computed" in next(log.settings.monitoring_dir.rglob("drift.md")).read_text()


def test_a_workspace_that_cannot_be_written_costs_no_statistics(log):
    log.settings.monitoring_dir.mkdir(parents=True)
    (log.settings.monitoring_dir / evidently_workspace.WORKSPACE).write_text("in the way")
    log.add(400)
    drift = report_drift(log.settings, CONTRACT).windows[0].evidently
    assert len(drift.columns) == 5
    assert "; not in the workspace: " in drift.message
