"""What the chosen model's headline figure rests on: the leakage audit and the cross-validation."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import msgspec
import pyarrow as pa

from churn_assets.defs import metadata, plots
from churn_assets.defs.policy import TRAINING_POOL, asset, warned
from churn_assets.defs.resources import Project
from churn_assets.errors import TrainingError
from churn_assets.leakage.audit import Audit
from churn_assets.leakage.audit import audit as audit_model
from churn_assets.leakage.screening import Screening
from churn_assets.mlflow_registry.tracking import Tracking
from churn_assets.training.cross_validation import CrossValidation, cross_validate
from churn_assets.training.export import ChosenModel


@asset(
    "training",
    {"xgboost", "mlflow"},
    checks={
        "every_suspect_column_is_attested": "Each column of the model that is over a limit of the contract's [audit], "
        "or that the contract itself calls suspect, is attested there. Registration refuses a model with one over a "
        "limit that is not."
    },
    pool=TRAINING_POOL,
)
def leakage_audit(
    project: Project,
    tracking: dg.ResourceParam[Tracking],
    validated_customers: pa.Table,
    customer_features: pa.Table,
    splits: pa.Table,
    column_audit: Screening,
    chosen_model: ChosenModel,
) -> Iterator[dg.MaterializeResult[Audit]]:
    """The chosen recipe under weaker assumptions: out of time, without suspect columns, by single column, by age."""
    from churn_assets.scoring.bundle import read_card, write_ladder

    contract = project.contract
    bundle = project.settings.home / chosen_model.bundle
    card = read_card(bundle)
    params = {name: candidate.params for name, candidate in card.candidates.items()}
    audit = audit_model(
        *(contract, validated_customers, customer_features, splits, chosen_model.name, params, card.metrics),
        screening=column_audit,
    )
    write_ladder(bundle, chosen_model.version, msgspec.to_builtins(audit))  # for GET /model
    audit = msgspec.structs.replace(audit, model=chosen_model.version, chosen=chosen_model.name)
    chart = plots.ladder(_ladder_rows(audit), "PR-AUC under weaker assumptions, test rows")
    tracking.chart("leakage_audit", chart)
    tracking.metrics(_mlflow_metrics(audit))
    suspects = [contract.column(name) for name in audit.suspects]
    unattested = {column.name: column.suspect for column in suspects if not column.attested}
    refused = [finding for finding in audit.read if not finding.attested]
    unattested |= {finding.column: finding.description for finding in reversed(refused)}
    yield dg.MaterializeResult(
        value=audit,
        metadata={
            **metadata.table_facts(contract.fingerprint, validated_customers),
            "in_words": dg.MetadataValue.md("\n\n".join(audit.sentences)),
            "recipe": audit.recipe,
            "ladder": plots.image(chart, "the ladder"),
            "rungs": metadata.table(
                {
                    "assumption": rung.label,
                    "random": audit.shown(rung.random),
                    **({"out of time": str(rung.out_of_time)} if rung.out_of_time else {}),
                }
                for rung in audit.ladder
            ),
            "columns": metadata.table(_column_rows(audit)),
            "by_age": metadata.table(
                {
                    "age": b.label,
                    "customers": b.rows,
                    "churned": b.churners,
                    "PR-AUC": str(b.figure or "too few to say"),
                }
                for b in audit.bands
            ),
            "findings": metadata.table(
                {"column": f.column, "what": f.description, "attested": f.attested or "by nobody"}
                for f in audit.findings
            ),
            **metadata.tracking_run(tracking),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=not unattested,
                description="; ".join(f"{column}: {reason}" for column, reason in unattested.items()) or None,
                metadata={"suspect_columns": list(audit.suspects), "not_attested": list(unattested)},
                severity=dg.AssetCheckSeverity.ERROR if refused else dg.AssetCheckSeverity.WARN,
            )
        ],
    )


def _mlflow_metrics(audit: Audit) -> dict[str, float]:
    complete = {f"audit.{split}.pr_auc": figure.pr_auc for split, figure in audit.rungs[0].figures.items()}
    without = {f"audit.without_suspects.{split}.pr_auc": f.pr_auc for split, f in audit.rungs[-1].figures.items()}
    return {**complete, **(without if len(audit.rungs) > 1 else {})}


def _ladder_rows(audit: Audit) -> list[tuple[str, Mapping[str, tuple[float, float, float]]]]:
    rows = [(rung.label, rung.figures) for rung in audit.ladder]
    by_strength = sorted(audit.columns.items(), key=lambda item: -item[1].single_column_pr_auc_lift)
    rows += [(f"{name} alone", figures.alone) for name, figures in by_strength[:5] if figures.alone]
    rows += [(f"aged {band.label}", {"random": band.figure}) for band in audit.bands if band.figure is not None]
    return [(label, {split: (f.pr_auc, f.low, f.high) for split, f in figures.items()}) for label, figures in rows]


def _column_rows(audit: Audit) -> list[dict[str, Any]]:
    return [
        {
            "column": name,
            "alone": str(figures.alone["random"]) if "random" in figures.alone else None,
            "alone, out of time": str(figures.alone["out_of_time"]) if "out_of_time" in figures.alone else None,
            "lift alone": figures.single_column_pr_auc_lift,
            "churners separated": figures.isolated_churner_share,
            "lost without it": figures.headline_loss_when_removed,
        }
        for name, figures in audit.columns.items()
    ]


BASELINE = "logistic"
# A further figure of the same kind falls within this many deviations of the folds' mean in 99 of 100 cases
# (Student's t with 4 degrees of freedom: 4.6).
DEVIATIONS = 4.6


class CrossValidationConfig(dg.Config):
    """`candidates` besides those of the chosen model; the logistic one is what every other is compared with."""

    folds: int = 5
    seed: int = 42
    candidates: list[str] = [BASELINE]  # noqa: RUF012  # Dagster reads it as a field, not as a class variable


@asset(
    "training",
    {"numpy", "mlflow"},
    checks={
        "the_test_figure_is_no_lucky_draw": f"Test PR-AUC lies within {DEVIATIONS} fold deviations of the mean over "
        "folds."
    },
    pool=TRAINING_POOL,
)
def cross_validation(
    context: dg.AssetExecutionContext,
    project: Project,
    tracking: dg.ResourceParam[Tracking],
    validated_customers: pa.Table,
    splits: pa.Table,
    chosen_model: ChosenModel,
    config: CrossValidationConfig,
) -> Iterator[dg.MaterializeResult[CrossValidation]]:
    """The chosen recipe and the logistic one on five folds of rows that are not test rows: mean and deviation."""
    from churn_assets.scoring.bundle import read_card, read_contract

    trained = read_card(project.settings.home / chosen_model.bundle).candidates
    parts = chosen_model.name.split(" + ")
    names = dict.fromkeys([*config.candidates, *parts])
    params = {name: trained[name].params if name in trained else {} for name in names}
    start = time.process_time()
    try:
        contract = read_contract(project.settings.home / chosen_model.bundle) or project.contract
        result = cross_validate(contract, validated_customers, splits, params, parts, config.folds, config.seed)
    except TrainingError as error:
        context.log.warning(f"{error}; the training goes on without cross-validation")
        failed = warned(passed=False, description=f"not measured: {error}")
        missing = CrossValidation(missing=str(error))
        yield dg.MaterializeResult(value=missing, metadata={"missing": missing.missing}, check_results=[failed])
        return
    run = {"cpu_s": time.process_time() - start, **metadata.tracking_run(tracking)}
    rows: list[dict[str, Any]] = msgspec.to_builtins(result.summary)
    tracking.metrics({f"{row['model']}.{k}": v for row in rows for k, v in row.items() if k != "model"}, "cv")
    yield _cross_validated(result, chosen_model.metrics.get("test_pr_auc"), run)


def _cross_validated(
    result: CrossValidation, reached: float | None, run: Mapping[str, Any]
) -> dg.MaterializeResult[CrossValidation]:
    chosen = result.chosen
    summary = next(row for row in result.summary if row.model == chosen)
    mean, deviation = summary.pr_auc_mean, summary.pr_auc_deviation
    folds = len(result.folds[chosen]["pr_auc"])
    allowed = DEVIATIONS * deviation * (1.0 + 1.0 / folds) ** 0.5
    facts: dict[str, Any] = {
        "folds": metadata.table(msgspec.to_builtins(result.summary)),
        "pr_auc": f"{chosen}: {mean:.4f} ± {deviation:.4f} over {folds} folds, {result.rows:,} rows"
        + ("" if reached is None else f"; test {reached:.4f}"),
        **run,
    }
    if chosen != BASELINE and BASELINE in result.folds:
        gap, spread = result.difference(chosen, BASELINE)
        facts["ahead_of_the_baseline"] = f"{gap:+.4f} ± {spread:.4f} PR-AUC, on the same folds"
    return dg.MaterializeResult(
        value=result,
        metadata=facts,
        check_results=[
            warned(
                passed=reached is None or abs(reached - mean) <= allowed,
                metadata={
                    "test_pr_auc": "too few customers" if reached is None else reached,
                    "mean": mean,
                    "deviation": deviation,
                    "room": allowed,
                },
            )
        ],
    )
