"""Resources of the assets: settings and contract of this home, and the MLflow run of a training."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract
from churn_assets.defs.runs.resume import RESUMES
from churn_assets.errors import TrackingUnavailable, without_user_info
from churn_assets.settings import QUIET_ENVIRONMENT, EnvironReader, Settings, mlflow_uri_with_user_info, with_user_info

if TYPE_CHECKING:
    from churn_assets.mlflow_registry.tracking import Status, Tracking


_PATHS = ("root", "home", "contract_path")
_URLS = ("source", "mlflow_uri")  # Dagster stores them: without user info


class Project(dg.ConfigurableResource[object]):
    """Settings of one home in the form that Dagster shows; `settings` and `contract` are the typed values. The database
    is no field: its URL is nothing but user, password and host, and each process has it in its environment."""

    root: str
    home: str
    contract_path: str
    source: str | None
    telemetry: bool
    mlflow_uri: str
    log_archive_hours: int
    log_retention_days: int
    data_versions: int

    @classmethod
    def of(cls, settings: Settings) -> "Project":
        """The resource for these settings."""
        values: dict[str, Any] = {name: getattr(settings, name) for name in cls.model_fields}
        shown = {name: without_user_info(values[name]) for name in _URLS if values[name]}
        return cls(**values | shown | {name: str(values[name]) for name in _PATHS})

    @cached_property
    def settings(self) -> Settings:
        """The settings this resource was made from."""
        values: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        if self.source:
            values["source"] = with_user_info(self.source, "CHURN_SOURCE", os.environ)
        values["mlflow_uri"] = mlflow_uri_with_user_info(self.mlflow_uri, os.environ)
        values["database_url"] = EnvironReader(os.environ).database()
        return Settings(**values | {name: Path(values[name]) for name in _PATHS})

    @cached_property
    def contract(self) -> Contract:
        """The contract, read from its file as it is now."""
        return load_contract(Path(self.contract_path))

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Turn off the telemetry of libraries before an asset body imports one."""
        if not self.telemetry:
            for name, value in QUIET_ENVIRONMENT.items():
                os.environ.setdefault(name, value)


class MlflowRun(dg.ConfigurableResource[Any]):
    """The MLflow run of this Dagster run; field names are those dagster-mlflow reads. The URI has no user info."""

    mlflow_tracking_uri: str
    experiment_name: str
    artifacts: str
    extra_tags: dict[str, str] = {}  # noqa: RUF012  # Dagster reads it as a field, not as a class variable

    @property
    def _uri(self) -> str:
        return mlflow_uri_with_user_info(self.mlflow_tracking_uri, os.environ)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Tracking"]:
        """Open the run, hand it out, close it by the outcome; without MLflow hand out one that says so."""
        from churn_assets.mlflow_registry.tracking import Tracking, forget_active_runs

        try:
            tracking = self._open(context)
        except TrackingUnavailable as error:
            if context.log is not None:
                context.log.warning(f"{error}; the training goes on without it")
            yield Tracking(self._uri, None, str(error))
            return
        status: Status = "KILLED"
        try:
            yield tracking
            status = "FAILED" if _has_failed(context) else "FINISHED"
        finally:
            tracking.close(status)
            forget_active_runs(status)

    def _open(self, context: dg.InitResourceContext) -> "Tracking":
        from churn_assets.mlflow_registry import tracking as runs
        from churn_assets.mlflow_registry.connect import quiet, unavailable

        runs.prepare_experiment(self._uri, self.experiment_name, Path(self.artifacts))
        runs.forget_active_runs("KILLED")  # of a training in this process that never came to its end
        try:
            with quiet():  # dagster-mlflow calls itself beta, at its import and at each use
                from dagster_mlflow.resources import MlFlow

                resumed = context.run.tags.get(RESUMES) if context.run is not None else None
                run_id = runs.run_of(self._uri, resumed) if resumed else None  # one run for one training
                config = {**context.resource_config, "mlflow_tracking_uri": self._uri, "mlflow_run_id": run_id}
                mlflow_run = MlFlow(context.replace_config(config))
        except Exception as error:  # whatever a server or a store may answer
            raise unavailable(self._uri, error) from None
        runs.keep_status_at_exit()
        tracking = runs.Tracking(self._uri, mlflow_run.active_run().info.run_id)
        if context.run is not None:  # dagster-mlflow calls every run after the job, which is mostly __ASSET_JOB
            tracking.tags({"mlflow.runName": f"{self.experiment_name} {context.run.run_id[:8]}"})
        return tracking


def _has_failed(context: dg.InitResourceContext) -> bool:
    """Whether a step of this Dagster run has failed so far, in this process or another one."""
    if context.instance is None or context.run is None:
        return False
    failed = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    return bool(context.instance.all_logs(context.run.run_id, of_type=failed))
