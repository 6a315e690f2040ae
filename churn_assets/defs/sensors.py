"""The sensors of this home, and those that follow every job."""

from typing import Any

import dagster as dg

from churn_assets.alerting.alerts import Alert
from churn_assets.alerting.rules import AlertChanges
from churn_assets.defs.alerts import tell
from churn_assets.defs.jobs import JOBS
from churn_assets.defs.monitoring.sensors import window_sensor
from churn_assets.defs.prediction_log.sensors import ingest_sensor
from churn_assets.defs.promotion.sensors import release_sensors
from churn_assets.settings import Settings


def sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors of this home."""
    uri = settings.mlflow_uri

    @dg.run_failure_sensor(
        name="mark_failed_trainings",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks the MLflow run of a failed Dagster run as FAILED.",
    )
    def mark_failed_trainings(context: dg.RunFailureSensorContext) -> Any:
        return mark_failed(uri, context.dagster_run.run_id)

    return [
        mark_failed_trainings,
        ingest_sensor(settings),
        window_sensor(settings),
        *release_sensors(settings, {job.name for job in JOBS}),
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


_BY_HAND = "__ASSET_JOB"
_MOST_STEPS, _MOST_CHARACTERS = 3, 300


def failure_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """`alert_on_failure` and `alert_on_recovery`, of every job of this code location."""

    @dg.run_failure_sensor(
        name="alert_on_failure",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=settings.sensor_s,
        description="Tells of a run that has failed: its job, its step, the first line of its error.",
    )
    def alert_on_failure(context: dg.RunFailureSensorContext) -> Any:
        run = context.dagster_run
        errors = [(event.step_key or "", _error_of(event)) for event in context.get_step_failure_events()]
        return _done(context, settings, AlertChanges((failed_run(run, errors, context.failure_event.message or ""),)))

    @dg.run_status_sensor(
        name="alert_on_recovery",
        run_status=dg.DagsterRunStatus.SUCCESS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=settings.sensor_s,
        description="Tells that a job which had failed has succeeded, and tries again what was not delivered.",
    )
    def alert_on_recovery(context: dg.RunStatusSensorContext) -> Any:
        run = context.dagster_run
        words = f"{_job_words(run)} has succeeded (run {run.run_id[:8]})."
        return _done(context, settings, AlertChanges(ended={_key(run): words}))

    return [alert_on_failure, alert_on_recovery]


def failed_run(run: dg.DagsterRun, errors: list[tuple[str, str]], message: str) -> Alert:
    """The alert of a failed run; `errors` are (step, error), `message` Dagster's own of the whole run."""
    told = [f"step {step}: {_first_line(error)}" for step, error in errors if error]
    more = f"; and {len(told) - _MOST_STEPS} more steps" if len(told) > _MOST_STEPS else ""
    words = "; ".join(told[:_MOST_STEPS]) + more or _first_line(message) or "Dagster names no error"
    where = f"Look closer: `churn ui`, Runs, {run.run_id[:8]}; docs/operations.md says what to do."
    return Alert(_key(run), "failed_run", f"{_job_words(run)} failed", f"{words}\n{where}", "error")


def _done(context: Any, settings: Settings, changes: AlertChanges) -> dg.SkipReason | None:
    told = tell(context, settings, changes).get("alerts_told")
    return dg.SkipReason(told) if told else None


def _key(run: dg.DagsterRun) -> str:
    return f"failed_run:{run.job_name}"


def _job_words(run: dg.DagsterRun) -> str:
    return "A run by hand" if run.job_name == _BY_HAND else f"Job {run.job_name}"


def _error_of(event: dg.DagsterEvent) -> str:
    """The innermost message: what was raised, not what Dagster wrapped around it."""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message if error is not None else ""


def _first_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[0].strip()[:_MOST_CHARACTERS] if lines else ""
