"""Evidently's workspace in the home: a project a contract, a run a window, and a dashboard over the windows.

`evidently ui --workspace data/var/monitoring/evidently` shows it. The dashboard is made with the project, and again
where somebody has emptied it; panels that somebody changed stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from churn_assets.monitoring.profile import SCORE
from churn_assets.storage.files import read_json_object, write_json

RUNS = 60  # that a project keeps; older ones are deleted
WORKSPACE = "evidently"
BROKEN_TAG = "data: broken"
_RUN = "evidently.json"  # beside a window's reports: the id of its run
_COLUMNS = "{{column}}"  # Evidently writes the column of each line there


def keep_run(snapshot: Any, folder: Path, project: str, reports: Path) -> None:
    """Add Evidently's snapshot of a window to the workspace in `folder`; that of the same window (its reports are in
    `reports`) is replaced, and more than RUNS are not kept. Raises whatever Evidently raises, and OSError."""
    from evidently.ui.workspace import Workspace

    workspace = Workspace.create(str(folder))
    projects = workspace.search_project(project)
    home = projects[0] if projects else workspace.create_project(project)
    if not workspace.get_dashboard(home.id).panels:
        workspace.save_dashboard(home.id, dashboard())
    run_file = reports / _RUN
    runs = [str(run) for run in workspace.list_runs(home.id)] if projects else []
    replaced = read_json_object(run_file).get("run") if run_file.is_file() else None
    if replaced in runs:
        workspace.delete_run(home.id, replaced)
        runs.remove(replaced)
    kept = workspace.add_run(home.id, snapshot, include_data=False)
    write_json(run_file, {"run": str(kept.id)})
    if len(runs) >= RUNS:
        _delete_oldest(workspace, home.id, runs)


def _delete_oldest(workspace: Any, project_id: Any, runs: list[str]) -> None:
    age = {run: workspace.get_run(project_id, run).timestamp for run in runs}
    for old in sorted(runs, key=lambda run: age[run])[: len(runs) + 1 - RUNS]:
        workspace.delete_run(project_id, old)


def dashboard() -> Any:
    """The panels of a project: what drifts, the score, the quality of the data; a point in each is a window."""
    from evidently.sdk.models import DashboardModel, DashboardTabModel, PanelMetric
    from evidently.sdk.panels import bar_plot_panel, counter_panel, line_plot_panel

    share = PanelMetric(metric="DriftedColumnsCount", metric_labels={"value_type": "share"}, legend="share of columns")
    drift = PanelMetric(metric="ValueDrift", legend=_COLUMNS)
    score = {"column": SCORE}
    missing = PanelMetric(metric="MissingValueCount", metric_labels={"value_type": "share"}, legend=_COLUMNS)
    panels = [
        counter_panel("Newest window", [share], "Share of the columns that drift by Evidently's limits.", "half"),
        line_plot_panel("Drift share", [share], "Columns that drift by Evidently's limits, by window.", "half"),
        line_plot_panel(
            "Drift by column", [drift], "Evidently's distance (or p-value) of each column to the training rows."
        ),
        line_plot_panel(
            "Score", [PanelMetric(metric="MeanValue", metric_labels=score, legend="mean")], "Of the champion.", "half"
        ),
        line_plot_panel(
            "Drift of the score",
            [PanelMetric(metric="ValueDrift", metric_labels=score, legend="distance")],
            "Distance to the scores of customers that the model was not trained on.",
            "half",
        ),
        line_plot_panel("Missing values", [missing], "Share of the customers of each window.", "full"),
        bar_plot_panel("Customers", [PanelMetric(metric="RowCount", legend="customers")], "In the sample.", "half"),
        bar_plot_panel(
            "Broken data",
            [PanelMetric(metric="RowCount", tags=[BROKEN_TAG], legend="customers")],
            "Customers of the windows whose data is broken.",
            "half",
        ),
    ]
    return DashboardModel(tabs=[DashboardTabModel(title="Windows", panels=[p.id for p in panels])], panels=panels)
