"""What keeps the loop going: the log and its ingest, the alerts and their delivery, Dagster's daemon."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from churn_assets.alerting.alerts import Kind, count_alerts
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.watchdog import NAMES, check_loop
from churn_assets.errors import SettingsError
from churn_assets.exporter.metrics import Samples
from churn_assets.prediction_log.segment import READY, segments_of
from churn_assets.prediction_log.warehouse.published import PublishedLog
from churn_assets.promotion.heartbeat import read_heartbeat
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb

_LOG = """
    SELECT (SELECT count(*) FROM answers), (SELECT count(*) FROM given), (SELECT count(*) FROM outcomes),
        (SELECT max(scored_at) FROM answers), (SELECT max(received_at) FROM outcomes),
        (SELECT max(ingested_at) FROM segments)
"""
_STATES = ("waiting", "given up")


def read_log_part(settings: Settings, log: PublishedLog, now: dt.datetime, samples: Samples) -> None:
    """The published copy, and the segments that wait for the ingest. Raises WarehouseCorrupt, WarehouseLocked,
    LogUnreadable."""
    _show_waiting(settings, now, samples)
    row = log.ask("metrics", _read_log)
    if row is None:
        return
    answers, given, outcomes, newest, labelled, ingested = row
    samples.set("churn_log_rows", answers, kind="answer")
    samples.set("churn_log_rows", given - answers, kind="trial")
    samples.set("churn_log_rows", outcomes, kind="outcome")
    samples.set("churn_log_newest_prediction_timestamp_seconds", _utc(newest))
    samples.set("churn_log_newest_label_timestamp_seconds", _utc(labelled))
    samples.set("churn_ingest_timestamp_seconds", _utc(ingested))


def read_alerts_part(settings: Settings, environ: Mapping[str, str], samples: Samples) -> None:
    """The alerts of the home. Raises AlertsUnreadable."""
    try:
        alerts = AlertSettings.from_environ(environ, settings.home)
    except SettingsError:  # destinations that cannot be used are none
        alerts = AlertSettings(settings.home)
    counts = count_alerts(alerts)
    samples.set("churn_alert_destinations", len(alerts.destinations))
    for kind in get_args(Kind):
        samples.set("churn_alerts_open", counts.opened.get(kind, 0), kind=kind)
        samples.set("churn_alerts_raised_total", counts.raised.get(kind, 0), kind=kind)
    for state in _STATES:
        samples.set("churn_alert_messages", counts.messages.get(state, 0), state=state.replace(" ", "_"))


def read_daemon_part(settings: Settings, now: dt.datetime, samples: Samples) -> None:
    """Its sign of life, and which parts of the loop are stuck. A home that never had one has no stuck part."""
    life = read_heartbeat(settings)
    if life is not None:
        samples.set("churn_daemon_start_timestamp_seconds", life.since_at)
        samples.set("churn_daemon_tick_timestamp_seconds", life.at)
    overdue = {check.name for check in check_loop(settings, now) if check.status == "overdue"}
    for name in NAMES:
        samples.set("churn_loop_overdue", name in overdue, check=name)


def _show_waiting(settings: Settings, now: dt.datetime, samples: Samples) -> None:
    statuses = []
    for path in segments_of(settings.predlog_dir, READY):
        try:
            statuses.append(path.stat())
        except FileNotFoundError:  # ingested meanwhile
            continue
    oldest = min((status.st_mtime for status in statuses), default=now.timestamp())
    samples.set("churn_ingest_waiting_segments", len(statuses))
    samples.set("churn_ingest_waiting_bytes", sum(status.st_size for status in statuses))
    samples.set("churn_ingest_lag_seconds", max(0.0, now.timestamp() - oldest))


def _read_log(connection: duckdb.DuckDBPyConnection) -> tuple[Any, ...]:
    row: tuple[Any, ...] = connection.execute(_LOG).fetchall()[0]
    return row


def _utc(instant: dt.datetime | None) -> dt.datetime | None:
    return None if instant is None else instant.replace(tzinfo=dt.UTC)
