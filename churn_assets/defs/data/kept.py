"""Tables of a run kept as versions, what of them a model was trained on, and which versions go."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import dagster as dg
import pyarrow as pa

from churn_assets.contract.model import Contract
from churn_assets.data.customers import TableOrigin
from churn_assets.errors import ChurnError
from churn_assets.settings import Settings
from churn_assets.training.candidate import Candidate

TableName = Literal["raw", "validated", "splits"]
_NOT_KEPT = "not kept: CHURN_DATA_VERSIONS is 0"


def keep_table(
    settings: Settings, contract: Contract, name: TableName, table: pa.Table, made_from: str | None = None
) -> str | None:
    """Keep a table of this home; its version, None where none is kept. A table that cannot be kept stops no run: it is
    a warning, and the model cannot be trained again from it."""
    from churn_assets.data.versions.store import TableStore

    if not settings.data_versions:
        return None
    key = "customer_id" if name == "splits" else contract.key.name
    run = dg.AssetExecutionContext.get().run.run_id
    source, store = TableOrigin.of(table).source, TableStore(settings.tables_dir)
    try:
        return store.keep(name, table, key=key, source=source, made_from=made_from, run=run).version
    except (ChurnError, OSError) as error:
        dg.get_dagster_logger().warning(f"the table '{name}' is not kept as a version: {error}")
        return None


def version_facts(version: str | None) -> dict[str, Any]:
    """The metadata of an asset whose table was kept."""
    return {"data_version": version or _NOT_KEPT}


class KeptTables(NamedTuple):
    """Versions of the tables that a model is trained on, None for one that is not kept."""

    raw: str | None
    validated: str | None
    splits: str | None


def keep_trained(settings: Settings, contract: Contract, validated: pa.Table, splits: pa.Table) -> KeptTables:
    """Keep what a model is trained on; the raw table is the one that the validated one says it was made from."""
    from churn_assets.data.versions.store import TableStore

    version = keep_table(settings, contract, "validated", validated)
    raw = TableStore(settings.tables_dir).find(version).made_from if version is not None else None
    return KeptTables(raw, version, keep_table(settings, contract, "splits", splits, version))


def record_training(
    settings: Settings,
    contract: Contract,
    bundle: Path,
    candidates: Sequence[Candidate],
    tables: KeptTables,
    git_commit: str,
) -> None:
    """Write what a bundle was trained from beside it, unless its tables are not kept. Then remove the versions that are
    neither new nor needed."""
    from churn_assets.reproduction.record import Tables, TrainingRecord, candidate_facts, write_record
    from churn_assets.reproduction.retention import apply_removal
    from churn_assets.training.environment import Environment

    if tables.validated is None or tables.splits is None:
        return
    parameters, seeds = candidate_facts(candidates)
    write_record(
        bundle,
        TrainingRecord(
            version=bundle.name,
            trained_at=datetime.now(UTC).isoformat(timespec="seconds"),
            tables=Tables(tables.raw, tables.validated, tables.splits),
            contract=contract.text,
            parameters=parameters,
            seeds=seeds,
            environment=Environment.here(),
            git_commit=git_commit,
            run=dg.AssetExecutionContext.get().run.run_id,
        ),
    )
    try:
        removed = apply_removal(settings)
    except (ChurnError, OSError) as error:
        dg.get_dagster_logger().warning(f"no version of a table was removed: {error}")
        return
    if removed.versions:
        dg.get_dagster_logger().info(
            f"{len(removed.versions)} versions of tables removed, {removed.freed_bytes:,} bytes freed"
        )
