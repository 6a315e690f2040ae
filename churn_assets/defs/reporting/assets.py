"""Pages for people: what the customers look like, and what the chosen model is worth."""

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
from msgspec.structs import asdict

from churn_assets.defs import metadata
from churn_assets.defs.policy import OWNERS
from churn_assets.defs.resources import Project
from churn_assets.mlflow_registry.tracking import Tracking
from churn_assets.storage.files import write_text
from churn_assets.training.candidate import Candidate

if TYPE_CHECKING:
    from churn_assets.reporting.model.facts import Report

AGREES = "the_report_agrees_with_the_model"
COMPLETE = "the_report_is_self_contained"
_TOLERANCE = 1e-9
# Attributes from which a browser would fetch; `xmlns` is a name, not an address.
_FETCHED = frozenset({"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"})


@dg.asset(
    group_name="data",
    owners=OWNERS,
    kinds={"html"},
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec(
            "the_profile_is_self_contained",
            asset="data_profile",
            description="The page loads nothing from elsewhere and runs no script.",
        )
    ],
)
def data_profile(project: Project, validated_customers: pa.Table) -> Iterator[dg.MaterializeResult[dict[str, Any]]]:
    """Each column as the contract has it: distribution by label, missing and odd values, strength alone; as HTML."""
    from churn_assets.data.customers import table_rows
    from churn_assets.data.profile import profile
    from churn_assets.reporting.profile import render_profile

    customers = table_rows(validated_customers)
    found = profile(project.contract, customers)
    text = render_profile(found)
    path = write_text(project.settings.reports_dir / "data_profile.html", text)
    alone = [c for c in found["columns"] if c.get("roc_auc") is not None]
    yield dg.MaterializeResult(
        value=found,
        metadata={
            **metadata.table_facts(project.contract.fingerprint, customers),
            "page": dg.MetadataValue.path(str(path)),
            "rows_that_repeat_another": found["repeated_rows"],
            "roc_auc_alone": metadata.table(
                {"column": c["name"], "ROC AUC alone": c["roc_auc"], "suspect": c["suspect"]}
                for c in sorted(alone, key=lambda c: -abs(c["roc_auc"] - 0.5))
            ),
            "missing": metadata.table(
                {"column": c["name"], "missing": c["missing"], "share": c["missing_share"]}
                for c in found["columns"]
                if c["missing"]
            ),
        },
        check_results=[_self_contained("the_profile_is_self_contained", text)],
    )


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds={"html", "mlflow"},
    code_version="1",
    # Read from their files: the report of an unaudited model is still a report.
    deps=["leakage_audit", "cross_validation"],
    check_specs=[
        dg.AssetCheckSpec(
            COMPLETE, asset="model_report", description="The page loads nothing from elsewhere and runs no script."
        ),
        dg.AssetCheckSpec(
            AGREES,
            asset="model_report",
            description="Scored again for the report, test rows give the PR-AUC of the model's card.",
        ),
    ],
)
def model_report(
    project: Project,
    tracking: dg.ResourceParam[Tracking],
    validated_customers: pa.Table,
    customer_features: pa.Table,
    splits: pa.Table,
    logistic_candidate: Candidate,
    boosted_candidate: Candidate,
    network_candidate: Candidate,
    chosen_model: dict[str, Any],
) -> Iterator[dg.MaterializeResult[dict[str, Any]]]:
    """How good the chosen model is, and its limits: a self-contained page, a model card, and all figures as JSON."""
    from churn_assets.promotion.status import read_asset
    from churn_assets.reporting.model import charts, collect
    from churn_assets.training.feature_table import CUSTOMERS_KEY, check_origin

    settings = project.settings
    check_origin(customer_features, CUSTOMERS_KEY, validated_customers, "validated_customers")
    bundle = settings.home / chosen_model["bundle"]
    facts = collect.collect_report(
        bundle,
        validated_customers,
        customer_features,
        splits,
        [logistic_candidate, boosted_candidate, network_candidate],
        audit=read_asset(settings, "leakage_audit"),
        cross_validation=read_asset(settings, "cross_validation"),
    )
    written = collect.write_report(facts, bundle, settings.reports_dir)
    curves = {name: chart.svg() for name, chart in charts.curves(facts).items()}
    for path in written.values():
        tracking.file(path, "report")
    for name, svg in curves.items():
        tracking.document(f"plots/report_{name}.svg", svg)
    text = written[collect.PAGE].read_text(encoding="utf-8")
    yield dg.MaterializeResult(
        value={"version": chosen_model["version"], "files": {name: str(path) for name, path in written.items()}},
        metadata={
            **{name.replace(".", "_"): dg.MetadataValue.path(str(path)) for name, path in written.items()},
            "page_bytes": len(text.encode()),
            "not_computed": ", ".join(_not_computed(facts)) or "nothing is missing",
            "figures": metadata.table(_figures(facts)),
            "segments": metadata.table(_segments(facts)),
            "importance": metadata.table(map(asdict, facts.importance.features)),
            "must_not_be_used_for": dg.MetadataValue.md(
                "\n".join(f"- **{limit.title}.** {limit.text}" for limit in facts.limits)
            ),
            **{name: metadata.image(svg, name.replace("_", " ")) for name, svg in curves.items()},
            **metadata.tracking_run(tracking),
        },
        check_results=[_self_contained(COMPLETE, text), _agreement(facts, chosen_model["metrics"])],
    )


def _figures(facts: "Report") -> list[dict[str, Any]]:
    rows = []
    for name in facts.sides["test"].metrics:
        row: dict[str, Any] = {"metric": name}
        for side, figures in facts.sides.items():
            value = figures.metrics[name]
            row |= {side: value.value, f"{side} 95 %": f"{value.low:.4f} to {value.high:.4f}"}
        rows.append(row)
    return rows


def _segments(facts: "Report") -> list[dict[str, Any]]:
    return [
        {
            "column": row.column,
            "value": row.level,
            "customers": row.test.rows,
            "churned": row.test.churn_rate,
            "PR-AUC": row.test.pr_auc.value if row.test.pr_auc is not None else "too few to say",
        }
        for row in facts.segments
    ]


def _not_computed(facts: "Report") -> list[str]:
    optional = {
        "leakage audit": facts.ladder,
        "sensitivity of the profit": facts.profit,
        "cross-validation": facts.cross_validation,
    }
    return [name for name, value in optional.items() if value is None]


def _agreement(facts: "Report", metrics: Mapping[str, float]) -> dg.AssetCheckResult:
    differences = {
        side: abs(figures.recomputed_pr_auc - metrics[f"{side}_pr_auc"]) for side, figures in facts.sides.items()
    }
    return dg.AssetCheckResult(
        check_name=AGREES,
        passed=all(value <= _TOLERANCE for value in differences.values()),
        metadata={f"{side}_difference": value for side, value in differences.items()},
    )


def _self_contained(check: str, text: str) -> dg.AssetCheckResult:
    found = _Fetches()
    found.feed(text)
    found.close()
    return dg.AssetCheckResult(check_name=check, passed=not found.seen, metadata={"found": sorted(found.seen)[:20]})


class _Fetches(HTMLParser):
    """Collects what a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note scripts, event handlers and addresses outside the page."""
        if tag in {"script", "iframe", "object", "embed", "link"}:
            self.seen.add(tag)
        for name, value in attrs:
            if name.startswith("on") or (name in _FETCHED and not (value or "").startswith(("#", "data:"))):
                self.seen.add(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        """Note style that fetches."""
        if self.get_starttag_text() == "<style>" and ("url(" in data or "@import" in data):
            self.seen.add("style")
