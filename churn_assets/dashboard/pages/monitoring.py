"""Monitoring: the windows as a timeline, what is wrong with the data, what drifts, and how the service does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from starlette.exceptions import HTTPException

from churn_assets.dashboard.pages.distributions import Distribution, draw_distribution, read_distribution
from churn_assets.dashboard.sources import Sources, attempt
from churn_assets.html.charts import Axis, Chart, Mark, bars, histogram, over_periods
from churn_assets.monitoring.data_quality import QualityReport, WindowQuality
from churn_assets.monitoring.drift.multivariate import Outliers
from churn_assets.monitoring.drift.report import DriftReport, WindowDrift
from churn_assets.monitoring.findings import Finding
from churn_assets.monitoring.performance.service import Requests, requests_between
from churn_assets.monitoring.windows import (
    DRIFT_HTML,
    DRIFT_JSON,
    QUALITY_JSON,
    Acceptance,
    Window,
    contract_folder,
    read_acceptance,
    read_report,
    read_windows,
    window_folder,
)
from churn_assets.promotion.pointer import read_champion

DAYS = (1, 7, 30)
LATENCY_EDGES_MS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0)  # and beyond
MOST_WINDOWS = 60  # newest ones of the timeline
_LATENCY_BINS = ", ".join(
    f"count(*) FILTER (latency_us >= {low * 1000} AND latency_us < {high * 1000})"
    for low, high in pairwise((*LATENCY_EDGES_MS, 1e12))
)
_LATENCIES = f"SELECT {_LATENCY_BINS} FROM answers WHERE scored_at >= $since AND scored_at < $until"
_BY_HOUR = """
    SELECT epoch(date_trunc('hour', scored_at))::BIGINT AS hour, count(*) AS answers, avg(score) AS mean_score,
        avg(decision::INT) AS positive_share FROM answers
    WHERE scored_at >= $since AND scored_at < $until GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True)
class WindowEntry:
    """A window of the timeline with the status of both reports; `drifted` are columns, `accepted` by whom a broken one
    was accepted, "" for nobody."""

    window: int
    customers: int
    first_at: str
    last_at: str
    quality: str
    drift: str
    drifted: tuple[str, ...]
    model_version: str
    accepted: str
    mean_score: float | None
    positive_share: float | None


@dataclass(frozen=True)
class DriftRow:
    """A column of a window against the reference: our rule's effect and p-value, Evidently's own figure and limit."""

    column: str
    status: str
    effect: float | None
    effect_measure: str
    p_value: float | None
    psi: float | None
    message: str
    evidently: float | None
    evidently_method: str
    evidently_limit: float | None
    evidently_drift: bool | None


@dataclass(frozen=True)
class WindowDetail:
    """One window in full; `page` says whether Evidently's page of it can be opened."""

    entry: WindowEntry
    quality_message: str
    drift_message: str
    findings: tuple[Finding, ...]
    missing: Mapping[str, float]
    refused: Mapping[str, int]
    columns: tuple[DriftRow, ...]
    together: str
    outliers: Outliers | None
    page: bool
    acceptance: Acceptance | None


@dataclass(frozen=True)
class LatencyBin:
    """Answers with a latency from `from_ms` to before the next bin's."""

    from_ms: float
    answers: int


@dataclass(frozen=True)
class Hour:
    """The answers from an instant (seconds since 1970) to an hour later."""

    hour: int
    answers: int
    mean_score: float
    positive_share: float


@dataclass(frozen=True)
class ServiceFigures:
    """The service in the last `days`."""

    days: int
    requests: Requests
    latency: tuple[LatencyBin, ...]
    hours: tuple[Hour, ...]


@dataclass(frozen=True)
class Monitoring:
    """The page. `versions` are the models whose windows there are; `effect_limit` and `significance` are those of the
    contract in use, `columns` what can be chosen for `distribution`."""

    made_at: dt.datetime
    champion: str
    version: str
    versions: tuple[str, ...]
    windows: tuple[WindowEntry, ...]
    open_window: str
    detail: WindowDetail | None
    effect_limit: float | None
    significance: float | None
    columns: tuple[str, ...]
    distribution: Distribution | None
    service: ServiceFigures | None
    problems: tuple[str, ...]


def read_monitoring(sources: Sources, parameters: Mapping[str, str]) -> Monitoring:
    """The window, column, model version and days that the parameters name, else the newest of each. Raises
    HTTPException for a window or column that there is not."""
    problems, now = list[str](), sources.clock()
    champion = attempt(problems, lambda: read_champion(sources.settings.home))
    quality, drift = attempt(problems, sources.quality), attempt(problems, sources.drift)
    fingerprint = champion.fingerprint if champion else ""
    windows = attempt(problems, lambda: read_windows(sources.settings, fingerprint)) or [] if champion else []
    contract = attempt(problems, sources.contract) if champion else None
    entries = _entries(sources, windows, quality, drift)
    versions = tuple(dict.fromkeys(entry.model_version for entry in reversed(entries) if entry.model_version))
    version = parameters.get("version", "")
    entries = [entry for entry in entries if version in ("", entry.model_version)]
    chosen = _chosen_window(entries, parameters.get("window", ""))
    window = next((w for w in windows if chosen is not None and w.window == chosen.window), None)
    detail = attempt(problems, lambda: _detail(sources, window, chosen)) if window and chosen else None
    names = tuple(row.column for row in detail.columns if not row.column.startswith("(")) if detail else ()
    column = _chosen_column(names, detail, parameters.get("column", ""))
    return Monitoring(
        made_at=now,
        champion=champion.version if champion else "",
        version=version,
        versions=versions,
        windows=tuple(entries),
        open_window=quality.open.message if quality and quality.open else "",
        detail=detail,
        effect_limit=contract.monitoring.effect if contract else None,
        significance=contract.monitoring.significance if contract else None,
        columns=names,
        distribution=attempt(problems, lambda: _distribution(sources, window, chosen, column)),
        service=attempt(problems, lambda: _service(sources, now, _chosen_days(parameters.get("days", "")))),
        problems=tuple(dict.fromkeys(problems)),
    )


def draw_monitoring(page: Monitoring) -> dict[str, Chart]:
    """Drift by column with its limit, the distribution of the chosen column, the score by window, latency."""
    charts: dict[str, Chart] = {}
    if page.detail is not None:
        effects = {row.column: row.effect for row in page.detail.columns if row.effect is not None}
        limits = () if page.effect_limit is None else (page.effect_limit,)
        if effects:
            charts["drift"] = bars(
                "Drift by column", effects, "effect; dashed: the limit", "{:.3g}".format, "a", limits
            )
    if page.distribution is not None and (chart := draw_distribution(page.distribution)) is not None:
        charts["distribution"] = chart
    if len(page.windows) > 1:
        names = [str(entry.window) for entry in page.windows]
        series = {
            "mean score": [Mark(entry.mean_score) for entry in page.windows],
            "share predicted to churn": [Mark(entry.positive_share) for entry in page.windows],
        }
        charts["score"] = over_periods("Score by window", names, series, "")
    if page.service is not None and page.service.requests.requests:
        edges = [*LATENCY_EDGES_MS, 2 * LATENCY_EDGES_MS[-1]]
        counts = [entry.answers for entry in page.service.latency]
        shown = max((i for i, count in enumerate(counts) if count), default=0) + 2
        edges, counts = edges[: shown + 1], counts[:shown]
        axis = Axis("milliseconds", 0.0, edges[-1])
        chart = histogram("Latency", axis, edges[: len(counts) + 1], counts, [0] * len(counts))
        charts["latency"] = chart
    return charts


def evidently_page(sources: Sources, number: str) -> Path:
    """Evidently's page of a window. Raises HTTPException where there is none."""
    champion = read_champion(sources.settings.home)
    if champion is not None and number.isascii() and number.isdigit() and len(number) <= 9:
        path = contract_folder(sources.settings, champion.fingerprint) / f"{int(number):04d}" / DRIFT_HTML
        if path.is_file():
            return path
    raise HTTPException(
        404, f"there is no page of Evidently for window {number[:20]!r}; /monitoring names those there are"
    )


def _entries(
    sources: Sources, windows: Sequence[Window], quality: QualityReport | None, drift: DriftReport | None
) -> list[WindowEntry]:
    known_quality = {window.window: window for window in quality.windows} if quality else {}
    known_drift = {window.window: window for window in drift.windows} if drift else {}
    return [
        _entry(sources, window, known_quality.get(window.window), known_drift.get(window.window))
        for window in windows[-MOST_WINDOWS:]
    ]


def _entry(sources: Sources, window: Window, quality: WindowQuality | None, drift: WindowDrift | None) -> WindowEntry:
    acceptance = attempt([], lambda: read_acceptance(window_folder(sources.settings, window)))
    return WindowEntry(
        window=window.window,
        customers=window.customers,
        first_at=window.first_scored_at,
        last_at=window.last_scored_at,
        quality=quality.status if quality else "unknown",
        drift=drift.status if drift else "unknown",
        drifted=drift.drifted if drift else (),
        model_version=drift.model_version if drift else quality.model_version if quality else "",
        accepted=acceptance.by if acceptance else "",
        mean_score=drift.score.mean if drift else None,
        positive_share=drift.score.positive_share if drift else None,
    )


def _chosen_window(entries: Sequence[WindowEntry], number: str) -> WindowEntry | None:
    if not number:
        return entries[-1] if entries else None
    chosen = next((entry for entry in entries if str(entry.window) == number), None)
    if chosen is None:
        raise HTTPException(404, f"there is no window {number[:20]!r}, expected one of /monitoring")
    return chosen


def _chosen_column(names: Sequence[str], detail: WindowDetail | None, name: str) -> str:
    if not name:
        drifted = detail.entry.drifted if detail else ()
        return next((column for column in drifted if column in names), names[0] if names else "")
    if name not in names:
        raise HTTPException(404, f"there is no column {name[:40]!r} in this window's report, expected one it names")
    return name


def _chosen_days(text: str) -> int:
    if text and text not in map(str, DAYS):
        raise HTTPException(400, f"days is {text[:20]!r}, expected one of: {', '.join(map(str, DAYS))}")
    return int(text) if text else DAYS[1]


def _detail(sources: Sources, window: Window, entry: WindowEntry) -> WindowDetail:
    folder = window_folder(sources.settings, window)
    quality = read_report(folder / QUALITY_JSON, WindowQuality)
    drift = read_report(folder / DRIFT_JSON, WindowDrift)
    own = drift.evidently.columns if drift and drift.evidently else ()
    evidently = {column.column: column for column in own}
    rows = []
    for column in drift.columns if drift else ():
        other = evidently.get(column.column)
        rows.append(
            DriftRow(
                column=column.column,
                status=column.status,
                effect=column.effect,
                effect_measure=column.effect_measure or "",
                p_value=column.p_value,
                psi=column.psi,
                message=column.message,
                evidently=other.value if other else None,
                evidently_method=other.method if other else "",
                evidently_limit=other.threshold if other else None,
                evidently_drift=other.drift if other else None,
            )
        )
    return WindowDetail(
        entry=entry,
        quality_message=quality.message if quality else "",
        drift_message=drift.message if drift else "",
        findings=quality.findings if quality else (),
        missing=quality.missing if quality else {},
        refused=quality.traffic.refused if quality else {},
        columns=tuple(rows),
        together=drift.multivariate.message if drift and drift.multivariate else "",
        outliers=drift.outliers if drift else None,
        page=(folder / DRIFT_HTML).is_file(),
        acceptance=read_acceptance(folder),
    )


def _distribution(sources: Sources, window: Window | None, entry: WindowEntry | None, name: str) -> Distribution | None:
    if window is None or entry is None or not name or not entry.model_version:
        return None
    column = next((c for c in sources.contract().columns if c.name == name), None)
    if column is None:
        return None
    bundle = sources.settings.bundles_dir / entry.model_version
    return read_distribution(column, window, bundle, sources.log.ask)


def _service(sources: Sources, now: dt.datetime, days: int) -> ServiceFigures | None:
    hour = now.replace(minute=0, second=0, microsecond=0)  # a result is kept for as long as its question is the same
    since, until = hour - dt.timedelta(days=days), hour + dt.timedelta(hours=1)
    requests = sources.log.ask(("requests", since, until), partial(requests_between, since=since, until=until))
    if requests is None:
        return None
    span = {"since": since.replace(tzinfo=None), "until": until.replace(tzinfo=None)}

    counts = sources.log.ask(("latencies", since, until), lambda db: db.execute(_LATENCIES, span).fetchall()[0]) or ()
    hours = sources.log.ask(("hours", since, until), lambda db: db.execute(_BY_HOUR, span).fetchall()) or []
    return ServiceFigures(
        days=days,
        requests=requests,
        latency=tuple(LatencyBin(edge, count) for edge, count in zip(LATENCY_EDGES_MS, counts, strict=True)),
        hours=tuple(Hour(*row) for row in hours),
    )
