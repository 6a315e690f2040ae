"""The customer table: read, repaired, validated; rejected rows with their reasons."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.data.customers import MARKS
from churn_assets.data.validation.report import ValidationReport, report_of
from churn_assets.defs import metadata, plots
from churn_assets.defs.column_schema import lineage
from churn_assets.defs.data.kept import keep_table, version_facts
from churn_assets.defs.io_manager import write_table
from churn_assets.defs.metadata import TableResult
from churn_assets.defs.policy import OWNERS, asset
from churn_assets.defs.resources import Project
from churn_assets.errors import DataBroken, DataError


class ValidationConfig(dg.Config):
    """`with_labels`: add predictions whose label is final as training rows; the job `retrain` does."""

    with_labels: bool = False


@asset(
    "data",
    {"file", "parquet"},
    blocking={"the_table_has_enough_rows": "At least as many rows as the contract's quality.min_rows."},
)
def raw_customers(project: Project) -> TableResult:
    """The customer table as read: CHURN_SOURCE, else a fitting file in data/raw/, else generated customers."""
    from churn_assets.data.customers import TableOrigin
    from churn_assets.data.readers.read import read_table, resolve_source

    contract = project.contract
    source = resolve_source(project.settings, contract)
    table = TableOrigin(source.description, source.generated).added_to(read_table(source.source, contract))
    version = keep_table(project.settings, contract, "raw", table)
    floor, shares = contract.quality.min_rows, metadata.missing_share(table)
    yield dg.MaterializeResult(
        value=table,
        metadata={
            **metadata.table_facts(contract.fingerprint, table),
            **version_facts(version),
            "generated": source.generated,
            "passed_over": metadata.table({"file": reason} for reason in source.skipped),
            "missing_values": plots.image(plots.missing_values(shares, None), "missing values by column, as read"),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=table.num_rows >= floor,
                description=f"{table.num_rows:,} rows, expected at least {floor:,} ([quality] min_rows); "
                "give a larger table",
                metadata={"rows": table.num_rows, "expected_at_least": floor},
            )
        ],
    )


@dg.multi_asset(
    can_subset=True,
    outs={
        name: dg.AssetOut(
            dagster_type=pa.Table,
            description=description,
            is_required=False,
            group_name="data",
            owners=OWNERS,
            kinds={"arrow", "parquet"},
            code_version="1",
        )
        for name, description in (
            (
                "validated_customers",
                "Customers that keep the contract: repaired, typed, with `churned` instead of the label; in a "
                "retraining also predictions whose label is final, marked by `row_source`.",
            ),
            ("rejected_customers", "Customers that break the contract, as read, each with every reason."),
        )
    },
)
def validation(
    context: dg.AssetExecutionContext, project: Project, raw_customers: pa.Table, config: ValidationConfig
) -> Iterator[dg.Output[pa.Table]]:
    """Repair known damage, then validate every row against the contract. Either table can be made on its own."""
    from churn_assets.data.preparation import prepare_table

    contract = project.contract
    prepared = prepare_table(contract, raw_customers)
    customers, report = prepared.customers, prepared.report
    context.log.info(report.summary())
    outputs = context.op_execution_context.selected_output_names
    if "validated_customers" in outputs:
        facts = _validated_metadata(customers, report)
        if config.with_labels:
            customers, label_facts = with_labels(project, customers)
            facts |= label_facts
        facts |= metadata.table_facts(contract.fingerprint, customers) | {"rows_by_source": sources(customers)}
        facts["dagster/column_lineage"] = lineage(contract, "validated_customers")
        raw = keep_table(project.settings, contract, "raw", raw_customers)
        facts |= version_facts(keep_table(project.settings, contract, "validated", customers, raw))
        yield dg.Output(customers, "validated_customers", metadata=facts)
    if "rejected_customers" in outputs:
        rejected = prepared.rejected
        yield dg.Output(rejected, "rejected_customers", metadata=_rejected_metadata(rejected, report))


@dg.asset_check(
    asset="validated_customers",
    blocking=True,
    description="The share of rejected rows is within the contract's quality.max_rejected_share; otherwise the run "
    "stops here.",
)
def customers_keep_the_contract(validated_customers: pa.Table) -> dg.AssetCheckResult:
    """Stop everything downstream when too many rows are rejected, and show the most common causes."""
    report = report_of(validated_customers.schema)
    if report is None:
        raise DataError("validated_customers has no validation report; expected one; make the asset again: churn run")
    share, limit, most = report.rejected_share, report.max_rejected_share, report.rejecting[:3]
    common = "; ".join(f"{c.reason} in '{c.column}' ({c.rows:,} rows, such as {c.example})" for c in most)
    return dg.AssetCheckResult(
        passed=not report.over_limit,
        description=f"{share:.2%} of {report.rows_in:,} rows rejected, allowed {limit:.2%}"
        + (f"; most often: {common}" if common else ""),
        metadata={"rejected_share": share, "allowed_share": limit, "causes": _causes(report)},
    )


@dg.asset_check(asset="rejected_customers", description="Each rejected row has a reason code and an explanation.")
def every_rejection_has_a_reason(rejected_customers: pa.Table) -> dg.AssetCheckResult:
    """Count rejected rows without a reason."""
    unexplained = pc.sum(pc.equal(pc.list_value_length(rejected_customers["reasons"]), 0)).as_py() or 0
    return dg.AssetCheckResult(passed=unexplained == 0, metadata={"unexplained_rows": unexplained})


def _causes(report: ValidationReport) -> dg.MarkdownMetadataValue:
    return metadata.table(msgspec.to_builtins(report.causes))


def _validated_metadata(customers: pa.Table, report: ValidationReport) -> dict[str, Any]:
    repairs = report.repairs
    shares = metadata.missing_share(customers.drop_columns(list(MARKS)))
    details = [{"repair": r.name, "what": name, "found": value} for r in repairs for name, value in r.details.items()]
    rows = [{"repair": r.name, "rows": r.rows, "cells": r.cells, "words": r.message} for r in repairs]
    churned_share = float(pc.mean(customers["churned"]).as_py() or 0.0)
    missing = plots.missing_values(shares, churned_share)
    return {
        **{name: getattr(report, name) for name in ("rows_in", "rows_rejected", "rejected_share")},
        "rows_repaired": max((r.rows for r in repairs), default=0),
        "as_of_words": report.as_of_origin,
        "churned_share": churned_share,
        "null_ids": report.count("null", next(iter(customers.column_names))),
        **{name: getattr(report, name) for name in ("duplicate_ids", "conflicting_ids")},
        "repairs": metadata.table(rows),
        "repair_evidence": metadata.table(details),
        "causes": _causes(report),
        "missing_values": plots.image(missing, "churned share and missing values by column"),
    }


def _rejected_metadata(rejected: pa.Table, report: ValidationReport) -> dict[str, Any]:
    facts = {"rejected_share": report.rejected_share, "causes": _causes(report)}
    if rejecting := {f"{c.reason}: {c.column}": c.rows for c in report.rejecting}:
        chart = plots.counts(rejecting, "rejected rows by reason; a row may have several", "rows")
        facts["reasons"] = plots.image(chart, "rejected rows by reason")
    return {"dagster/row_count": rejected.num_rows, **facts}


def with_labels(project: Project, customers: pa.Table) -> tuple[pa.Table, dict[str, Any]]:
    """The marked table with labelled predictions appended, and counts of them as metadata.

    Those of contacted customers are not appended but written to `reports/contacted_customers.csv`.
    Raises DataBroken while the newest decision finds the data of the newest window broken.
    """
    from churn_assets.data.customers import TableOrigin
    from churn_assets.monitoring.performance.realized import usable_labels
    from churn_assets.promotion.holdout import holdout_for
    from churn_assets.promotion.ledger import Ledger
    from churn_assets.training.labelled_rows import join, labelled_rows

    contract, settings = project.contract, project.settings
    if (broken := Ledger.of(settings).broken_data()) is not None:
        raise DataBroken(
            f"{broken}; expected complete data before a training on the log: repair the feed, then run monitor "
            "(docs/operations.md, The data is broken)"
        )
    labelled, left_out = usable_labels(settings, contract)
    if labelled is None:
        return customers, {"labelled_predictions": "none were made yet: the model is trained on the table alone"}
    holdout = holdout_for(settings.holdout_dir, contract, TableOrigin.of(customers).generated)
    rows = labelled_rows(contract, labelled, holdout.customers(contract) if holdout else frozenset())
    flat = [
        field.name for field in rows.contacted.schema if not pa.types.is_nested(field.type)
    ]  # all that CSV can hold
    contacted = write_table(rows.contacted.select(flat), settings.reports_dir / "contacted_customers.csv")
    return join(contract, customers, rows), {
        "labelled_predictions": metadata.table({"predictions": label, "count": n} for label, n in rows.counts),
        "labelled_predictions_of_broken_data": f"{left_out:,}, left out",
        "customers_kept_for_the_gate": len(rows.gate),
        "contacted_customers": dg.MetadataValue.path(str(contacted)),
    }


def sources(customers: pa.Table) -> dg.MarkdownMetadataValue:
    """Rows, churned share and days of each source of a marked table."""
    rows = []
    for name in ("table", "feedback"):
        part = customers.filter(pc.equal(customers["row_source"], name))
        if part.num_rows:
            days = pc.min_max(part["row_as_of"]).as_py()
            as_of = f"{days['min']}" if days["min"] == days["max"] else f"{days['min']} to {days['max']}"
            churned, aside = pc.mean(part["churned"]).as_py(), pc.sum(part["row_aside"]).as_py()
            rows.append((name, part.num_rows, churned, as_of, aside))
    names = ("source", "rows", "churned_share", "as_of", "put_aside")
    return metadata.table(dict(zip(names, row, strict=True)) for row in rows)
