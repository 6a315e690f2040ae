"""When jobs run by themselves; all of it is off until someone turns it on."""

from typing import Any

import dagster as dg

from churn_assets.defs.jobs import decide, score
from churn_assets.settings import Settings


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """One schedule a job, at CHURN_RETRAIN_CRON and CHURN_SCORE_CRON (UTC)."""
    return [
        dg.ScheduleDefinition(
            name="weekly_retraining",
            job=decide,
            run_config_fn=ask,
            cron_schedule=settings.retrain_cron,
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="Ask for a retraining; the decision says whether it is time for one.",
        ),
        dg.ScheduleDefinition(
            name="nightly_scoring",
            job=score,
            cron_schedule=settings.score_cron,
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="Make the call list again.",
        ),
    ]


def ask(context: dg.ScheduleEvaluationContext) -> dict[str, Any]:
    """The decision's config of one tick; a tick that runs twice is one occasion."""
    at = context.scheduled_execution_time
    config = {"trigger": "schedule", "occasion": f"{at:%Y%m%dT%H%M}"}
    return {"ops": {"retraining_decision": {"config": config}}}
