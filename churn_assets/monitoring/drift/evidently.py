"""Evidently's view of a window, for people: a self-contained page, and a workspace that `evidently ui` opens.

Nothing here decides anything: `rule` does, and it stands when Evidently fails to import or to run. This is
the only module that imports Evidently, which takes some seconds. What it stumbles over is kept from it: it
guesses every list of columns that it is not given, a column that is empty or missing on one side ends the
whole report, and one of a nullable integer type is passed over without a word.
"""

from __future__ import annotations

import datetime as dt
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn_assets.contract.model import Kind
from churn_assets.contract.policy import Monitoring
from churn_assets.monitoring.windows.windows import read_json
from churn_assets.settings import QUIET_ENVIRONMENT
from churn_assets.storage.files import replacing, write_json

if TYPE_CHECKING:
    import pyarrow as pa

SNAPSHOTS = 60  # that the workspace keeps; older ones are deleted
WORKSPACE = "evidently"
_NUMBERS = frozenset({Kind.NUMBER, Kind.INTEGER})
_RUN = "evidently.json"


@dataclass(frozen=True)
class Page:
    """`path` of the HTML page or None, with `words` that say why not, and `left_out`: columns and why."""

    path: Path | None
    words: str
    left_out: Mapping[str, str]


def draw(
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

    `kinds` are the columns to show, `score` among them if it is wanted. Raises nothing: whatever Evidently
    does, the page is missing and the words say why. Drawing the same target again replaces its snapshot.
    """
    fit, left_out = _fitting(reference, current, kinds)
    if not fit:
        return Page(None, "no Evidently page: no column has values on both sides", left_out)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas' and NumPy's, on data that is as it is
            snapshot = _snapshot(reference, current, fit, limits, name, at)
            with replacing(target) as temporary:
                snapshot.save_html(str(temporary))
            if workspace is not None:
                _keep(snapshot, workspace, project, name, target.with_name(_RUN))
    except Exception as error:  # the statistics stand without the page, whatever broke
        words = " ".join(str(error).split())[:200]
        return Page(None, f"no Evidently page: {type(error).__name__}: {words}", left_out)
    return Page(target, "", left_out)


def _fitting(
    reference: pa.Table, current: pa.Table, kinds: Mapping[str, Kind]
) -> tuple[dict[str, Kind], dict[str, str]]:
    fit, left_out = {}, {}
    for name, kind in kinds.items():
        absent = [side for side, t in (("reference", reference), ("window", current)) if name not in t.column_names]
        empty = [
            side
            for side, table in (("reference", reference), ("window", current))
            if name in table.column_names and not _values(table, name)
        ]
        if absent or empty:
            what = "has no such column" if absent else "has no value of it"
            left_out[name] = f"the {(absent or empty)[0]} {what}"
        else:
            fit[name] = kind
    return fit, left_out


def _values(table: pa.Table, name: str) -> int:
    import numpy as np
    import pyarrow as pa

    column = table[name]
    if pa.types.is_floating(column.type):
        return int(np.isfinite(column.to_numpy()).sum())
    return int(len(column) - column.null_count)


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
        numerical_columns=numbers,
        categorical_columns=levels,
        text_columns=[],
        datetime_columns=[],
        classification=[],
        regression=[],
        numerical_descriptors=[],
        categorical_descriptors=[],
        unknown_columns=[],
        list_columns=[],
        test_descriptors=[],
        ranking=[],
        special_columns=[],
    )
    sides = [Dataset.from_pandas(_frame(table, numbers, levels), definition) for table in (current, reference)]
    metrics = [ValueDrift(column=column, method="wasserstein", threshold=limits.effect) for column in numbers]
    metrics += [ValueDrift(column=column, method="jensenshannon", threshold=limits.effect) for column in levels]
    report = Report(metrics, include_tests=True)
    return report.run(sides[0], sides[1], timestamp=at, name=name or None)


def _frame(table: pa.Table, numbers: list[str], levels: list[str]) -> Any:
    import numpy as np
    import pandas as pd

    found: dict[str, Any] = {}
    for name in numbers:
        values = table[name].to_numpy().astype(np.float64)
        found[name] = np.where(np.isfinite(values), values, np.nan)
    for name in levels:
        values = table[name].to_pandas()
        found[name] = values.map(lambda value: None if value is None or value != value else str(value)).astype(object)
    return pd.DataFrame(found)


def _keep(snapshot: Any, folder: Path, project: str, name: str, mark: Path) -> None:
    from evidently.ui.workspace import Workspace

    workspace = Workspace.create(str(folder))
    named = workspace.search_project(project)
    home = named[0] if named else workspace.create_project(project)
    before = (read_json(mark) or {}).get("run")
    runs = [str(run) for run in workspace.list_runs(home.id)]
    if before in runs:
        workspace.delete_run(home.id, before)
        runs.remove(before)
    kept = workspace.add_run(home.id, snapshot, include_data=False, name=name or None)
    write_json(mark, {"run": str(kept.id)})
    if len(runs) >= SNAPSHOTS:
        age = {run: workspace.get_run(home.id, run).timestamp for run in runs}
        for old in sorted(runs, key=lambda run: age[run])[: len(runs) + 1 - SNAPSHOTS]:
            workspace.delete_run(home.id, old)
