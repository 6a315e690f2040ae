"""What the scores were worth, as far as labels tell; what is estimated before; and what the service did."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from churn_assets.defs import report
from churn_assets.defs.performance_plots import performance_plots
from churn_assets.defs.policy import MONITORING, OWNERS
from churn_assets.defs.project import Project
from churn_assets.errors import NothingIngested
from churn_assets.settings import Settings
from churn_assets.storage.files import write_json, write_text

if TYPE_CHECKING:
    from churn_assets.monitoring.performance.report import Model

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
        metadata={**_metadata(found, page), "page": dg.MetadataValue.path(str(folder / PAGE))},
        check_results=_checks(found, project.contract.release.max_ece),
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
    made_at = origin.get("made_at")
    trained_at = datetime.fromisoformat(made_at) if made_at else pointer.since_at
    return Model(pointer.version, pointer.fingerprint, card.get("metrics", {}), trained_at, origin.get("rows"))


def _metadata(found: Mapping[str, Any], page: str) -> dict[str, Any]:
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
    return told | {name: report.image(png, name.replace("_", " ")) for name, png in performance_plots(found).items()}


def _checks(found: Mapping[str, Any], max_ece: float) -> list[dg.AssetCheckResult]:
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
