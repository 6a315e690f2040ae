"""The sensors of this home, and those that follow every job."""

from typing import Any

import dagster as dg

from churn_assets.defs.alerts import failure_sensors
from churn_assets.defs.jobs import JOBS
from churn_assets.defs.policy import STATUS_TICKS
from churn_assets.defs.prediction_log.sensors import ingest_sensor, window_sensor
from churn_assets.defs.promotion.sensors import release_sensors
from churn_assets.defs.release.sensors import release_watch_sensor
from churn_assets.settings import Settings


def sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors of this home."""
    uri = settings.mlflow_uri

    @dg.run_failure_sensor(
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=STATUS_TICKS * settings.sensor_s,
        description="Marks the MLflow run of a failed Dagster run as FAILED.",
    )
    def mark_failed_trainings(context: dg.RunFailureSensorContext) -> Any:
        return mark_failed(uri, context.dagster_run.run_id)

    return [
        mark_failed_trainings,
        ingest_sensor(settings),
        window_sensor(settings),
        *release_sensors(settings, {job.name for job in JOBS}),
        release_watch_sensor(settings),
        *failure_sensors(settings),
    ]


def mark_failed(uri: str, dagster_run_id: str) -> dg.SkipReason | None:
    """Close the MLflow run as FAILED; a reason to skip if there is none or MLflow does not answer."""
    from churn_assets.errors import TrackingUnavailable
    from churn_assets.mlflow_registry.tracking import close_run

    try:
        closed = close_run(uri, dagster_run_id, "FAILED")
    except TrackingUnavailable as error:
        return dg.SkipReason(str(error))
    return None if closed else dg.SkipReason(f"Dagster run {dagster_run_id} opened no MLflow run")
