"""The service's figures from the log: volume, refusals, latency. Aggregated in DuckDB; no row is fetched."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from churn_assets.monitoring.performance.realized import Period

if TYPE_CHECKING:
    import duckdb

DAYS = 90  # newest days that are listed one by one
FAULTS = ("busy", "disk", "internal", "no_model")  # causes that are the service's fault, not the request's

_FIGURES = """
  count(*) AS predictions,
  count(DISTINCT request_id) FILTER (latency_us IS NOT NULL) AS requests,
  count(*) FILTER (latency_us IS NULL) AS batch_rows,
  count(*) FILTER (len(warnings) > 0) AS warned,
  quantile_cont(latency_us, [0.5, 0.95, 0.99]) AS latency_us
"""
_REFUSED = "coalesce(sum(requests), 0), coalesce(sum(requests) FILTER (list_contains($faults, cause)), 0)"
_CAUSES = "SELECT cause, CAST(sum(requests) AS BIGINT) FROM rejections GROUP BY 1 ORDER BY 2 DESC, 1"


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Predictions and the requests that asked for them; `warned` predictions came with a warning.

    Latencies are milliseconds from a request's arrival to its line in the log, exact quantiles over rows that a
    request asked for, None without one; rows of `churn score --log` have none and are `batch_rows`.
    """

    predictions: int
    requests: int
    batch_rows: int
    warned: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Requests(Volume):
    """With refused requests: a rate is refused / (refused + answered), None without a request.

    `faults` are the refusals that were not the request's fault.
    """

    refused: int
    refused_rate: float | None
    faults: int
    fault_rate: float | None


@dataclass(frozen=True, kw_only=True)
class DayRequests(Requests):
    """Of one UTC day; refused requests count on the day on which their count ended."""

    day: str


@dataclass(frozen=True, kw_only=True)
class VersionVolume(Volume):
    """Of one model version and arm, with its first and last day."""

    model_version: str
    arm: str
    first: str
    last: str


@dataclass(frozen=True, kw_only=True)
class PeriodVolume(Volume):
    """Of one window or month."""

    period: str


@dataclass(frozen=True)
class ServiceReport:
    """Over all, by model version and arm, by day, by period, and refused requests by cause.

    Refused requests leave no prediction and name no model: they are over all and by day only.
    """

    total: Requests
    by_version: tuple[VersionVolume, ...]
    by_day: tuple[DayRequests, ...]
    by_period: tuple[PeriodVolume, ...]
    causes: Mapping[str, int]


def service_report(connection: duckdb.DuckDBPyConnection, periods: Sequence[Period] = ()) -> ServiceReport:
    """The figures of a log; `periods` are those to list one by one."""
    total = connection.execute(f"SELECT {_FIGURES} FROM predictions").fetchall()[0]
    refusals = connection.execute(f"SELECT {_REFUSED} FROM rejections", {"faults": list(FAULTS)}).fetchall()[0]
    versions = connection.execute(
        f"SELECT model_version, arm, min(scored_at), max(scored_at), {_FIGURES} FROM predictions "
        "GROUP BY 1, 2 ORDER BY max(seq) DESC"
    ).fetchall()
    return ServiceReport(
        total=Requests(**_volume(total), **_rates(total[1], refusals)),
        by_version=tuple(
            VersionVolume(model_version=version, arm=arm, first=_day(first), last=_day(last), **_volume(figures))
            for version, arm, first, last, *figures in versions
        ),
        by_day=_by_day(connection),
        by_period=tuple(_of_period(connection, period) for period in periods),
        causes=dict(connection.execute(_CAUSES).fetchall()),
    )


def _by_day(connection: duckdb.DuckDBPyConnection) -> tuple[DayRequests, ...]:
    answered = connection.execute(
        f"SELECT CAST(scored_at AS DATE) AS day, {_FIGURES} FROM predictions GROUP BY 1 ORDER BY 1 DESC LIMIT {DAYS}"
    ).fetchall()
    refused = connection.execute(
        f"SELECT CAST(until_at AS DATE), {_REFUSED} FROM rejections GROUP BY 1 ORDER BY 1 DESC LIMIT {DAYS}",
        {"faults": list(FAULTS)},
    ).fetchall()
    figures = {day: rest for day, *rest in answered}
    refusals = {day: rest for day, *rest in refused}
    days = []
    for day in sorted(figures.keys() | refusals.keys())[-DAYS:]:
        row = figures.get(day, [0, 0, 0, 0, None])
        rates = _rates(row[1], refusals.get(day, [0, 0]))
        days.append(DayRequests(day=day.isoformat(), **_volume(row), **rates))
    return tuple(days)


def _of_period(connection: duckdb.DuckDBPyConnection, period: Period) -> PeriodVolume:
    where, values = period.where()
    row = connection.execute(f"SELECT {_FIGURES} FROM predictions WHERE {where}", values).fetchall()[0]
    return PeriodVolume(period=period.name, **_volume(row))


def _volume(row: Sequence[Any]) -> dict[str, Any]:
    """The fields of `Volume` from a row of _FIGURES."""
    predictions, requests, batch_rows, warned, latency_us = row
    p50, p95, p99 = [None, None, None] if latency_us is None else [value / 1000.0 for value in latency_us]
    counts = {"predictions": predictions, "requests": requests, "batch_rows": batch_rows, "warned": warned}
    return {**counts, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def _rates(answered: int, refusals: Sequence[int]) -> dict[str, Any]:
    """The fields that `Requests` adds, from answered requests and a row of _REFUSED."""
    refused, faults = map(int, refusals)
    requests = answered + refused
    return {
        "refused": refused,
        "refused_rate": refused / requests if requests else None,
        "faults": faults,
        "fault_rate": faults / requests if requests else None,
    }


def _day(instant: dt.datetime) -> str:
    return instant.date().isoformat()
