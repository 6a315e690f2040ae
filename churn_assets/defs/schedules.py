"""When jobs run by themselves; all of it is off until someone turns it on."""

import dagster as dg

from churn_assets.defs.jobs import score, train
from churn_assets.settings import Settings


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """One schedule a job, at CHURN_RETRAIN_CRON and CHURN_SCORE_CRON (UTC)."""
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
    ]
