"""The customer table: read, repaired, validated; rejected rows with their reasons."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from churn_assets.data.customers import MARKS
from churn_assets.data.repairs.repairs import RepairReport
from churn_assets.data.validation.report import ValidationReport
from churn_assets.defs import metadata, plots
from churn_assets.defs.column_schema import lineage
from churn_assets.defs.io_manager import write_table
from churn_assets.defs.policy import OWNERS
from churn_assets.defs.prediction_log.assets import usable_labels
from churn_assets.defs.resources import Project
from churn_assets.errors import DataBroken

GROUP = "data"
SUMMARY_KEY = b"churn_validation"  # in the validated table's metadata: the check reads nothing else


class ValidationConfig(dg.Config):
    """`with_labels`: add predictions whose label is final as rows to learn from; the job `retrain` does."""

    with_labels: bool = False


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"file", "parquet"},
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec(
            "the_table_has_enough_rows",
            asset="raw_customers",
            blocking=True,
            description="At least as many rows as the contract's quality.min_rows.",
        )
    ],
)
def raw_customers(project: Project) -> Iterator[dg.MaterializeResult[pa.Table]]:
    """The customer table as found: CHURN_SOURCE, else a fitting file in data/raw/, else generated customers."""
    from churn_assets.data.readers.read import read_table, resolve_source

    contract = project.contract
    source = resolve_source(project.settings, contract)
    table = read_table(source.source, contract)
    told = {**(table.schema.metadata or {}), b"churn_source": source.description.encode()}
    table = table.replace_schema_metadata(told)
    floor = contract.quality.min_rows
    shares = metadata.missing_share(table)
    yield dg.MaterializeResult(
        value=table,
        metadata={
            **metadata.table_facts(contract.fingerprint, table),
            "generated": source.generated,
            "passed_over": metadata.table({"file": why} for why in source.skipped),
            "missing_values": metadata.image(plots.missing_values(shares, None), "missing values by column, as found"),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=table.num_rows >= floor,
                description=f"{table.num_rows:,} rows, expected at least {floor:,} ([quality] min_rows); bring more",
                metadata={"rows": table.num_rows, "expected_at_least": floor},
            )
        ],
    )


@dg.multi_asset(
    can_subset=True,
    outs={
        "validated_customers": dg.AssetOut(
            description="Customers that keep the contract: repaired, typed, with `churned` instead of the label; in a "
            "retraining also predictions whose label is final, told apart by `row_source`.",
            group_name=GROUP,
            owners=OWNERS,
            kinds={"arrow", "parquet"},
            code_version="1",
            dagster_type=pa.Table,
            is_required=False,
        ),
        "rejected_customers": dg.AssetOut(
            description="Customers that break the contract, as found, each with every reason.",
            group_name=GROUP,
            owners=OWNERS,
            kinds={"arrow", "parquet"},
            code_version="1",
            dagster_type=pa.Table,
            is_required=False,
        ),
    },
)
def validation(
    context: dg.AssetExecutionContext, project: Project, raw_customers: pa.Table, config: ValidationConfig
) -> Iterator[dg.Output[pa.Table]]:
    """Undo known damage, then hold every row against the contract. Either table can be made on its own."""
    from churn_assets.data.customers import mark_table
    from churn_assets.data.repairs.repairs import apply_repairs
    from churn_assets.data.validation.validate import validate

    contract = project.contract
    words = (raw_customers.schema.metadata or {}).get(b"churn_source", b"").decode()
    repaired, repairs = apply_repairs(raw_customers, contract)
    found = validate(contract, repaired, found=raw_customers, source=words)
    context.log.info(found.report.summary())
    wanted = context.op_execution_context.selected_output_names
    if "validated_customers" in wanted:
        summary = json.dumps(_summary(found.report, repairs)).encode()
        told = {**(found.customers.schema.metadata or {}), SUMMARY_KEY: summary}
        customers = mark_table(contract, found.customers.replace_schema_metadata(told))
        facts = _validated_metadata(customers, found.report, repairs)
        if config.with_labels:
            customers, label_facts = with_labels(project, customers)
            facts |= label_facts
        facts |= metadata.table_facts(contract.fingerprint, customers) | {"rows_by_source": sources(customers)}
        facts["dagster/column_lineage"] = lineage(contract, "validated_customers")
        yield dg.Output(customers, "validated_customers", metadata=facts)
    if "rejected_customers" in wanted:
        yield dg.Output(found.rejected, "rejected_customers", metadata=_rejected_metadata(found.rejected, found.report))


@dg.asset_check(
    asset="validated_customers",
    blocking=True,
    description="The share of rejected rows is within the contract's quality.max_rejected_share; else all stops here.",
)
def customers_keep_the_contract(validated_customers: pa.Table) -> dg.AssetCheckResult:
    """Stop everything downstream when too much of the table is wrong, and show by what."""
    summary = json.loads(validated_customers.schema.metadata[SUMMARY_KEY])
    share, limit = summary["rejected_share"], summary["max_rejected_share"]
    return dg.AssetCheckResult(
        passed=share <= limit,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{share:.2%} of {summary['rows_in']:,} rows rejected, allowed {limit:.2%}{_most_common(summary)}",
        metadata={"rejected_share": share, "allowed_share": limit, "causes": metadata.table(summary["causes"])},
    )


@dg.asset_check(
    asset="rejected_customers", description="No row is rejected without a reason code and words that explain it."
)
def every_rejection_has_a_reason(rejected_customers: pa.Table) -> dg.AssetCheckResult:
    """Count rejected rows that nothing explains."""
    import pyarrow.compute as pc

    unexplained = pc.sum(pc.equal(pc.list_value_length(rejected_customers["reasons"]), 0)).as_py() or 0
    return dg.AssetCheckResult(passed=unexplained == 0, metadata={"unexplained_rows": unexplained})


def _most_common(summary: dict[str, Any]) -> str:
    worst = sorted((c for c in summary["causes"] if c["what happens"] == "rejected"), key=lambda c: -c["rows"])[:3]
    words = [f"{c['reason']} in '{c['column']}' ({c['rows']:,} rows, such as {c['example']})" for c in worst]
    return f"; most often: {'; '.join(words)}" if words else ""


def _summary(found: ValidationReport, repairs: Sequence[RepairReport]) -> dict[str, Any]:
    """The validation as JSON: figures, causes, repairs."""
    return {
        "rows_in": found.rows_in,
        "rows_valid": found.rows_valid,
        "rows_rejected": found.rows_rejected,
        "rejected_share": found.rejected_share,
        "max_rejected_share": found.max_rejected_share,
        "as_of": found.as_of.isoformat(),
        "as_of_words": found.as_of_words,
        "duplicate_ids": found.duplicate_ids,
        "conflicting_ids": found.conflicting_ids,
        "causes": _causes(found),
        "repairs": [{"repair": r.name, "rows": r.rows, "cells": r.cells, "words": r.words} for r in repairs],
    }


def _causes(found: ValidationReport) -> list[dict[str, Any]]:
    return [
        {
            "reason": cause.reason,
            "column": cause.column,
            "rows": cause.rows,
            "what happens": "rejected" if cause.severity == "reject" else "counted",
            "example": cause.example,
        }
        for cause in found.causes
    ]


def _validated_metadata(
    customers: pa.Table, found: ValidationReport, repairs: Sequence[RepairReport]
) -> dict[str, Any]:
    repaired = max((r.rows for r in repairs), default=0)
    shares = metadata.missing_share(customers.drop_columns(list(MARKS)))
    details = [{"repair": r.name, "what": name, "found": value} for r in repairs for name, value in r.details.items()]
    return {
        "rows_in": found.rows_in,
        "rows_rejected": found.rows_rejected,
        "rejected_share": found.rejected_share,
        "rows_repaired": repaired,
        "as_of_words": found.as_of_words,
        "churned_share": found.churn_rate_share or 0.0,
        "null_ids": found.count("null", next(iter(customers.column_names))),
        "duplicate_ids": found.duplicate_ids,
        "conflicting_ids": found.conflicting_ids,
        "repairs": metadata.table(_summary(found, repairs)["repairs"]),
        "repair_evidence": metadata.table(details),
        "causes": metadata.table(_causes(found)),
        "missing_values": metadata.image(
            plots.missing_values(shares, found.churn_rate_share), "churned share and missing values by column"
        ),
    }


def _rejected_metadata(rejected: pa.Table, found: ValidationReport) -> dict[str, Any]:
    rejecting = {f"{c.reason}: {c.column}": c.rows for c in found.causes if c.severity == "reject"}
    facts = {
        "dagster/row_count": rejected.num_rows,
        "rejected_share": found.rejected_share,
        "causes": metadata.table(_causes(found)),
    }
    if rejecting:
        facts["reasons"] = metadata.image(
            plots.counts(rejecting, "rejected rows by reason; a row may have several", "rows"),
            "rejected rows by reason",
        )
    return facts


CONTACTED = "contacted_customers.csv"


def with_labels(project: Project, customers: pa.Table) -> tuple[pa.Table, dict[str, Any]]:
    """The marked table with labelled predictions below it, and what became of each of them, as metadata.

    Those of contacted customers are kept apart, in `reports/contacted_customers.csv`. Raises DataBroken while the
    newest decision has found the newest window's data broken.
    """
    from churn_assets.data.customers import is_generated
    from churn_assets.promotion.holdout import holdout_for
    from churn_assets.promotion.ledger import Ledger
    from churn_assets.training.labelled_rows import join, labelled_rows

    contract, settings = project.contract, project.settings
    if broken := Ledger(settings.ledger_path).broken_data():
        raise DataBroken(
            f"{broken}; expected whole data before a model learns from the log again: mend the feed, then run monitor "
            "(docs/operations.md, The data is broken)"
        )
    labelled, left_out = usable_labels(settings, contract.fingerprint)
    if labelled is None:
        return customers, {"labelled_predictions": "none were made yet: the model is trained on the table alone"}
    source = (customers.schema.metadata or {}).get(b"churn_source", b"").decode()
    spared = holdout_for(settings.holdout_dir, contract, is_generated(source))
    found = labelled_rows(contract, labelled, spared.customers(contract) if spared else frozenset())
    apart = write_table(_flat(found.contacted), settings.reports_dir / CONTACTED)
    joined = join(contract, customers, found)
    return joined, {
        "labelled_predictions": metadata.table({"predictions": words, "count": n} for words, n in found.counts),
        "labelled_predictions_of_broken_data": f"{left_out:,}, left out",
        "customers_kept_for_the_gate": len(found.gate),
        "contacted_customers": dg.MetadataValue.path(str(apart)),
    }


def _flat(table: pa.Table) -> pa.Table:
    """The columns that a CSV can hold."""
    return table.select([field.name for field in table.schema if not pa.types.is_nested(field.type)])


def sources(customers: pa.Table) -> dg.MarkdownMetadataValue:
    """Rows, churned share and days of each source of a marked table."""
    import pyarrow.compute as pc

    rows = []
    for name in ("table", "feedback"):
        part = customers.filter(pc.equal(customers["row_source"], name))
        if part.num_rows:
            days = pc.min_max(part["row_as_of"]).as_py()
            rows.append(
                {
                    "source": name,
                    "rows": part.num_rows,
                    "churned_share": pc.mean(part["churned"]).as_py(),
                    "as_of": f"{days['min']}" if days["min"] == days["max"] else f"{days['min']} to {days['max']}",
                    "put_aside": pc.sum(part["row_aside"]).as_py(),
                }
            )
    return metadata.table(rows)
