"""The prediction log in the warehouse: predictions, feedback, and predictions with their labels."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from churn_assets.defs import metadata
from churn_assets.defs.metadata import JsonResult, TableResult
from churn_assets.defs.policy import MONITORING, WAREHOUSE_POOL, asset, warned
from churn_assets.defs.resources import Project
from churn_assets.errors import ChurnError, NothingIngested

if TYPE_CHECKING:
    from churn_assets.monitoring.performance.labels import LabelCounts

ONCE = "every_segment_is_ingested_once"
FEW = "few_rows_are_in_quarantine"
MATCHED = "feedback_belongs_to_predictions"
NOTHING = "nothing has been predicted yet: `churn serve` answers and logs"
QUARANTINE_LIMIT = 0.001


@asset(
    MONITORING,
    {"duckdb"},
    checks={
        ONCE: "Each segment that was handed over is in the warehouse once, with all of its rows.",
        FEW: f"At most {QUARANTINE_LIMIT:.1%} of all lines could not be taken.",
    },
    pool=WAREHOUSE_POOL,
)
def prediction_log(context: dg.AssetExecutionContext, project: Project) -> JsonResult:
    """Every prediction that the service or `churn score --log` gave, in DuckDB, each once."""
    from churn_assets.monitoring.windows import record_open_window
    from churn_assets.prediction_log.warehouse.ingest import ingest
    from churn_assets.prediction_log.warehouse.read import count_all

    done = ingest(project.settings, project.contract)
    try:
        record_open_window(project.settings, project.contract)
    except ChurnError as error:  # what is ingested is ingested; the reports on windows fail by it
        context.log.warning(f"whether a window is full is not known: {error}")
    totals = count_all(project.settings)
    if totals is None:
        yield dg.MaterializeResult(
            value={"ingest": done.to_json(), "totals": None},
            metadata={"rows": 0, "log": NOTHING},
            check_results=[
                dg.AssetCheckResult(passed=True, check_name=ONCE, description=NOTHING),
                dg.AssetCheckResult(passed=True, check_name=FEW, description=NOTHING),
            ],
        )
        return
    share = totals.quarantined_share
    not_once = f"not there once: {', '.join(totals.not_once[:5])}" if totals.not_once else None
    yield dg.MaterializeResult(
        value={"ingest": done.to_json(), "totals": asdict(totals)},
        metadata={
            "dagster/row_count": totals.predictions,
            "shadow_scores": totals.shadow_scores,
            **{name: getattr(done, name) for name in ("rows", "quarantined", "segments")},
            "archived_files": done.archived,
            "expired_segments": done.expired,
            "tables_changed": "; ".join(done.migrations) or "no",
            "by_model_version": metadata.table(totals.versions),
            "quarantine": metadata.table(totals.reasons),
            **totals.sizes,
        },
        check_results=[
            dg.AssetCheckResult(
                passed=not totals.not_once,
                check_name=ONCE,
                description=not_once,
                metadata={"segments": totals.segments},
            ),
            warned(
                passed=share <= QUARANTINE_LIMIT,
                check_name=FEW,
                description=f"{totals.quarantined:,} lines, {share:.2%}: "
                '`churn log query "select reason, count(*) from quarantine group by all"`',
                metadata={"quarantined": totals.quarantined, "share": share, "limit": QUARANTINE_LIMIT},
            ),
        ],
    )


@asset(
    MONITORING,
    {"duckdb"},
    checks={MATCHED: "What was reported names a prediction or a customer that is in the log."},
    pool=WAREHOUSE_POOL,
    deps=["prediction_log"],
)
def feedback_log(project: Project) -> JsonResult:
    """What became of customers, as `POST /feedback` and `churn feedback import` were told, in DuckDB."""
    from churn_assets.prediction_log.warehouse.read import count_all

    totals = count_all(project.settings)
    if totals is None or not totals.feedback:
        message = "no feedback yet: `POST /feedback` or `churn feedback import FILE`"
        yield dg.MaterializeResult(
            value={"feedback": 0, "unknown": 0, "outcomes": []},
            metadata={"rows": 0, "log": message},
            check_results=[dg.AssetCheckResult(passed=True, check_name=MATCHED, description=message)],
        )
        return
    yield dg.MaterializeResult(
        value={"feedback": totals.feedback, "unknown": totals.unknown, "outcomes": totals.outcomes},
        metadata={
            "dagster/row_count": totals.feedback,
            "outcomes": metadata.table(totals.outcomes),
            "of_unknown_predictions_or_customers": totals.unknown,
        },
        check_results=[
            warned(passed=totals.unknown == 0, metadata={"unknown": totals.unknown, "feedback": totals.feedback})
        ],
    )


AGREE, BELONG = "labels_agree", "labels_belong_to_predictions"
CONFLICTING_SHARE = 0.01  # of settled predictions
LOST_SHARE = 0.05  # of reports


@asset(
    MONITORING,
    {"duckdb", "arrow"},
    checks={
        AGREE: f"Of predictions with final reports at most {CONFLICTING_SHARE:.0%} have some that disagree.",
        BELONG: f"At most {LOST_SHARE:.0%} of reports fit no prediction of the log.",
    },
    deps=["prediction_log", "feedback_log"],
)
def labelled_predictions(project: Project) -> TableResult:
    """Predictions that someone has reported on, each with its label state and, once that is final, its label."""
    from churn_assets.monitoring.performance.labels import (
        LabelCounts,
        count_labels,
        label_schema,
        labelled,
        read_horizons,
    )
    from churn_assets.prediction_log.warehouse.connection import open_published

    now = datetime.now(UTC)
    try:
        with open_published(project.settings) as connection:
            horizons = read_horizons(project.settings)
            table = labelled(connection, project.contract, now, horizons)
            counts = count_labels(connection, project.contract, now, horizons)
    except NothingIngested:
        table, counts = label_schema(project.contract).empty_table(), LabelCounts()
    yield dg.MaterializeResult(
        value=table, metadata=_label_metadata(table, counts), check_results=_label_checks(counts)
    )


def _label_metadata(table: pa.Table, counts: "LabelCounts") -> dict[str, Any]:
    waiting, final = counts.waiting, counts.states["final"]
    values: dict[str, Any] = {
        "dagster/row_count": table.num_rows,
        "contract_fingerprint": table.schema.metadata[b"churn_contract"].decode(),
        "summary": counts.message,
        "predictions": counts.predictions,
        "states": metadata.table([{"state": name, "predictions": count} for name, count in counts.states.items()]),
        "open_until": waiting.last_matures_at or "nothing is open",
        "next_matures_at": waiting.first_matures_at or "nothing is open",
        "open_by_month": metadata.table([vars(month) for month in waiting.by_month]),
        "reports": metadata.table([{"reports": name, "count": count} for name, count in vars(counts.feedback).items()]),
        "treated": f"{counts.contacted:,} contacted; known of {counts.contacted_known:,} predictions",
    }
    if final:
        values["churned_share"] = counts.churned_share
        values["treated_share"] = counts.contacted / max(1, table.num_rows)
    return values


def _label_checks(counts: "LabelCounts") -> list[dg.AssetCheckResult]:
    feedback, conflicting = counts.feedback, counts.states["conflicting"]
    settled = counts.states["final"] + conflicting
    agree = f"{conflicting:,} of {settled:,} predictions with final reports have reports that disagree"
    belong = f"{feedback.unmatched:,} of {feedback.reports:,} reports fit no prediction"
    others = {name: count for name, count in vars(feedback).items() if name != "reports"}
    return [
        warned(passed=conflicting <= CONFLICTING_SHARE * settled, check_name=AGREE, description=agree),
        warned(
            passed=feedback.unmatched <= LOST_SHARE * feedback.reports,
            check_name=BELONG,
            description=belong,
            metadata=others,
        ),
    ]
