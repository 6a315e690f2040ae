"""Data quality: the checks of a window's data, a report for each closed window, and one over all of them.

Columns are compared with the reference, traffic with the windows before. Every column is checked by itself, so that
one broken column hides no other. A finding that `blocks` makes the window 'broken': no model is trained on it, and
drift in it counts for nothing. Other findings are reported only.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from churn_assets.contract.limits import Monitoring
from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.errors import NothingIngested
from churn_assets.monitoring.cutting import WHO
from churn_assets.monitoring.faults.checks import check_together
from churn_assets.monitoring.findings import TRAFFIC, Check, Finding, has_few_values, share_finding, shown
from churn_assets.monitoring.performance.service import FAULTS
from churn_assets.monitoring.profile import (
    NO_CHAMPION,
    REST,
    ColumnProfile,
    MonitoredLog,
    MonitoredModel,
    Profile,
    Reference,
    open_monitored_log,
    profile_window,
    read_monitored_model,
)
from churn_assets.monitoring.windows import (
    QUALITY_JSON,
    DataQuality,
    OpenWindow,
    QualityStatus,
    Report,
    Window,
    read_acceptance,
    read_window_report,
    rows_of,
    window_folder,
    write_report,
)
from churn_assets.prediction_log.schema import columns_of
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb

_HOUR_S = 3600.0


# -- columns -------------------------------------------------------------------------------------------


def check_columns(profile: Profile, reference: Reference, contract: Contract, limits: Monitoring) -> Iterator[Finding]:
    """Findings about the columns of a window, in the contract's order. A `silent` or excluded one blocks nothing."""
    for column in contract.logged_columns:
        blocks = column.name not in (*limits.silent, *contract.unread)
        for finding in _check_column(column, profile, reference, limits):
            yield finding if blocks else replace(finding, blocks=False)


def _check_column(column: Column, profile: Profile, reference: Reference, limits: Monitoring) -> Iterator[Finding]:
    name = column.name
    now, before = profile.columns.get(name), reference.profile.columns.get(name)
    if now is None:
        message = f"the log has no column '{name}', expected one; put it back into the table"
        yield Finding("missing_column", name, "none", "a column", message)
    elif before is None:
        message = f"the reference has no column '{name}', so that it cannot be compared; train again"
        yield Finding("not_in_reference", name, "none", "a column", message, blocks=False)
    elif now.rows and now.missing == now.rows:
        yield from _check_empty(name, before)
    elif now.rows:
        yield from _check_missing(name, now, before, limits)
        yield from _check_unusable(column, now, limits)
        yield from _check_range(column, now, reference, limits)
        yield from _check_choices(column, now, limits)
        yield from _check_frequent_value(column, now, before, reference, limits)


def _check_empty(name: str, before: ColumnProfile) -> Iterator[Finding]:
    if before.missing < before.rows:
        usual = before.missing / before.rows
        message = f"'{name}' is empty, expected at most {usual:.1%} missing values; is it still filled?"
        yield share_finding("all_missing", name, 1.0, usual, message)


def _check_missing(name: str, now: ColumnProfile, before: ColumnProfile, limits: Monitoring) -> Iterator[Finding]:
    missing, usual = now.missing / now.rows, before.missing / max(1, before.rows)
    if missing - usual >= limits.missing_rise:
        message = f"'{name}' is missing for {missing:.1%} of the customers, expected about {usual:.1%}"
        yield share_finding("missing", name, missing, usual, message)


def _check_unusable(column: Column, now: ColumnProfile, limits: Monitoring) -> Iterator[Finding]:
    counts: tuple[tuple[Check, int], ...] = (("unreadable", now.unreadable), ("infinite", now.infinite))
    for check, count in counts:
        if count:
            message = f"'{column.name}' has {count:,} {check} values, expected a finite {column.kind}"
            yield share_finding(
                check, column.name, count / now.rows, 0.0, message, count / now.rows >= limits.outside_share
            )


def _check_range(column: Column, now: ColumnProfile, reference: Reference, limits: Monitoring) -> Iterator[Finding]:
    name, share = column.name, now.outside / now.rows
    if name in reference.bounds:
        low, high = reference.bounds[name]
        usual = reference.outside_share[name]
        if share - usual >= limits.outside_share:
            message = (
                f"{share:.1%} of '{name}' lie outside {low:g} to {high:g}, the training range; is the unit the same?"
            )
            yield share_finding("outside_range", name, share, usual, message)


def _check_choices(column: Column, now: ColumnProfile, limits: Monitoring) -> Iterator[Finding]:
    name, share = column.name, now.outside / now.rows
    if column.kind is Kind.CATEGORY and now.outside:
        unknown = {level: n for level, n in (now.levels or {}).items() if level not in (*column.choices, REST)}
        most = max(unknown, key=lambda level: (unknown[level], level), default=REST)
        message = (
            f"{share:.1%} of '{name}' are not a choice of the contract, most often '{most}'; "
            "add it to the contract, or correct the feed"
        )
        yield share_finding("unknown_category", name, share, 0.0, message, share >= limits.outside_share)


def _check_frequent_value(
    column: Column, now: ColumnProfile, before: ColumnProfile, reference: Reference, limits: Monitoring
) -> Iterator[Finding]:
    name = column.name
    if now.constant and not before.constant:
        value = next(level for level, n in now.levels.items() if n) if now.levels else shown(column, now.low)
        message = f"'{name}' is {value} for everybody, expected several values as in training; is it still filled?"
        yield Finding("constant", name, f"only {value}", "several values", message)
    elif now.top is not None:
        yield from _check_spike(column, now.top, reference, limits)


def _check_spike(
    column: Column, top: tuple[float, float], reference: Reference, limits: Monitoring
) -> Iterator[Finding]:
    name, (number, share) = column.name, top
    numbers = reference.profile.sample[name].to_numpy()
    usual = float((numbers == number).mean()) if len(numbers) else 0.0
    if share - usual >= limits.spike_rise and not (usual and has_few_values(numbers)):
        message = (
            f"'{name}' is {shown(column, number)} for {share:.1%} of the customers, in training for {usual:.1%}; "
            "is it still filled?"
        )
        yield share_finding("spike", name, share, usual, message)


# -- traffic -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Traffic:
    """How the predictions of one window were requested.

    `rows_a_day` is over the days with a prediction, so that neither a burst of a minute is taken for a flood nor a week
    between two batches for a failure. `largest_customer_share` is of rows. `refused` are requests by cause,
    `refused_rows` their rows and those of scored files by column or rule, of the reports that overlap the window.
    """

    rows: int
    customers: int
    rows_a_day: float
    longest_gap_hours: float
    largest_customer_share: float
    rows_without_id: int
    refused: Mapping[str, int]
    refused_rows: Mapping[str, int] = field(default_factory=dict)

    def refused_share(self, cause: str) -> float:
        """Requests refused for this cause among these and those that were answered, 0 to 1."""
        return self._share(self.refused.get(cause, 0))

    def refused_row_share(self, column: str) -> float:
        """Rows refused for this column or rule among these and those that were answered, 0 to 1."""
        return self._share(self.refused_rows.get(column, 0))

    def _share(self, refused: int) -> float:
        return refused / (self.rows + refused) if refused else 0.0


def read_traffic(connection: duckdb.DuckDBPyConnection, window: Window) -> Traffic:
    """The traffic of a window."""
    rows, customers, most, without_id, gap, days = connection.execute(
        f"""WITH taken AS (SELECT {WHO} AS who, customer_id, scored_at FROM answers WHERE {rows_of(window)}),
              each AS (SELECT count(*) AS rows, count(*) - count(customer_id) AS without_id FROM taken GROUP BY who),
              gaps AS (SELECT scored_at, date_diff('microsecond', lag(scored_at) OVER (ORDER BY scored_at), scored_at)
                         AS gap FROM taken)
            SELECT coalesce(sum(rows), 0)::BIGINT, count(*), coalesce(max(rows), 0),
              coalesce(sum(without_id), 0)::BIGINT, (SELECT coalesce(max(gap), 0) FROM gaps),
              (SELECT count(DISTINCT CAST(scored_at AS DATE)) FROM gaps)
            FROM each"""
    ).fetchall()[0]
    refused = _read_refused(connection, window, "rejections", "requests")
    # A copy that was published before this table was known has none of it.
    has_rows = bool(columns_of(connection, "rejected_rows"))
    refused_rows = _read_refused(connection, window, "rejected_rows", "rows") if has_rows else {}
    rows_a_day = rows / max(1, days)
    largest = most / rows if rows else 0.0
    return Traffic(rows, customers, rows_a_day, gap / 1e6 / _HOUR_S, largest, without_id, refused, refused_rows)


def _read_refused(connection: duckdb.DuckDBPyConnection, window: Window, table: str, figure: str) -> dict[str, int]:
    """What the reports that overlap the window refused, by cause."""
    counts: dict[str, int] = dict(
        connection.execute(
            f"SELECT cause, CAST(sum({figure}) AS BIGINT) FROM {table} WHERE since_at <= CAST(? AS TIMESTAMP) "
            "AND until_at >= CAST(? AS TIMESTAMP) GROUP BY cause ORDER BY cause",
            [window.last_scored_at[:-6], window.first_scored_at[:-6]],
        ).fetchall()
    )
    return counts


def check_traffic(
    now: Traffic, before: Sequence[Traffic], limits: Monitoring, alike: Sequence[Traffic] | None = None
) -> Iterator[Finding]:
    """Findings about how predictions came in, against the median of the windows before (none: no comparison). The
    volume is compared with that of `alike`, by default the same windows."""
    yield from _check_volume(now, before if alike is None else alike, limits)
    yield from _check_refused(now, before, limits)
    yield from _check_customers(now, limits)
    if now.longest_gap_hours >= limits.stale_hours:
        message = f"no prediction came for {now.longest_gap_hours:.0f} hours within the window"
        expected = f"below {limits.stale_hours:g} h"
        yield Finding("gap", TRAFFIC, f"{now.longest_gap_hours:.0f} h", expected, message, blocks=False)
    if now.rows_without_id:
        message = f"{now.rows_without_id:,} rows have no customer id and count as a customer each"
        yield Finding("no_id", TRAFFIC, f"{now.rows_without_id:,} rows", "none", message, blocks=False)


def _check_volume(now: Traffic, before: Sequence[Traffic], limits: Monitoring) -> Iterator[Finding]:
    rate = median(traffic.rows_a_day for traffic in before) if before else 0.0
    if rate and not rate / limits.volume_ratio <= now.rows_a_day <= rate * limits.volume_ratio:
        actual, expected = f"{now.rows_a_day:,.0f} a day", f"about {rate:,.0f} a day"
        message = f"{now.rows_a_day:,.0f} predictions a day, expected {expected} as in earlier windows like it"
        yield Finding("volume", TRAFFIC, actual, expected, message)


# Causes that say nothing of the rows that were scored: strangers, scanners, limits, and the service itself.
_NOT_OF_DATA = frozenset(
    (*FAULTS, "connections", "content_type", "head", "http", "key", "memory", "method", "path", "rate", "scope", "size")
) | {"slow_body", "slow_head"}


def _check_refused(now: Traffic, before: Sequence[Traffic], limits: Monitoring) -> Iterator[Finding]:
    for cause in sorted(now.refused):
        share = now.refused_share(cause)
        usual = median(traffic.refused_share(cause) for traffic in before) if before else 0.0
        if share - usual >= limits.missing_rise:
            message = f"{share:.1%} of the requests were refused for '{cause}', {usual:.1%} before"
            finding = share_finding("refused", TRAFFIC, share, usual, message, blocks=cause not in _NOT_OF_DATA)
            yield replace(finding, cause=cause)
    for column in sorted(now.refused_rows):
        share = now.refused_row_share(column)
        usual = median(traffic.refused_row_share(column) for traffic in before) if before else 0.0
        if share - usual >= _REFUSED_ROWS:
            message = (
                f"{now.refused_rows[column]:,} rows ({share:.1%}) were refused for '{column}', {usual:.1%} before; "
                "the answer to each request has row, value and what was expected"
            )
            finding = share_finding("refused", TRAFFIC, share, usual, message, share - usual >= limits.missing_rise)
            yield replace(finding, cause=column)


def _check_customers(now: Traffic, limits: Monitoring) -> Iterator[Finding]:
    rows_a_customer = now.rows / now.customers if now.customers else 1.0
    if rows_a_customer >= limits.volume_ratio:
        message = f"each customer was scored {rows_a_customer:.1f} times on average; does a caller ask in a loop?"
        expected = f"below {limits.volume_ratio:g}"
        yield Finding("duplicates", TRAFFIC, f"{rows_a_customer:.1f} rows a customer", expected, message)
    if now.largest_customer_share >= limits.spike_rise and now.customers > 1:
        message = f"one customer id has {now.largest_customer_share:.1%} of the predictions; is it a placeholder?"
        yield share_finding("one_customer", TRAFFIC, now.largest_customer_share, 0.0, message)


# -- reports -------------------------------------------------------------------------------------------

NO_PREDICTIONS = "no predictions yet: nothing has been ingested from the log"
NEWEST = 30  # windows that the report over all windows has
_REFUSED_ROWS = 0.005  # of the rows, from which those that were refused for a column are reported
_COMPARED = 5  # earlier windows that the traffic is compared with
_WEEK_DAYS = 7


@dataclass(frozen=True, kw_only=True)
class WindowQuality(Window, DataQuality):
    """The data quality of one window, compared with the reference of `model_version`.

    `missing` are shares 0 to 1 by column. The status is 'insufficient' below the floor of customers whatever the
    findings, 'broken' with a finding that blocks, 'unknown' without a reference to compare with, else 'ok'.
    """

    model_version: str
    findings: tuple[Finding, ...]
    missing: Mapping[str, float]
    traffic: Traffic


@dataclass(frozen=True)
class LogAge:
    """The prediction log as a whole; `stale`: its newest row was older than `stale_hours` at the time of the report."""

    rows: int
    other_rows: int
    newest_scored_at: str | None
    age_hours: float | None
    stale: bool
    message: str


@dataclass(frozen=True, kw_only=True)
class QualityReport(Report):
    """The newest windows of a contract, the newest last; `status` is that of the newest, 'insufficient' without one.

    `blocks`: retraining must wait, for the newest window is broken or the log is stale. `open` and `log` are None
    before the first prediction.
    """

    status: QualityStatus
    fingerprint: str
    model_version: str = ""
    stale: bool = False
    blocks: bool = False
    open: OpenWindow | None = None
    log: LogAge | None = None
    windows: tuple[WindowQuality, ...] = ()


def report_quality(settings: Settings, contract: Contract, now: dt.datetime) -> QualityReport:
    """Close what can be closed, and check the data of every window that was not checked yet. `now` is an aware instant,
    for the age of the log. Raises WindowUnreadable, PointerCorrupt."""
    model = read_monitored_model(settings, contract)
    if model is None:
        return QualityReport(status="insufficient", fingerprint=contract.fingerprint, message=NO_CHAMPION)
    try:
        with open_monitored_log(settings, model) as monitored:
            reports = [window_quality(monitored, index) for index in range(len(monitored.windows))]
            waiting, log = monitored.waiting, _read_log_age(monitored, now)
    except NothingIngested:
        return QualityReport(status="insufficient", fingerprint=model.fingerprint, message=NO_PREDICTIONS)
    return _summarize(model, reports, waiting, log)


def _summarize(
    model: MonitoredModel, reports: Sequence[WindowQuality], waiting: OpenWindow, log: LogAge
) -> QualityReport:
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


def window_quality(log: MonitoredLog, index: int) -> WindowQuality:
    """The quality report on the closed window at `index`: read, or made and kept."""
    window = log.windows[index]
    report = read_window_report(log.settings, window, QUALITY_JSON, WindowQuality)
    if report is None:
        before = log.windows[max(0, index - _COMPARED) : index]
        alike = windows_alike(log.windows, index, log.model.limits.window_days)
        report = _check_window(log, window, _traffic_of(log, before), _traffic_of(log, alike))
        write_report(window_folder(log.settings, window) / QUALITY_JSON, report)
    accepted = read_acceptance(window_folder(log.settings, window)) if report.status == "broken" else None
    if accepted is None:
        return report
    message = f"{report.message}; {accepted.by} accepted it on {accepted.at[:10]}: {accepted.why}"
    return replace(report, status="ok", message=message)


def windows_alike(windows: Sequence[Window], index: int, days: int) -> Sequence[Window]:
    """The newest windows before the one at `index` whose volume can be compared with its: a batch with batches; a
    window of less than a week with those that began on the same day of the week."""
    window, before = windows[index], windows[max(0, index - NEWEST) : index]
    alike = [other for other in before if (other.closed_by == "batch") == (window.closed_by == "batch")]
    if window.closed_by == "days" and days < _WEEK_DAYS:
        alike = [other for other in alike if _weekday(other) == _weekday(window)]
    return alike[-_COMPARED:]


def _weekday(window: Window) -> int:
    return dt.datetime.fromisoformat(window.first_scored_at).weekday()


def _traffic_of(log: MonitoredLog, windows: Sequence[Window]) -> list[Traffic]:
    reports = [read_window_report(log.settings, window, QUALITY_JSON, WindowQuality) for window in windows]
    return [report.traffic for report in reports if report]


def _check_window(
    log: MonitoredLog, window: Window, before: Sequence[Traffic], alike: Sequence[Traffic]
) -> WindowQuality:
    model, traffic = log.model, read_traffic(log.connection, window)
    findings = list(check_traffic(traffic, before, model.limits, alike))
    missing: dict[str, float] = {}
    if model.reference is not None:
        profile = profile_window(log.connection, model, window)
        missing = {name: column.missing / max(1, column.rows) for name, column in profile.columns.items()}
        of_columns = list(check_columns(profile, model.reference, model.contract, model.limits))
        of_columns = check_together(profile, model.reference, model.contract, model.limits, of_columns)
        findings = [*of_columns, *findings]
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


def _conclude(model: MonitoredModel, customers: int, findings: Sequence[Finding]) -> tuple[QualityStatus, str]:
    if customers < model.limits.floor:
        return "insufficient", f"{customers:,} customers are too few, expected at least {model.limits.floor:,}"
    if blocking := [finding.message for finding in findings if finding.blocks]:
        return "broken", f"the data is broken: {'; '.join(blocking)}"
    if model.reference is None:
        return "unknown", model.no_reference
    return "ok", f"the data is ok, {customers:,} customers"


_FIRST_BATCH_HOURS = 32 * 24.0  # until the second batch nobody knows whether they come each week or each month
_APART_HOURS = 12.0  # batches that are nearer are of one occasion: the files of some shops
_LATE = 1.5


def hours_to_stale(windows: Sequence[Window], waiting: int, limits: Monitoring) -> float:
    """After how many hours without a prediction the log is stale: `stale_hours`, and if only batches come, not before
    half as long again has passed as between two batches before. `waiting` are the customers of the open window: some
    requests between two batches promise no others."""
    stale_hours = limits.stale_hours
    if waiting >= limits.floor or {window.closed_by for window in windows[-_COMPARED:]} != {"batch"}:
        return stale_hours
    instants = [dt.datetime.fromisoformat(w.last_scored_at) for w in windows[-NEWEST:] if w.closed_by == "batch"]
    gaps = [(after - before).total_seconds() / _HOUR_S for before, after in pairwise(instants)]
    longest = max(gaps, default=0.0)
    return max(stale_hours, _LATE * longest if longest >= _APART_HOURS else _FIRST_BATCH_HOURS)


def _read_log_age(log: MonitoredLog, now: dt.datetime) -> LogAge:
    rows, newest, other_rows = log.connection.execute(
        "SELECT count(*) FILTER (of_model), max(scored_at) FILTER (of_model), count(*) FILTER (NOT of_model) "
        "FROM (SELECT scored_at, fingerprint = ? AS of_model FROM answers)",
        [log.model.fingerprint],
    ).fetchall()[0]
    left_out = f"{other_rows:,} predictions of other contracts are left out" if other_rows else ""
    if newest is None:
        return LogAge(rows, other_rows, None, None, False, left_out)
    hours = (now - newest.replace(tzinfo=dt.UTC)).total_seconds() / _HOUR_S
    stale = hours > hours_to_stale(log.windows, log.waiting.customers, log.model.limits)
    age = f"the log is stale: its newest prediction is {hours:.0f} hours old" if stale else ""
    message = "; ".join(filter(None, (age, left_out)))
    return LogAge(rows, other_rows, newest.isoformat() + "+00:00", round(hours, 3), stale, message)
