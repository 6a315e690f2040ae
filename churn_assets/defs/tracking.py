"""dagster-mlflow's run for one training, wrapped.

Its resource finds or opens the MLflow run of the present Dagster run. It is wrapped for three reasons:
importing it costs a second that only training steps should pay; with MLflow out of reach it would fail
the training; and it leaves closing the run to hooks that mark a failed run as finished. Here the run is
closed when the resource is torn down, by what the Dagster instance knows about the run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from churn_assets.errors import TrackingUnavailable

if TYPE_CHECKING:
    from churn_assets.mlflow_registry.tracking import Status, Tracking


class MlflowRun(dg.ConfigurableResource[Any]):
    """The MLflow run of this Dagster run; field names are those dagster-mlflow reads."""

    mlflow_tracking_uri: str
    experiment_name: str
    artifacts: str
    extra_tags: dict[str, str] = {}  # noqa: RUF012  # Dagster reads it as a field, not as a class variable

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Tracking"]:
        """Open the run, hand it out, close it by the outcome; without MLflow hand out one that says so."""
        from churn_assets.mlflow_registry.tracking import Tracking, forget_active_runs

        try:
            tracking = self._open(context)
        except TrackingUnavailable as error:
            if context.log is not None:
                context.log.warning(f"{error}; the training goes on without it")
            yield Tracking.absent(self.mlflow_tracking_uri, str(error))
            return
        status: Status = "KILLED"
        try:
            yield tracking
            status = "FAILED" if _has_failed(context) else "FINISHED"
        finally:
            tracking.close(status)
            forget_active_runs(status)

    def _open(self, context: dg.InitResourceContext) -> "Tracking":
        from churn_assets.mlflow_registry.connect import hushed, unavailable
        from churn_assets.mlflow_registry.tracking import (
            Tracking,
            forget_active_runs,
            keep_status_at_exit,
            prepare_experiment,
        )

        prepare_experiment(self.mlflow_tracking_uri, self.experiment_name, Path(self.artifacts))
        forget_active_runs("KILLED")  # of a training in this process that never came to its end
        try:
            with hushed():  # dagster-mlflow calls itself beta, at its import and at each use
                from dagster_mlflow.resources import MlFlow

                mlflow_run = MlFlow(context)
        except Exception as error:  # whatever a server or a store may answer
            raise unavailable(self.mlflow_tracking_uri, error) from error
        keep_status_at_exit()
        tracking = Tracking(self.mlflow_tracking_uri, mlflow_run.active_run().info.run_id)
        if context.run is not None:  # dagster-mlflow calls every run after the job, which is mostly __ASSET_JOB
            tracking.tags({"mlflow.runName": f"{self.experiment_name} {context.run.run_id[:8]}"})
        return tracking


def _has_failed(context: dg.InitResourceContext) -> bool:
    """Whether a step of this Dagster run has failed so far, in this process or another one."""
    if context.instance is None or context.run is None:
        return False
    failed = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    return bool(context.instance.all_logs(context.run.run_id, of_type=failed))
