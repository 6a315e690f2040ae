"""The data quality report: one for each closed window, made once, oldest first; and one over all of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from churn_assets.contract.model import Contract
from churn_assets.errors import NothingIngested
from churn_assets.monitoring.data_quality.checks import Finding, Traffic, check_columns, check_traffic, read_traffic
from churn_assets.monitoring.report_files import Report, write_report
from churn_assets.monitoring.windows.monitored_model import (
    NO_CHAMPION,
    MonitoredModel,
    profile_window,
    read_monitored_model,
)
from churn_assets.monitoring.windows.windows import (
    QUALITY_JSON,
    OpenWindow,
    Window,
    close_windows,
    read_open_window,
    read_window_report,
    read_windows,
    window_folder,
)
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb

Status = Literal["ok", "broken", "insufficient", "unknown"]

NO_PREDICTIONS = "no predictions yet: nothing has been ingested from the log"
NEWEST = 30  # windows that the report over all windows has
_COMPARED = 5  # earlier windows that the traffic is compared with


@dataclass(frozen=True, kw_only=True)
class WindowQuality(Window, Report):
    """The data quality of one window, compared with the reference of `model_version`.

    `missing` are shares 0 to 1 by column. The status is 'insufficient' below the floor of customers whatever the
    findings, 'broken' with a finding that blocks, 'unknown' without a reference to compare with, else 'ok'.
    """

    status: Status
    model_version: str
    findings: tuple[Finding, ...]
    missing: Mapping[str, float]
    traffic: Traffic


@dataclass(frozen=True)
class LogAge:
    """The prediction log as a whole: rows of the contract and of others, and the age of the newest.

    `stale`: older than the contract's `stale_hours` at the time of the report. `message` is '' if all is well.
    """

    rows: int
    other_rows: int
    newest_scored_at: str | None
    age_hours: float | None
    stale: bool
    message: str


@dataclass(frozen=True, kw_only=True)
class QualityReport(Report):
    """The newest windows of a contract, the newest last, and what of them holds now.

    `status` is that of the newest window, 'insufficient' without one. `blocks`: retraining must wait, for the
    newest window is broken or the log is stale. `open` and `log` are None before the first prediction.
    """

    status: Status
    fingerprint: str
    model_version: str = ""
    stale: bool = False
    blocks: bool = False
    open: OpenWindow | None = None
    log: LogAge | None = None
    windows: tuple[WindowQuality, ...] = ()


def report_quality(settings: Settings, contract: Contract, now: dt.datetime) -> QualityReport:
    """Close what can be closed, and check the data of every window that was not checked yet.

    `now` is an aware instant, for the age of the log. Raises WindowUnreadable, PointerCorrupt.
    """
    model = read_monitored_model(settings, contract)
    if model is None:
        return QualityReport(status="insufficient", fingerprint=contract.fingerprint, message=NO_CHAMPION)
    try:
        with open_published(settings) as connection:
            close_windows(connection, settings, model.fingerprint, model.limits)
            windows = read_windows(settings, model.fingerprint)
            reports = [window_quality(connection, settings, model, windows, index) for index in range(len(windows))]
            last = windows[-1] if windows else None
            waiting = read_open_window(connection, model.fingerprint, model.limits, last)
            log = _read_log_age(connection, model, now)
    except NothingIngested:
        return QualityReport(status="insufficient", fingerprint=model.fingerprint, message=NO_PREDICTIONS)
    newest = reports[-1] if reports else None
    messages = [newest.message if newest else waiting.message, log.message]
    if newest is None or newest.status != "unknown":  # whose message gives the reason already
        messages.append(model.no_reference)
    return QualityReport(
        status=newest.status if newest else "insufficient",
        message="; ".join(filter(None, messages)),
        fingerprint=model.fingerprint,
        model_version=model.version,
        stale=log.stale,
        blocks=log.stale or (newest is not None and newest.status == "broken"),
        open=waiting,
        log=log,
        windows=tuple(reports[-NEWEST:]),
    )


def read_window_quality(settings: Settings, window: Window) -> WindowQuality | None:
    """The quality report on a window, None if it was not made. Raises WindowUnreadable."""
    return read_window_report(settings, window, QUALITY_JSON, WindowQuality)


def window_quality(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    model: MonitoredModel,
    windows: Sequence[Window],
    index: int,
) -> WindowQuality:
    """The quality report on `windows[index]`: read, or made and kept."""
    window = windows[index]
    report = read_window_quality(settings, window)
    if report is None:
        earlier = [read_window_quality(settings, other) for other in windows[max(0, index - _COMPARED) : index]]
        report = _check_window(connection, model, window, [other.traffic for other in earlier if other])
        write_report(window_folder(settings, window) / QUALITY_JSON, report)
    return report


def _check_window(
    connection: duckdb.DuckDBPyConnection, model: MonitoredModel, window: Window, before: Sequence[Traffic]
) -> WindowQuality:
    traffic = read_traffic(connection, window)
    findings = list(check_traffic(traffic, before, model.limits))
    missing: dict[str, float] = {}
    if model.reference is not None:
        profile = profile_window(connection, model, window)
        missing = {name: column.missing / max(1, column.rows) for name, column in profile.columns.items()}
        findings = [*check_columns(profile, model.reference, model.contract, model.limits), *findings]
    # By the log's own count: rows may have left it since the window was closed.
    status, message = _conclude(model, traffic.customers, findings)
    return WindowQuality(
        **vars(window),
        status=status,
        message=f"window {window.window}: {message}",
        model_version=model.version,
        findings=tuple(findings),
        missing=missing,
        traffic=traffic,
    )


def _conclude(model: MonitoredModel, customers: int, findings: Sequence[Finding]) -> tuple[Status, str]:
    if customers < model.limits.floor:
        return "insufficient", f"{customers:,} customers are too few, expected at least {model.limits.floor:,}"
    if blocking := [finding.message for finding in findings if finding.blocks]:
        return "broken", f"the data is broken: {'; '.join(blocking)}"
    if model.reference is None:
        return "unknown", model.no_reference
    return "ok", f"the data is ok, {customers:,} customers"


def _read_log_age(connection: duckdb.DuckDBPyConnection, model: MonitoredModel, now: dt.datetime) -> LogAge:
    rows, newest = connection.execute(
        "SELECT count(*), max(scored_at) FROM predictions WHERE fingerprint = ?", [model.fingerprint]
    ).fetchall()[0]
    other_rows = connection.execute(
        "SELECT count(*) FROM predictions WHERE fingerprint <> ?", [model.fingerprint]
    ).fetchall()[0][0]
    hours = None if newest is None else (now - newest.replace(tzinfo=dt.UTC)).total_seconds() / 3600
    stale = hours is not None and hours > model.limits.stale_hours
    messages = []
    if stale:
        messages.append(f"the log is stale: its newest prediction is {hours:.0f} hours old")
    if other_rows:
        messages.append(f"{other_rows:,} predictions of other contracts are left out")
    return LogAge(
        rows=rows,
        other_rows=other_rows,
        newest_scored_at=None if newest is None else newest.isoformat() + "+00:00",
        age_hours=None if hours is None else round(hours, 3),
        stale=stale,
        message="; ".join(messages),
    )
