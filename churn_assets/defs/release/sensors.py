"""The watch over a release from the loop: final labels, and the deadline where no service runs."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from churn_assets.errors import ChurnError
from churn_assets.settings import Settings

if TYPE_CHECKING:
    from churn_assets.promotion.rollout.guard import ReleaseGuard

_LOGGER = logging.getLogger(__name__)


def release_watch_sensor(
    settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> dg.SensorDefinition:
    """Judges the release that runs by the guardrails, and makes the move that follows, as the service does."""
    watch = ReleaseWatch(settings, clock)

    @dg.sensor(
        minimum_interval_seconds=settings.sensor_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends a release that crosses a guardrail or has passed its deadline; goes on with a canary.",
    )
    def release_watch(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        outcome = watch.check()
        remind(settings, clock(), context.log)
        return dg.SkipReason(outcome)

    return release_watch


class ReleaseWatch:
    """The one guard of a release (`promotion.rollout.guard`), whose moves are the loop's; kept from tick to tick."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._settings, self._clock = settings, clock
        self._guard: ReleaseGuard | None = None

    def check(self) -> str:
        """Let the policy follow the champion, judge the release that runs, and move it; what was done, or why nothing
        was."""
        from churn_assets.release.policy import read_policy

        try:
            policy = read_policy(self._settings.home)  # a small file: nothing else is imported while no release runs
            if policy is None or policy.kind == "champion":
                return "no release runs"
            return self._judge()
        except (ChurnError, OSError, ValueError) as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())}"

    def _judge(self) -> str:
        from churn_assets.promotion.releases import LOOP, Releases
        from churn_assets.promotion.rollout.guard import ReleaseGuard

        Releases.of(self._settings).recover()
        if self._guard is None:
            self._guard = ReleaseGuard(self._settings, _report, by=LOOP, clock=self._clock)
        return self._guard.check()


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


def _report(level: int, event: str, **facts: object) -> None:
    """As the service's `log_event`, into the log of the loop."""
    _LOGGER.log(level, "%s: %s", event, "; ".join(f"{name} {value}" for name, value in facts.items()))
