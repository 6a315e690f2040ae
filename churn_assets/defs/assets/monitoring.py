"""What became of the predictions: is the data whole, does anything drift? Windows are judged once each."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from churn_assets.defs import plots, report
from churn_assets.defs.policy import MONITORING, OWNERS
from churn_assets.defs.project import Project

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
            "findings": report.table(_findings(windows)),
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
            "newest_window": report.table(_measures(windows[-1]["columns"] if windows else [])),
            "windows": report.table(
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
    """The picture as metadata; nothing, and nothing imported, where there is no window."""
    if not windows:
        return {}
    return {key: report.image(plots.trend(series, [w["window"] for w in windows], limit, title, unit), title)}


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
