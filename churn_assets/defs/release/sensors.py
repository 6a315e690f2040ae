"""The watch over a release from the loop: final labels, and the deadline where no service runs."""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from churn_assets.errors import ChurnError, TransitionRefused
from churn_assets.settings import Settings

LOG = logging.getLogger("churn.release")


def release_watch_sensor(
    settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> dg.SensorDefinition:
    """Judges the release that runs by the guardrails, and makes the move that follows, as the service does."""

    @dg.sensor(
        minimum_interval_seconds=settings.sensor_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends a release that crosses a guardrail or has passed its deadline; goes on with a canary.",
    )
    def release_watch(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        return dg.SkipReason(watch_release(settings, clock(), context.log))

    return release_watch


def watch_release(settings: Settings, now: datetime, log: logging.Logger = LOG) -> str:
    """Judge the release that runs, and move it, or remind a person of it; what was done, or why nothing was."""
    from churn_assets.release.policy import read_policy

    try:
        policy = read_policy(settings.home)  # one small file: nothing else is imported while no release runs
        if policy is None or policy.kind == "champion":
            return "no release runs"
        return _judge(settings, now, log)
    except (ChurnError, OSError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _judge(settings: Settings, now: datetime, log: logging.Logger) -> str:
    from churn_assets.alerting.rules import waiting_release_alerts
    from churn_assets.defs.alerts import HomeAlerts
    from churn_assets.promotion.releases import LOOP, Releases
    from churn_assets.release.counts import read_counts
    from churn_assets.release.guardrails import (
        GuardrailReport,
        LabelFigures,
        Period,
        judge_guardrails,
        read_label_figures,
    )
    from churn_assets.release.policy import CHAMPION, Policy

    releases = Releases.of(settings)
    status = releases.status()
    policy = status.policy
    if policy is None or not status.is_running:
        return "no release runs"
    run: list[Policy] = [m.after for m in status.moves if m.after.id in status.rollout and m.after.kind == policy.kind]
    periods = [
        Period(sum(arm.weight for arm in each.arms if arm.name != CHAMPION), read_counts(settings.home, each.id))
        for each in run
    ]
    # The figures are made once a round of monitoring: those of an earlier step of this canary hold until the next.
    labels: Mapping[str, LabelFigures] = next(
        filter(None, (read_label_figures(settings.home, each.id) for each in reversed(run))), {}
    )
    report: GuardrailReport = judge_guardrails(policy, periods, labels, now=now)
    numbers: dict[str, Any] = report.to_json()
    try:
        if report.move in ("advance", "promote"):
            releases.advance(policy.id, LOOP, report.message, numbers)
        elif report.move == "rollback":
            releases.end(policy.id, "rolled_back", report.message, numbers, LOOP)
        elif report.move == "inconclusive":
            releases.end(policy.id, "inconclusive", report.message, numbers, LOOP)
    except TransitionRefused as refusal:  # the service was faster, or a rule forbids it: a person decides
        return f"{policy.id}: {refusal}"
    reminder = waiting_release_alerts(policy, report, now)
    if reminder.raised:
        HomeAlerts(settings.home).update(log, reminder, now)
    return f"{policy.id}: {report.move}: {report.message}"
