"""Whether the loop is stuck, seen from outside of Dagster: by files of the home and the ledger alone.

A check compares how long something has waited with a deadline that follows from the schedules of this home. Time in
which the machine was off does not count: no deadline is earlier than some minutes after the daemon has come back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from churn_assets.alerting.alerts import Alert, Kind, open_alerts, raise_alert, recover_alert
from churn_assets.alerting.cron import next_tick
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.rules import AlertChanges
from churn_assets.errors import AlertsUnreadable, ChurnError
from churn_assets.monitoring.open_window import is_closed, read_open_window_file
from churn_assets.prediction_log.segment import READY, segments_of
from churn_assets.prediction_log.warehouse.connection import PUBLISHED
from churn_assets.promotion.heartbeat import HEARTBEAT, Heartbeat, read_heartbeat, silence_s
from churn_assets.promotion.ledger import IN_FLIGHT, Ledger
from churn_assets.settings import Settings

CheckStatus = Literal["ok", "overdue", "unknown"]

DAEMON: Final = "daemon_down"
INGEST: Final = "ingest_overdue"
MONITOR: Final = "monitor_overdue"
REQUEST: Final = "request_overdue"
GATE: Final = "gate_overdue"
NAMES: tuple[Kind, ...] = (DAEMON, INGEST, MONITOR, REQUEST, GATE)

INGEST_GRACE, MONITOR_GRACE = timedelta(minutes=15), timedelta(hours=1)
START_GRACE = timedelta(minutes=15)  # from an open request to its run
_FALLBACK = timedelta(days=1)  # between two ticks of a schedule that is no plain cron expression
_RUNBOOK = "What to do: docs/operations.md (The loop is stuck)."


@dataclass(frozen=True)
class LoopCheck:
    """One check of the loop; `name` is the kind of its alert, `remedy` a command."""

    name: Kind
    status: CheckStatus
    message: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """In one line, for a terminal or a probe's log."""
        return f"{self.status:<8}{self.name}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")


def check_loop(settings: Settings, now: datetime) -> list[LoopCheck]:
    """All checks of this home. Creates and changes nothing."""
    life = read_heartbeat(settings)
    if life is None:
        message = "no daemon has ever run in this home"
        return [LoopCheck(DAEMON, "unknown", message, "start one: churn ui")]
    checks: dict[Kind, Callable[[Settings, Heartbeat, datetime], LoopCheck]] = {
        DAEMON: _check_daemon,
        INGEST: _check_ingest,
        MONITOR: _check_monitor,
        REQUEST: _check_request,
        GATE: _check_gate,
    }
    results = []
    for name, check in checks.items():
        try:
            results.append(check(settings, life, now))
        except (ChurnError, OSError) as error:
            results.append(LoopCheck(name, "unknown", " ".join(str(error).split())))
    return results


def loop_alerts(checks: Sequence[LoopCheck], opened: Sequence[str]) -> AlertChanges:
    """What the checks raise, and which of the `opened` alerts (keys) they end."""
    overdue = {check.name: check for check in checks if check.status == "overdue"}
    raised = [
        Alert(
            name,
            name,
            _TITLES[name],
            f"{check.message}. {check.remedy[:1].upper()}{check.remedy[1:]}. {_RUNBOOK}",
            "error",
        )
        for name, check in overdue.items()
    ]
    fine: dict[str, str] = {
        check.name: check.message for check in checks if check.status == "ok" and check.name in opened
    }
    return AlertChanges(tuple(raised), fine)


def tell(settings: Settings, environ: Mapping[str, str], checks: Sequence[LoopCheck], now: datetime) -> None:
    """Raise and end the alerts of these checks. Nothing is written while all is well."""
    alerts, opened = _open_alerts(settings, environ)
    changes = loop_alerts(checks, opened)
    for alert in changes.raised:
        raise_alert(alerts, alert, now)
    for key, ending in changes.ended.items():
        recover_alert(alerts, key, f"{ending[:1].upper()}{ending[1:]}.", now)


def end_all(settings: Settings, environ: Mapping[str, str], now: datetime) -> None:
    """End the alerts of a loop that is not watched any more. Nothing is written while there are none."""
    alerts, opened = _open_alerts(settings, environ)
    for key in {*opened} & {*NAMES}:
        recover_alert(alerts, key, "No daemon belongs to this home.", now)


def _open_alerts(settings: Settings, environ: Mapping[str, str]) -> tuple[AlertSettings, list[str]]:
    alerts, _ = AlertSettings.or_unsent(environ, settings.home)
    try:
        return alerts, [entry.key for entry in open_alerts(alerts)]
    except AlertsUnreadable:
        return alerts, []


_TITLES: dict[Kind, str] = {
    DAEMON: "Dagster's daemon is not alive",
    INGEST: "The ingest of the prediction log is overdue",
    MONITOR: "Monitoring is overdue",
    REQUEST: "A requested retraining is overdue",
    GATE: "The gate is overdue",
}


def _check_daemon(settings: Settings, life: Heartbeat, now: datetime) -> LoopCheck:
    limit = timedelta(seconds=silence_s(settings))
    if now - life.at > limit:
        message = f"its sensors were evaluated last at {_minute(life.at)}, expected within {_span(limit)}"
        remedy = f"start it: churn ui, or restart its unit; if none shall run here, remove {settings.home / HEARTBEAT}"
        return LoopCheck(DAEMON, "overdue", message, remedy)
    return LoopCheck(DAEMON, "ok", f"its sensors were evaluated at {_minute(life.at)}")


def _check_ingest(settings: Settings, life: Heartbeat, now: datetime) -> LoopCheck:
    waiting = segments_of(settings.predlog_dir, READY)
    since = min((at for path in waiting if (at := _modified_at(path)) is not None), default=None)
    if since is None:
        return LoopCheck(INGEST, "ok", "no segment of the log waits")
    due = max(_next(settings.ingest_cron, since), life.since_at) + INGEST_GRACE
    message = f"{len(waiting)} segments of the log wait, the oldest since {_minute(since)}, due by {_minute(due)}"
    return _judge(INGEST, now, due, message, "ingest by hand and read its error: churn log ingest")


def _check_monitor(settings: Settings, life: Heartbeat, now: datetime) -> LoopCheck:
    window, published_at = read_open_window_file(settings), _modified_at(settings.warehouse_dir / PUBLISHED)
    if window is None and published_at is None:
        return LoopCheck(MONITOR, "ok", "no prediction has been ingested yet")
    monitored_at = _modified_at(settings.assets_dir / "data_quality_report.json")
    first_at = _instant(window.since_at) if window else published_at
    since = monitored_at or first_at or life.since_at
    due = max(_next(settings.monitor_cron, since), life.since_at) + MONITOR_GRACE
    message = f"the last reports are of {_minute(since)}" if monitored_at else "there has been no report yet"
    full_at = _instant(window.full_since_at) if window else None
    if window and full_at and window.full and not is_closed(settings, window):
        full_due = max(full_at, life.since_at) + MONITOR_GRACE
        if full_due < due:
            due, message = full_due, f"window {window.window} is full since {_minute(full_at)} and has no reports"
    remedy = "run it by hand and read its error: dagster job execute -m churn_assets.definitions -j monitor"
    return _judge(MONITOR, now, due, f"{message}, due by {_minute(due)}", remedy)


def _check_request(settings: Settings, life: Heartbeat, now: datetime) -> LoopCheck:
    ledger = Ledger.of(settings)
    request = next(iter(ledger.requests(*IN_FLIGHT)), None)
    if request is None:
        return LoopCheck(REQUEST, "ok", "no retraining is requested")
    if request.status == "open" and (broken := ledger.broken_data()) is not None:
        return LoopCheck(REQUEST, "ok", f"{request.key} waits until the data is complete: {broken}")
    limit = START_GRACE if request.status == "open" else timedelta(seconds=settings.run_limit_s)
    due = max(request.opened_at, life.since_at) + limit
    message = f"{request.key} is {request.status} since {_minute(request.opened_at)}, due by {_minute(due)}"
    remedy = "see what holds it: churn ui, Runs; terminate a run that hangs by force, the next attempt then opens"
    return _judge(REQUEST, now, due, message, remedy)


def _check_gate(settings: Settings, life: Heartbeat, now: datetime) -> LoopCheck:
    ledger = Ledger.of(settings)
    waiting, policy = ledger.challengers_to_promote(), ledger.newest_policy_move("done")
    if not waiting:
        return LoopCheck(GATE, "ok", "no challenger waits for the gate")
    oldest = min(waiting, key=lambda challenger: challenger.changed_at)
    released_at = policy.intended_at if policy is not None else oldest.changed_at  # until then it may have waited
    due = max(oldest.changed_at, released_at, life.since_at) + timedelta(seconds=settings.run_limit_s)
    status = oldest.status.replace("_", " ")
    message = f"challenger {oldest.version} is {status} since {_minute(oldest.changed_at)}, due by {_minute(due)}"
    remedy = "hold the gate by hand: dagster job execute -m churn_assets.definitions -j promote"
    return _judge(GATE, now, due, message, remedy)


def _judge(name: Kind, now: datetime, due: datetime, message: str, remedy: str) -> LoopCheck:
    return LoopCheck(name, "overdue", message, remedy) if now > due else LoopCheck(name, "ok", message)


def _next(cron: str, after: datetime) -> datetime:
    return next_tick(cron, after) or after + _FALLBACK


def _modified_at(path: Path) -> datetime | None:
    """When a file was written last, None if there is none (any more)."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def _span(span: timedelta) -> str:
    return f"{span.total_seconds() / 60:g} minutes"
