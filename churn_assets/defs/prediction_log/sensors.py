"""The sensors of the prediction log: a segment that is ready is ingested, a window that is complete is reported on."""

import datetime as dt
import time
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from churn_assets.defs.jobs import ingest_log, monitor
from churn_assets.errors import ChurnError, LogUnreadable
from churn_assets.monitoring.open_window import is_closed, read_open_window_file
from churn_assets.prediction_log.warehouse.ingest import pending
from churn_assets.promotion.heartbeat import beat
from churn_assets.settings import Settings

_MAX_WAIT_S = 600.0
_RECENT_RUNS = 8  # runs
_MOST_BYTES = 32 * 2**20  # read in a tick; so many lines complete a window of any usual size
_EARLY_TICKS = 20  # between two tries
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def ingest_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of this home's log. It keeps no cursor: a segment is new as long as it is named `.ready`."""

    @dg.sensor(
        jobs=[ingest_log, monitor],
        minimum_interval_seconds=settings.sensor_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ingests segments of the log that are ready, by `monitor` if they may complete a window.",
    )
    def ingest_on_new_segments(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        beat(settings, dt.datetime.now(dt.UTC))
        try:
            segments = pending(settings.predlog_dir)
        except LogUnreadable as error:
            return dg.SkipReason(str(error))
        if not segments:
            return dg.SkipReason(f"no new segments in {settings.predlog_dir}")
        reason = reason_to_wait(context.instance, settings.sensor_s, time.time())
        if reason is not None:
            return dg.SkipReason(reason)
        job = monitor if _may_complete_a_window(settings, segments, context.instance) else ingest_log
        return dg.RunRequest(job_name=job.name, tags={"churn/segments": str(len(segments))})

    return ingest_on_new_segments


def _may_complete_a_window(settings: Settings, segments: Sequence[Path], instance: dg.DagsterInstance) -> bool:
    """Whether the open window may be full with these segments: `monitor`, which ingests too, then saves a run and a
    tick. It may not be, as customers come again; so this is tried once in a while, and window_sensor has the rest."""
    try:
        window = read_open_window_file(settings)
    except ChurnError:
        return False
    if window is None or not window.wanted or is_closed(settings, window):
        return False
    if window.customers + _count_lines(segments, _MOST_BYTES) < window.wanted:
        return False
    newest = instance.get_run_records(dg.RunsFilter(job_name=monitor.name), limit=1)
    return not newest or time.time() - newest[0].create_timestamp.timestamp() > _EARLY_TICKS * settings.sensor_s


def _count_lines(segments: Sequence[Path], most: int) -> int:
    """Lines in the first `most` bytes of the segments; one that an ingest has just taken has none."""
    lines = 0
    for path in segments:
        try:
            with path.open("rb") as file:
                block = file.read(max(0, most))
        except FileNotFoundError:
            continue
        most -= len(block)
        lines += block.count(b"\n")
    return lines


def window_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of this home's windows; a tick reads one small file that the ingest writes."""

    @dg.sensor(
        job=monitor,
        minimum_interval_seconds=settings.sensor_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs `monitor` when a window of predictions is complete.",
    )
    def monitor_on_full_window(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from churn_assets.monitoring.windows import full_window

        try:
            window = full_window(settings)
        except ChurnError as error:
            return dg.SkipReason(str(error))
        if window is None:
            return dg.SkipReason("no window is complete")
        # A failed run is repeated once an hour, not with every tick.
        return dg.RunRequest(run_key=f"window-{window}-{dt.datetime.now(dt.UTC):%Y%m%dT%H}")

    return monitor_on_full_window


def reason_to_wait(instance: dg.DagsterInstance, every_s: float, now_s: float) -> str | None:
    """Why no ingest should be requested now: one is under way, or the last ones failed a moment ago.

    After n failures in a row the next try waits 2^n ticks of `every_s` seconds, ten minutes at most; not longer if the
    clock was set back since.
    """
    jobs = (ingest_log.name, monitor.name)
    if any(instance.get_runs_count(dg.RunsFilter(job_name=job, statuses=_UNFINISHED)) for job in jobs):
        return "an ingest is under way"
    failures, ended = 0, 0.0
    for record in instance.get_run_records(dg.RunsFilter(job_name=ingest_log.name), limit=_RECENT_RUNS):
        if record.dagster_run.status is dg.DagsterRunStatus.SUCCESS:
            break
        failures += 1
        ended = max(ended, record.end_time or record.update_timestamp.timestamp())
    due = ended + min(every_s * 2**failures, _MAX_WAIT_S)
    if failures and ended <= now_s < due:
        return f"the last {failures} ingests failed, the next try is in {due - now_s:.0f} s"
    return None
