"""Alerts of assets, sensors and failed runs: into the home's alerts, the run's log and the metadata."""

import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from churn_assets.alerting.alerts import Alert, raise_alert, recover_alert, send_waiting
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.rules import AlertChanges
from churn_assets.defs.policy import STATUS_TICKS
from churn_assets.settings import Settings

_BY_HAND = "__ASSET_JOB"
_MOST_STEPS, _MOST_CHARACTERS = 3, 300


@dataclass(frozen=True)
class HomeAlerts:
    """The alerts of one home, a resource. Where they go is read when they are sent: no URL is in Dagster's config."""

    home: Path

    def update(self, log: logging.Logger, changes: AlertChanges, now: datetime | None = None) -> dict[str, str]:
        """Raise and end what `changes` has; metadata for the asset. Never fails the asset it is called from.

        What waited for a destination is tried again, news or not.
        """
        now = now or datetime.now(UTC)
        settings, problem = AlertSettings.or_unsent(os.environ, self.home)
        messages = [problem] if problem else []
        results = [(alert.title, raise_alert(settings, alert, now)) for alert in changes.raised]
        results += [(key, recover_alert(settings, key, ending, now)) for key, ending in changes.ended.items()]
        if not results:
            results = [("alerts that waited", send_waiting(settings, now))]
        messages += [f"{subject}: {result.summary}" for subject, result in results if result.summary]
        for message in messages:
            log.info(message)
        raised = ", ".join(alert.title for alert in changes.raised)
        return {"alerts": raised or "none", **({"alerts_told": "; ".join(messages)} if messages else {})}


def failure_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """`alert_on_failure` and `alert_on_recovery`, of every job of this code location."""

    @dg.run_failure_sensor(
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=STATUS_TICKS * settings.sensor_s,
        description="Alerts of a run that has failed: its job, its step, the first line of its error.",
    )
    def alert_on_failure(context: dg.RunFailureSensorContext) -> Any:
        run = context.dagster_run
        errors = [(event.step_key or "", _error_of(event)) for event in context.get_step_failure_events()]
        return _done(context, settings, AlertChanges((failed_run(run, errors, context.failure_event.message or ""),)))

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=STATUS_TICKS * settings.sensor_s,
        description="Ends the alert of a failed job when it succeeds, and tries again what was not delivered.",
    )
    def alert_on_recovery(context: dg.RunStatusSensorContext) -> Any:
        run = context.dagster_run
        ending = f"{_job_name(run)} has succeeded (run {run.run_id[:8]})."
        return _done(context, settings, AlertChanges(ended={f"failed_run:{run.job_name}": ending}))

    return [alert_on_failure, alert_on_recovery]


def failed_run(run: dg.DagsterRun, errors: list[tuple[str, str]], message: str) -> Alert:
    """The alert of a failed run; `errors` are (step, error), `message` Dagster's own of the whole run."""
    failures = [f"step {step}: {_first_line(error)}" for step, error in errors if error]
    more = f"; and {len(failures) - _MOST_STEPS} more steps" if len(failures) > _MOST_STEPS else ""
    reason = "; ".join(failures[:_MOST_STEPS]) + more or _first_line(message) or "Dagster names no error"
    where = f"Look closer: `churn ui`, Runs, {run.run_id[:8]}; docs/operations.md says what to do."
    return Alert(f"failed_run:{run.job_name}", "failed_run", f"{_job_name(run)} failed", f"{reason}\n{where}", "error")


def _done(context: Any, settings: Settings, changes: AlertChanges) -> dg.SkipReason | None:
    message = HomeAlerts(settings.home).update(context.log, changes).get("alerts_told")
    return dg.SkipReason(message) if message else None


def _job_name(run: dg.DagsterRun) -> str:
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
