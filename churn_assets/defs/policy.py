"""What applies to every asset and every run: owners, groups, pools, run tags, the executor."""

import dagster as dg

from churn_assets.settings import Settings

OWNERS = ["team:churn"]
MONITORING = "monitoring"  # group of the assets about a served model; `churn run` leaves it out
WAREHOUSE_POOL = "warehouse"  # DuckDB allows one writer at a time
TRAINING_POOL = "training"  # one candidate at a time: each uses every core

# Of all runs with one of these tags, one is at work at a time: tag_concurrency_limits in dagster.yaml.
MODELS = {"churn/models": "one"}  # writes the tables of training, the call list or the champion
LOG = {"churn/log": "one"}  # writes the warehouse or reports on it

# Imported once by the fork server, so that a step starts in a fraction of a second instead of several.
PRELOAD = ["churn_assets.definitions", "numpy", "pyarrow.parquet", "pyarrow.compute", "sklearn.linear_model", "mlflow"]


def executor(settings: Settings) -> dg.ExecutorDefinition:
    """In one process for the command line and CI; a fork server for the UI, where runs are concurrent."""
    if settings.executor == "in_process":
        return dg.in_process_executor
    return dg.multiprocess_executor.configured(
        {"start_method": {"forkserver": {"preload_modules": PRELOAD}}, "max_concurrent": 2}, name="forkserver"
    )
