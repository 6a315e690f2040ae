"""Monitoring: the windows as a timeline, what is wrong with the data, what drifts, and how the service does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from starlette.exceptions import HTTPException

from churn_assets.contract.model import Contract
from churn_assets.dashboard.pages.monitoring.distributions import (
    Distribution,
    OutlierRow,
    draw_distribution,
    read_distributions,
    read_outliers,
)
from churn_assets.dashboard.pages.monitoring.service import ServiceFigures, draw_service, read_service
from churn_assets.dashboard.pages.selection import Selection, as_query, read_selection, segment_columns
from churn_assets.dashboard.sources import Sources, attempt
from churn_assets.html.charts import Chart, Mark, bars, over_periods
from churn_assets.monitoring.cutting import WHO
from churn_assets.monitoring.data_quality import QualityReport, WindowQuality
from churn_assets.monitoring.drift.multivariate import Outliers
from churn_assets.monitoring.drift.report import DriftReport, WindowDrift
from churn_assets.monitoring.findings import Finding
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
    rows_of,
    window_folder,
)
from churn_assets.promotion.pointer import read_champion
from churn_assets.scoring.bundle import REFERENCE, read_reference

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")

DAYS = (1, 7, 30)
MOST_WINDOWS = 60  # newest ones of the timeline
MOST_EVENTS = 50  # newest ones of the table of drift
FEW_COLUMNS = 12  # whose distributions are shown unless all are asked for
# As the drift report has the scores of all: of customers whom the window's model has scored last.
_SCORES = f"""
    SELECT count(*), avg(newest.score), avg(newest.decision::INT) FROM (
        SELECT arg_max(struct_pack(score, decision, model_version), seq) AS newest FROM answers
        WHERE {{rows}} AND {{where}} GROUP BY {WHO})
    WHERE newest.model_version = $scorer
"""


@dataclass(frozen=True)
class WindowEntry:
    """A window of the timeline with the status of both reports; `drifted` are columns, `accepted` by whom a broken one
    was accepted, "" for nobody. Scores are of the `scored` customers whom the window's model has scored last."""

    window: int
    customers: int
    scored: int
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
class DriftEvent:
    """A column that drifted in a window, with the p-value and the effect that say so."""

    window: int
    last_at: str
    column: str
    check: str
    p_value: float | None
    effect: float | None
    effect_measure: str
    message: str


@dataclass(frozen=True)
class WindowScore:
    """The scores of the customers of a window that count and that its model has scored last: their number, mean, and
    share predicted to churn."""

    window: int
    customers: int
    mean_score: float | None
    positive_share: float | None


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
class MonitoringChoice:
    """What the reader has chosen: "" for the newest window, all models, all customers; `segment` is "column=level",
    `column` the one whose distribution comes first; `every` shows that of every column."""

    window: str
    version: str
    segment: str
    column: str
    days: int
    every: bool

    def query(self, **changed: object) -> str:
        """The choice as a query, with some parts changed."""
        return as_query({**vars(self), **changed})


@dataclass(frozen=True)
class Monitoring:
    """The page. `versions` are the models whose windows there are, `segments` the levels by column; `effect_limit` and
    `significance` are those of the contract in use; `columns` are those of the window's report. Drift and data quality
    are judged over all customers of a window; `scores`, `distributions` and `outliers` are over those that count."""

    made_at: dt.datetime
    champion: str
    choice: MonitoringChoice
    versions: tuple[str, ...]
    segments: Mapping[str, tuple[str, ...]]
    windows: tuple[WindowEntry, ...]
    open_window: str
    events: tuple[DriftEvent, ...]
    detail: WindowDetail | None
    effect_limit: float | None
    significance: float | None
    columns: tuple[str, ...]
    scores: tuple[WindowScore, ...]
    distributions: tuple[Distribution, ...]
    outliers: tuple[OutlierRow, ...]
    service: ServiceFigures | None
    problems: tuple[str, ...]


def read_monitoring(sources: Sources, parameters: Mapping[str, str]) -> Monitoring:
    """The window, column, model version, segment and days that the parameters name, else the newest of each. Raises
    HTTPException for one that there is not."""
    problems, now = list[str](), sources.clock()
    days = _chosen_days(parameters.get("days", ""))
    champion = attempt(problems, lambda: read_champion(sources.settings.home))
    quality, drift = attempt(problems, sources.quality), attempt(problems, sources.drift)
    fingerprint = champion.fingerprint if champion else ""
    windows = attempt(problems, lambda: read_windows(sources.settings, fingerprint)) or [] if champion else []
    contract = attempt(problems, sources.contract) if champion else None
    segments = segment_columns(contract)
    selection = read_selection(segments, parameters)
    entries = _entries(sources, windows, quality, drift)
    versions = tuple(dict.fromkeys(entry.model_version for entry in reversed(entries) if entry.model_version))
    entries = [entry for entry in entries if selection.version in ("", entry.model_version)]
    chosen = _chosen_window(entries, parameters.get("window", ""))
    window = next((w for w in windows if chosen is not None and w.window == chosen.window), None)
    detail = attempt(problems, lambda: _detail(sources, window, chosen)) if window and chosen else None
    names = _by_drift(detail)
    column = _chosen_column(names, parameters.get("column", ""))
    every = parameters.get("every", "") == "1"
    values = _Values(sources, contract, window, chosen, selection)
    shown = names if every else names[:FEW_COLUMNS]
    chosen_segment = parameters.get("segment", "")
    choice = MonitoringChoice(parameters.get("window", ""), selection.version, chosen_segment, column, days, every)
    known = [w for w in windows if any(entry.window == w.window for entry in entries)]
    return Monitoring(
        made_at=now,
        champion=champion.version if champion else "",
        choice=choice,
        versions=versions,
        segments=segments,
        windows=tuple(entries),
        open_window=quality.open.message if quality and quality.open else "",
        events=_events(drift, selection.version),
        detail=detail,
        effect_limit=contract.monitoring.effect if contract else None,
        significance=contract.monitoring.significance if contract else None,
        columns=names,
        scores=attempt(problems, lambda: _scores(sources, entries, known, selection)) or (),
        distributions=attempt(problems, lambda: values.distributions((column, *shown) if column else shown)) or (),
        outliers=attempt(problems, values.outliers) or (),
        service=attempt(problems, lambda: read_service(sources, now, days, selection)),
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
    for values in page.distributions:
        if (chart := draw_distribution(values)) is not None:
            charts[f"of {values.column}"] = chart
    if len(page.scores) > 1:
        names = [str(score.window) for score in page.scores]
        series = {
            "mean score": [Mark(score.mean_score) for score in page.scores],
            "share predicted to churn": [Mark(score.positive_share) for score in page.scores],
        }
        charts["score"] = over_periods("Score by window", names, series, "")
    if page.service is not None:
        charts |= draw_service(page.service, page.made_at)
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
        scored=window.customers - (drift.scored_by_others if drift else 0),
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


def _by_drift(detail: WindowDetail | None) -> tuple[str, ...]:
    """The columns of a window's report, those that drift first, then by their effect."""
    rows = [row for row in detail.columns if not row.column.startswith("(")] if detail else []
    return tuple(row.column for row in sorted(rows, key=lambda row: (row.status != "drift", -(row.effect or 0.0))))


def _chosen_column(names: Sequence[str], name: str) -> str:
    if name and name not in names:
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


def _events(drift: DriftReport | None, version: str) -> tuple[DriftEvent, ...]:
    events = [
        DriftEvent(
            window=window.window,
            last_at=window.last_scored_at,
            column=column.column,
            check=column.check or "",
            p_value=column.p_value,
            effect=column.effect,
            effect_measure=column.effect_measure or "",
            message=column.message,
        )
        for window in reversed(drift.windows if drift else ())
        if version in ("", window.model_version)
        for column in window.columns
        if column.status == "drift"
    ]
    return tuple(events[:MOST_EVENTS])


@dataclass(frozen=True)
class _Values:
    """The values of a window in the log, beside those of the training rows."""

    sources: Sources
    contract: Contract | None
    window: Window | None
    entry: WindowEntry | None
    selection: Selection

    def distributions(self, names: Sequence[str]) -> tuple[Distribution, ...]:
        """Of these columns, in this order."""
        names = tuple(dict.fromkeys(names))
        known = {d.column: d for d in self._ask("distributions", names, read_distributions)}
        return tuple(known[name] for name in names if name in known)

    def outliers(self) -> tuple[OutlierRow, ...]:
        """The newest rows of the window that are beyond the training rows."""
        names = tuple(column.name for column in self.contract.scoring_columns) if self.contract else ()
        return self._ask("outliers", names, read_outliers)

    def _ask(self, name: str, names: tuple[str, ...], read: Callable[..., tuple[T, ...]]) -> tuple[T, ...]:
        window, contract, entry = self.window, self.contract, self.entry
        if window is None or contract is None or entry is None or not entry.model_version or not names:
            return ()
        by_name = {column.name: column for column in contract.columns}
        columns = [by_name[name] for name in names if name in by_name]
        file = self.sources.settings.bundles_dir / entry.model_version / REFERENCE
        reference = self.sources.parsed(file, lambda path: read_reference(path.parent))

        def question(connection: duckdb.DuckDBPyConnection) -> tuple[T, ...]:
            return read(connection, columns, window, reference, self.selection)

        key = (name, window, entry.model_version, tuple(columns), self.selection)
        return self.sources.log.ask(key, question) or ()


def _scores(
    sources: Sources, entries: Sequence[WindowEntry], windows: Sequence[Window], selection: Selection
) -> tuple[WindowScore, ...]:
    """By window: as its report has them, or of the log where not all customers count."""
    if not selection.column:
        return tuple(WindowScore(e.window, e.scored, e.mean_score, e.positive_share) for e in entries)
    where, values = Selection("", selection.column, selection.level).where()
    scorers = {entry.window: entry.model_version for entry in entries}

    def question(connection: duckdb.DuckDBPyConnection) -> list[WindowScore]:
        scores = []
        for window in windows:
            sql = _SCORES.format(rows=rows_of(window), where=where)
            row = connection.execute(sql, {**values, "scorer": scorers[window.window]}).fetchall()[0]
            scores.append(WindowScore(window.window, *row))
        return scores

    key = ("scores by window", tuple(windows), tuple(scorers.items()), where, *values.values())
    return tuple(sources.log.ask(key, question) or ())
