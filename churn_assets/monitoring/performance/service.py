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

# Answered and refused requests as rows of one table; a refused one has no prediction.
_ROWS = """(
  SELECT *, scored_at AS instant FROM answers
  UNION ALL BY NAME SELECT cause, requests AS refused_requests, until_at AS instant FROM rejections
)"""
_VOLUME = """
  count(prediction_id) AS predictions,
  count(DISTINCT request_id) FILTER (latency_us IS NOT NULL) AS requests,
  count(prediction_id) FILTER (latency_us IS NULL) AS batch_rows,
  count(*) FILTER (len(warnings) > 0) AS warned,
  quantile_cont(latency_us, [0.5, 0.95, 0.99])[1] / 1000 AS p50_ms,
  quantile_cont(latency_us, [0.5, 0.95, 0.99])[2] / 1000 AS p95_ms,
  quantile_cont(latency_us, [0.5, 0.95, 0.99])[3] / 1000 AS p99_ms
"""  # the same aggregate three times is computed once
_REFUSALS = f"""
  CAST(coalesce(sum(refused_requests), 0) AS BIGINT) AS refused,
  CAST(coalesce(sum(refused_requests) FILTER (cause IN {FAULTS}), 0) AS BIGINT) AS faults
"""
_RATES = """
  refused / nullif(refused + requests, 0) AS refused_rate,
  faults / nullif(refused + requests, 0) AS fault_rate
"""
_REQUESTS = f"{_VOLUME}, {_REFUSALS}, {_RATES}"
_BETWEEN = f"""
  SELECT *, {_RATES} FROM
    (SELECT {_VOLUME} FROM answers WHERE scored_at >= $since AND scored_at < $until),
    (SELECT {_REFUSALS} FROM (SELECT cause, requests AS refused_requests FROM rejections
      WHERE until_at >= $since AND until_at < $until))
"""  # without `_ROWS`, of which every column of the log would be read


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
    """With refused requests, `faults` the service's own; a rate is of all requests, None without one."""

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
    """Figures of the log; refused requests leave no prediction and name no model: they are over all and by day only."""

    total: Requests
    by_version: tuple[VersionVolume, ...]
    by_day: tuple[DayRequests, ...]
    by_period: tuple[PeriodVolume, ...]
    causes: Mapping[str, int]


def service_report(connection: duckdb.DuckDBPyConnection, periods: Sequence[Period] = ()) -> ServiceReport:
    """The figures of a log; `periods` are those to list one by one."""

    def rows(sql: str, values: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = connection.sql(sql, params=values).to_arrow_table().to_pylist()
        return result

    def of_period(period: Period) -> PeriodVolume:
        where, values = period.where()
        (figures,) = rows(f"SELECT {_VOLUME} FROM answers WHERE {where}", values)
        return PeriodVolume(period=period.name, **figures)

    versions = rows(
        "SELECT model_version, arm, strftime(min(scored_at), '%Y-%m-%d') AS first, "
        f"strftime(max(scored_at), '%Y-%m-%d') AS last, {_VOLUME} FROM answers GROUP BY 1, 2 ORDER BY max(seq) DESC"
    )
    days = rows(
        f"SELECT strftime(instant, '%Y-%m-%d') AS day, {_REQUESTS} FROM {_ROWS} GROUP BY 1 ORDER BY 1 DESC LIMIT {DAYS}"
    )
    causes = rows("SELECT cause, CAST(sum(requests) AS BIGINT) AS count FROM rejections GROUP BY 1 ORDER BY 2 DESC, 1")
    return ServiceReport(
        total=Requests(**rows(f"SELECT {_REQUESTS} FROM {_ROWS}")[0]),
        by_version=tuple(VersionVolume(**row) for row in versions),
        by_day=tuple(DayRequests(**row) for row in reversed(days)),
        by_period=tuple(map(of_period, periods)),
        causes={row["cause"]: row["count"] for row in causes},
    )


def requests_between(connection: duckdb.DuckDBPyConnection, since: dt.datetime, until: dt.datetime) -> Requests:
    """The figures from one instant (UTC) to before another."""
    values = {"since": _naive(since), "until": _naive(until)}
    (row,) = connection.sql(_BETWEEN, params=values).to_arrow_table().to_pylist()
    return Requests(**row)


def _naive(instant: dt.datetime) -> dt.datetime:
    """As the log has instants: UTC without saying so."""
    return instant.astimezone(dt.UTC).replace(tzinfo=None)
