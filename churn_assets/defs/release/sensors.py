"""The watch over a release from the loop: final labels, and the deadline where no service runs."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg

from churn_assets.errors import ChurnError
from churn_assets.mlflow_registry.registry import peek_alias
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import read_champion
from churn_assets.promotion.rollout.watch import ReleaseWatch
from churn_assets.settings import Settings

PUBLISH = "publish_champion"  # the job


def release_watch_sensor(
    settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> dg.SensorDefinition:
    """Judges the release that runs by the guardrails, and makes the move that follows, as the service does. A champion
    that moved without the gate is published by a run."""
    watch = ReleaseWatch(settings, clock)

    @dg.sensor(
        job_name=PUBLISH,
        minimum_interval_seconds=settings.sensor_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends a release that crosses a guardrail or has passed its deadline; goes on with a canary; tells "
        "MLflow of a champion that moved without the gate.",
    )
    def release_watch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        outcome = watch.check()
        remind(settings, clock(), context.log)
        try:
            move = move_to_publish(settings, context.cursor)
        except (ChurnError, OSError, ValueError) as error:
            return dg.SkipReason(f"{outcome}; {type(error).__name__}: {' '.join(str(error).split())}")
        if move is None:
            return dg.SkipReason(outcome)
        context.log.info(outcome)
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"{PUBLISH}-{move}")], cursor=move)

    return release_watch


def remind(settings: Settings, now: datetime, log: logging.Logger) -> None:
    """Raise the alert of a release that waits for a person after its deadline, by the last report of its guardrails."""
    from churn_assets.release.policy import read_policy

    try:
        policy = read_policy(settings.home)
        if policy is None or policy.deadline_at is None or now < policy.deadline_at:
            return
        from churn_assets.alerting.rules import waiting_release_alerts
        from churn_assets.defs.alerts import HomeAlerts
        from churn_assets.release.guardrails import read_report

        report = read_report(settings.home, policy.id)
    except (ChurnError, OSError, ValueError):  # which the check has told
        return
    if report is not None and (reminder := waiting_release_alerts(policy, report, now)).raised:
        HomeAlerts(settings.home).update(log, reminder, now)


def move_to_publish(settings: Settings, seen: str | None) -> str | None:
    """The newest move of the champion, as text, if MLflow may not know it yet; None if it does, and for the move that
    was `seen` before. Reads small files only. Raises LedgerCorrupt, LedgerUnavailable, PointerCorrupt."""
    champion, moves = read_champion(settings.home), Ledger(settings.ledger_path).moves("done")
    if champion is None or champion.registered_version is None or not moves or str(moves[-1].number) == seen:
        return None
    is_known = peek_alias(settings.mlflow_uri, "champion") == champion.registered_version
    return None if is_known else str(moves[-1].number)
