"""The data profile and the model report, as self-contained pages."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import msgspec
import pyarrow as pa
from msgspec.structs import asdict

from churn_assets.defs import metadata, plots
from churn_assets.defs.metadata import JsonResult
from churn_assets.defs.policy import asset
from churn_assets.defs.resources import Project
from churn_assets.mlflow_registry.tracking import Tracking
from churn_assets.storage.files import write_text
from churn_assets.training.candidate import Candidate
from churn_assets.training.export import ChosenModel

if TYPE_CHECKING:
    from churn_assets.reporting.model.facts import Report

AGREES = "the_report_agrees_with_the_model"
COMPLETE = "the_report_is_self_contained"
_TOLERANCE = 1e-9


@asset(
    "data",
    {"html"},
    checks={"the_profile_is_self_contained": "The page loads nothing from elsewhere and runs no script."},
)
def data_profile(project: Project, validated_customers: pa.Table) -> JsonResult:
    """Per column: distribution by label, missing and unusual values, ROC AUC of the column alone; as HTML."""
    from churn_assets.data.customers import table_rows
    from churn_assets.data.profile import profile
    from churn_assets.reporting.profile import render_profile

    customers = table_rows(validated_customers)
    table_profile = profile(project.contract, customers)
    text = render_profile(table_profile)
    path = write_text(project.settings.reports_dir / "data_profile.html", text)
    yield dg.MaterializeResult(
        value=msgspec.to_builtins(table_profile),
        metadata={
            **metadata.table_facts(project.contract.fingerprint, customers),
            "page": dg.MetadataValue.path(str(path)),
            "rows_that_repeat_another": table_profile.repeated_rows,
            "roc_auc_alone": metadata.table(
                {"column": c.name, "ROC AUC alone": roc_auc, "suspect": c.suspect}
                for c, roc_auc in table_profile.by_roc_auc()
            ),
            "missing": metadata.table(
                {"column": c.name, "missing": c.missing, "share": c.missing_share}
                for c in table_profile.columns
                if c.missing
            ),
        },
        check_results=[_self_contained("the_profile_is_self_contained", text)],
    )


@asset(
    "training",
    {"html", "mlflow"},
    checks={
        COMPLETE: "The page loads nothing from elsewhere and runs no script.",
        AGREES: "Scored again for the report, test rows give the PR-AUC of the model's card.",
    },
    deps=["leakage_audit", "cross_validation"],  # read from files: the report of an unaudited model is still a report
)
def model_report(
    project: Project,
    tracking: dg.ResourceParam[Tracking],
    validated_customers: pa.Table,
    customer_features: pa.Table,
    splits: pa.Table,
    logistic_candidate: Candidate,
    boosted_candidate: Candidate,
    deep_candidate: Candidate,
    network_candidate: Candidate,
    chosen_model: ChosenModel,
) -> JsonResult:
    """How good the chosen model is, and its limits: a self-contained page, a model card, and all figures as JSON."""
    from churn_assets.leakage.audit import Audit
    from churn_assets.promotion.status import read_asset
    from churn_assets.reporting.model import collect
    from churn_assets.reporting.model.curve_charts import curves as draw_curves
    from churn_assets.reporting.model.publish import write_reports
    from churn_assets.training.cross_validation import CrossValidation
    from churn_assets.training.feature_table import CUSTOMERS_KEY, check_origin

    settings = project.settings
    check_origin(customer_features, CUSTOMERS_KEY, validated_customers, "validated_customers")
    bundle = settings.home / chosen_model.bundle
    facts = collect.collect_report(
        bundle,
        validated_customers,
        customer_features,
        splits,
        [logistic_candidate, boosted_candidate, deep_candidate, network_candidate],
        audit=read_asset(settings, "leakage_audit", Audit),
        cross_validation=read_asset(settings, "cross_validation", CrossValidation),
    )
    written = write_reports(facts, bundle, settings)
    curves = {name: chart.svg() for name, chart in draw_curves(facts).items()}
    for path in written.values():
        tracking.file(path, "report")
    for name, svg in curves.items():
        tracking.document(f"plots/report_{name}.svg", svg)
    text = written[collect.PAGE].read_text(encoding="utf-8")
    optional = (
        ("leakage audit", facts.ladder),
        ("sensitivity of the profit", facts.profit),
        ("cross-validation", facts.cross_validation),
    )
    yield dg.MaterializeResult(
        value={"version": chosen_model.version, "files": {name: str(path) for name, path in written.items()}},
        metadata={
            **{name.replace(".", "_"): dg.MetadataValue.path(str(path)) for name, path in written.items()},
            "page_bytes": len(text.encode()),
            "not_computed": ", ".join(name for name, part in optional if part is None) or "nothing is missing",
            "figures": metadata.table(_figures(facts)),
            "segments": metadata.table(_segments(facts)),
            "importance": metadata.table(map(asdict, facts.importance.features)),
            "must_not_be_used_for": dg.MetadataValue.md(
                "\n".join(f"- **{limit.title}.** {limit.text}" for limit in facts.limits)
            ),
            **plots.images(curves),
            **metadata.tracking_run(tracking),
        },
        check_results=[_self_contained(COMPLETE, text), _agreement(facts, chosen_model.metrics)],
    )


def _figures(facts: "Report") -> list[dict[str, Any]]:
    rows = []
    names = dict.fromkeys(name for figures in facts.sides.values() for name in figures.metrics)
    for name in names:
        row: dict[str, Any] = {"metric": name}
        for side, figures in facts.sides.items():
            if figures.shortage:
                row |= {side: figures.shortage, f"{side} 95 %": ""}
                continue
            value = figures.metrics[name]
            interval = f"{value.low:.4f} to {value.high:.4f}" if value.low < value.high else ""
            row |= {side: value.value, f"{side} 95 %": interval}
        rows.append(row)
    return rows


def _segments(facts: "Report") -> list[dict[str, Any]]:
    return [
        {
            "column": row.column,
            "value": row.level,
            "customers": row.test.rows,
            "churned": row.test.churn_rate,
            "PR-AUC": row.test.pr_auc.value if row.test.pr_auc is not None else "too few customers",
        }
        for row in facts.segments
    ]


def _agreement(facts: "Report", metrics: Mapping[str, float]) -> dg.AssetCheckResult:
    differences = {
        f"{side}_difference": abs(figures.recomputed_pr_auc - metrics[f"{side}_pr_auc"])
        for side, figures in facts.sides.items()
        if figures.recomputed_pr_auc is not None
    }
    return dg.AssetCheckResult(
        passed=all(value <= _TOLERANCE for value in differences.values()), check_name=AGREES, metadata=differences
    )


def _self_contained(check: str, page: str) -> dg.AssetCheckResult:
    from churn_assets.html.templating import external_references

    references = external_references(page)
    return dg.AssetCheckResult(passed=not references, check_name=check, metadata={"found": references[:20]})
