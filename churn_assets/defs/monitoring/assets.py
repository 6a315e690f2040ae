"""Reports on the predictions that were served: data quality, drift, performance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from churn_assets.defs import metadata, plots
from churn_assets.defs.metadata import JsonResult
from churn_assets.defs.policy import MONITORING, asset, warned
from churn_assets.defs.resources import Project

if TYPE_CHECKING:
    from churn_assets.monitoring.data_quality import QualityReport, WindowQuality
    from churn_assets.monitoring.drift.report import DriftReport, WindowDrift
    from churn_assets.monitoring.drift.univariate import ColumnDrift
    from churn_assets.monitoring.performance.report import PerformanceReport

Series = Mapping[str, Sequence[float | None]]  # name -> a figure a window

NOT_BROKEN = "no_broken_data_was_found"
NO_DRIFT = "no_drift_was_found"
_LINES = 6  # of a trend plot, the columns with the largest figures
_LAST_WINDOWS = 10  # of a table


@asset(
    MONITORING,
    {"duckdb"},
    checks={NOT_BROKEN: "The newest window's data is not broken, the log is not stale; too few customers say nothing."},
    deps=["prediction_log"],
)
def data_quality_report(project: Project) -> JsonResult:
    """Per window of distinct customers: missing, outside, unknown, constant, spikes, volume, refusals, staleness."""
    from churn_assets.monitoring.data_quality import report_quality
    from churn_assets.monitoring.windows import record_open_window, to_json

    report = report_quality(project.settings, project.contract, datetime.now(UTC))
    # The open window is another one now: with the segments that complete it a sensor then starts `monitor` at once.
    record_open_window(project.settings, project.contract)
    windows = report.windows
    missing = _largest([window.missing for window in windows])
    volume = {"a day": [window.traffic.rows_a_day for window in windows]}
    yield dg.MaterializeResult(
        value=to_json(report),
        metadata={
            **_window_metadata(report, project.settings.monitoring_dir),
            "findings": metadata.table(_findings(windows)),
            "stale": report.stale,
            **_trend("missing_values", missing, windows, "missing values", "share"),
            **_trend("volume", volume, windows, "volume", "predictions"),
        },
        check_results=[_check(not report.blocks, report)],
    )


class DriftConfig(dg.Config):
    """`pages`: write Evidently's page for the newest window also if it does not alarm."""

    pages: bool = False


@asset(
    MONITORING,
    {"evidently", "duckdb"},
    checks={NO_DRIFT: "No column of the newest window drifts, nor the score; too few customers say nothing."},
    deps=["data_quality_report"],
)
def drift_report(project: Project, config: DriftConfig) -> JsonResult:
    """Per window, column by column, the score and the positive rate: every measure, and the one rule that decides."""
    from churn_assets.monitoring.drift.report import report_drift
    from churn_assets.monitoring.windows import to_json

    report = report_drift(project.settings, project.contract, pages=config.pages)
    windows, limit = report.windows, project.contract.monitoring.effect
    effects = [{column.column: column.effect for column in window.columns} for window in windows]
    score = {name: [getattr(window.score, name) for window in windows] for name in ("mean", "positive_share")}
    yield dg.MaterializeResult(
        value=to_json(report),
        metadata={
            **_window_metadata(report, project.settings.monitoring_dir),
            "drifted": ", ".join(report.drifted) or "none",
            "asks_for_retraining": ", ".join(report.in_a_row) or "none",
            "newest_window": metadata.table(_measures(windows[-1].columns if windows else ())),
            **_evidently(windows, project.settings.monitoring_dir),
            "windows": metadata.table(
                {"window": w.window, "status": w.status, "data": w.data, "drifted": list(w.drifted)}
                for w in windows[-_LAST_WINDOWS:]
            ),
            **_trend("effects", _largest(effects), windows, "effect by column", "effect", limit),
            **_trend("scores", score, windows, "score and positive rate", "share"),
            **_pages(windows, project.settings.monitoring_dir / report.fingerprint[:12]),
        },
        check_results=[_check(report.status != "drift", report)],
    )


def _window_metadata(report: "QualityReport | DriftReport", folder: Path) -> dict[str, Any]:
    return {
        "message": report.message,
        "status": report.status,
        "windows_closed": report.windows[-1].window if report.windows else 0,
        "reports": dg.MetadataValue.path(str(folder / report.fingerprint[:12])),
        "contract_fingerprint": report.fingerprint,
    }


def _check(passed: bool, report: "QualityReport | DriftReport") -> dg.AssetCheckResult:
    concluded = report.status not in ("insufficient", "unknown")
    return warned(passed=passed, description=report.message, metadata={"concluded": concluded})


def _findings(windows: Sequence["WindowQuality"]) -> Iterator[dict[str, Any]]:
    for window in reversed(windows[-_LAST_WINDOWS:]):
        for finding in window.findings:
            names = ("column", "check", "blocks", "message")
            yield {"window": window.window, **{name: getattr(finding, name) for name in names}}


def _measures(columns: Sequence["ColumnDrift"]) -> Iterator[dict[str, Any]]:
    first = ("column", "kind", "status", "check", "p_value", "effect_measure", "effect")
    for column in columns:
        values = asdict(column)
        ordered = {name: values[name] for name in dict.fromkeys((*first, *values))}
        # Dagster's table is filled with what Markdown shows: a measure that does not apply says so.
        yield {name: "n/a" if value is None else value for name, value in ordered.items()}


def _largest(windows: Sequence[Mapping[str, float | None]]) -> Series:
    """The names with the largest figure in any window."""
    names = {name for window in windows for name in window}
    most = {name: max(window.get(name) or 0.0 for window in windows) for name in names}
    chosen = sorted(names, key=lambda name: (-most[name], name))[:_LINES]
    return {name: [window.get(name) for window in windows] for name in chosen}


def _trend(
    key: str, series: Series, windows: Sequence[Any], title: str, unit: str, limit: float | None = None
) -> dict[str, Any]:
    """The picture as metadata; nothing, and nothing imported, where there is no window."""
    if not windows:
        return {}
    return {key: plots.image(plots.trend(series, [w.window for w in windows], limit, title, unit), title)}


def _evidently(windows: Sequence["WindowDrift"], folder: Path) -> dict[str, Any]:
    """Evidently's statistics of the newest window, and how to see those of all."""
    if not windows or (drift := windows[-1].evidently) is None:
        return {}
    return {
        "evidently": drift.message,
        "evidently_newest_window": metadata.table(
            {name: "n/a" if value is None else value for name, value in asdict(column).items()}
            for column in drift.columns
        ),
        "evidently_workspace": f"evidently ui --workspace {folder / 'evidently'}",
    }


def _pages(windows: Sequence["WindowDrift"], folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for window in windows:
        if window.page and window.page.file:
            path = folder / f"{window.window:04d}" / window.page.file
            values["evidently_page"] = dg.MetadataValue.path(str(path))
        elif window.page:
            values["evidently_failed"] = window.page.message
    return values


HOLDS, CALIBRATED = "the_labelled_pr_auc_holds", "the_labelled_scores_are_calibrated"


@asset(
    MONITORING,
    {"duckdb", "numpy"},
    checks={
        HOLDS: "Labels do not show the champion's PR-AUC below its card beyond noise and the contract's "
        "monitoring.pr_auc_drop, at the card's share of churners.",
        CALIBRATED: "Labels do not show a calibration error of the champion beyond the contract's release.max_ece "
        "and beyond what calibrated scores show by chance.",
    },
)
def performance_report(project: Project, labelled_predictions: pa.Table) -> JsonResult:
    """Labelled metrics by window and model version, estimates with their track record, and the service's figures."""
    from churn_assets.monitoring.performance.report import PERFORMANCE_MD, render_performance, report_performance
    from churn_assets.monitoring.windows import to_json

    report = report_performance(project.settings, project.contract, labelled_predictions, datetime.now(UTC))
    page = project.settings.monitoring_dir / report.champion_fingerprint[:12] / PERFORMANCE_MD
    yield dg.MaterializeResult(
        value=to_json(report),
        metadata=_performance_metadata(report, render_performance(report), page),
        check_results=_performance_checks(report, project.contract.release.max_ece),
    )


def _performance_metadata(report: "PerformanceReport", text: str, page: Path) -> dict[str, Any]:
    return {
        "summary": dg.MetadataValue.md("\n".join(f"- {message}" for message in report.messages)),
        "report": dg.MetadataValue.md(text),
        "champion": report.champion or "none yet",
        "final_labels": report.labels.final,
        "final_labels_of_the_champion": report.labels.final_of_champion,
        "labels_since_the_champion": report.labels.new,
        "pr_auc_dropped": report.pr_auc_dropped,
        "page": dg.MetadataValue.path(str(page)),
        **plots.images(plots.performance_plots(report)),
    }


def _performance_checks(report: "PerformanceReport", max_ece: float) -> list[dg.AssetCheckResult]:
    fall = report.fall
    fallen = fall.message if fall.status == "ok" else f"not known: {fall.message}"
    realized = next((row for row in report.versions if row.model_version == report.champion), None)
    calibrated = True
    if realized is None:
        calibration = "not known: the champion has no final label yet"
    elif realized.metrics is None:
        calibration = f"not known: {realized.message}"
    else:
        limit = max(max_ece, realized.metrics.ece_by_chance)
        calibrated = realized.metrics.ece <= limit
        calibration = f"ECE {realized.metrics.ece:.3f}, allowed {limit:.3f}"
    return [
        warned(passed=not fall.dropped, check_name=HOLDS, description=fallen),
        warned(passed=calibrated, check_name=CALIBRATED, description=calibration),
    ]
