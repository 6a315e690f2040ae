"""From the ledger to runs: each open request and each challenger that waits gets exactly one at a time.

A tick reads the ledger, and Dagster's own runs only while something is in flight there. A failed run is counted
in the ledger once, whether Dagster reports it or a later tick finds it.
"""

from collections.abc import Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import dagster as dg
from dagster import DagsterRunStatus as Status

from churn_assets.defs.alerts import HomeAlerts
from churn_assets.defs.policy import STATUS_TICKS
from churn_assets.errors import TransitionRefused
from churn_assets.promotion.heartbeat import beat
from churn_assets.promotion.ledger import IN_FLIGHT, Ledger
from churn_assets.promotion.records import Challenger, Request
from churn_assets.promotion.service import PromotionService, RunState
from churn_assets.settings import Settings

REQUEST, CHALLENGER, RUN_KEY = "churn/request", "churn/challenger", "churn/run_key"
RETRAIN, PROMOTE = "retrain", "promote"
State = Literal["running", "succeeded", "failed", "canceled"]
_STATUS: Mapping[Status, State] = {  # of a run that has ended
    Status.SUCCESS: "succeeded",
    Status.FAILURE: "failed",
    Status.CANCELED: "canceled",
}

Sensors = list[dg.SensorDefinition]


class Runs(Protocol):
    """The part of Dagster's instance that the sensors read."""

    def get_runs(self, filters: dg.RunsFilter | None = None, *, limit: int | None = None) -> Sequence[dg.DagsterRun]:
        """Runs, the newest first."""
        ...

    def get_run_by_id(self, run_id: str) -> dg.DagsterRun | None:
        """One run, None if it is not known."""
        ...

    def all_logs(
        self, run_id: str, of_type: dg.DagsterEventType | set[dg.DagsterEventType] | None = None
    ) -> Sequence[dg.EventLogEntry]:
        """Events of a run, the oldest first."""
        ...


def release_sensors(settings: Settings, jobs: Set[str]) -> Sensors:
    """The sensors of the loop; one whose job is not among `jobs` is left out."""
    running = dg.DefaultSensorStatus.RUNNING
    options: dict[str, Any] = {"minimum_interval_seconds": settings.sensor_s, "default_status": running}

    @dg.sensor(
        job_name=RETRAIN,
        description="Runs `retrain` once for each request that a decision has put into the ledger.",
        **options,
    )
    def retrain_on_decision(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        beat(settings, datetime.now(UTC))
        service, ledger = PromotionService.of(settings), Ledger.of(settings)
        service.recover()
        if not ledger.requests(*IN_FLIGHT):  # Dagster makes the instance when it is first used: not in idle ticks
            return dg.SkipReason("no request is open")
        runs = runs_to_retrain(service, ledger, context.instance)
        if runs and (broken := ledger.broken_data()) is not None:
            return dg.SkipReason(f"{runs[0].run_key} waits until the data is complete: {broken}")
        return dg.SensorResult(run_requests=runs) if runs else dg.SkipReason("no request is open")

    @dg.sensor(
        job_name=PROMOTE,
        description="Runs `promote` for each challenger that waits for the gate or was approved.",
        **options,
    )
    def promote_on_approval(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        service, ledger = PromotionService.of(settings), Ledger.of(settings)
        service.recover()
        _tell_releases(context, settings, ledger)
        if not ledger.challengers_to_promote():
            return dg.SkipReason("no challenger waits for the gate")
        runs = runs_to_promote(service, ledger, context.instance)
        if not runs:
            return dg.SkipReason("no challenger waits for the gate")
        return dg.SensorResult(run_requests=runs, cursor=context.cursor)

    @dg.run_failure_sensor(
        description="Opens a request again, up to three times, when its run has failed.",
        default_status=running,
        minimum_interval_seconds=STATUS_TICKS * settings.sensor_s,  # retrain_on_decision finds such a run as well
    )
    def requests_of_failed_runs(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        message = context.failure_event.message or "it failed"
        return record_failure(PromotionService.of(settings), context.dagster_run, message)

    own_jobs = [sensor for sensor in (retrain_on_decision, promote_on_approval) if sensor.job_name in jobs]
    return [requests_of_failed_runs, *own_jobs]


def _tell_releases(context: dg.SensorEvaluationContext, settings: Settings, ledger: Ledger) -> None:
    """Raise and end the alerts of releases, once for each move of the policy: the cursor is the newest one's number."""
    newest = ledger.newest_policy_move("done")
    if newest is None or context.cursor == str(newest.number):
        return
    from churn_assets.alerting.rules import release_alerts

    HomeAlerts(settings.home).update(context.log, release_alerts(ledger.policy_moves("done")))
    context.update_cursor(str(newest.number))


def runs_to_retrain(service: PromotionService, ledger: Ledger, instance: Runs) -> list[dg.RunRequest]:
    """A run for each open request, after requests whose runs have ended are settled."""
    service.recover()
    for request in ledger.requests(*IN_FLIGHT):
        service.settle_request(request, _runs_of_request(instance, request))
    return [dg.RunRequest(run_key=request.key, tags={REQUEST: request.key}) for request in ledger.requests("open")]


def runs_to_promote(service: PromotionService, ledger: Ledger, instance: Runs) -> list[dg.RunRequest]:
    """A run of the gate for each challenger that is to be judged or promoted, and that no run is processing."""
    service.recover()
    for challenger in ledger.challengers_to_promote():
        _settle_gate_run(service, challenger, instance)
    idle = [challenger for challenger in ledger.challengers_to_promote() if not _is_processed(instance, challenger)]
    # A run that has just ended may have left "approved" behind for a moment: the ledger is read once more.
    current = {challenger.run_key for challenger in ledger.challengers_to_promote()} if idle else set()
    return [
        dg.RunRequest(run_key=c.run_key, tags={CHALLENGER: c.version, RUN_KEY: c.run_key})
        for c in idle
        if c.run_key in current
    ]


def record_failure(service: PromotionService, run: dg.DagsterRun, why: str) -> dg.SkipReason | None:
    """Count a failed run against its request or its challenger; a reason to skip if it has neither."""
    message = " ".join(why.split())[:300]
    if key := run.tags.get(REQUEST):
        try:
            service.fail_request(key, run.run_id, message)
        except TransitionRefused as error:  # a ledger that was moved away does not have it
            return dg.SkipReason(str(error))
        return None
    if run_key := run.tags.get(RUN_KEY):
        service.fail_gate_run(run_key, message)
        return None
    return dg.SkipReason(f"Dagster run {run.run_id} has neither a request nor a challenger")


def _runs_of_request(instance: Runs, request: Request) -> list[RunState]:
    runs = [*_runs(instance, {REQUEST: request.key})]
    if request.run_id is not None and all(run.run_id != request.run_id for run in runs):
        run = instance.get_run_by_id(request.run_id)  # started by hand, without the tag
        runs += [] if run is None else [run]
    return [RunState(run.run_id, _state(instance, run)) for run in runs]


def _state(instance: Runs, run: dg.DagsterRun) -> State:
    """A run that was marked as canceled from outside, once it was launched, has failed: its process is gone or hangs.
    One that a person canceled reports that itself, or never left the queue."""
    state: State = _STATUS.get(run.status, "running")
    if state != "canceled":
        return state
    types = {dg.DagsterEventType.RUN_STARTING, dg.DagsterEventType.RUN_START, dg.DagsterEventType.RUN_CANCELED}
    events = [event.get_dagster_event() for event in instance.all_logs(run.run_id, of_type=types)]
    forced = bool(events) and events[-1].event_specific_data is None
    return "failed" if forced and len(events) > 1 else "canceled"


def _settle_gate_run(service: PromotionService, challenger: Challenger, instance: Runs) -> None:
    """Count a run of the gate that has ended and left its challenger where it was."""
    runs = _runs(instance, {RUN_KEY: challenger.run_key})
    if runs and all(run.status in _STATUS for run in runs):
        service.fail_gate_run(challenger.run_key, f"run {runs[0].run_id} ended as {runs[0].status.value}")


def _is_processed(instance: Runs, challenger: Challenger) -> bool:
    """Whether a run has this challenger now: it may have approved it itself a moment ago."""
    return any(run.status not in _STATUS for run in _runs(instance, {CHALLENGER: challenger.version}))


def _runs(instance: Runs, tags: dict[str, str]) -> Sequence[dg.DagsterRun]:
    """Runs with these tags, the newest first."""
    return instance.get_runs(filters=dg.RunsFilter(tags=tags), limit=20)
