"""The model that is chosen among the candidates, measured once on test rows, as a bundle."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from churn_assets.contract.model import Contract
from churn_assets.defs import report
from churn_assets.defs.pictures import choice_plots, profit_plots
from churn_assets.defs.policy import OWNERS
from churn_assets.defs.project import Project
from churn_assets.defs.provenance import provenance
from churn_assets.mlflow_registry.tracking import Tracking
from churn_assets.training.candidate import Candidate

if TYPE_CHECKING:
    from churn_assets.training.select import Choice

ECE_LIMIT = 0.03  # equal-mass bins; above it the probabilities are no basis for money
HEADLINES = (
    *("test_pr_auc", "test_pr_auc_low", "test_pr_auc_high", "test_roc_auc", "test_ece", "test_log_loss", "test_f1"),
    *("oot_pr_auc", "oot_pr_auc_low", "oot_pr_auc_high", "oot_roc_auc", "oot_churn_rate", "validation_pr_auc"),
)


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"numpy", "mlflow"},
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec(
            "the_bundle_reproduces_its_scores",
            asset="chosen_model",
            blocking=True,
            description="Loaded from its files, the bundle gives the scores of training time to 1e-6.",
        ),
        dg.AssetCheckSpec(
            "the_probabilities_are_calibrated",
            asset="chosen_model",
            description=f"Expected calibration error on test rows is at most {ECE_LIMIT}.",
        ),
    ],
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
    network_candidate: Candidate,
) -> Iterator[dg.MaterializeResult[dict[str, Any]]]:
    """The best candidate or a blend, calibrated, with thresholds: a bundle that scores without training's libraries."""
    from churn_assets.data.hashing import data_hash
    from churn_assets.scoring.bundle import load_bundle, read_card
    from churn_assets.training.export import write_choice
    from churn_assets.training.feature_table import CUSTOMERS_KEY, check_origin
    from churn_assets.training.select import choose_model

    contract, settings = project.contract, project.settings
    candidates = [logistic_candidate, boosted_candidate, network_candidate]
    check_origin(customer_features, CUSTOMERS_KEY, validated_customers, "validated_customers")
    choice = choose_model(contract, candidates, customer_features, splits)
    origin = provenance(settings, validated_customers, context.run.run_id, tracking.run_id)
    bundle = write_choice(contract, choice, candidates, validated_customers, settings.bundles_dir, origin)
    load_bundle(bundle, expect_fingerprint=contract.fingerprint)  # raises unless its golden rows come out again
    context.log.info(choice.reason)
    profit = read_card(bundle)["profit"]
    pictures = {**choice_plots(choice, candidates, customer_features, splits), **profit_plots(profit)}
    _log(tracking, choice, origin, contract, bundle, pictures)
    ece = choice.metrics["test_ece"]
    yield dg.MaterializeResult(
        value={
            "version": bundle.name,
            "fingerprint": contract.fingerprint,
            "bundle": bundle.relative_to(settings.home).as_posix(),
            "name": choice.name,
            "reason": choice.reason,
            "metrics": choice.metrics,
            "comparison": choice.comparison,
            "thresholds": choice.thresholds,
            "source": origin["source"],
            "generated": origin["generated"],
            "customers_sha256": origin["data_sha256"],
            "splits_sha256": data_hash(splits),
        },
        metadata={
            **_metadata(choice, origin, bundle, contract, tracking, pictures),
            "profit_in_words": profit["words"],
            "profit_by_list_size": report.table(profit["list_sizes"]),
            "profit_by_assumption": report.table(profit["tornado"]),
        },
        check_results=[
            dg.AssetCheckResult(passed=True, check_name="the_bundle_reproduces_its_scores"),
            dg.AssetCheckResult(
                passed=ece <= ECE_LIMIT,
                check_name="the_probabilities_are_calibrated",
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"test_ece": ece, "limit": ECE_LIMIT},
            ),
        ],
    )


def _metadata(
    choice: "Choice",
    origin: Mapping[str, Any],
    bundle: Path,
    contract: Contract,
    tracking: Tracking,
    pictures: Mapping[str, bytes],
) -> dict[str, Any]:
    return {
        "chosen": choice.name,
        "reason": choice.reason,
        "version": bundle.name,
        "bundle": dg.MetadataValue.path(str(bundle)),
        "contract_fingerprint": contract.fingerprint,
        "comparison": report.table(choice.comparison),
        "calibration_kept": f"{choice.calibration.calibration.kind}: {choice.calibration.reason}",
        "thresholds": report.table({"purpose": name, "probability": p} for name, p in choice.thresholds.items()),
        **{key: str(origin[key]) for key in ("source", "as_of", "git_commit", "data_sha256")},
        **report.numbers({name: choice.metrics[name] for name in HEADLINES if name in choice.metrics}),
        **report.tracked(tracking),
        **{name: report.image(png, name.replace("_", " ")) for name, png in pictures.items()},
    }


def _log(
    tracking: Tracking,
    choice: "Choice",
    origin: Mapping[str, Any],
    contract: Contract,
    bundle: Path,
    pictures: Mapping[str, bytes],
) -> None:
    tracking.metrics(choice.metrics)
    tracking.params({"model": choice.name, "seed": choice.seed, "decide_by": contract.value.decide_by}, "chosen")
    tracking.params(choice.thresholds, "threshold")
    said = {key: origin[key] for key in ("source", "as_of", "git_commit", "data_sha256", "generated")}
    tracking.tags({**said, "contract": contract.name, "fingerprint": contract.fingerprint, "bundle": bundle.name})
    for name, png in pictures.items():
        tracking.picture(name, png)
    tracking.document("contract.toml", contract.text)
    tracking.document("card.json", (bundle / "card.json").read_text(encoding="utf-8"))
