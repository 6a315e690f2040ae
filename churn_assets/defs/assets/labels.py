"""What became of the customers who were scored."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pyarrow as pa

from churn_assets.defs import report
from churn_assets.defs.policy import MONITORING, OWNERS
from churn_assets.defs.project import Project
from churn_assets.errors import NothingIngested

AGREE, BELONG = "labels_agree", "labels_belong_to_predictions"
CONFLICTING_SHARE = 0.01  # of settled predictions
LOST_SHARE = 0.05  # of reports


@dg.asset(
    group_name=MONITORING,
    owners=OWNERS,
    kinds={"duckdb", "arrow"},
    code_version="1",
    deps=["prediction_log", "feedback_log"],
    check_specs=[
        dg.AssetCheckSpec(
            AGREE,
            asset="labelled_predictions",
            description=f"Of predictions with final reports at most {CONFLICTING_SHARE:.0%} have some that disagree.",
        ),
        dg.AssetCheckSpec(
            BELONG,
            asset="labelled_predictions",
            description=f"At most {LOST_SHARE:.0%} of reports fit no prediction of the log.",
        ),
    ],
)
def labelled_predictions(project: Project) -> Iterator[dg.MaterializeResult[pa.Table]]:
    """Predictions that someone has reported on, each with its label state and, once that is final, its label."""
    from churn_assets.monitoring.performance.labels import count_labels, in_words, label_schema, labelled, no_labels
    from churn_assets.prediction_log.warehouse.connection import open_published

    now = datetime.now(UTC)
    try:
        with open_published(project.settings) as connection:
            table = labelled(connection, project.contract, now)
            counts = count_labels(connection, project.contract, now)
    except NothingIngested:
        table, counts = label_schema(project.contract).empty_table(), no_labels()
    yield dg.MaterializeResult(
        value=table, metadata=_metadata(table, counts, in_words(counts)), check_results=_checks(counts)
    )


def _metadata(table: pa.Table, counts: Mapping[str, Any], words: str) -> dict[str, Any]:
    waiting, final = counts["waiting"], counts["states"]["final"]
    found: dict[str, Any] = {
        "dagster/row_count": table.num_rows,
        "contract_fingerprint": table.schema.metadata[b"churn_contract"].decode(),
        "in_words": words,
        "predictions": counts["predictions"],
        "states": report.table([{"state": name, "predictions": count} for name, count in counts["states"].items()]),
        "open_until": waiting["last_matures_at"] or "nothing is open",
        "next_matures_at": waiting["first_matures_at"] or "nothing is open",
        "open_by_month": report.table(waiting["by_month"]),
        "reports": report.table([{"reports": name, "count": count} for name, count in counts["feedback"].items()]),
        "treated": f"{counts['contacted']:,} contacted; known of {counts['contacted_known']:,} predictions",
    }
    if final:
        found["churned_share"] = counts["churned_share"]
        found["treated_share"] = counts["contacted"] / max(1, table.num_rows)
    return found


def _checks(counts: Mapping[str, Any]) -> list[dg.AssetCheckResult]:
    states, feedback = counts["states"], counts["feedback"]
    settled = states["final"] + states["conflicting"]
    lost = sum(count for name, count in feedback.items() if name != "reports")
    agree = f"{states['conflicting']:,} of {settled:,} predictions with final reports have reports that disagree"
    belong = f"{lost:,} of {feedback['reports']:,} reports fit no prediction"
    return [
        dg.AssetCheckResult(
            passed=states["conflicting"] <= CONFLICTING_SHARE * settled,
            check_name=AGREE,
            severity=dg.AssetCheckSeverity.WARN,
            description=agree,
        ),
        dg.AssetCheckResult(
            passed=lost <= LOST_SHARE * feedback["reports"],
            check_name=BELONG,
            severity=dg.AssetCheckSeverity.WARN,
            description=belong,
            metadata={name: count for name, count in feedback.items() if name != "reports"},
        ),
    ]
