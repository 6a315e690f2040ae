"""The performance report: labels, metrics by period and version, the card comparison, estimates and the service.

What is missing is said in `messages`; a part without data hides no other.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Contract
from churn_assets.errors import NothingIngested, WindowUnreadable
from churn_assets.html.templating import render
from churn_assets.monitoring.performance.coverage import Matured, describe_selection
from churn_assets.monitoring.performance.estimated import (
    BLIND,
    EstimatedPerformance,
    PastEstimate,
    TrackRecord,
    append_history,
    estimate,
    read_history,
    track_record,
)
from churn_assets.monitoring.performance.labels import LabelCounts, count_labels, read_horizons
from churn_assets.monitoring.performance.realized import (
    CardComparison,
    Outcomes,
    Period,
    RealizedPerformance,
    compare,
    measure,
    outside,
)
from churn_assets.monitoring.performance.service import ServiceReport, service_report
from churn_assets.monitoring.windows import (
    PERFORMANCE_JSON,
    VERSION,
    QualityStatus,
    contract_folder,
    read_report,
    read_window_quality,
    read_windows,
    window_folder,
    write_report,
)
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.settings import Settings
from churn_assets.storage.files import write_text

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

PERFORMANCE_MD = "performance.md"
TEMPLATE = "monitoring/performance/templates/performance.md.j2"
MOST_PERIODS = 60  # newest periods in the report; older ones keep their file
MOST_VERSIONS = 20


@dataclass(frozen=True)
class Champion:
    """What labels are compared with: the card's metrics, when the model was trained, and on how many rows."""

    version: str
    fingerprint: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    trained_at: dt.datetime | None = None
    rows: int | None = None


@dataclass(frozen=True)
class PerformanceInputs:
    """Everything the report is made of; `connection` is None if nothing was ingested.

    `windows` are the closed ones of the champion's contract, oldest first; `folder` is where its reports are kept;
    `horizons` are those of older contracts, see `labels.read_horizons`.
    """

    connection: duckdb.DuckDBPyConnection | None
    contract: Contract
    champion: Champion | None
    labelled: pa.Table
    windows: Sequence[Period]
    folder: Path
    now: dt.datetime
    horizons: Mapping[str, int] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The contract whose rows are measured: the champion's."""
        return self.champion.fingerprint if self.champion else self.contract.fingerprint

    @property
    def capacity_share(self) -> float | None:
        """The share of customers that can be contacted, as the champion's threshold took it; None if unknown."""
        capacity, rows = self.contract.value.capacity, self.champion.rows if self.champion else None
        return None if capacity is None or not rows else min(1.0, capacity / rows)


@dataclass(frozen=True)
class LabelSummary:
    """Customers with a final label, without those of broken data, which `of_broken_data` counts as predictions.

    `events` count a customer once in each stretch of the horizon's length; `new` of them were settled after the
    champion was trained; before there is one, all are new. `selective` says why the labels are no fair sample, "" if
    nothing shows that they are not.
    """

    final: int
    final_of_champion: int
    new: int
    of_broken_data: int
    counts: LabelCounts
    events: int = 0
    selective: str = ""


@dataclass(frozen=True)
class PeriodPerformance:
    """One period; `inputs` is the data quality of a window, None for a month or where it was not checked."""

    period: str
    closed: bool
    inputs: QualityStatus | None
    realized: RealizedPerformance
    estimated: EstimatedPerformance


@dataclass(frozen=True, kw_only=True)
class VersionPerformance(RealizedPerformance):
    """The labelled predictions of one model version."""

    model_version: str


@dataclass(frozen=True)
class EstimateSummary:
    """How past estimates came out, and what no estimate detects."""

    record: TrackRecord
    blind_to: str = BLIND


@dataclass(frozen=True)
class WindowPerformance:
    """`performance.json` of a window: valid as long as its labels have this hash."""

    window: int
    fingerprint: str
    from_seq: int | None
    to_seq: int | None
    status: str
    realized: RealizedPerformance
    labels_sha256: str
    version: int = VERSION


@dataclass(frozen=True)
class PerformanceReport:
    """Everything that is known of the champion's performance; `fall` is its comparison with the card."""

    fingerprint: str
    champion: str | None
    champion_fingerprint: str
    made_at: str
    label_floor: int
    labels: LabelSummary
    periods: tuple[PeriodPerformance, ...]
    versions: tuple[VersionPerformance, ...]
    fall: CardComparison
    pr_auc_dropped: bool
    estimates: EstimateSummary
    service: ServiceReport | None
    messages: tuple[str, ...]
    version: int = VERSION


def render_performance(report: PerformanceReport) -> str:
    """The page in Markdown: what is concluded, then every table it is concluded from."""
    return render(TEMPLATE, report=report)


def report_performance(
    settings: Settings, contract: Contract, labelled: pa.Table, now: dt.datetime
) -> PerformanceReport:
    """Make the report, and keep it as JSON and as a page beside the windows of the champion's contract. `labelled` is
    the table of `labels.labelled`. Raises WindowUnreadable, PointerCorrupt, BundleCorrupt."""
    champion = _labelled_champion(settings)
    fingerprint = champion.fingerprint if champion else contract.fingerprint
    windows = [
        Period(f"{window.window:04d}", window.from_seq, window.to_seq, folder=window_folder(settings, window))
        for window in read_windows(settings, fingerprint)
    ]
    folder = contract_folder(settings, fingerprint)
    connection = None
    with ExitStack() as stack:
        with suppress(NothingIngested):
            connection = stack.enter_context(open_published(settings))
        horizons = read_horizons(settings) if connection is not None else {}
        inputs = PerformanceInputs(connection, contract, champion, labelled, windows, folder, now, horizons)
        report = compute_performance(inputs)
    write_report(folder / PERFORMANCE_JSON, report)
    write_text(folder / PERFORMANCE_MD, render_performance(report))
    return report


def _labelled_champion(settings: Settings) -> Champion | None:
    """The champion of this home as labels are compared with it; None before the first."""
    from churn_assets.promotion.pointer import read_champion
    from churn_assets.scoring.bundle import read_card, read_provenance

    pointer = read_champion(settings.home)
    if pointer is None:
        return None
    bundle = pointer.path(settings.home)
    metrics, provenance = read_card(bundle).metrics, read_provenance(bundle)
    trained_at = dt.datetime.fromisoformat(provenance.made_at) if provenance.made_at else pointer.since_at
    return Champion(pointer.version, pointer.fingerprint, metrics, trained_at, provenance.rows or None)


def compute_performance(inputs: PerformanceInputs) -> PerformanceReport:
    """The whole report. Estimates of closed periods are kept, and so is the performance.json of each window."""
    floor, champion, connection = inputs.contract.monitoring.label_floor, inputs.champion, inputs.connection
    outcomes = Outcomes.of(inputs.labelled, inputs.fingerprint)
    periods = _periods(inputs)
    realized = {p.name: _realized(inputs, outcomes.within(p), p) for p in periods}
    estimated, record = _estimates(inputs, periods, realized)
    broken = [(p.from_seq or 0, p.to_seq or 0) for p in inputs.windows if _read_quality(p) == "broken"]
    usable = outcomes.take(outside(outcomes.seq, broken))
    of_champion = usable.of_version(champion.version) if champion else usable.take(np.arange(0))
    selective = describe_selection(_matured(inputs), of_champion)
    fall = CardComparison("unknown", selective) if selective else _compare_with_card(inputs, of_champion)
    versions = tuple(
        VersionPerformance(**vars(measure(outcomes.of_version(name), floor, inputs.capacity_share)), model_version=name)
        for name in list(dict.fromkeys(outcomes.version[::-1].tolist()))[:MOST_VERSIONS]
    )
    labels = LabelSummary(
        final=len(usable.last_of_each()),
        final_of_champion=len(of_champion),
        new=_count_new(inputs, usable),
        events=usable.events,
        selective=selective,
        of_broken_data=len(outcomes) - len(usable),
        counts=count_labels(connection, inputs.contract, inputs.now, inputs.horizons)
        if connection is not None
        else LabelCounts(),
    )
    rows = tuple(
        PeriodPerformance(p.name, p.closed, _read_quality(p), realized[p.name], estimated[p.name]) for p in periods
    )
    return PerformanceReport(
        fingerprint=inputs.contract.fingerprint,
        champion=champion.version if champion else None,
        champion_fingerprint=inputs.fingerprint,
        made_at=inputs.now.astimezone(dt.UTC).isoformat(timespec="seconds"),
        label_floor=floor,
        labels=labels,
        periods=rows,
        versions=versions,
        fall=fall,
        pr_auc_dropped=fall.dropped,
        estimates=EstimateSummary(record),
        service=service_report(connection, periods) if connection is not None else None,
        messages=_messages(labels, rows, fall, record) if connection is not None else (labels.counts.message,),
    )


def _periods(inputs: PerformanceInputs) -> list[Period]:
    """Closed windows and what follows the last of them; months of scoring while there is no window."""
    if inputs.connection is None:
        return []
    rows = "FROM answers WHERE fingerprint = $fingerprint"
    values = {"fingerprint": inputs.fingerprint}
    windows = list(inputs.windows)[-MOST_PERIODS:]
    if not windows:
        months = f"SELECT DISTINCT strftime(scored_at, '%Y-%m') AS month {rows} ORDER BY month"
        present = inputs.now.astimezone(dt.UTC).strftime("%Y-%m")  # this month and later ones can still grow
        names = inputs.connection.execute(months, values).fetchall()
        return [Period(name, closed=name < present) for (name,) in names][-MOST_PERIODS:]
    last = windows[-1].to_seq or 0
    (newest,) = inputs.connection.execute(f"SELECT coalesce(max(seq), 0) {rows}", values).fetchall()[0]
    return [*windows, Period("open", last + 1, newest, closed=False)] if newest > last else windows


def _realized(inputs: PerformanceInputs, outcomes: Outcomes, period: Period) -> RealizedPerformance:
    """Metrics of a period; those of a window are kept, and used again as long as its labels are the same."""
    floor, share = inputs.contract.monitoring.label_floor, inputs.capacity_share
    if period.folder is None:
        return measure(outcomes, floor, share)
    parts = (outcomes.score, outcomes.churned, outcomes.contacted)
    labels = hashlib.sha256(b"".join(part.tobytes() for part in parts) + f"{floor} {share}".encode()).hexdigest()
    path = period.folder / PERFORMANCE_JSON
    if (kept := _read_realized(path, labels)) is not None:
        return kept
    realized = measure(outcomes, floor, share)
    span = (int(period.name), inputs.fingerprint, period.from_seq, period.to_seq)
    write_report(path, WindowPerformance(*span, realized.status, realized, labels))
    return realized


def _read_realized(path: Path, labels: str) -> RealizedPerformance | None:
    """The metrics that are kept, if they are of these labels; None if they must be made again."""
    with suppress(WindowUnreadable):
        kept = read_report(path, WindowPerformance)
        return kept.realized if kept is not None and kept.labels_sha256 == labels else None
    return None


def _estimates(
    inputs: PerformanceInputs, periods: Sequence[Period], realized: Mapping[str, RealizedPerformance]
) -> tuple[dict[str, EstimatedPerformance], TrackRecord]:
    """(estimate by period, track record): of a closed period the estimate that was made first."""
    history, problem = read_history(inputs.folder)
    known = {past.period for past in history}
    floor = inputs.contract.monitoring.floor
    estimates = {p.name: estimate(_scores(inputs, p), floor) for p in periods if p.name not in known}
    made_at = inputs.now.astimezone(dt.UTC).isoformat(timespec="seconds")
    new = [
        PastEstimate(p.name, made_at, made.rows, made.metrics, realized[p.name].rows)
        for p in periods
        if p.closed and (made := estimates.get(p.name)) is not None and made.metrics is not None
    ]
    names = {p.name for p in periods}
    history = [past for past in append_history(inputs.folder, new) if past.period in names]
    record = track_record(history, realized)
    record = replace(record, message=problem or record.message)
    return estimates | {past.period: past.estimate for past in history}, record


def _scores(inputs: PerformanceInputs, period: Period) -> npt.NDArray[np.float64]:
    if inputs.connection is None:
        return np.empty(0)
    where, values = period.where()
    rows = inputs.connection.execute(
        f"SELECT arg_max(score, seq) AS score FROM answers WHERE fingerprint = $fingerprint AND {where} "
        "GROUP BY coalesce(customer_id, ' ' || prediction_id || ' ') ORDER BY score DESC",
        {"fingerprint": inputs.fingerprint, **values},
    ).fetchnumpy()
    return np.asarray(rows["score"], dtype=np.float64)


def _compare_with_card(inputs: PerformanceInputs, of_champion: Outcomes) -> CardComparison:
    """The champion's newest labelled customers, as many as a window has, against its card."""
    limits = inputs.contract.monitoring
    if inputs.champion is None:
        return CardComparison("unknown", "no champion yet: there is no card to compare with")
    if "test_pr_auc_low" not in inputs.champion.metrics:
        message = "the champion's card has no PR-AUC with an interval: there is nothing to compare with"
        return CardComparison("unknown", message)
    newest = of_champion.newest(max(limits.window, limits.label_floor))
    return compare(newest, inputs.champion.metrics, limits.pr_auc_drop, limits.label_floor)


def _matured(inputs: PerformanceInputs) -> Matured:
    """The champion's last prediction of each customer whose days are over, outside of broken data."""
    if inputs.connection is None or inputs.champion is None:
        return Matured(np.empty(0, np.int64), np.empty(0))
    rows = inputs.connection.execute(
        "SELECT max(seq) AS seq, arg_max(score, seq) AS score FROM answers "
        "WHERE model_version = $version AND fingerprint = $fingerprint AND as_of + to_days($horizon) <= $now "
        "GROUP BY coalesce(customer_id, ' ' || prediction_id || ' ') ORDER BY seq",
        {
            "version": inputs.champion.version,
            "fingerprint": inputs.fingerprint,
            "horizon": inputs.horizons.get(inputs.fingerprint, inputs.contract.label.horizon_days),
            "now": inputs.now.astimezone(dt.UTC).replace(tzinfo=None),
        },
    ).fetchnumpy()
    seq, score = rows["seq"].astype(np.int64), rows["score"].astype(np.float64)
    keep = outside(seq, [(p.from_seq or 0, p.to_seq or 0) for p in inputs.windows if _read_quality(p) == "broken"])
    return Matured(seq[keep], score[keep])


def _count_new(inputs: PerformanceInputs, outcomes: Outcomes) -> int:
    if inputs.champion is None or inputs.champion.trained_at is None:
        return outcomes.events
    since = np.datetime64(inputs.champion.trained_at.astimezone(dt.UTC).replace(tzinfo=None), "us")
    return outcomes.take(np.asarray(outcomes.settled > since, dtype=np.bool_)).events


def _read_quality(period: Period) -> QualityStatus | None:
    """The data quality of a window; None if it was not checked or its report cannot be read: it is made again."""
    with suppress(WindowUnreadable):
        return read_window_quality(period.folder) if period.folder else None
    return None


def _messages(
    labels: LabelSummary, periods: Sequence[PeriodPerformance], fall: CardComparison, record: TrackRecord
) -> tuple[str, ...]:
    """What the report says in sentences, most important first."""
    messages = [labels.counts.message, fall.message]
    estimates = [(row.period, row.estimated.metrics.pr_auc) for row in periods if row.estimated.metrics is not None]
    if estimates:
        period, figure = estimates[-1]
        messages.append(f"estimated without labels for {period}: PR-AUC {figure}. {BLIND}")
    messages.append(record.message)
    if broken := ", ".join(row.period for row in periods if row.inputs == "broken"):
        messages.append(f"inputs were broken in {broken}: the estimates of these periods mean nothing")
    if labels.of_broken_data:
        messages.append(
            f"{labels.of_broken_data:,} final labels are of broken data: they train no model and are not compared "
            "with the card"
        )
    return tuple(messages)
