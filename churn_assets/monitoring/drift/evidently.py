"""Evidently's report on a window, for people: a self-contained page, and a workspace that `evidently ui` opens.

Nothing here decides anything: `univariate` does, and its result stands when Evidently fails to import or to run.
This is the only module that imports Evidently, which takes some seconds. What makes it fail is kept from it: a column
that is empty or missing on one side ends the whole report, one of a nullable integer type is left out silently.
"""

from __future__ import annotations

import datetime as dt
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn_assets.contract.limits import Monitoring
from churn_assets.contract.model import Kind
from churn_assets.settings import QUIET_ENVIRONMENT
from churn_assets.storage.files import read_json_object, replacing, write_json

if TYPE_CHECKING:
    import pyarrow as pa

SNAPSHOTS = 60  # that the workspace keeps; older ones are deleted
WORKSPACE = "evidently"
_NUMBERS = frozenset({Kind.NUMBER, Kind.INTEGER})
_RUN = "evidently.json"
# Lists of columns that Evidently guesses where it is not given them.
_GUESSED = (
    *("text_columns", "datetime_columns", "unknown_columns", "list_columns", "special_columns", "test_descriptors"),
    *("numerical_descriptors", "categorical_descriptors", "classification", "regression", "ranking"),
)


@dataclass(frozen=True)
class Page:
    """The name of the HTML file, or None and a `message` that says why not; `left_out` are columns and why."""

    file: str | None
    message: str
    left_out: Mapping[str, str]


def write_page(
    reference: pa.Table,
    current: pa.Table,
    kinds: Mapping[str, Kind],
    limits: Monitoring,
    target: Path,
    *,
    workspace: Path | None = None,
    project: str = "churn",
    name: str = "",
    at: dt.datetime | None = None,
) -> Page:
    """Write Evidently's report on two samples to `target`, and a snapshot into `workspace` if one is named.

    `kinds` are the columns to show, `score` among them if it is wanted. Raises nothing: if Evidently fails
    there is no page, and the message says why. Writing the same target again replaces its snapshot.
    """
    usable, left_out = _usable_columns(reference, current, kinds)
    if not usable:
        return Page(None, "no Evidently page: no column has values on both sides", left_out)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas' and NumPy's, on data that is as it is
            snapshot = _snapshot(reference, current, usable, limits, name, at)
            with replacing(target) as temporary:
                snapshot.save_html(str(temporary))
            if workspace is not None:
                _keep(snapshot, workspace, project, name, target.with_name(_RUN))
    except Exception as error:  # the statistics stand without the page, whatever failed
        reason = " ".join(str(error).split())[:200]
        return Page(None, f"no Evidently page: {type(error).__name__}: {reason}", left_out)
    return Page(target.name, "", left_out)


def _usable_columns(
    reference: pa.Table, current: pa.Table, kinds: Mapping[str, Kind]
) -> tuple[dict[str, Kind], dict[str, str]]:
    """(columns with values on both sides, reason by column for the others)."""
    sides = {"reference": reference, "window": current}
    left_out = {name: reason for name in kinds if (reason := _why_left_out(name, sides))}
    return {name: kind for name, kind in kinds.items() if name not in left_out}, left_out


def _why_left_out(name: str, sides: Mapping[str, pa.Table]) -> str:
    if absent := [side for side, table in sides.items() if name not in table.column_names]:
        return f"the {absent[0]} has no such column"
    empty = [side for side, table in sides.items() if not _has_values(table[name])]
    return f"the {empty[0]} has no value of it" if empty else ""


def _has_values(column: pa.ChunkedArray) -> bool:
    import numpy as np
    import pyarrow as pa

    if pa.types.is_floating(column.type):
        return bool(np.isfinite(column.to_numpy()).any())
    return bool(column.null_count < len(column))


def _snapshot(
    reference: pa.Table,
    current: pa.Table,
    kinds: Mapping[str, Kind],
    limits: Monitoring,
    name: str,
    at: dt.datetime | None,
) -> Any:
    os.environ.update({key: value for key, value in QUIET_ENVIRONMENT.items() if key not in os.environ})
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    numbers = [column for column, kind in kinds.items() if kind in _NUMBERS]
    levels = [column for column in kinds if column not in numbers]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=levels, **{name: [] for name in _GUESSED}
    )
    sides = [Dataset.from_pandas(_frame(table, numbers, levels), definition) for table in (current, reference)]
    metrics = [ValueDrift(column=column, method="wasserstein", threshold=limits.effect) for column in numbers]
    metrics += [ValueDrift(column=column, method="jensenshannon", threshold=limits.effect) for column in levels]
    report = Report(metrics, include_tests=True)
    return report.run(sides[0], sides[1], timestamp=at, name=name or None)


def _frame(table: pa.Table, numbers: list[str], levels: list[str]) -> Any:
    import numpy as np
    import pandas as pd

    columns: dict[str, Any] = {}
    for name in numbers:
        values = table[name].to_numpy().astype(np.float64)
        columns[name] = np.where(np.isfinite(values), values, np.nan)
    for name in levels:
        values = table[name].to_pandas()
        columns[name] = values.map(lambda value: None if value is None or value != value else str(value)).astype(object)
    return pd.DataFrame(columns)


def _keep(snapshot: Any, folder: Path, project: str, name: str, run_file: Path) -> None:
    from evidently.ui.workspace import Workspace

    workspace = Workspace.create(str(folder))
    projects = workspace.search_project(project)
    home = projects[0] if projects else workspace.create_project(project)
    runs = [str(run) for run in workspace.list_runs(home.id)]
    replaced = read_json_object(run_file).get("run") if run_file.is_file() else None
    if replaced in runs:
        workspace.delete_run(home.id, replaced)
        runs.remove(replaced)
    kept = workspace.add_run(home.id, snapshot, include_data=False, name=name or None)
    write_json(run_file, {"run": str(kept.id)})
    if len(runs) >= SNAPSHOTS:
        _delete_oldest(workspace, home.id, runs)


def _delete_oldest(workspace: Any, project_id: Any, runs: list[str]) -> None:
    age = {run: workspace.get_run(project_id, run).timestamp for run in runs}
    for old in sorted(runs, key=lambda run: age[run])[: len(runs) + 1 - SNAPSHOTS]:
        workspace.delete_run(project_id, old)
