"""Splits, features and three candidates."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pyarrow as pa

from churn_assets.defs import measure, plots, report
from churn_assets.defs.describe import lineage
from churn_assets.defs.labels import champion_parameters
from churn_assets.defs.policy import OWNERS, TRAINING_POOL
from churn_assets.defs.project import Project
from churn_assets.defs.provenance import is_generated
from churn_assets.mlflow_registry.tracking import Tracking
from churn_assets.training.candidate import Candidate

GROUP = "training"


class SplitConfig(dg.Config):
    """42 is the seed of the published projects, so that figures compare."""

    seed: int = 42


class CandidateConfig(dg.Config):
    """`params` overrides the recipe's own defaults by name, and tuned ones.

    `trials`: go on with the recipe's study until it holds that many; 0 uses what an earlier study of the
    same contract and data has found, and tunes no further. `tuned = false` leaves studies aside.
    """

    seed: int = 42
    trials: int = 0
    tuned: bool = True
    params: dict[str, Any] = {}  # noqa: RUF012  # Dagster reads it as a field, not as a class variable


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sklearn", "parquet"},
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec(
            "no_customer_is_on_two_sides",
            asset="splits",
            blocking=True,
            description="Each customer is in one part of a split, and every row is in some part.",
        )
    ],
)
def splits(
    project: Project, validated_customers: pa.Table, config: SplitConfig
) -> Iterator[dg.MaterializeResult[pa.Table]]:
    """Train, validation and test at random (70/15/15, stratified) and by time; frozen customers are for the test."""
    from churn_assets.promotion.holdout import holdout_for
    from churn_assets.training.split import split_table, straddlers

    contract, said = project.contract, (validated_customers.schema.metadata or {}).get(b"churn_source", b"").decode()
    spared = holdout_for(project.settings.holdout_dir, contract, is_generated(said))
    frozen = spared.customers(contract) if spared else frozenset()
    table = split_table(contract, validated_customers, config.seed, frozen)
    straddling = {name: len(customers) for name, customers in straddlers(table).items()}
    yield dg.MaterializeResult(
        value=table,
        metadata={
            **report.about(project.contract.fingerprint, table),
            "dagster/column_lineage": lineage(project.contract, "splits"),
            "parts": report.table(measure.split_parts(table, validated_customers)),
            "seed": config.seed,
            "frozen_customers": len(frozen),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=not any(straddling.values()),
                metadata={f"customers_on_two_sides_{name}": count for name, count in straddling.items()},
            )
        ],
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"numpy", "parquet"},
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec(
            "every_feature_is_finite_or_missing",
            asset="customer_features",
            blocking=True,
            description="No feature is infinite: a division by zero must come out as missing.",
        ),
        dg.AssetCheckSpec(
            "every_feature_varies",
            asset="customer_features",
            description="No feature has one value only, which would teach a model nothing.",
        ),
    ],
)
def customer_features(
    project: Project, validated_customers: pa.Table, splits: pa.Table
) -> Iterator[dg.MaterializeResult[pa.Table]]:
    """The contract's features of every validated customer; what is learnt for them comes from training rows."""
    from churn_assets.training.feature_table import feature_table

    contract = project.contract
    table = feature_table(contract, validated_customers, splits)
    infinite, constant = measure.infinite_columns(table), measure.constant_columns(table)
    yield dg.MaterializeResult(
        value=table,
        metadata={
            **report.about(contract.fingerprint, table),
            "dagster/column_lineage": lineage(contract, "customer_features"),
            "expressions": report.table(
                {"feature": f.name, "expression": f.expression, "meaning": f.doc} for f in contract.features
            ),
            "missing_values": report.image(
                plots.missing_values(report.missing_share(table), None), "missing values by feature"
            ),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="every_feature_is_finite_or_missing", passed=not infinite, metadata={"infinite": infinite}
            ),
            dg.AssetCheckResult(
                check_name="every_feature_varies",
                passed=not constant,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"constant": constant},
            ),
        ],
    )


def _candidate(recipe: str, library: str, description: str) -> dg.AssetsDefinition:
    """The asset `<recipe>_candidate`: all three are made, logged and checked alike."""
    name = f"{recipe}_candidate"

    @dg.asset(
        name=name,
        description=description,
        group_name=GROUP,
        owners=OWNERS,
        kinds={library, "mlflow"},
        code_version="1",
        pool=TRAINING_POOL,
        check_specs=[
            dg.AssetCheckSpec(
                "the_candidate_beats_the_base_rate",
                asset=name,
                description="Validation PR-AUC is above the share of churners: above what a random list reaches.",
            )
        ],
    )
    def candidate(
        project: Project,
        tracking: dg.ResourceParam[Tracking],
        customer_features: pa.Table,
        splits: pa.Table,
        config: CandidateConfig,
    ) -> Iterator[dg.MaterializeResult[Candidate]]:
        yield _train(recipe, project, tracking, customer_features, splits, config)

    return candidate


logistic_candidate = _candidate(
    "logistic", "sklearn", "Logistic regression on piecewise-linear features: the one a person can read."
)
boosted_candidate = _candidate(
    "boosted", "xgboost", "Gradient-boosted trees, regularised, stopped early on validation rows."
)
network_candidate = _candidate(
    "network", "pytorch", "A small neural network with piecewise-linear embeddings of the numbers."
)


def _train(
    name: str, project: Project, tracking: Tracking, features: pa.Table, splits: pa.Table, config: CandidateConfig
) -> dg.MaterializeResult[Candidate]:
    from churn_assets.training.candidate import train_candidate

    params, tuning = _parameters(name, project, features, splits, config)
    candidate = train_candidate(name, project.contract, features, splits, params, config.seed)
    tracking.params(candidate.params, name)
    for split, metrics in candidate.metrics.items():
        tracking.metrics(metrics, f"{name}.{split}.validation")
    base_rate = measure.churn_rate(features)
    reached = candidate.metrics["random"]["pr_auc"]
    return dg.MaterializeResult(
        value=candidate,
        metadata={
            "validation": report.table({"split": split, **m} for split, m in candidate.metrics.items()),
            "parameters": dg.MetadataValue.json(candidate.params),
            "tuning": tuning,
            "cpu_s": candidate.cpu_s,
            **report.tracked(tracking),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=reached > base_rate, metadata={"validation_pr_auc": reached, "base_rate": base_rate}
            )
        ],
    )


def _parameters(
    name: str, project: Project, features: pa.Table, splits: pa.Table, config: CandidateConfig
) -> tuple[dict[str, Any], str]:
    """Parameters other than the recipe's defaults, and where they come from in words."""
    from churn_assets.training.feature_table import feedback_size
    from churn_assets.training.tune import best_so_far, study_name, tune

    folder, contract = project.settings.studies_dir, project.contract
    if config.trials > 0:
        log = dg.AssetExecutionContext.get().log
        found = tune(name, contract, features, splits, config.trials, folder, config.seed, log.info)
        log.info(found.words())
        return {**found.params, **config.params}, found.words()
    look = config.tuned and folder.is_dir()
    known = best_so_far(folder, study_name(name, contract, features, splits)) if look else None
    if known is not None:
        return {**known.params, **config.params}, known.words()
    champions = champion_parameters(project, name) if feedback_size(features) else {}
    if champions:
        return {**champions, **config.params}, "none of these data: as in the champion's training"
    return config.params, "no study of this contract and data: defaults" if look else "none: defaults"
