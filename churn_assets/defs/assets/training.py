"""Splits, features, three candidates, and the one that is chosen."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow as pa

from churn_assets.defs import plots, report
from churn_assets.defs.describe import lineage
from churn_assets.defs.policy import OWNERS, TRAINING_POOL
from churn_assets.defs.project import Project
from churn_assets.registry.tracking import Tracking
from churn_assets.training.candidate import Candidate

GROUP = "training"


class SplitConfig(dg.Config):
    """42 is the seed of the published projects, so that figures compare."""

    seed: int = 42


class CandidateConfig(dg.Config):
    """`params` overrides the recipe's own defaults by name."""

    seed: int = 42
    params: dict[str, Any] = {}  # noqa: RUF012  # Dagster reads it as a field, not as a class variable


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sklearn", "parquet"},
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec(
            "no_customer_is_on_two_sides",
            asset="splits",
            blocking=True,
            description="Each customer is in one part of a split, and every row is in some part.",
        )
    ],
)
def splits(project: Project, validated_customers: pa.Table, config: SplitConfig) -> dg.MaterializeResult[pa.Table]:
    """Train, validation and test at random (70/15/15, stratified) and by time (oldest, next, newest)."""
    from churn_assets.training.split import split_table, straddlers

    table = split_table(project.contract, validated_customers, config.seed)
    rows = split_summary(table, validated_customers)
    told = straddlers(table)
    return dg.MaterializeResult(
        value=table,
        metadata={
            "dagster/row_count": table.num_rows,
            "dagster/column_lineage": lineage(project.contract, "splits"),
            "parts": report.table(rows),
            "seed": config.seed,
        },
        check_results=[
            dg.AssetCheckResult(
                passed=not any(told.values()), metadata={f"straddling_{name}": len(ids) for name, ids in told.items()}
            )
        ],
    )
