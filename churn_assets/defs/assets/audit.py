"""What the chosen model's headline rests on, and which columns must be vouched for."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from churn_assets.contract.model import Contract
from churn_assets.defs import plots, report
from churn_assets.defs.policy import OWNERS, TRAINING_POOL
from churn_assets.defs.project import Project
from churn_assets.mlflow_registry.tracking import Tracking

if TYPE_CHECKING:
    from churn_assets.leakage.audit import Audit


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"xgboost", "mlflow"},
    code_version="1",
    pool=TRAINING_POOL,
    check_specs=[
        dg.AssetCheckSpec(
            "every_suspect_column_is_attested",
            asset="leakage_audit",
            description="Each column that is over a limit of the contract's [audit], or that the contract itself calls "
            "suspect, is attested there. Registration refuses a model with one over a limit that is not.",
        )
    ],
)
def leakage_audit(
    project: Project,
    tracking: dg.ResourceParam[Tracking],
    validated_customers: pa.Table,
    customer_features: pa.Table,
    splits: pa.Table,
    chosen_model: dict[str, Any],
) -> Iterator[dg.MaterializeResult[dict[str, Any]]]:
    """The honest-number ladder: the chosen recipe at random, out of time, without suspects, by column, by age."""
    from churn_assets.leakage.audit import audit
    from churn_assets.scoring.bundle import read_card, write_ladder

    contract = project.contract
    bundle = project.settings.home / chosen_model["bundle"]
    card = read_card(bundle)
    params = {name: about["params"] for name, about in card["candidates"].items()}
    found = audit(contract, validated_customers, customer_features, splits, chosen_model["name"], params)
    value = {**found.to_json(), "model": chosen_model["version"], "chosen": chosen_model["name"]}
    write_ladder(bundle, chosen_model["version"], found.to_json())  # for GET /model
    picture = plots.ladder(_drawn(found), "PR-AUC under weaker assumptions, test rows")
    tracking.picture("leakage_audit", picture)
    tracking.metrics(_tracked(found))
    open_ = _open(contract, found)
    yield dg.MaterializeResult(
        value=value,
        metadata={
            **report.about(contract.fingerprint, validated_customers),
            "in_words": dg.MetadataValue.md("\n\n".join(found.sentences)),
            "recipe": found.recipe,
            "ladder": report.image(picture, "the ladder"),
            "rungs": report.table(_rung_rows(found)),
            "columns": report.table(_column_rows(found)),
            "by_age": report.table(_band_rows(found)),
            "findings": report.table(
                {"column": f.column, "what": f.words, "attested": f.attested or "by nobody"} for f in found.findings
            ),
            **report.tracked(tracking),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=not open_,
                severity=dg.AssetCheckSeverity.ERROR if found.unattested else dg.AssetCheckSeverity.WARN,
                description="; ".join(f"{column}: {why}" for column, why in open_.items()) or None,
                metadata={"suspect_columns": list(found.suspects), "not_attested": list(open_)},
            )
        ],
    )


def _open(contract: Contract, found: "Audit") -> dict[str, str]:
    """Suspect columns that nobody attests, and why they are suspect."""
    over = {finding.column: finding.words for finding in reversed(found.unattested)}
    said = {name: contract.column(name).suspect for name in found.suspects if not contract.column(name).attested}
    return {**said, **over}


def _tracked(found: "Audit") -> dict[str, float]:
    whole = {f"audit.{split}.pr_auc": figure.pr_auc for split, figure in found.rungs[0].figures.items()}
    left = {f"audit.without_suspects.{split}.pr_auc": f.pr_auc for split, f in found.rungs[-1].figures.items()}
    return {**whole, **(left if len(found.rungs) > 1 else {})}


def _drawn(found: "Audit") -> list[tuple[str, Mapping[str, tuple[float, float, float]]]]:
    rows = [(rung.words, rung.figures) for rung in found.rungs]
    by_strength = sorted(found.columns.items(), key=lambda item: -item[1].seen.pr_auc_lift)
    rows += [(f"{name} alone", figures.alone) for name, figures in by_strength[:5] if figures.alone]
    rows += [(f"aged {band.words}", {"random": band.figure}) for band in found.bands if band.figure is not None]
    return [(words, {split: (f.pr_auc, f.low, f.high) for split, f in figures.items()}) for words, figures in rows]


def _rung_rows(found: "Audit") -> list[dict[str, Any]]:
    return [
        {"assumption": rung.words, **{split.replace("_", " "): str(figure) for split, figure in rung.figures.items()}}
        for rung in found.rungs
    ]


def _column_rows(found: "Audit") -> list[dict[str, Any]]:
    return [
        {
            "column": name,
            "alone": str(figures.alone["random"]) if figures.alone else None,
            "alone, out of time": str(figures.alone["out_of_time"]) if "out_of_time" in figures.alone else None,
            "lift alone": figures.seen.pr_auc_lift,
            "churners set apart": figures.seen.isolated_share,
            "lost without it": figures.loss.share,
        }
        for name, figures in found.columns.items()
    ]


def _band_rows(found: "Audit") -> list[dict[str, Any]]:
    return [
        {
            "age": band.words,
            "customers": band.rows,
            "churned": band.churners,
            "PR-AUC": str(band.figure) if band.figure else "too few to say",
        }
        for band in found.bands
    ]
