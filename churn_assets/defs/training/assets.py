"""Splits, features, the candidates and the chosen model."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Contract
from churn_assets.data.hashing import data_hash
from churn_assets.defs import metadata, plots
from churn_assets.defs.column_schema import lineage
from churn_assets.defs.data.kept import keep_trained, record_training
from churn_assets.defs.metadata import TableResult
from churn_assets.defs.policy import TRAINING_POOL, asset, warned
from churn_assets.defs.resources import Project
from churn_assets.leakage.screening import Screening
from churn_assets.mlflow_registry.tracking import Tracking, git_commit
from churn_assets.training.candidate import Candidate
from churn_assets.training.export import ChosenModel

if TYPE_CHECKING:
    from churn_assets.scoring.card import Provenance
    from churn_assets.training.select import Choice

CALIBRATED = "the_probabilities_are_calibrated"
ECE_LIMIT = 0.03  # equal-mass bins; above it expected values in money are unreliable
HEADLINES = (
    *("test_pr_auc", "test_pr_auc_low", "test_pr_auc_high", "test_roc_auc", "test_ece", "test_log_loss", "test_f1"),
    *("oot_pr_auc", "oot_pr_auc_low", "oot_pr_auc_high", "oot_roc_auc", "oot_churn_rate", "validation_pr_auc"),
)


class SplitConfig(dg.Config):
    """`seed` 42 is that of the published projects, so that figures can be compared."""

    seed: int = 42


class CandidateConfig(dg.Config):
    """`params` overrides the recipe's own defaults by name, and tuned ones.

    `trials`: continue the recipe's study until it holds that many; 0 uses the best trial of an earlier study of the
    same contract and data without further tuning. `tuned = false` ignores studies.
    """

    seed: int = 42
    trials: int = 0
    tuned: bool = True
    params: dict[str, Any] = {}  # noqa: RUF012  # Dagster reads it as a field, not as a class variable


@asset(
    "training",
    {"sklearn", "parquet"},
    blocking={"no_customer_is_on_two_sides": "Each customer is in one part of a split, and every row is in some part."},
)
def splits(project: Project, validated_customers: pa.Table, config: SplitConfig) -> TableResult:
    """Train, validation and test at random (70/15/15, stratified) and by time; frozen customers are for the test."""
    from churn_assets.data.customers import TableOrigin
    from churn_assets.promotion.holdout import holdout_for
    from churn_assets.training.split import split_parts, split_table, straddlers

    contract = project.contract
    holdout = holdout_for(project.settings.holdout_dir, contract, TableOrigin.of(validated_customers).generated)
    frozen = holdout.customers(contract) if holdout else frozenset()
    method = holdout.split if holdout else contract.split.method
    table = split_table(contract, validated_customers, config.seed, frozen, method)
    straddling = {name: len(customers) for name, customers in straddlers(table).items()}
    yield dg.MaterializeResult(
        value=table,
        metadata={
            **metadata.table_facts(contract.fingerprint, table),
            "dagster/column_lineage": lineage(contract, "splits"),
            "parts": metadata.table(split_parts(table, validated_customers)),
            "seed": config.seed,
            "method": method,
            "frozen_customers": len(frozen),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=not any(straddling.values()),
                metadata={f"customers_on_two_sides_{name}": count for name, count in straddling.items()},
            )
        ],
    )


@asset(
    "training",
    {"xgboost", "json"},
    checks={
        "no_unattested_column_is_accused": "No column that nobody attests is over a limit of the contract's [audit]. "
        "Such a column is left out of every model, or with accused = 'refuse' the model is not registered."
    },
    pool=TRAINING_POOL,
)
def column_audit(
    project: Project, validated_customers: pa.Table, splits: pa.Table
) -> Iterator[dg.MaterializeResult[Screening]]:
    """Which columns may be consequences of churn, judged before training by quick trees; no test row is read."""
    from churn_assets.leakage.screening import screen

    contract = project.contract
    screening = screen(contract, validated_customers, splits)
    unattested = {f.column: f.description for f in reversed(screening.findings) if not f.attested}
    yield dg.MaterializeResult(
        value=screening,
        metadata={
            "left_out": ", ".join(screening.left_out) or "no column",
            "findings": metadata.table(
                {"column": f.column, "what": f.description, "attested": f.attested or "by nobody"}
                for f in screening.findings
            ),
            "columns": metadata.table(
                {
                    "column": name,
                    "lift alone": column.single_column_pr_auc_lift,
                    "churners separated": column.isolated_churner_share,
                    "lost without it": column.headline_loss_when_removed,
                }
                for name, column in screening.columns.items()
            ),
        },
        check_results=[
            warned(
                passed=not unattested,
                description="; ".join(f"{column} {text}" for column, text in unattested.items()) or None,
                metadata={"left_out": list(screening.left_out)},
            )
        ],
    )


@asset(
    "training",
    {"numpy", "parquet"},
    checks={"every_feature_varies": "No feature has a single value, from which a model cannot learn."},
    blocking={
        "every_feature_is_finite_or_missing": "No feature is infinite: a division by zero must come out as missing."
    },
)
def customer_features(
    project: Project, validated_customers: pa.Table, splits: pa.Table, column_audit: Screening
) -> TableResult:
    """Every feature that a model may read, of every validated customer; fitted values come from training rows."""
    from churn_assets.training.feature_table import constant_columns, feature_table, infinite_columns, trained_contract

    table = feature_table(project.contract, validated_customers, splits, column_audit.left_out)
    contract = trained_contract(project.contract, table)
    infinite, constant = infinite_columns(table), constant_columns(table)
    missing = plots.missing_values(metadata.missing_share(table), None)
    yield dg.MaterializeResult(
        value=table,
        metadata={
            **metadata.table_facts(contract.fingerprint, table),
            "dagster/column_lineage": lineage(contract, "customer_features"),
            "expressions": metadata.table(
                {"feature": f.name, "expression": f.expression, "meaning": f.doc} for f in contract.features
            ),
            "missing_values": plots.image(missing, "missing values by feature"),
            "left_out": ", ".join(c.name for c in contract.columns if c.excluded) or "no column",
        },
        check_results=[
            dg.AssetCheckResult(
                passed=not infinite, check_name="every_feature_is_finite_or_missing", metadata={"infinite": infinite}
            ),
            warned(passed=not constant, check_name="every_feature_varies", metadata={"constant": constant}),
        ],
    )


def _candidate(recipe: str, library: str, description: str) -> dg.AssetsDefinition:
    """The asset `<recipe>_candidate`: they differ in the recipe alone."""
    name = f"{recipe}_candidate"

    @asset(
        "training",
        {library, "mlflow"},
        checks={
            "the_candidate_beats_the_base_rate": "Out-of-fold PR-AUC is above the share of churners, "
            "which is that of a random list."
        },
        name=name,
        description=description,
        pool=TRAINING_POOL,
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


CANDIDATES = [
    _candidate("logistic", "sklearn", "Logistic regression on piecewise-linear features: readable coefficients."),
    _candidate("boosted", "xgboost", "Gradient-boosted trees, shallow and regularised."),
    _candidate("deep", "xgboost", "Gradient-boosted trees, deep: for columns that act together."),
    _candidate("network", "pytorch", "A small neural network with piecewise-linear embeddings of the numbers."),
]


def _train(
    name: str, project: Project, tracking: Tracking, features: pa.Table, splits: pa.Table, config: CandidateConfig
) -> dg.MaterializeResult[Candidate]:
    from churn_assets.training.candidate import train_candidate

    params, tuning = _parameters(name, project, features, splits, config)
    candidate = train_candidate(name, project.contract, features, splits, params, config.seed)
    tracking.params(candidate.params, name)
    for split, metrics in candidate.metrics.items():
        tracking.metrics(metrics, f"{name}.{split}.validation")
    base_rate = float(pc.mean(features["churned"]).as_py())
    reached = candidate.metrics["random"]["pr_auc"]
    return dg.MaterializeResult(
        value=candidate,
        metadata={
            "validation": metadata.table({"split": split, **m} for split, m in candidate.metrics.items()),
            "parameters": dg.MetadataValue.json(candidate.params),
            "tuning": tuning,
            "cpu_s": candidate.cpu_s,
            **metadata.tracking_run(tracking),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=reached > base_rate, metadata={"validation_pr_auc": reached, "base_rate": base_rate}
            )
        ],
    )


def _parameters(
    name: str, project: Project, features: pa.Table, splits: pa.Table, config: CandidateConfig
) -> tuple[Mapping[str, float], str]:
    """Parameters other than the recipe's defaults, and a description of their origin."""
    from churn_assets.training.feature_table import feedback_size
    from churn_assets.training.tune import best_so_far, study_name, tune

    folder, contract = project.settings.studies_dir, project.contract
    if config.trials > 0:
        log = dg.AssetExecutionContext.get().log
        study = tune(name, contract, features, splits, config.trials, folder, config.seed, log.info)
        log.info(study.describe())
        return {**study.params, **config.params}, study.describe()
    use_study = config.tuned and folder.is_dir()
    best = best_so_far(folder, study_name(name, contract, features, splits)) if use_study else None
    if best is not None:
        return {**best.params, **config.params}, best.describe()
    if champion_params := champion_parameters(project, name) if feedback_size(features) else {}:
        return {**champion_params, **config.params}, "none of these data: as in the champion's training"
    return config.params, "no study of this contract and data: defaults" if use_study else "none: defaults"


@asset(
    "training",
    {"numpy", "mlflow"},
    checks={CALIBRATED: f"Expected calibration error on test rows is at most {ECE_LIMIT}."},
    blocking={
        "the_bundle_reproduces_its_scores": "Loaded from its files, the bundle gives the scores of training time "
        "to 1e-6."
    },
)
def chosen_model(
    context: dg.AssetExecutionContext,
    project: Project,
    tracking: dg.ResourceParam[Tracking],
    validated_customers: pa.Table,
    customer_features: pa.Table,
    splits: pa.Table,
    logistic_candidate: Candidate,
    boosted_candidate: Candidate,
    deep_candidate: Candidate,
    network_candidate: Candidate,
) -> Iterator[dg.MaterializeResult[ChosenModel]]:
    """The best candidate or a blend, calibrated, with thresholds: a bundle that scores without training's libraries."""
    from churn_assets.evaluation.metrics import shortage_in
    from churn_assets.scoring.bundle import load_bundle, read_card
    from churn_assets.training.export import mean_gain, provenance, write_choice
    from churn_assets.training.feature_table import CUSTOMERS_KEY, check_origin, trained_contract
    from churn_assets.training.profit import describe_profit
    from churn_assets.training.select import choose_model

    contract, settings = trained_contract(project.contract, customer_features), project.settings
    candidates = [logistic_candidate, boosted_candidate, deep_candidate, network_candidate]
    check_origin(customer_features, CUSTOMERS_KEY, validated_customers, "validated_customers")
    gain = mean_gain(contract, validated_customers)
    choice = choose_model(contract, candidates, customer_features, splits, gain=gain)
    tables, commit = keep_trained(settings, contract, validated_customers, splits), git_commit(settings.root)
    origin = provenance(validated_customers, commit, context.run.run_id, tracking.run_id, tables.raw, tables.validated)
    bundle = write_choice(contract, choice, candidates, validated_customers, settings.bundles_dir, origin)
    load_bundle(bundle, contract)  # raises unless its golden rows come out again
    record_training(settings, project.contract, bundle, candidates, tables, commit)
    context.log.info(choice.reason)
    profit = read_card(bundle).profit
    assert profit is not None  # `write_choice` has just written it
    charts = plots.choice_plots(choice, candidates, customer_features, splits) | plots.profit_plots(profit)
    _log_choice(tracking, choice, origin, contract, bundle, charts)
    ece, few = choice.metrics.get("test_ece"), shortage_in(choice.metrics, "test")
    yield dg.MaterializeResult(
        value=ChosenModel(
            version=bundle.name,
            fingerprint=contract.fingerprint,
            bundle=bundle.relative_to(settings.home).as_posix(),
            name=choice.name,
            reason=choice.reason,
            metrics=choice.metrics,
            comparison=choice.comparison,
            thresholds=choice.thresholds,
            source=str(origin.source),
            generated=bool(origin.generated),
            customers_sha256=str(origin.data_sha256),
            splits_sha256=data_hash(splits),
        ),
        metadata={
            **_choice_metadata(choice, origin, bundle, contract, tracking, charts),
            "profit_in_words": describe_profit(profit),
            "profit_by_list_size": metadata.table(msgspec.to_builtins(profit.list_sizes)),
            "profit_by_assumption": metadata.table(msgspec.to_builtins(profit.tornado)),
        },
        check_results=[
            dg.AssetCheckResult(passed=True, check_name="the_bundle_reproduces_its_scores"),
            warned(
                passed=ece is None or ece <= ECE_LIMIT,
                check_name=CALIBRATED,
                description=few or None,
                metadata={"test_ece": few or ece, "limit": ECE_LIMIT},
            ),
        ],
    )


@asset(
    "training",
    {"numpy", "parquet"},
    checks={
        "every_labelled_prediction_is_scored": "Each labelled prediction that the model was trained on has a score of "
        "models that were fitted without its customer."
    },
)
def cross_fitted_scores(
    project: Project,
    validated_customers: pa.Table,
    customer_features: pa.Table,
    splits: pa.Table,
    logistic_candidate: Candidate,
    boosted_candidate: Candidate,
    deep_candidate: Candidate,
    network_candidate: Candidate,
    chosen_model: ChosenModel,
) -> TableResult:
    """Labelled predictions scored by models of the chosen recipe that were fitted without them, for the gate."""
    from churn_assets.scoring.bundle import load_bundle
    from churn_assets.training import cross_fitted
    from churn_assets.training.feature_table import feedback_size, trained_contract

    contract = trained_contract(project.contract, customer_features)
    bundle = project.settings.home / chosen_model.bundle
    candidates = [logistic_candidate, boosted_candidate, deep_candidate, network_candidate]
    scores = cross_fitted.cross_fitted_scores(
        load_bundle(bundle, contract), bundle, validated_customers, customer_features, splits, candidates
    )
    beside = cross_fitted.write_cross_fitted(bundle, scores)  # one run may follow another before the gate is held
    yield dg.MaterializeResult(
        value=scores,
        metadata={
            **metadata.table_facts(contract.fingerprint, scores),
            "version": chosen_model.version,
            "recent": int(pc.sum(scores[cross_fitted.RECENT]).as_py() or 0),
            "beside_the_bundle": dg.MetadataValue.path(str(beside)),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=scores.num_rows == feedback_size(customer_features),
                metadata={"scored": scores.num_rows, "labelled_predictions": feedback_size(customer_features)},
            )
        ],
    )


def _choice_metadata(
    choice: "Choice", origin: "Provenance", bundle: Path, contract: Contract, tracking: Tracking, charts: dict[str, str]
) -> dict[str, Any]:
    return {
        "chosen": choice.name,
        "reason": choice.reason,
        "version": bundle.name,
        "bundle": dg.MetadataValue.path(str(bundle)),
        "contract_fingerprint": contract.fingerprint,
        "comparison": metadata.table(msgspec.to_builtins(choice.comparison)),
        "recent_labels": choice.recent.reason if choice.recent else "none to train other variants on",
        "calibration_kept": f"{choice.calibration.calibration.kind}: {choice.calibration.trials.reason}",
        "thresholds": metadata.table({"purpose": name, "probability": p} for name, p in choice.thresholds.items()),
        **{key: str(getattr(origin, key)) for key in ("source", "as_of", "git_commit", "data_sha256")},
        "data_version": str(origin.validated_data or "not kept"),
        **metadata.numbers({name: choice.metrics[name] for name in HEADLINES if name in choice.metrics}),
        **metadata.tracking_run(tracking),
        **plots.images(charts),
    }


def _log_choice(
    tracking: Tracking, choice: "Choice", origin: "Provenance", contract: Contract, bundle: Path, charts: dict[str, str]
) -> None:
    tracking.metrics(choice.metrics)
    tracking.params({"model": choice.name, "seed": choice.seed, "decide_by": contract.value.decide_by}, "chosen")
    tracking.params(choice.thresholds, "threshold")
    names = ("source", "as_of", "git_commit", "data_sha256", "generated", "raw_data", "validated_data")
    tags = {key: getattr(origin, key) for key in names}
    tracking.tags({**tags, "contract": contract.name, "fingerprint": contract.fingerprint, "bundle": bundle.name})
    for name, svg in charts.items():
        tracking.chart(name, svg)
    tracking.document("contract.toml", contract.text)
    tracking.document("card.json", (bundle / "card.json").read_text(encoding="utf-8"))


def champion_parameters(project: Project, candidate: str) -> dict[str, float]:
    """Parameters of a candidate in the champion's training; empty without a champion of this contract's lineage."""
    from churn_assets.contract.lineage import unknown_inputs
    from churn_assets.promotion.pointer import read_champion
    from churn_assets.scoring.bundle import read_card, read_contract
    from churn_assets.training.candidate import recipe_of

    champion = read_champion(project.settings.home)
    if champion is None:
        return {}
    bundle = champion.path(project.settings.home)
    if unknown_inputs(read_contract(bundle) or project.contract, project.contract):
        return {}
    trained = read_card(bundle).candidates.get(candidate) if bundle.is_dir() else None
    known = {field.name for field in dataclasses.fields(recipe_of(candidate, {})[1])}  # an earlier recipe had others
    return {name: value for name, value in trained.params.items() if name in known} if trained else {}
