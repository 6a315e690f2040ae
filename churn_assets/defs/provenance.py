"""Where a model came from: data, code, runs, libraries."""

import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import pyarrow as pa

from churn_assets.data.hashing import data_hash
from churn_assets.mlflow_registry.tracking import git_commit
from churn_assets.settings import Settings

_LIBRARIES = ("churn-assets", "numpy", "pyarrow", "scikit-learn", "torch", "xgboost", "xgboost-cpu")


def provenance(settings: Settings, customers: pa.Table, dagster_run: str, mlflow_run: str | None) -> dict[str, Any]:
    """What the bundle keeps beside its version; none of it is part of the version."""
    said = {key.decode(): value.decode() for key, value in (customers.schema.metadata or {}).items()}
    source = said.get("churn_source", "")
    return {
        "source": source,
        "generated": is_generated(source),
        "as_of": said.get("churn_as_of", ""),
        "rows": customers.num_rows,
        "data_sha256": data_hash(customers),
        "git_commit": git_commit(settings.root),
        "dagster_run_id": dagster_run,
        "mlflow_run_id": mlflow_run,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name))},
    }


def is_generated(source: str) -> bool:
    """Whether a table's source, in words, says that its customers were made up."""
    return source.startswith("generated customers")


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None
