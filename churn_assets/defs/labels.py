"""Predictions with a final label, and what the champion was trained with, for a training of another model."""

import dataclasses
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from churn_assets.defs import report
from churn_assets.defs.io import read, write_table
from churn_assets.defs.project import Project
from churn_assets.errors import AssetMissing, DataBroken
from churn_assets.settings import Settings

LABELLED = "labelled_predictions"
CONTACTED = "contacted_customers.csv"


def with_labels(project: Project, customers: pa.Table) -> tuple[pa.Table, dict[str, Any]]:
    """The marked table with labelled predictions below it, and what became of each of them, as metadata.

    Those of contacted customers are kept apart, in `reports/contacted_customers.csv`. Raises DataBroken while the
    newest decision has found the newest window's data broken.
    """
    from churn_assets.defs.provenance import is_generated
    from churn_assets.promotion.holdout import holdout_for
    from churn_assets.promotion.ledger.ledger import Ledger
    from churn_assets.training.labelled_rows import join, labelled_rows

    contract, settings = project.contract, project.settings
    if broken := Ledger(settings.ledger_path).broken_data():
        raise DataBroken(
            f"{broken}; expected whole data before a model learns from the log again: mend the feed, then run monitor "
            "(docs/operations.md, The data is broken)"
        )
    labelled, left_out = sound_labels(settings, contract.fingerprint)
    if labelled is None:
        return customers, {"labelled_predictions": "none were made yet: the model is trained on the table alone"}
    source = (customers.schema.metadata or {}).get(b"churn_source", b"").decode()
    spared = holdout_for(settings.holdout_dir, contract, is_generated(source))
    found = labelled_rows(contract, labelled, spared.customers(contract) if spared else frozenset())
    apart = write_table(_flat(found.contacted), settings.reports_dir / CONTACTED)
    joined = join(contract, customers, found)
    return joined, {
        "labelled_predictions": report.table({"predictions": words, "count": n} for words, n in found.counts),
        "labelled_predictions_of_broken_data": f"{left_out:,}, left out",
        "customers_kept_for_the_gate": len(found.gate),
        "contacted_customers": dg.MetadataValue.path(str(apart)),
    }


def sound_labels(settings: Settings, fingerprint: str) -> tuple[pa.Table | None, int]:
    """`labelled_predictions` as the asset last wrote it, without those of windows whose data was broken, and how many
    these are; (None, 0) before the asset was made."""
    from churn_assets.monitoring.performance.outcomes import sound_rows

    try:
        labelled = read(settings.assets_dir, LABELLED, pa.Table)
    except AssetMissing:
        return None, 0
    return sound_rows(settings, fingerprint, labelled)


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
    return report.table(rows)


def champion_parameters(project: Project, candidate: str) -> dict[str, Any]:
    """The parameters that a candidate of the champion's training had; empty without one under this contract."""
    from churn_assets.promotion.pointer import read_champion
    from churn_assets.scoring.bundle import read_card
    from churn_assets.training.candidate import recipe_of

    champion = read_champion(project.settings.home)
    if champion is None or champion.fingerprint != project.contract.fingerprint:
        return {}
    bundle: Path = champion.path(project.settings.home)
    if not bundle.is_dir():
        return {}
    params: dict[str, Any] = read_card(bundle)["candidates"].get(candidate, {}).get("params", {})
    known = {field.name for field in dataclasses.fields(recipe_of(candidate, {})[1])}
    return {name: value for name, value in params.items() if name in known}  # an older recipe may have had others
