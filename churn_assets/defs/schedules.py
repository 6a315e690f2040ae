"""Schedules. Those that train or score are stopped until a person starts them; ingest and monitoring run."""

from typing import Any

import dagster as dg

from churn_assets.defs.jobs import decide, ingest_log, monitor, score
from churn_assets.settings import Settings


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """One schedule a job, at CHURN_RETRAIN_CRON, CHURN_SCORE_CRON, CHURN_INGEST_CRON, CHURN_MONITOR_CRON (UTC)."""
    return [
        dg.ScheduleDefinition(
            name="weekly_retraining",
            job=decide,
            run_config_fn=decision_config,
            cron_schedule=settings.retrain_cron,
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="Request a retraining; the decision says whether it is time for one.",
        ),
        dg.ScheduleDefinition(
            name="nightly_scoring",
            job=score,
            cron_schedule=settings.score_cron,
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="Make the call list again.",
        ),
        dg.ScheduleDefinition(
            name="hourly_ingest",
            job=ingest_log,
            cron_schedule=settings.ingest_cron,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Ingest segments of workers that died, and archive old segments.",
        ),
        dg.ScheduleDefinition(
            name="daily_monitoring",
            job=monitor,
            cron_schedule=settings.monitor_cron,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Ingest, and report on new windows.",
        ),
    ]


def decision_config(context: dg.ScheduleEvaluationContext) -> dict[str, Any]:
    """Run config of the decision for one tick; a tick that runs twice is one occasion."""
    scheduled_at = context.scheduled_execution_time
    config = {"trigger": "schedule", "occasion": f"{scheduled_at:%Y%m%dT%H%M}"}
    return {"ops": {"retraining_decision": {"config": config}}}
