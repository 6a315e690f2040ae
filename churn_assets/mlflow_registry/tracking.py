"""One MLflow run for one training: what is logged, and how it is closed.

dagster-mlflow opens the run (see `defs/resources.py`); from then on it is addressed by its id, never
through MLflow's "active" run, so that a second training in the same process cannot write
into the first. A server that stops answering costs the log, never the training: the reason is kept in
`Tracking.missing` and shown by the assets.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import sqlite3
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from churn_assets.mlflow_registry.connect import calls, connect, keeps_artifacts_here, store_path, unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient

Status = Literal["FINISHED", "FAILED", "KILLED", "RUNNING"]
_PARAM_LENGTH = 6000  # MLflow's own limit on a parameter's text
_BATCH = 100  # entries it takes at once
# Where its database keeps absolute locations of artifacts.
_LOCATIONS = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("experiments", "artifact_location"),
)

_log = logging.getLogger(__name__)


class Tracking:
    """The MLflow run of one training; every method does nothing once MLflow does not answer."""

    def __init__(self, uri: str, run_id: str | None, missing: str | None = None) -> None:
        self.uri = uri
        self.run_id = run_id
        self.missing = missing
        self._client: MlflowClient | None = None if missing else connect(uri)

    def params(self, values: Mapping[str, object], prefix: str = "") -> None:
        """Log parameters, as `prefix.name`; text over MLflow's limit is cut."""
        rows = [(_named(prefix, name), str(value)[:_PARAM_LENGTH]) for name, value in values.items()]
        self._log_batch("params", "Param", rows)

    def metrics(self, values: Mapping[str, object], prefix: str = "") -> None:
        """Log the finite numbers among `values`, as `prefix.name`; MLflow takes no '+' of a blend's name."""
        now = int(time.time() * 1000)
        rows = [
            (_named(prefix, name).replace(" + ", " and "), float(value), now, 0)
            for name, value in values.items()
            if isinstance(value, (int, float)) and math.isfinite(value)
        ]
        self._log_batch("metrics", "Metric", rows)

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags of the run."""
        self._log_batch("tags", "RunTag", [(name, str(value)) for name, value in values.items()])

    def chart(self, name: str, svg: str) -> None:
        """Keep a chart under `plots/<name>.svg`."""
        self.document(f"plots/{name}.svg", svg)

    def document(self, name: str, text: str) -> None:
        """Keep a text, for example JSON, under its name."""
        self._do("log_text", text, name)

    def file(self, path: Path, folder: str = "") -> None:
        """Keep a file as it is, under `folder`."""
        self._do("log_artifact", str(path), folder or None)

    def close(self, status: Status) -> None:
        """End the run with this status."""
        self._do("set_terminated", status=status)

    def _log_batch(self, kind: str, entity: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Log rows as this entity of MLflow, which a run that logs nothing does not import."""
        if self._client is not None:
            from mlflow import entities

            logged = [getattr(entities, entity)(*row) for row in rows]
            for start in range(0, len(logged), _BATCH):
                self._do("log_batch", **{kind: logged[start : start + _BATCH]})

    def _do(self, method: str, *values: object, **options: object) -> None:
        """Call this method of MLflow's client for the run."""
        if self._client is None or self.run_id is None:
            return
        from mlflow.exceptions import MlflowException

        try:
            getattr(self._client, method)(self.run_id, *values, **options)
        except (MlflowException, OSError) as error:
            self._client = None
            self.missing = str(unavailable(self.uri, error))
            _log.warning("%s; the training goes on without it", self.missing)


def _named(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def prepare_experiment(uri: str, name: str, artifacts: Path) -> str:
    """The id of the experiment `name`, made if needed.

    With a store in a file or a database its artifacts go below `artifacts`: MLflow's own default is `./mlruns`, the
    working directory of whoever asked first. Raises TrackingUnavailable.
    """
    with calls(uri) as client:
        if (store := store_path(uri)) is not None and store.absolute().parent == artifacts.absolute().parent:
            _follow_home(store, artifacts.absolute())
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        location = artifacts.absolute().as_uri() if keeps_artifacts_here(uri) else None
        return str(client.create_experiment(name, artifact_location=location))


def _follow_home(store: Path, artifacts: Path) -> None:
    """Let the store of a home that was copied or moved name the artifacts beside it. MLflow keeps absolute locations,
    by which a copied home would write into the original."""
    here, ending = artifacts.as_uri(), f"/{artifacts.parent.name}/{artifacts.name}"
    with contextlib.closing(sqlite3.connect(store, timeout=30.0)) as db, db:
        known = {location for (location,) in db.execute("SELECT DISTINCT artifact_location FROM experiments")}
        for there in known if here not in known else ():  # with its own there, others are of homes that share it
            for table, column in _LOCATIONS if there.endswith(ending) else ():
                moved = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
                db.execute(moved, (here, len(there) + 1, len(there), there))


def keep_status_at_exit() -> None:
    """Stop MLflow from marking every run FINISHED when the process exits, failed ones too: dagster-mlflow unregisters
    `mlflow.end_run`; since version 3 MLflow registers another function."""
    import mlflow
    from mlflow.tracking import fluent

    atexit.unregister(mlflow.end_run)
    atexit.unregister(fluent._safe_end_run)


def forget_active_runs(status: Status) -> None:
    """End the runs that this thread still counts as active, so that the next training opens its own."""
    import mlflow
    from mlflow.exceptions import MlflowException

    while mlflow.active_run() is not None:
        with contextlib.suppress(MlflowException, OSError):  # it is off the stack before the store is asked
            mlflow.end_run(status=status)


def close_run(uri: str, dagster_run_id: str, status: Status) -> bool:
    """Close the MLflow run that a Dagster run opened; False if there is none. Raises TrackingUnavailable."""
    if (path := store_path(uri)) is not None and not path.exists():
        return False
    with calls(uri) as client:
        run_id = _run_of(client, dagster_run_id)
        if run_id is not None:
            client.set_terminated(run_id, status=status)
        return run_id is not None


def run_of(uri: str, dagster_run_id: str) -> str | None:
    """The id of the MLflow run that a Dagster run opened, None if there is none. Raises TrackingUnavailable."""
    with calls(uri) as client:
        return _run_of(client, dagster_run_id)


def _run_of(client: MlflowClient, dagster_run_id: str) -> str | None:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"tags.dagster_run_id = '{dagster_run_id}'"
    runs = client.search_runs(experiments, filter_string=query, max_results=1)
    return str(runs[0].info.run_id) if runs else None


def mark_killed(uri: str, dagster_run_id: str) -> None:
    """`close_run` as KILLED, unless the run is finished; for an sqlite store without MLflow's import, which takes
    seconds: a process that was told to stop calls it. Raises TrackingUnavailable."""
    if (path := store_path(uri)) is None:
        close_run(uri, dagster_run_id, "KILLED")
    elif path.is_file():
        tagged = "SELECT run_uuid FROM tags WHERE key = 'dagster_run_id' AND value = ?"
        where = f"status != 'FINISHED' AND run_uuid IN ({tagged})"
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=2.0)) as db, db:
                db.execute(
                    f"UPDATE runs SET status = 'KILLED', end_time = ? WHERE {where}",
                    (int(time.time() * 1000), dagster_run_id),
                )
        except sqlite3.Error as error:
            raise unavailable(uri, error) from None


def git_commit(root: Path) -> str:
    """The commit of the working tree at `root`, `-dirty` if changed; 'unknown' outside git."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return completed.stdout.strip() if completed.returncode == 0 and completed.stdout.strip() else "unknown"
