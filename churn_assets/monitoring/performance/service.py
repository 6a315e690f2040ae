"""What the service did, from the log: volume, refusals, latency. Aggregated in DuckDB; no row is brought here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from churn_assets.monitoring.performance.outcomes import Period

if TYPE_CHECKING:
    import duckdb

DAYS = 90  # newest days that are shown one by one
FAULTS = ("busy", "disk", "internal", "no_model")  # causes that are ours, not the request's

_FIGURES = """
  count(*) AS predictions,
  count(DISTINCT request_id) FILTER (latency_us IS NOT NULL) AS requests,
  count(*) FILTER (latency_us IS NULL) AS batch_rows,
  count(*) FILTER (len(warnings) > 0) AS warned,
  quantile_cont(latency_us, [0.5, 0.95, 0.99]) AS latency_us
"""
_REFUSED = "coalesce(sum(requests), 0), coalesce(sum(requests) FILTER (list_contains($faults, cause)), 0)"
_NAMES = ("predictions", "requests", "batch_rows", "warned")


def service_report(connection: duckdb.DuckDBPyConnection, periods: Sequence[Period] = ()) -> dict[str, Any]:
    """Volume, refusal rates and latency: over all (`total`), by model version and arm, by day, by period.

    Latencies are milliseconds from a request's arrival to its line in the log, exact quantiles over rows a
    request asked for; rows of `churn score --log` have none and are `batch_rows`. Refused requests leave no
    prediction and name no model: their rates are over all and by day (that of their count's end) only. A
    rate is refused / (refused + answered) requests; `fault_rate` counts those that were not the request's fault.
    """
    by_version = connection.execute(
        f"SELECT model_version, arm, min(scored_at), max(scored_at), {_FIGURES} FROM predictions "
        "GROUP BY 1, 2 ORDER BY max(seq) DESC"
    ).fetchall()
    return {
        "total": _rated(_total(connection), _refused(connection)),
        "by_version": [
            {"model_version": row[0], "arm": row[1], "first": _day(row[2]), "last": _day(row[3]), **_figures(row[4:])}
            for row in by_version
        ],
        "by_day": _by_day(connection),
        "by_period": [_of_period(connection, period) for period in periods],
        "causes": dict(connection.execute(_CAUSES).fetchall()),
    }


_CAUSES = "SELECT cause, CAST(sum(requests) AS BIGINT) FROM rejections GROUP BY 1 ORDER BY 2 DESC, 1"


def _total(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    return _figures(connection.execute(f"SELECT {_FIGURES} FROM predictions").fetchall()[0])


def _refused(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    asked = f"SELECT {_REFUSED} FROM rejections"
    refused, faults = connection.execute(asked, {"faults": list(FAULTS)}).fetchall()[0]
    return int(refused), int(faults)


def _by_day(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    answered = connection.execute(
        f"SELECT CAST(scored_at AS DATE) AS day, {_FIGURES} FROM predictions GROUP BY 1 ORDER BY 1 DESC LIMIT {DAYS}"
    ).fetchall()
    refused = connection.execute(
        f"SELECT CAST(until_at AS DATE), {_REFUSED} FROM rejections GROUP BY 1 ORDER BY 1 DESC LIMIT {DAYS}",
        {"faults": list(FAULTS)},
    ).fetchall()
    figures = {row[0]: _figures(row[1:]) for row in answered}
    refusals = {day: (int(count), int(faults)) for day, count, faults in refused}
    days = sorted(figures.keys() | refusals.keys())[-DAYS:]
    return [
        {"day": day.isoformat(), **_rated(figures.get(day, _figures((0, 0, 0, 0, None))), refusals.get(day, (0, 0)))}
        for day in days
    ]


def _of_period(connection: duckdb.DuckDBPyConnection, period: Period) -> dict[str, Any]:
    where, values = period.where()
    found = connection.execute(f"SELECT {_FIGURES} FROM predictions WHERE {where}", values).fetchall()[0]
    return {"period": period.name, **_figures(found)}


def _figures(row: Sequence[Any]) -> dict[str, Any]:
    latency = [None, None, None] if row[4] is None else [value / 1000.0 for value in row[4]]
    return {
        **dict(zip(_NAMES, row[:4], strict=True)),
        **dict(zip(("p50_ms", "p95_ms", "p99_ms"), latency, strict=True)),
    }


def _rated(figures: dict[str, Any], refused: tuple[int, int]) -> dict[str, Any]:
    count, faults = refused
    asked = figures["requests"] + count
    return {
        **figures,
        "refused": count,
        "refused_rate": count / asked if asked else None,
        "faults": faults,
        "fault_rate": faults / asked if asked else None,
    }


def _day(instant: Any) -> str:
    return str(instant.date().isoformat())
