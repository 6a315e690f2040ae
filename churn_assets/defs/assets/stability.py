"""How much the headline depends on which customers happened to be drawn."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from churn_assets.defs import report
from churn_assets.defs.policy import OWNERS, TRAINING_POOL
from churn_assets.defs.project import Project
from churn_assets.errors import TrainingError
from churn_assets.mlflow_registry.tracking import Tracking
from churn_assets.training.candidate import Candidate

if TYPE_CHECKING:
    from churn_assets.training.cross_validation import CrossValidation

BASELINE = "logistic"
# A further figure of the same kind falls within this many deviations of the folds' mean in 99 of 100 cases
# (Student's t with 4 degrees of freedom: 4.6).
DEVIATIONS = 4.6


class CrossValidationConfig(dg.Config):
    """`candidates` besides those of the chosen model; the logistic one is what every other is compared with."""

    folds: int = 5
    seed: int = 42
    candidates: list[str] = [BASELINE]  # noqa: RUF012  # Dagster reads it as a field, not as a class variable


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"numpy", "mlflow"},
    code_version="1",
    pool=TRAINING_POOL,
    check_specs=[
        dg.AssetCheckSpec(
            "the_test_figure_is_no_lucky_draw",
            asset="cross_validation",
            description=f"Test PR-AUC lies within {DEVIATIONS} fold deviations of the mean over folds.",
        )
    ],
)
def cross_validation(
    context: dg.AssetExecutionContext,
    project: Project,
    tracking: dg.ResourceParam[Tracking],
    validated_customers: pa.Table,
    splits: pa.Table,
    logistic_candidate: Candidate,
    boosted_candidate: Candidate,
    network_candidate: Candidate,
    chosen_model: dict[str, Any],
    config: CrossValidationConfig,
) -> Iterator[dg.MaterializeResult[dict[str, Any]]]:
    """The chosen recipe and the logistic one on five folds of rows that are not test rows: mean and deviation."""
    from churn_assets.training.cross_validation import cross_validate

    candidates = {c.name: c.params for c in (logistic_candidate, boosted_candidate, network_candidate)}
    chosen: str = chosen_model["name"]
    parts = chosen.split(" + ")
    wanted = {name: candidates.get(name, {}) for name in dict.fromkeys([*config.candidates, *parts])}
    try:
        found = cross_validate(project.contract, validated_customers, splits, wanted, parts, config.folds, config.seed)
    except TrainingError as error:
        context.log.warning(f"{error}; the training goes on without cross-validation")
        yield _without(str(error))
        return
    told = {**found.to_json(), "chosen": chosen, "seed": config.seed}
    tracking.metrics(
        {f"{row['model']}.{k}": v for row in told["summary"] for k, v in row.items() if k != "model"}, "cv"
    )
    yield _result(found, told, float(chosen_model["metrics"]["test_pr_auc"]), tracking)


def _result(
    found: "CrossValidation", told: dict[str, Any], reached: float, tracking: Tracking
) -> dg.MaterializeResult[dict[str, Any]]:
    chosen = told["chosen"]
    mean, deviation = (
        next(r for r in told["summary"] if r["model"] == chosen)[f"pr_auc_{s}"] for s in ("mean", "deviation")
    )
    folds = len(found.scores[chosen]["pr_auc"])
    room = DEVIATIONS * deviation * (1.0 + 1.0 / folds) ** 0.5
    metadata: dict[str, Any] = {
        "folds": report.table(told["summary"]),
        "pr_auc": f"{chosen}: {mean:.4f} ± {deviation:.4f} over {folds} folds, {found.rows:,} rows; test {reached:.4f}",
        "cpu_s": found.cpu_s,
        **report.tracked(tracking),
    }
    if chosen != BASELINE and BASELINE in found.scores:
        gap, spread = found.difference(chosen, BASELINE)
        metadata["ahead_of_the_baseline"] = f"{gap:+.4f} ± {spread:.4f} PR-AUC, on the same folds"
    return dg.MaterializeResult(
        value=told,
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                passed=abs(reached - mean) <= room,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"test_pr_auc": reached, "mean": mean, "deviation": deviation, "room": room},
            )
        ],
    )


def _without(reason: str) -> dg.MaterializeResult[dict[str, Any]]:
    missing: Mapping[str, Any] = {"missing": reason}
    return dg.MaterializeResult(
        value=dict(missing),
        metadata=missing,
        check_results=[
            dg.AssetCheckResult(
                passed=False, severity=dg.AssetCheckSeverity.WARN, description=f"not measured: {reason}"
            )
        ],
    )
