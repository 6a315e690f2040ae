"""The report of a release: its arms, pairs and final labels, as JSON and as a page."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from churn_assets.defs import metadata
from churn_assets.defs.metadata import JsonResult
from churn_assets.defs.policy import MONITORING, asset, warned
from churn_assets.defs.resources import Project
from churn_assets.errors import NothingIngested

if TYPE_CHECKING:
    from churn_assets.reporting.release.collect import ReleaseReport

SELF_CONTAINED, RATIO = "the_release_page_is_self_contained", "customers_come_to_the_arms_by_their_weights"
NO_RELEASE = "no version was let in yet: churn release shadow"


@asset(
    MONITORING,
    {"duckdb", "html"},
    checks={
        SELF_CONTAINED: "The page loads nothing from elsewhere and runs no script.",
        RATIO: "Distinct customers of each arm are as many as its weight says, at a level of .001 at any look.",
    },
    deps=["labelled_predictions", "data_quality_report"],
)
def release_report(project: Project) -> JsonResult:
    """The last release: arms, both models on the same rows, final labels; its figures for the guardrails."""
    from churn_assets.html.templating import external_references
    from churn_assets.monitoring.performance.realized import usable_labels
    from churn_assets.release.guardrails import write_label_figures
    from churn_assets.reporting.release.collect import collect_release, write_release

    settings = project.settings
    labelled, _ = usable_labels(settings, project.contract)
    try:
        report, message = collect_release(settings, labelled, datetime.now(UTC)), NO_RELEASE
    except NothingIngested as nothing:
        report, message = None, str(nothing)
    if report is None:
        passed = [dg.AssetCheckResult(passed=True, check_name=n, description=message) for n in (SELF_CONTAINED, RATIO)]
        yield dg.MaterializeResult(
            value={"version": 1, "policies": []}, metadata={"message": message}, check_results=passed
        )
        return
    path, page = write_release(settings, report)
    if report.labels:
        write_label_figures(settings.home, report.policy.id, report.labels)
    references = external_references(page.read_text(encoding="utf-8"))
    yield dg.MaterializeResult(
        value=report.to_json(),
        metadata={
            **_metadata(report),
            "report": dg.MetadataValue.path(str(path)),
            "page": dg.MetadataValue.path(str(page)),
        },
        check_results=[
            dg.AssetCheckResult(passed=not references, check_name=SELF_CONTAINED, metadata={"found": references[:20]}),
            _check_ratio(report),
        ],
    )


def _metadata(report: "ReleaseReport") -> dict[str, Any]:
    from churn_assets.release.analysis import describe

    analysis = report.analysis
    return {
        "message": dg.MetadataValue.md("\n".join(f"- {line}" for line in describe(analysis))),
        "policy": report.policy.id,
        "kind": analysis.kind,
        "versions": ", ".join(analysis.challengers),
        "state": report.state,
        "arms": metadata.table(
            {
                "arm": arm.arm,
                "version": arm.model_version,
                "rows": arm.rows,
                "customers": arm.customers,
                "called": arm.called_share,
                "mean score": arm.mean_score,
            }
            for arm in analysis.arms
        ),
    }


def _check_ratio(report: "ReleaseReport") -> dg.AssetCheckResult:
    comparison = report.analysis.comparison
    ratios = comparison.ratios if comparison else ()
    wrong = [ratio.policy for ratio in ratios if ratio.mismatch]
    text = f"not so in {', '.join(wrong)}" if wrong else f"so in {len(ratios)} policies with several arms"
    return warned(passed=not wrong, check_name=RATIO, description=text)
