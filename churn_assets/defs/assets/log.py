"""What the service has logged, taken into the warehouse: predictions and what became of customers."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from churn_assets.defs import report
from churn_assets.defs.policy import MONITORING, OWNERS, WAREHOUSE_POOL
from churn_assets.defs.project import Project
from churn_assets.errors import ChurnError

ONCE = "every_segment_is_ingested_once"
FEW = "few_rows_are_in_quarantine"
TOLD = "feedback_belongs_to_predictions"
NOTHING = "nothing has been predicted yet: `churn serve` answers and logs"
QUARANTINE_LIMIT = 0.001


@dg.asset(
    group_name=MONITORING,
    owners=OWNERS,
    kinds={"duckdb"},
    code_version="1",
    pool=WAREHOUSE_POOL,
    check_specs=[
        dg.AssetCheckSpec(
            ONCE,
            asset="prediction_log",
            description="Each segment that was handed over is in the warehouse once, with all of its rows.",
        ),
        dg.AssetCheckSpec(
            FEW,
            asset="prediction_log",
            description=f"At most {QUARANTINE_LIMIT:.1%} of all lines could not be taken.",
        ),
    ],
)
def prediction_log(
    context: dg.AssetExecutionContext, project: Project
) -> Iterator[dg.MaterializeResult[dict[str, Any]]]:
    """Every prediction that the service or `churn score --log` gave, in DuckDB, each once."""
    from churn_assets.monitoring.windows.windows import note_open
    from churn_assets.prediction_log.warehouse.ingest import ingest
    from churn_assets.prediction_log.warehouse.read import count_all

    done = ingest(project.settings, project.contract)
    try:
        note_open(project.settings, project.contract)
    except ChurnError as error:  # what is ingested is ingested; the reports on windows fail by it
        context.log.warning(f"whether a window is full is not known: {error}")
    totals = count_all(project.settings)
    if totals is None:
        yield dg.MaterializeResult(
            value={"ingest": done.to_json(), "totals": None},
            metadata={"rows": 0, "log": NOTHING},
            check_results=[_passed(ONCE, NOTHING), _passed(FEW, NOTHING)],
        )
        return
    share = totals.quarantined_share
    yield dg.MaterializeResult(
        value={"ingest": done.to_json(), "totals": totals.to_json()},
        metadata={
            "dagster/row_count": totals.predictions,
            "rows": done.rows,
            "quarantined": done.quarantined,
            "segments": done.segments,
            "archived_files": done.archived,
            "expired_segments": done.expired,
            "tables_changed": "; ".join(done.migrations) or "no",
            "by_model_version": report.table(totals.versions),
            "quarantine": report.table(totals.reasons),
            **totals.sizes,
        },
        check_results=[
            dg.AssetCheckResult(
                passed=not totals.not_once,
                check_name=ONCE,
                description=f"not there once: {', '.join(totals.not_once[:5])}" if totals.not_once else None,
                metadata={"segments": totals.segments},
            ),
            dg.AssetCheckResult(
                passed=share <= QUARANTINE_LIMIT,
                check_name=FEW,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{totals.quarantined:,} lines, {share:.2%}: "
                '`churn log query "select reason, count(*) from quarantine group by all"`',
                metadata={"quarantined": totals.quarantined, "share": share, "limit": QUARANTINE_LIMIT},
            ),
        ],
    )


@dg.asset(
    group_name=MONITORING,
    owners=OWNERS,
    kinds={"duckdb"},
    code_version="1",
    pool=WAREHOUSE_POOL,
    deps=["prediction_log"],
    check_specs=[
        dg.AssetCheckSpec(
            TOLD,
            asset="feedback_log",
            description="What was reported names a prediction or a customer that is in the log.",
        )
    ],
)
def feedback_log(project: Project) -> Iterator[dg.MaterializeResult[dict[str, Any]]]:
    """What became of customers, as `POST /feedback` and `churn feedback import` were told, in DuckDB."""
    from churn_assets.prediction_log.warehouse.read import count_all

    totals = count_all(project.settings)
    if totals is None or not totals.feedback:
        words = "no feedback yet: `POST /feedback` or `churn feedback import FILE`"
        yield dg.MaterializeResult(
            value={"feedback": 0, "unknown": 0, "outcomes": []},
            metadata={"rows": 0, "log": words},
            check_results=[_passed(TOLD, words)],
        )
        return
    yield dg.MaterializeResult(
        value={"feedback": totals.feedback, "unknown": totals.unknown, "outcomes": totals.outcomes},
        metadata={
            "dagster/row_count": totals.feedback,
            "outcomes": report.table(totals.outcomes),
            "of_unknown_predictions_or_customers": totals.unknown,
        },
        check_results=[
            dg.AssetCheckResult(
                passed=totals.unknown == 0,
                check_name=TOLD,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"unknown": totals.unknown, "feedback": totals.feedback},
            )
        ],
    )


def _passed(check: str, words: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, check_name=check, description=words)
