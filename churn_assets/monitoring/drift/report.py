"""The drift report: one for each closed window, made once, oldest first; and one over all of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from churn_assets.contract.model import Contract, Kind, Role
from churn_assets.errors import NothingIngested
from churn_assets.html.templating import render
from churn_assets.monitoring import data_quality as quality
from churn_assets.monitoring.drift.evidently import Comparison, EvidentlyDrift, Page, Run, compare_with_evidently
from churn_assets.monitoring.drift.evidently_workspace import BROKEN_TAG, WORKSPACE, keep_run
from churn_assets.monitoring.drift.mmd import KernelTest, kernel_test
from churn_assets.monitoring.drift.multivariate import DomainClassifier, Outliers, compare_all_columns, find_outliers
from churn_assets.monitoring.drift.univariate import TESTED_KINDS, ColumnDrift, detect_drift, drifting_columns
from churn_assets.monitoring.profile import (
    NO_CHAMPION,
    SCORE,
    MonitoredLog,
    MonitoredModel,
    Profile,
    open_monitored_log,
    profile_window,
    read_monitored_model,
)
from churn_assets.monitoring.windows import (
    DRIFT_HTML,
    DRIFT_JSON,
    DRIFT_MD,
    OpenWindow,
    QualityStatus,
    Report,
    Window,
    read_window_report,
    window_folder,
    write_report,
)
from churn_assets.promotion.records import MonitoredWindow
from churn_assets.promotion.retraining import columns_drifting_in_a_row
from churn_assets.settings import Settings
from churn_assets.storage.files import write_text

if TYPE_CHECKING:
    import pyarrow as pa

Status = Literal["stable", "drift", "insufficient", "unknown"]
Evidently = Callable[..., Comparison]

_PERMUTATIONS = 400  # of the kernel test of a window, and its rows a side: a tenth of a second
TEMPLATE = "monitoring/drift/templates/drift.md.j2"


@dataclass(frozen=True)
class ScoreSummary:
    """The scores that the monitored model gave to `rows` customers; None where there are none."""

    mean: float | None
    positive_share: float | None
    rows: int


@dataclass(frozen=True, kw_only=True)
class WindowDrift(Window, Report):
    """The drift of one window against the reference of `model_version`.

    The status is 'insufficient' below the floor of customers, 'unknown' where no column could be tested. `data` is
    the window's data quality: drift in broken data counts for nothing. `drifted` are the columns that drift.
    Evidently's statistics stand beside ours and decide nothing.
    """

    status: Status
    model_version: str
    data: QualityStatus
    drifted: tuple[str, ...]
    score: ScoreSummary
    scored_by_others: int
    columns: tuple[ColumnDrift, ...]
    multivariate: DomainClassifier | None = None
    kernel: KernelTest | None = None
    outliers: Outliers | None = None
    evidently: EvidentlyDrift | None = None
    page: Page | None = None


@dataclass(frozen=True, kw_only=True)
class DriftReport(Report):
    """The newest windows of a contract, the newest last; `status` and `drifted` are those of the newest.

    `in_a_row` are the columns that drift in so many windows in a row that they ask for a retraining.
    """

    status: Status
    fingerprint: str
    model_version: str = ""
    drifted: tuple[str, ...] = ()
    in_a_row: tuple[str, ...] = ()
    open: OpenWindow | None = None
    windows: tuple[WindowDrift, ...] = ()


def report_drift(
    settings: Settings, contract: Contract, *, pages: bool = False, evidently: Evidently = compare_with_evidently
) -> DriftReport:
    """Measure every window that was not measured yet, and the columns that drift in enough windows in a row.

    `pages` writes Evidently's page for the newest window too when it does not alarm. Raises WindowUnreadable,
    PointerCorrupt.
    """
    model = read_monitored_model(settings, contract)
    if model is None:
        return DriftReport(status="insufficient", fingerprint=contract.fingerprint, message=NO_CHAMPION)
    try:
        with open_monitored_log(settings, model) as log:
            waiting, last = log.waiting, len(log.windows) - 1
            reports = [_window_drift(log, n, pages and n == last, evidently) for n in range(len(log.windows))]
    except NothingIngested:
        return DriftReport(status="insufficient", fingerprint=model.fingerprint, message=quality.NO_PREDICTIONS)
    return _summarize(model, reports, waiting)


def _summarize(model: MonitoredModel, reports: Sequence[WindowDrift], waiting: OpenWindow) -> DriftReport:
    newest = reports[-1] if reports else None
    comparable = [monitored_window(report) for report in reports if report.model_version == model.version]
    in_a_row = columns_drifting_in_a_row(comparable, model.limits.windows_to_retrain)
    messages = [newest.message if newest else waiting.message]
    if in_a_row:
        messages.append(f"{', '.join(in_a_row)} drifted in {model.limits.windows_to_retrain} windows in a row")
    return DriftReport(
        status=newest.status if newest else "insufficient",
        message="; ".join(messages),
        fingerprint=model.fingerprint,
        model_version=model.version,
        drifted=newest.drifted if newest else (),
        in_a_row=in_a_row,
        open=waiting,
        windows=tuple(reports[-quality.NEWEST :]),
    )


def monitored_window(report: WindowDrift) -> MonitoredWindow:
    """A window as the retraining decision needs it."""
    return MonitoredWindow(report.window, report.status, report.drifted, report.data)


def _window_drift(log: MonitoredLog, index: int, page_wanted: bool, evidently: Evidently) -> WindowDrift:
    """The drift report on the closed window at `index`: read, or made and kept."""
    model, window = log.model, log.windows[index]
    folder = window_folder(log.settings, window)
    report = read_window_report(log.settings, window, DRIFT_JSON, WindowDrift)
    if report is not None and report.data == "broken" and quality.window_quality(log, index).status != "broken":
        report = None  # somebody has accepted the window since
    if report is not None and not (page_wanted and not (folder / DRIFT_HTML).is_file()):
        return report
    profile = profile_window(log.connection, model, window) if model.reference else None
    if report is None:
        report = _compare_window(model, window, profile, quality.window_quality(log, index).status)
    if profile is not None and model.reference is not None:
        report = _with_evidently(log, report, model.reference.profile, profile, page_wanted, evidently)
    write_text(folder / DRIFT_MD, render(TEMPLATE, report=report))
    write_report(folder / DRIFT_JSON, report)
    return report


def _with_evidently(
    log: MonitoredLog, report: WindowDrift, before: Profile, now: Profile, page_wanted: bool, evidently: Evidently
) -> WindowDrift:
    """The report with Evidently's statistics, and with its page if that is wanted or there is drift."""
    model, folder = log.model, window_folder(log.settings, report)
    rule = {
        column.column: None if column.status == "unknown" else column.status == "drift" for column in report.columns
    }
    page = folder / DRIFT_HTML if page_wanted or report.status == "drift" else None
    kinds = {**tested_columns(model), SCORE: Kind.NUMBER}
    result = evidently(_with_score(before), _with_score(now), kinds, rule, _evidently_run(report), page)
    drift = result.drift
    if result.snapshot is not None:
        project = f"{model.contract.name} {model.fingerprint[:12]}"
        try:
            keep_run(result.snapshot, log.settings.monitoring_dir / WORKSPACE, project, folder)
        except Exception as error:  # the workspace is for people; the report stands without it
            reason = " ".join(str(error).split())[:200]
            drift = replace(drift, message=f"{drift.message}; not in the workspace: {type(error).__name__}: {reason}")
    return replace(report, evidently=drift, page=result.page or report.page)


def _evidently_run(report: WindowDrift) -> Run:
    """How Evidently lists a window: its number and our verdict."""
    drifted = f" ({', '.join(report.drifted)})" if report.drifted else ""
    broken = "; the data is broken" if report.data == "broken" else ""
    metadata = {
        "window": str(report.window),
        "verdict": report.status,
        "data": report.data,
        "drifted": ", ".join(report.drifted),
        "model_version": report.model_version,
        "customers": str(report.customers),
        "first_scored_at": report.first_scored_at,
        "last_scored_at": report.last_scored_at,
    }
    tags = (f"drift: {report.status}", BROKEN_TAG if report.data == "broken" else f"data: {report.data}")
    name = f"window {report.window}: {report.status}{drifted}{broken}"
    return Run(name, dt.datetime.fromisoformat(report.last_scored_at), tags, metadata)


def _with_score(profile: Profile) -> pa.Table:
    names = [SCORE if name == "score" else name for name in profile.sample.column_names]
    return profile.sample.rename_columns(names)


def tested_columns(model: MonitoredModel) -> Mapping[str, Kind]:
    """Raw columns that may alarm: those of role feature, also excluded ones, without the silent ones."""
    return {
        column.name: column.kind
        for column in model.contract.logged_columns
        if column.role is Role.FEATURE and column.kind in TESTED_KINDS and column.name not in model.limits.silent
    }


@dataclass(frozen=True)
class ProfileDrift:
    """How a profile compares with the reference of a model: the drift of its columns, and of all of them together."""

    status: Status
    message: str
    drifted: tuple[str, ...]
    columns: tuple[ColumnDrift, ...] = ()
    multivariate: DomainClassifier | None = None
    kernel: KernelTest | None = None
    outliers: Outliers | None = None


def compare_profile(
    model: MonitoredModel, profile: Profile | None, customers: int, permutations: int = _PERMUTATIONS
) -> ProfileDrift:
    """Every test of a profile of so many `customers` against the model's reference; both may be missing."""
    columns: list[ColumnDrift] = []
    multivariate, kernel, outliers = None, None, None
    if profile is not None and model.reference is not None:
        before, names = model.reference.profile, tested_columns(model)
        columns = detect_drift(before.values_of(names), profile.values_of(names), model.limits)
        names = {name: kind for name, kind in names.items() if name not in model.contract.unread}
        multivariate = compare_all_columns(before.sample, profile.sample, names)
        kernel = kernel_test(before.sample, profile.sample, names, rows=permutations, permutations=permutations)
        outliers = find_outliers(model.reference, profile.sample, names, model.limits.outliers)
    status, message, drifted = conclude(model, customers, columns, multivariate)
    return ProfileDrift(status, message, drifted, tuple(columns), multivariate, kernel, outliers)


def _compare_window(model: MonitoredModel, window: Window, profile: Profile | None, data: QualityStatus) -> WindowDrift:
    customers = profile.rows if profile else window.customers  # fewer, if rows have left the log since
    result = compare_profile(model, profile, customers)
    message = result.message
    if data == "broken" and result.status in ("stable", "drift"):
        message += "; but the data is broken, so this counts for nothing"
    return WindowDrift(
        **vars(window),
        status=result.status,
        message=f"window {window.window}, {customers:,} customers: {message}",
        model_version=model.version,
        data=data,
        drifted=result.drifted,
        score=_summarize_score(profile),
        scored_by_others=profile.other_models if profile else 0,
        columns=result.columns,
        multivariate=result.multivariate,
        kernel=result.kernel,
        outliers=result.outliers,
    )


def _summarize_score(profile: Profile | None) -> ScoreSummary:
    if profile is None or not profile.scored:
        return ScoreSummary(None, None, 0)
    score = profile.finite("score")
    mean = float(score.mean()) if len(score) else None  # the champion's few rows may not be in the sample
    return ScoreSummary(mean, profile.positives / profile.scored, profile.scored)


def conclude(
    model: MonitoredModel, customers: int, columns: Sequence[ColumnDrift], together: DomainClassifier | None
) -> tuple[Status, str, tuple[str, ...]]:
    """Status, message, and the columns that drift, without those that the model does not read: no training would answer
    these. Where no single column drifts, the classifier of all columns decides."""
    if customers < model.limits.floor:
        return "insufficient", f"too few, expected at least {model.limits.floor:,}", ()
    if all(column.status == "unknown" for column in columns):
        return "unknown", model.no_reference or "no column could be compared", ()
    drifting = drifting_columns(columns)
    if names := tuple(name for name in drifting if name not in model.contract.unread):
        return "drift", f"{', '.join(names)} drift", names
    if together is not None and together.drifts:
        return "drift", f"no column drifts by itself, but all together: {together.message}", together.columns
    unread = ", ".join(drifting)
    return "stable", f"no column that the model reads drifts, but {unread}" if unread else "no column drifts", ()
