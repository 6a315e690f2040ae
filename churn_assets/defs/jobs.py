"""Jobs: which assets are materialised together, and the schedules that run them.

Schedules that train or score are stopped until a person starts them; ingest and monitoring run.
"""

from typing import Any

import dagster as dg

from churn_assets.defs.policy import LOG, MODELS
from churn_assets.settings import Settings

# The fork server of `churn ui` imports training libraries before the first step: more CPU than these jobs take in all.
_SHORT = dg.in_process_executor

# From reading the table to a Bento with the champion; the call list has a job of its own.
_TRAINING = dg.AssetSelection.assets("registered_model", "churn_bento").upstream() | dg.AssetSelection.assets(
    "rejected_customers", "data_profile", "model_report", "cross_validation"
)

train = dg.define_asset_job(
    "train",
    selection=_TRAINING,
    tags=MODELS,
    description="Read, validate, train, choose, cross-validate, report, register; build the Bento.",
)

retrain = dg.define_asset_job(
    "retrain",
    selection=_TRAINING,
    tags=MODELS,
    config={"ops": {"validation": {"config": {"with_labels": True}}}},
    description="Train on the table and on predictions whose label is final: a challenger.",
)

score = dg.define_asset_job(
    "score",
    selection=dg.AssetSelection.assets("risk_list"),
    tags=MODELS,
    description="Rank the customers that were validated last, by the current champion.",
)

ingest_log = dg.define_asset_job(
    "ingest_log",
    executor_def=_SHORT,
    selection=dg.AssetSelection.assets("prediction_log", "feedback_log"),
    tags=LOG,
    description="Ingest the prediction log into the warehouse and publish a copy for readers.",
)

monitor = dg.define_asset_job(
    "monitor",
    executor_def=_SHORT,
    selection=dg.AssetSelection.groups("monitoring") - dg.AssetSelection.assets("promotion"),
    tags=LOG,
    description="Ingest; report on data quality, drift and labels; decide whether to retrain.",
)

decide = dg.define_asset_job(
    "decide",
    executor_def=_SHORT,
    selection=dg.AssetSelection.assets("retraining_decision"),
    description="Decide by the latest reports whether to retrain; makes no report.",
)

promote = dg.define_asset_job(
    "promote",
    executor_def=_SHORT,
    selection=dg.AssetSelection.assets("promotion"),
    tags=MODELS,
    description="Compare waiting challengers with the champion; one that passes the gate replaces it.",
)

JOBS = [train, retrain, score, ingest_log, monitor, decide, promote]


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """One schedule a job, at CHURN_RETRAIN_CRON, CHURN_SCORE_CRON, CHURN_INGEST_CRON, CHURN_MONITOR_CRON (UTC)."""
    stopped, running = dg.DefaultScheduleStatus.STOPPED, dg.DefaultScheduleStatus.RUNNING
    rows = [
        (
            *("weekly_retraining", decide, settings.retrain_cron, stopped),
            "Request a retraining; the decision says whether it is time for one.",
        ),
        ("nightly_scoring", score, settings.score_cron, stopped, "Make the call list again."),
        (
            *("hourly_ingest", ingest_log, settings.ingest_cron, running),
            "Ingest segments of workers that died, and archive old segments.",
        ),
        ("daily_monitoring", monitor, settings.monitor_cron, running, "Ingest, and report on new windows."),
    ]
    return [
        dg.ScheduleDefinition(
            name=name,
            job=job,
            cron_schedule=cron,
            default_status=status,
            description=description,
            run_config_fn=decision_config if job is decide else None,
        )
        for name, job, cron, status, description in rows
    ]


def decision_config(context: dg.ScheduleEvaluationContext) -> dict[str, Any]:
    """Run config of the decision for one tick; a tick that runs twice is one occasion."""
    scheduled_at = context.scheduled_execution_time
    config = {"trigger": "schedule", "occasion": f"{scheduled_at:%Y%m%dT%H%M}"}
    return {"ops": {"retraining_decision": {"config": config}}}
