"""Reports on the predictions that were served: data quality, drift, performance."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from churn_assets.defs import metadata, plots
from churn_assets.defs.plots import performance_plots
from churn_assets.defs.policy import MONITORING, OWNERS
from churn_assets.defs.resources import Project
from churn_assets.errors import NothingIngested
from churn_assets.settings import Settings
from churn_assets.storage.files import write_json, write_text

if TYPE_CHECKING:
    from churn_assets.monitoring.performance.report import Model

WHOLE = "no_broken_data_was_found"
STEADY = "no_drift_was_found"
_LINES = 6  # of a trend plot, the columns with the largest figures
_TOLD = 10  # windows of a table


@dg.asset(
    group_name=MONITORING,
    owners=OWNERS,
    kinds={"duckdb"},
    code_version="1",
    deps=["prediction_log"],
    check_specs=[
        dg.AssetCheckSpec(
            WHOLE,
            asset="data_quality_report",
            description="The newest window's data is not broken, the log is not stale; too few customers say nothing.",
        )
    ],
)
def data_quality_report(project: Project) -> Iterator[dg.MaterializeResult[dict[str, Any]]]:
    """Per window of distinct customers: missing, outside, unknown, constant, spikes, volume, refusals, staleness."""
    from churn_assets.monitoring.data_quality.report import report_quality

    found = report_quality(project.settings, project.contract, dt.datetime.now(dt.UTC))
    windows = found["windows"]
    missing = _largest([window["missing"] for window in windows])
    volume = {"a day": [window["traffic"]["rows_a_day"] for window in windows]}
    yield dg.MaterializeResult(
        value=found,
        metadata={
            **_about(found, project.settings.monitoring_dir),
            "findings": metadata.table(_findings(windows)),
            "stale": found["stale"],
            **_trend("missing_values", missing, windows, None, "missing values", "share"),
            **_trend("volume", volume, windows, None, "volume", "predictions"),
        },
        check_results=[_check(not found["blocks"], found)],
    )


class DriftConfig(dg.Config):
    """`pages`: draw Evidently's page for the newest window also if it does not alarm."""

    pages: bool = False


@dg.asset(
    group_name=MONITORING,
    owners=OWNERS,
    kinds={"evidently", "duckdb"},
    code_version="1",
    deps=["data_quality_report"],
    check_specs=[
        dg.AssetCheckSpec(
            STEADY,
            asset="drift_report",
            description="No column of the newest window drifts, nor the score; too few customers say nothing.",
        )
    ],
)
def drift_report(project: Project, config: DriftConfig) -> Iterator[dg.MaterializeResult[dict[str, Any]]]:
    """Per window, column by column, the score and the positive rate: every measure, and the one rule that decides."""
    from churn_assets.monitoring.drift.report import report_drift

    found = report_drift(project.settings, project.contract, pages=config.pages)
    windows, limit = found["windows"], project.contract.monitoring.effect
    effects = [{c["column"]: c["effect"] for c in w["columns"]} for w in windows]
    score = {what: [w["score"][what] for w in windows] for what in ("mean", "positive_share")}
    yield dg.MaterializeResult(
        value=found,
        metadata={
            **_about(found, project.settings.monitoring_dir),
            "drifted": ", ".join(found["drifted"]) or "none",
            "asks_for_retraining": ", ".join(found["in_a_row"]) or "none",
            "newest_window": metadata.table(_measures(windows[-1]["columns"] if windows else [])),
            "windows": metadata.table(
                {"window": w["window"], "status": w["status"], "data": w["data"], "drifted": w["drifted"]}
                for w in windows[-_TOLD:]
            ),
            **_trend("effects", _largest(effects), windows, limit, "effect by column", "effect"),
            **_trend("scores", score, windows, None, "score and positive rate", "share"),
            **_pages(windows, project.settings.monitoring_dir / found["fingerprint"][:12]),
        },
        check_results=[_check(found["status"] != "drift", found)],
    )


def _about(found: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    windows = found["windows"]
    return {
        "said": found["words"],
        "status": found["status"],
        "windows_closed": windows[-1]["window"] if windows else 0,
        "reports": dg.MetadataValue.path(str(folder / found["fingerprint"][:12])),
        "contract_fingerprint": found["fingerprint"],
    }


def _check(passed: bool, found: Mapping[str, Any]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=found["words"],
        metadata={"concluded": found["status"] not in ("insufficient", "unknown")},
    )


def _findings(windows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for window in reversed(windows[-_TOLD:]):
        for one in window["findings"]:
            yield {"window": window["window"], **{k: one[k] for k in ("column", "what", "blocks", "words")}}


def _measures(columns: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    # Dagster's table is filled with what Markdown shows: a measure that does not apply says so.
    for column in columns:
        yield {name: "n/a" if value is None else value for name, value in column.items()}


def _largest(windows: Sequence[Mapping[str, float | None]]) -> dict[str, list[float | None]]:
    """Name -> a figure a window, of the names with the largest figure in any."""
    names = list(dict.fromkeys(name for window in windows for name in window))
    most = {name: max(window.get(name) or 0.0 for window in windows) for name in names}
    chosen = sorted(names, key=lambda name: (-most[name], name))[:_LINES]
    return {name: [window.get(name) for window in windows] for name in chosen}


def _trend(
    key: str,
    series: Mapping[str, Sequence[float | None]],
    windows: Sequence[Mapping[str, Any]],
    limit: float | None,
    title: str,
    unit: str,
) -> dict[str, Any]:
    """The chart as metadata; nothing where there is no window."""
    if not windows:
        return {}
    return {key: metadata.image(plots.trend(series, [w["window"] for w in windows], limit, title, unit), title)}


def _pages(windows: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    drawn = [w for w in windows if w["page"] and w["page"]["file"]]
    failed = [w for w in windows if w["page"] and not w["page"]["file"]]
    told: dict[str, Any] = {}
    if drawn:
        newest = drawn[-1]
        told["evidently_page"] = dg.MetadataValue.path(str(folder / f"{newest['window']:04d}" / newest["page"]["file"]))
        told["evidently_workspace"] = f"evidently ui --workspace {folder.parent / 'evidently'}"
    if failed:
        told["evidently_failed"] = failed[-1]["page"]["words"]
    return told


HOLDS, CALIBRATED = "the_labelled_pr_auc_holds", "the_labelled_scores_are_calibrated"
PAGE, JSON = "performance.md", "performance.json"


@dg.asset(
    group_name=MONITORING,
    owners=OWNERS,
    kinds={"duckdb", "numpy"},
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec(
            HOLDS,
            asset="performance_report",
            description="Labels do not show the champion's PR-AUC below its card beyond noise and the contract's "
            "monitoring.pr_auc_drop, at the card's share of churners.",
        ),
        dg.AssetCheckSpec(
            CALIBRATED,
            asset="performance_report",
            description="Labels do not show a calibration error of the champion beyond the contract's release.max_ece "
            "and beyond what calibrated scores show by chance.",
        ),
    ],
)
def performance_report(
    project: Project, labelled_predictions: pa.Table
) -> Iterator[dg.MaterializeResult[dict[str, Any]]]:
    """Labelled metrics by window and model version, estimates with their track record, and the service's figures."""

    from churn_assets.monitoring.performance.outcomes import Period
    from churn_assets.monitoring.performance.page import render
    from churn_assets.monitoring.performance.report import Review
    from churn_assets.monitoring.performance.report import performance_report as made
    from churn_assets.monitoring.windows.windows import place_of, read_windows
    from churn_assets.prediction_log.warehouse.connection import open_published

    settings, champion = project.settings, champion_of(project.settings)
    fingerprint = champion.fingerprint if champion else project.contract.fingerprint
    windows = [
        Period(f"{window.window:04d}", window.from_seq, window.to_seq, folder=place_of(settings, window))
        for window in read_windows(settings, fingerprint)
    ]
    folder = settings.monitoring_dir / fingerprint[:12]
    with ExitStack() as open_:
        try:
            connection = open_.enter_context(open_published(settings))
        except NothingIngested:
            connection = None
        found = made(
            Review(connection, project.contract, champion, labelled_predictions, windows, folder, datetime.now(UTC))
        )
    page = render(found)
    write_json(folder / JSON, found)
    write_text(folder / PAGE, page)
    yield dg.MaterializeResult(
        value=found,
        metadata={**_performance_metadata(found, page), "page": dg.MetadataValue.path(str(folder / PAGE))},
        check_results=_performance_checks(found, project.contract.release.max_ece),
    )


def champion_of(settings: Settings) -> "Model | None":
    """The champion as its labels are compared with it; None before the first."""
    from churn_assets.monitoring.performance.report import Model
    from churn_assets.promotion.pointer import read_champion
    from churn_assets.scoring.bundle import read_card, read_provenance

    pointer = read_champion(settings.home)
    if pointer is None:
        return None
    path = pointer.path(settings.home)
    card, origin = read_card(path), read_provenance(path)
    trained_at = datetime.fromisoformat(origin.made_at) if origin.made_at else pointer.since_at
    return Model(pointer.version, pointer.fingerprint, card.metrics, trained_at, origin.rows or None)


def _performance_metadata(found: Mapping[str, Any], page: str) -> dict[str, Any]:
    labels = found["labels"]
    told: dict[str, Any] = {
        "in_words": dg.MetadataValue.md("\n".join(f"- {words}" for words in found["words"])),
        "report": dg.MetadataValue.md(page),
        "champion": found["champion"] or "none yet",
        "final_labels": labels["final"],
        "final_labels_of_the_champion": labels["final_of_champion"],
        "labels_since_the_champion": labels["new"],
        "pr_auc_dropped": found["pr_auc_dropped"],
    }
    return told | {name: metadata.image(svg, name.replace("_", " ")) for name, svg in performance_plots(found).items()}


def _performance_checks(found: Mapping[str, Any], max_ece: float) -> list[dg.AssetCheckResult]:
    fall = found["fall"]
    rows = [row for row in found["versions"] if row["model_version"] == found["champion"]]
    nothing = {"status": "unknown", "words": "the champion has no final label yet"}
    measured: dict[str, Any] = rows[0] if rows else nothing
    known = measured["status"] == "ok"
    limit = max(max_ece, measured["ece_by_chance"]) if known else max_ece
    calibrated = f"ECE {measured['ece']:.3f}, allowed {limit:.3f}" if known else f"not known: {measured['words']}"
    return [
        dg.AssetCheckResult(
            passed=not fall["dropped"],
            check_name=HOLDS,
            severity=dg.AssetCheckSeverity.WARN,
            description=fall["words"] if fall["status"] == "ok" else f"not known: {fall['words']}",
        ),
        dg.AssetCheckResult(
            passed=not known or measured["ece"] <= limit,
            check_name=CALIBRATED,
            severity=dg.AssetCheckSeverity.WARN,
            description=calibrated,
        ),
    ]
