"""The chosen model enters the registry, and a Bento is built around the champion."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from churn_assets.defs import report
from churn_assets.defs.policy import OWNERS
from churn_assets.defs.project import Project
from churn_assets.errors import GateRefused
from churn_assets.mlflow_registry.tracking import Tracking
from churn_assets.settings import Settings

GROUP = "release"
FLOOR = "the_model_clears_the_floor"
NO_LEAK = "no_unattested_column_carries_the_model"
IN_REGISTRY = "the_model_is_in_the_registry"


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"mlflow"},
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec(
            FLOOR,
            asset="registered_model",
            blocking=True,
            description="Test PR-AUC reaches the contract's quality.pr_auc_floor.",
        ),
        dg.AssetCheckSpec(
            NO_LEAK,
            asset="registered_model",
            blocking=True,
            description="Every column that leakage_audit found over a limit is attested in the contract.",
        ),
        dg.AssetCheckSpec(
            IN_REGISTRY, asset="registered_model", description="MLflow has this version, under its alias."
        ),
    ],
)
def registered_model(
    context: dg.AssetExecutionContext,
    project: Project,
    tracking: dg.ResourceParam[Tracking],
    chosen_model: dict[str, Any],
    leakage_audit: dict[str, Any],
) -> Iterator[dg.Output[dict[str, Any]] | dg.AssetCheckResult]:
    """The chosen model in MLflow's registry as champion or challenger; the first one becomes champion."""
    from churn_assets.defs.freezing import freeze_test_rows, holdout_in_words
    from churn_assets.promotion.register import promote
    from churn_assets.promotion.registration_rules import Model, unattested

    home, floor = project.settings.home, project.contract.quality.pr_auc_floor
    reached = chosen_model["metrics"]["test_pr_auc"]
    figures = {"test_pr_auc": reached, "floor": floor}
    accused = tuple((finding["column"], finding["words"]) for finding in leakage_audit["findings"])
    model = Model(chosen_model["version"], reached, bool(chosen_model["generated"]), accused)
    try:
        logged = (tracking.uri, tracking.run_id, tracking.missing)
        request = context.run.tags.get("churn/request")
        spare = partial(freeze_test_rows, project, chosen_model)
        bundle = home / chosen_model["bundle"]
        promotion = promote(project.settings, project.contract, model, bundle, logged, request, spare)
    except GateRefused as refusal:
        open_ = sorted({column for column, _ in unattested(model, project.contract)})
        clears = reached >= floor
        for name, passed in ((FLOOR, clears), (NO_LEAK, not open_)):
            words = None if passed else str(refusal)
            yield dg.AssetCheckResult(
                passed=passed, check_name=name, description=words, metadata={**figures, "not_attested": open_}
            )
        raise
    told = {"alias": promotion.alias, "bundle_version": promotion.version, "champion": promotion.champion}
    tracking.tags(told)
    number = promotion.registered_version
    yield dg.Output(
        promotion.to_json(),
        metadata={
            **told,
            "reason": promotion.reason,
            "holdout": holdout_in_words(project),
            "registry": promotion.registry or "not registered",
            **report.tracked(tracking),
        },
    )
    yield dg.AssetCheckResult(passed=True, check_name=FLOOR, metadata=figures)
    attested = sorted({column for column, _ in accused})
    yield dg.AssetCheckResult(passed=True, check_name=NO_LEAK, metadata={"over_a_limit_and_attested": attested})
    yield dg.AssetCheckResult(
        passed=number is not None,
        check_name=IN_REGISTRY,
        severity=dg.AssetCheckSeverity.WARN,
        description=promotion.missing or f"{promotion.registry} is {promotion.alias}",
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"bentoml"},
    code_version="1",
    deps=["registered_model"],
    check_specs=[
        dg.AssetCheckSpec(
            "the_bento_holds_the_champion",
            asset="churn_bento",
            description="The bundle inside the Bento is the one the champion pointer names.",
        )
    ],
)
def churn_bento(project: Project) -> Iterator[dg.MaterializeResult[dict[str, Any]]]:
    """A Bento with the online service and the champion's bundle, ready to serve or to containerize."""
    from churn_assets.defs.bento import build_bento
    from churn_assets.promotion.pointer import require_champion

    champion = require_champion(project.settings.home)
    built = build_bento(project.settings, champion.path(project.settings.home), champion.version)
    yield dg.MaterializeResult(
        value={"tag": built.tag, "path": str(built.path), "bundle_version": built.bundle_version},
        metadata={
            "tag": built.tag,
            "path": dg.MetadataValue.path(str(built.path)),
            "bundle_version": built.bundle_version,
            "serve": dg.MetadataValue.md(f"`{_serve(project.settings, built.tag)}`"),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=built.bundle_version == champion.version,
                metadata={"in_the_bento": built.bundle_version, "champion": champion.version},
            )
        ],
    )


def _serve(settings: Settings, tag: str) -> str:
    return f"CHURN_HOME={settings.home} BENTOML_HOME={settings.bento_home} bentoml serve {tag}"
