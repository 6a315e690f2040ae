"""What applies to every asset and every run: owner, groups, checks, pools, run tags, the executor."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import dagster as dg

from churn_assets.settings import Settings

OWNERS = ["team:churn"]
MONITORING = "monitoring"  # group of the assets about a served model; `churn run` leaves it out
WAREHOUSE_POOL = "warehouse"  # DuckDB allows one writer at a time
TRAINING_POOL = "training"  # one candidate at a time: each uses every core

# Sensors that follow runs that have ended need not be as quick as those that start some; each tick costs 0.1 s of CPU.
STATUS_TICKS = 4  # of the others, for one of theirs

# Of all runs with one of these tags, one is at work at a time: tag_concurrency_limits in dagster.yaml.
MODELS = {"churn/models": "one"}  # writes the tables of training, the call list or the champion
LOG = {"churn/log": "one"}  # writes the warehouse or reports on it

# Imported once by the fork server, so that a step starts in a fraction of a second instead of several.
PRELOAD = ["churn_assets.definitions", "numpy", "pyarrow.parquet", "pyarrow.compute", "sklearn.linear_model", "mlflow"]


def asset(
    group: str,
    kinds: set[str],
    checks: Mapping[str, str] = {},
    blocking: Mapping[str, str] = {},
    version: str = "1",
    deps: Sequence[str] = (),
    pool: str | None = None,
    name: str | None = None,
    description: str | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` with what every asset of this project has.

    `checks` and `blocking` are descriptions of checks by name; one of `blocking` that fails stops the run.
    """

    def decorate(compute: Callable[..., Any]) -> dg.AssetsDefinition:
        key = name or compute.__name__
        return dg.asset(
            name=key,
            description=description,
            group_name=group,
            owners=OWNERS,
            kinds=kinds,
            code_version=version,
            deps=deps,
            pool=pool,
            check_specs=[
                dg.AssetCheckSpec(check, asset=key, description=text, blocking=check in blocking)
                for check, text in {**checks, **blocking}.items()
            ],
        )(compute)

    return decorate


# The page of the dashboard that shows what an asset has made.
DASHBOARD_PAGES: Mapping[str, str] = {
    "risk_list": "/calls",
    "prediction_log": "/",
    "feedback_log": "/performance",
    "labelled_predictions": "/performance",
    "data_quality_report": "/monitoring",
    "drift_report": "/monitoring",
    "performance_report": "/performance",
    "registered_model": "/models",
    "release_report": "/models",
    "retraining_decision": "/",
    "promotion": "/models",
    "model_report": "/models",
}


def with_dashboard_link(url: str) -> Callable[[dg.AssetSpec], dg.AssetSpec]:
    """A function that adds the address of its page to the spec of each asset that has one; `url` is that of the
    dashboard, "" for no link."""

    def add(spec: dg.AssetSpec) -> dg.AssetSpec:
        page = DASHBOARD_PAGES.get(spec.key.to_user_string())
        if page is None or not url:
            return spec
        return spec.merge_attributes(metadata={"dashboard": dg.MetadataValue.url(f"{url}{page}")})

    return add


# The result of a check that warns: its failure fails no run.
warned = partial(dg.AssetCheckResult, severity=dg.AssetCheckSeverity.WARN)


def executor(settings: Settings) -> dg.ExecutorDefinition:
    """In one process for the command line and CI; a fork server for the UI, where runs are concurrent."""
    if settings.executor == "in_process":
        return dg.in_process_executor
    return dg.multiprocess_executor.configured(
        {"start_method": {"forkserver": {"preload_modules": PRELOAD}}, "max_concurrent": 2}, name="forkserver"
    )
