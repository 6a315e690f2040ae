"""From the ledger to runs: each open request and each challenger that waits gets exactly one at a time.

A tick reads the ledger, and Dagster's own runs only while something is in flight there. What a run died
of is counted in the ledger once, whether its failure is told by Dagster or found by a later tick.
"""

from collections.abc import Sequence, Set
from typing import Protocol

import dagster as dg
from dagster import DagsterRunStatus as Status

from churn_assets.errors import TransitionRefused
from churn_assets.promotion.champion import recover
from churn_assets.promotion.ledger.ledger import Ledger
from churn_assets.promotion.records import Challenger, Request
from churn_assets.settings import Settings

REQUEST, CHALLENGER, RUN_KEY = "churn/request", "churn/challenger", "churn/run_key"
RETRAIN, PROMOTE = "retrain", "promote"
_ENDED = (Status.SUCCESS, Status.FAILURE, Status.CANCELED)
_RUNNING = dg.DefaultSensorStatus.RUNNING

Sensors = list[dg.SensorDefinition]


class Runs(Protocol):
    """What is asked of Dagster's instance."""

    def get_runs(self, filters: dg.RunsFilter | None = None, *, limit: int | None = None) -> Sequence[dg.DagsterRun]:
        """Runs, the newest first."""
        ...

    def get_run_by_id(self, run_id: str) -> dg.DagsterRun | None:
        """One run, None if it is not known."""
        ...


def release_sensors(settings: Settings, jobs: Set[str]) -> Sensors:
    """The sensors of the loop; one whose job is not among `jobs` is left out."""
    found: Sensors = [_failures(settings)]
    return found + [sensor for sensor in (_retrain(settings), _promote(settings)) if sensor.job_name in jobs]


def _retrain(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="retrain_on_decision",
        job_name=RETRAIN,
        minimum_interval_seconds=settings.sensor_s,
        default_status=_RUNNING,
        description="Runs `retrain` once for each request that a decision has put into the ledger.",
    )
    def retrain_on_decision(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        asked = runs_to_retrain(settings, context.instance)
        if broken := Ledger(settings.ledger_path).broken_data() if asked else "":
            return dg.SkipReason(f"{asked[0].run_key} waits until the data is whole: {broken}")
        return dg.SensorResult(run_requests=asked) if asked else dg.SkipReason("no request is open")

    return retrain_on_decision


def _promote(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="promote_on_approval",
        job_name=PROMOTE,
        minimum_interval_seconds=settings.sensor_s,
        default_status=_RUNNING,
        description="Runs `promote` for each challenger that waits for the gate or was approved.",
    )
    def promote_on_approval(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        asked = runs_to_promote(settings, context.instance)
        return dg.SensorResult(run_requests=asked) if asked else dg.SkipReason("no challenger waits for the gate")

    return promote_on_approval


def _failures(settings: Settings) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="requests_of_failed_runs",
        default_status=_RUNNING,
        minimum_interval_seconds=settings.sensor_s,
        description="Opens a request again, up to three times, when its run has failed.",
    )
    def requests_of_failed_runs(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        return tell_failure(settings, context.dagster_run, context.failure_event.message or "it failed")

    return requests_of_failed_runs


def runs_to_retrain(settings: Settings, instance: Runs) -> list[dg.RunRequest]:
    """A run for each open request, after what runs have left in flight is ended."""
    recover(settings)
    ledger = Ledger(settings.ledger_path)
    for request in ledger.requests_in_flight():
        settle(ledger, request, instance)
    return [dg.RunRequest(run_key=request.key, tags={REQUEST: request.key}) for request in ledger.open_requests()]


def runs_to_promote(settings: Settings, instance: Runs) -> list[dg.RunRequest]:
    """A run of the gate for each challenger that is to be judged or promoted, and that none is at."""
    recover(settings)
    ledger = Ledger(settings.ledger_path)
    for challenger in ledger.challengers_to_promote():
        settle_promotion(ledger, challenger, instance)
    idle = [one for one in ledger.challengers_to_promote() if not _under_way(instance, one)]
    # A run that has just ended may have left "approved" behind for a moment: what is true now counts.
    now = {one.run_key for one in ledger.challengers_to_promote()} if idle else set()
    return [
        dg.RunRequest(run_key=one.run_key, tags={CHALLENGER: one.version, RUN_KEY: one.run_key})
        for one in idle
        if one.run_key in now
    ]


def tell_failure(settings: Settings, run: dg.DagsterRun, why: str) -> dg.SkipReason | None:
    """Count a failed run against its request or its challenger; a reason to skip if it has neither."""
    ledger, words = Ledger(settings.ledger_path), " ".join(why.split())[:300]
    if key := run.tags.get(REQUEST):
        try:
            ledger.fail_request(key, run.run_id, words)
        except TransitionRefused as error:  # a ledger that was moved away knows nothing of it
            return dg.SkipReason(str(error))
        return None
    if run_key := run.tags.get(RUN_KEY):
        ledger.fail_promotion(run_key, words)
        return None
    return dg.SkipReason(f"Dagster run {run.run_id} served no request")


def settle(ledger: Ledger, request: Request, instance: Runs) -> None:
    """Say which run has taken a request, or end it: its run failed, was canceled, vanished, or said nothing."""
    runs = [*_runs(instance, {REQUEST: request.key})]
    if request.run_id is not None and all(run.run_id != request.run_id for run in runs):
        taken = instance.get_run_by_id(request.run_id)  # started by hand, without the tag
        runs += [] if taken is None else [taken]
    under_way = [run for run in runs if run.status not in _ENDED]
    if under_way:
        if request.status == "open":
            ledger.start_request(request.key, under_way[0].run_id)
        return
    if not runs:
        if request.run_id is not None:
            ledger.fail_request(request.key, request.run_id, "Dagster does not know the run any more")
        return
    newest = runs[0]
    if newest.status is Status.FAILURE:
        ledger.fail_request(request.key, request.run_id or newest.run_id, "the run failed")
    elif newest.status is Status.CANCELED:
        ledger.finish_request(request.key, f"run {newest.run_id} was canceled by a person")
    else:
        ledger.finish_request(request.key, f"run {newest.run_id} ended and left no challenger")


def settle_promotion(ledger: Ledger, challenger: Challenger, instance: Runs) -> None:
    """Count a run of the gate that has ended and left its challenger where it was."""
    runs = _runs(instance, {RUN_KEY: challenger.run_key})
    if runs and all(run.status in _ENDED for run in runs):
        ledger.fail_promotion(challenger.run_key, f"run {runs[0].run_id} ended as {runs[0].status.value}")


def _under_way(instance: Runs, challenger: Challenger) -> bool:
    """Whether a run is at this challenger now: it may have approved it itself a moment ago."""
    return any(run.status not in _ENDED for run in _runs(instance, {CHALLENGER: challenger.version}))


def _runs(instance: Runs, tags: dict[str, str]) -> Sequence[dg.DagsterRun]:
    """Runs with these tags, the newest first."""
    return instance.get_runs(filters=dg.RunsFilter(tags=tags), limit=20)
