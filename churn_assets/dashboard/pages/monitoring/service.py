"""The service: volume, refusals by cause, latency, by the hour."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from churn_assets.dashboard.pages.selection import Selection
from churn_assets.dashboard.sources import Sources
from churn_assets.html.charts import Axis, Chart, Line, compact, histogram, lines
from churn_assets.monitoring.performance.service import FAULTS, Requests, requests_between

LATENCY_EDGES_MS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0)  # and beyond
_LATENCY_BINS = ", ".join(
    f"count(*) FILTER (latency_us >= {low * 1000} AND latency_us < {high * 1000})"
    for low, high in pairwise((*LATENCY_EDGES_MS, 1e12))
)
_SPAN = "scored_at >= $since AND scored_at < $until"
_LATENCIES = f"SELECT {_LATENCY_BINS} FROM answers WHERE {_SPAN} AND {{where}}"
_BY_STATUS = f"""
    SELECT status, count(*), quantile_cont(latency_us, [0.5, 0.95, 0.99]) AS us, us[1] / 1000, us[2] / 1000,
        us[3] / 1000 FROM answers
    WHERE {_SPAN} AND {{where}} GROUP BY 1 ORDER BY 2 DESC, 1
"""
_CAUSES = """
    SELECT cause, sum(requests)::BIGINT FROM rejections WHERE until_at >= $since AND until_at < $until
    GROUP BY 1 ORDER BY 2 DESC, 1
"""
_BY_HOUR = f"""
    SELECT hour, coalesce(answers, 0), mean_score, positive_share, coalesce(refused, 0)::BIGINT FROM (
        SELECT epoch(date_trunc('hour', scored_at))::BIGINT AS hour, count(*) AS answers, avg(score) AS mean_score,
            avg(decision::INT) AS positive_share FROM answers WHERE {_SPAN} AND {{where}} GROUP BY 1)
    FULL JOIN (
        SELECT epoch(date_trunc('hour', until_at))::BIGINT AS hour, sum(requests) AS refused FROM rejections
        WHERE until_at >= $since AND until_at < $until GROUP BY 1) USING (hour) ORDER BY 1
"""


@dataclass(frozen=True)
class LatencyBin:
    """Answers with a latency from `from_ms` to before the next bin's."""

    from_ms: float
    answers: int


@dataclass(frozen=True)
class Hour:
    """The answers that count, and all refused requests, from an instant (seconds since 1970) to an hour later."""

    hour: int
    answers: int
    mean_score: float | None
    positive_share: float | None
    refused: int


@dataclass(frozen=True)
class StatusFigures:
    """Answers that count by what became of the row, with exact quantiles of their latency."""

    status: str
    answers: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class Refusals:
    """Refused requests by cause; `is_fault` for one that is the service's own."""

    cause: str
    requests: int
    is_fault: bool


@dataclass(frozen=True)
class ServiceFigures:
    """The service in the last `days`: `requests` and `refusals` are over all, the others over the answers that
    count."""

    days: int
    since_at: dt.datetime
    requests: Requests
    statuses: tuple[StatusFigures, ...]
    refusals: tuple[Refusals, ...]
    latency: tuple[LatencyBin, ...]
    hours: tuple[Hour, ...]


def read_service(sources: Sources, now: dt.datetime, days: int, selection: Selection) -> ServiceFigures | None:
    """The figures of the last `days`; None where nothing was ingested. Raises as `PublishedLog.ask`."""
    hour = now.replace(minute=0, second=0, microsecond=0)  # a result is kept for as long as its question is the same
    since, until = hour - dt.timedelta(days=days), hour + dt.timedelta(hours=1)
    requests = sources.log.ask(("requests", since, until), partial(requests_between, since=since, until=until))
    if requests is None:
        return None
    where, values = selection.where()
    span = {"since": since.replace(tzinfo=None), "until": until.replace(tzinfo=None)}

    def rows(sql: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        key = (sql, since, until, *values.values())
        return sources.log.ask(key, lambda db: db.execute(sql, {**span, **values}).fetchall()) or []

    counts = (rows(_LATENCIES.format(where=where), values) or [()])[0]
    return ServiceFigures(
        days=days,
        since_at=since,
        requests=requests,
        statuses=tuple(
            StatusFigures(status, count, *ms) for status, count, _, *ms in rows(_BY_STATUS.format(where=where), values)
        ),
        refusals=tuple(Refusals(cause, count, cause in FAULTS) for cause, count in rows(_CAUSES, {})),
        latency=tuple(LatencyBin(edge, count) for edge, count in zip(LATENCY_EDGES_MS, counts, strict=True)),
        hours=_every_hour(since, until, rows(_BY_HOUR.format(where=where), values)),
    )


def draw_service(service: ServiceFigures, now: dt.datetime) -> dict[str, Chart]:
    """Answers and refused requests by the hour, latency."""
    charts: dict[str, Chart] = {}
    if service.hours:
        charts["hours"] = _draw_hours(service, now)
    if any(entry.answers for entry in service.latency):
        edges = [*LATENCY_EDGES_MS, 2 * LATENCY_EDGES_MS[-1]]
        counts = [entry.answers for entry in service.latency]
        shown = max((i for i, count in enumerate(counts) if count), default=0) + 2
        edges, counts = edges[: shown + 1], counts[:shown]
        axis = Axis("milliseconds", 0.0, edges[-1])
        charts["latency"] = histogram("Latency", axis, edges[: len(counts) + 1], counts, unit="answers")
    return charts


def _every_hour(since: dt.datetime, until: dt.datetime, rows: Sequence[tuple[Any, ...]]) -> tuple[Hour, ...]:
    """Also those without a row, if there is one with a row."""
    known = {row[0]: Hour(*row) for row in rows}
    hours = range(int(since.timestamp()), int(until.timestamp()), 3600) if known else ()
    return tuple(known.get(hour, Hour(hour, 0, None, None, 0)) for hour in hours)


def _draw_hours(service: ServiceFigures, now: dt.datetime) -> Chart:
    start, end = service.since_at.timestamp(), now.timestamp()
    drawn = [
        Line("answers", [(float(entry.hour), float(entry.answers)) for entry in service.hours], "a"),
        Line("refused", [(float(entry.hour), float(entry.refused)) for entry in service.hours], "b"),
    ]
    step, form = (6 * 3600, "%H:%M") if service.days == 1 else (86_400 * max(1, service.days // 6), "%d %b")
    ticks = tuple(float(at) for at in range(int(start) // step * step + step, int(end), step))
    x = Axis("UTC", start, end, lambda at: f"{dt.datetime.fromtimestamp(at, dt.UTC):{form}}", ticks)
    largest = max(max(entry.answers, entry.refused) for entry in service.hours)
    return lines("Answers and refused requests an hour", x, Axis("an hour", 0.0, 1.05 * largest, compact), drawn)
