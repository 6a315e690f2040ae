"""When jobs run by themselves. What trains or calls is off until someone turns it on; looking is on."""

import dagster as dg

from churn_assets.defs.jobs import ingest_log, monitor, score, train
from churn_assets.settings import Settings


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """One schedule a job, at the CHURN_*_CRON of the settings (UTC)."""
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
        ),
        dg.ScheduleDefinition(
            name="hourly_ingest",
            job=ingest_log,
            cron_schedule=settings.ingest_cron,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Take what dead workers left behind, and archive what is old.",
        ),
    ]
