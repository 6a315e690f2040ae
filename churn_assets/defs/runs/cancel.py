"""Ending runs whose process is stopped or gone, in Dagster and in MLflow."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dagster as dg

from churn_assets.defs.runs.resume import COMMAND, RUN
from churn_assets.errors import TrackingUnavailable
from churn_assets.mlflow_registry.tracking import mark_killed

_AT_WORK = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@contextmanager
def canceling(run_id: str, mlflow_uri: str) -> Iterator[None]:
    """When the block ends, the process of this run is gone, and the run is CANCELED."""
    with dg.DagsterInstance.get() as instance:  # while the process comes to its end
        yield
        cancel(run_id, instance, mlflow_uri, "Stopped by a signal to `churn run`.")


def cancel_lost_runs(instance: dg.DagsterInstance, mlflow_uri: str) -> list[str]:
    """Mark the runs that `churn run` left when it was killed; their ids. The caller holds the home's lock, so that no
    such run is at work."""
    lost = instance.get_runs(dg.RunsFilter(statuses=_AT_WORK, tags={COMMAND: RUN}))
    for run in lost:
        cancel(run.run_id, instance, mlflow_uri, "The process of this run is gone: it was killed.")
    return [run.run_id for run in lost]


def cancel(run_id: str, instance: dg.DagsterInstance, mlflow_uri: str, message: str) -> None:
    """Mark a run without a process CANCELED, free what it held, and mark its MLflow run KILLED."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.status == dg.DagsterRunStatus.SUCCESS:
        return
    if run.status != dg.DagsterRunStatus.CANCELED:
        instance.report_run_canceled(run, message)
    if instance.event_log_storage.supports_global_concurrency_limits:
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    with suppress(TrackingUnavailable):  # a server that does not answer keeps its run as it is
        mark_killed(mlflow_uri, run_id)
