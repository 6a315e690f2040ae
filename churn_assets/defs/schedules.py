"""When jobs run by themselves. What trains or calls is off until someone turns it on; looking is on."""

import dagster as dg

from churn_assets.defs.jobs import monitor, score, train
"""When jobs run by themselves. What trains or scores is off until someone turns it on."""

import dagster as dg

from churn_assets.defs.jobs import ingest_log, score, train
from churn_assets.settings import Settings


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """One schedule a job, at CHURN_RETRAIN_CRON, CHURN_SCORE_CRON and CHURN_MONITOR_CRON (UTC)."""
    """One schedule a job, at CHURN_RETRAIN_CRON, CHURN_SCORE_CRON and CHURN_INGEST_CRON (UTC)."""
    return [
        dg.ScheduleDefinition(
            name="weekly_retraining",
            job=train,
            cron_schedule=settings.retrain_cron,
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="Train on the table as it is then.",
        ),
        dg.ScheduleDefinition(
            name="nightly_scoring",
            job=score,
            cron_schedule=settings.score_cron,
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="Make the call list again.",
        ),
        dg.ScheduleDefinition(
            name="daily_monitoring",
            job=monitor,
            cron_schedule=settings.monitor_cron,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Ingest, and judge what has come.",
            name="hourly_ingest",
            job=ingest_log,
            cron_schedule=settings.ingest_cron,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Take what dead workers left behind, and archive what is old.",
        ),
    ]
