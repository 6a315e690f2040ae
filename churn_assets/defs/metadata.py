"""Dagster metadata from values: tables as Markdown, facts about tables and tracking runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from churn_assets.mlflow_registry.tracking import Tracking

TableResult = Iterator[dg.MaterializeResult[pa.Table]]
JsonResult = Iterator[dg.MaterializeResult[dict[str, Any]]]


def table(rows: Iterable[Mapping[str, Any]]) -> dg.MarkdownMetadataValue:
    """Rows of equal keys as a Markdown table; Dagster's own table value refuses mixed and missing cells."""
    listed = list(rows)
    if not listed:
        return dg.MetadataValue.md("none")
    names = list(listed[0])
    lines = [names, ["---"] * len(names), *([_cell(row.get(name)) for name in names] for row in listed)]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


def table_facts(contract_fingerprint: str, customers: pa.Table) -> dict[str, Any]:
    """Rows, contract fingerprint, source and snapshot day of a table, from its schema's metadata."""
    schema = {key.decode(): value.decode() for key, value in (customers.schema.metadata or {}).items()}
    return {
        "dagster/row_count": customers.num_rows,
        "contract_fingerprint": schema.get("churn_contract", contract_fingerprint),
        **{name: schema[f"churn_{name}"] for name in ("source", "as_of") if f"churn_{name}" in schema},
    }


def missing_share(customers: pa.Table) -> dict[str, float]:
    """Share of missing values a column, 0 to 1."""
    rows = max(1, customers.num_rows)
    return {name: customers.column(name).null_count / rows for name in customers.column_names}


def tracking_run(tracking: Tracking) -> dict[str, Any]:
    """The MLflow run of the training, or why there is none."""
    if tracking.missing is not None:
        return {"mlflow": f"not logged: {tracking.missing}"}
    return {"mlflow": tracking.uri, "mlflow_run_id": str(tracking.run_id)}


def numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers among `values`, as metadata."""
    return {
        name: dg.MetadataValue.float(float(value)) if isinstance(value, float) else dg.MetadataValue.int(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
    }


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.4f}"
        case bool():
            return "yes" if value else "no"
        case Sequence() if not isinstance(value, str):
            return ", ".join(map(str, value))
    return str(value).replace("|", "\\|").replace("\n", " ")
