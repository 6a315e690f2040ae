"""A home in a temporary folder, and the graph run in it with parameters that are small on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from churn_assets.definitions import build
from churn_assets.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "generated://store?rows=3000&seed=7"
SMALL: dict[str, Any] = {
    "boosted_candidate": {"config": {"params": {"rounds": 40, "threads": 1}}},
    "deep_candidate": {"config": {"params": {"rounds": 12, "max_depth": 6, "threads": 1}}},
    "network_candidate": {"config": {"params": {"epochs": 1}}},
}
CANDIDATES = ("logistic_candidate", "boosted_candidate", "deep_candidate", "network_candidate")


def settings(home: Path, **environ: str) -> Settings:
    """Settings of a home with generated customers."""
    return Settings.from_environ({"CHURN_HOME": str(home), "CHURN_SOURCE": SOURCE, **environ}, ROOT)


def run(
    of: Settings,
    instance: dg.DagsterInstance,
    assets: Sequence[str] | None = None,
    config: dict[str, Any] | None = None,
) -> dg.ExecuteInProcessResult:
    """Materialise `assets` (all if None) in this process; nothing is raised for a step that fails."""
    job = build(of).resolve_implicit_global_asset_job_def()
    ops = {**SMALL, **(config or {})}
    chosen = {name: ops[name] for name in ops if assets is None or name in assets}
    return job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        asset_selection=[dg.AssetKey(name) for name in assets] if assets else None,
        run_config={"ops": chosen},
    )


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Whether each asset check of the run has passed, by its name."""
    return {found.check_name: found.passed for found in result.get_asset_check_evaluations()}


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """The metadata of an asset's materialization, as plain values."""
    found = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(asset)]
    return {name: value.value for name, value in found[0].materialization.metadata.items()}


def failure(result: dg.ExecuteInProcessResult, step: str) -> str:
    """Everything the error of a failed step says, causes included."""
    return "\n".join(
        event.step_failure_data.error.to_string()
        for event in result.filter_events(lambda e: e.is_step_failure)
        if event.step_key == step
    )
