"""What holds for every asset and every run."""

import dagster as dg

from churn_assets.settings import Settings

OWNERS = ["team:churn"]
MONITORING = "monitoring"  # the group of what watches a served model; `churn run` trains and leaves it out
WAREHOUSE_POOL = "warehouse"  # DuckDB lets one writer in at a time
TRAINING_POOL = "training"  # one candidate at a time: each uses every core it gets

# Imported once by the fork server, so that a step starts in a fraction of a second instead of several.
PRELOAD = [
    "churn_assets.definitions",
    "numpy",
    "pyarrow.parquet",
    "pyarrow.compute",
    "sklearn.linear_model",
    "matplotlib.figure",
    "mlflow",
]


def executor(settings: Settings) -> dg.ExecutorDefinition:
    """In one process for the command line and CI; a fork server for the UI, where runs go side by side."""
    if settings.executor == "in_process":
        return dg.in_process_executor
    return dg.multiprocess_executor.configured(
        {"start_method": {"forkserver": {"preload_modules": PRELOAD}}, "max_concurrent": 2}, name="forkserver"
    )
