"""The sensors of the prediction log: a segment that is ready is ingested, a window that is complete is reported on."""

import datetime as dt
import time
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from churn_assets.defs.jobs import ingest_log, monitor
from churn_assets.errors import ChurnError, LogUnreadable
from churn_assets.monitoring.open_window import OPEN, is_closed, read_open_window_file, undecided_window
from churn_assets.prediction_log.warehouse.connection import FILE, PUBLISHED
from churn_assets.prediction_log.warehouse.ingest import pending
from churn_assets.promotion.heartbeat import beat
from churn_assets.settings import Settings
from churn_assets.storage.files import open_file

_MAX_WAIT_S = 600.0
_RECENT_RUNS = 8  # runs
_ATTEMPTS_AN_HOUR = 3
_NOT_WELL = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_MOST_BYTES = 32 * 2**20  # read in a tick; so many lines complete a window of any usual size
_EARLY_TICKS = 20  # between two tries of one window
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
        if not segments and not _was_cut(settings, context):
            return dg.SkipReason(f"no new segments in {settings.predlog_dir}")
        reason = reason_to_wait(context.instance, settings.sensor_s, time.time())
        if reason is not None:
            return dg.SkipReason(reason)
        job = monitor if _may_complete_a_window(settings, segments, context.instance) else ingest_log
        return dg.RunRequest(job_name=job.name, tags={"churn/segments": str(len(segments))})

    return ingest_on_new_segments


def _was_cut(settings: Settings, context: dg.SensorEvaluationContext) -> bool:
    """Whether the last ingest died after it had taken the segments, and before it had published the log and counted the
    open window. Nothing else would until the next segment or the hour."""
    home, counted = settings.warehouse_dir, settings.monitoring_dir / OPEN
    written = [path.stat().st_mtime for path in (home / FILE, home / f"{FILE}.wal", home / PUBLISHED) if path.is_file()]
    if not written:
        return False
    is_published = (home / PUBLISHED).is_file()
    if is_published and counted.is_file() and counted.stat().st_mtime >= max(written):
        return False
    newest = [
        context.instance.get_run_records(dg.RunsFilter(job_name=job.name), limit=1) for job in (ingest_log, monitor)
    ]
    last = max((record for records in newest for record in records), key=lambda run: run.storage_id, default=None)
    return last is not None and last.dagster_run.status in _NOT_WELL


def _may_complete_a_window(settings: Settings, segments: Sequence[Path], instance: dg.DagsterInstance) -> bool:
    """Whether the open window may be full with these segments: `monitor`, which ingests too, then saves a run and a
    tick. It may not be, as customers come again; so one is tried once in a while, and window_sensor has the rest."""
    try:
        window = read_open_window_file(settings)
    except ChurnError:
        return False
    if window is None or not window.wanted or is_closed(settings, window):
        return False
    if window.customers + _count_predictions(segments, _MOST_BYTES) < window.wanted:
        return False
    newest = instance.get_run_records(dg.RunsFilter(job_name=monitor.name), limit=1)
    if not newest:
        return True
    tried_s, first_s = newest[0].create_timestamp.timestamp(), _seconds(window.since_at)
    return tried_s < first_s or time.time() - tried_s > _EARLY_TICKS * settings.sensor_s


def _seconds(instant: str | None) -> float:
    return 0.0 if instant is None else dt.datetime.fromisoformat(instant).timestamp()


def _count_predictions(segments: Sequence[Path], most: int) -> int:
    """Predictions in the first `most` bytes of the segments, a shadow's left out; one that an ingest has just taken has
    none."""
    count = 0
    for path in segments:
        try:
            with open_file(path) as file:
                block = file.read(max(0, most))
        except FileNotFoundError:
            continue
        most -= len(block)
        count += block.count(b'"prediction"') - block.count(b'"shadow":true')  # the kind of the line
    return count


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
            window = full_window(settings) or undecided_window(settings)
        except ChurnError as error:
            return dg.SkipReason(str(error))
        if window is None:
            return dg.SkipReason("no window is complete")
        if _is_under_way(context.instance, monitor.name):
            return dg.SkipReason("monitor is under way")
        # A failed run is repeated at once, for its process may have been killed; then once an hour.
        hour = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
        failed = dg.RunsFilter(job_name=monitor.name, statuses=_NOT_WELL, created_after=hour)
        attempt = min(context.instance.get_runs_count(failed), _ATTEMPTS_AN_HOUR - 1)
        return dg.RunRequest(run_key=f"window-{window}-{hour:%Y%m%dT%H}-{attempt}")

    return monitor_on_full_window


def _is_under_way(instance: dg.DagsterInstance, job: str) -> bool:
    return instance.get_runs_count(dg.RunsFilter(job_name=job, statuses=_UNFINISHED)) > 0


def reason_to_wait(instance: dg.DagsterInstance, every_s: float, now_s: float) -> str | None:
    """Why no ingest should be requested now: one is under way, or the last ones failed a moment ago.

    After n failures in a row the next try waits 2^n ticks of `every_s` seconds, ten minutes at most; not longer if the
    clock was set back since.
    """
    if _is_under_way(instance, ingest_log.name) or _is_under_way(instance, monitor.name):
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
