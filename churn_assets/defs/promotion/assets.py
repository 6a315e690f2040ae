"""The registry, the Bento, the retraining decision and the gate."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import dagster as dg
import pyarrow as pa

from churn_assets.defs import metadata, plots
from churn_assets.defs.alerts import HomeAlerts
from churn_assets.defs.io_manager import read
from churn_assets.defs.metadata import JsonResult
from churn_assets.defs.policy import MONITORING, asset, warned
from churn_assets.defs.release.champion import publish
from churn_assets.defs.resources import Project
from churn_assets.errors import AssetStale, GateRefused, SettingsError
from churn_assets.leakage.audit import Audit
from churn_assets.mlflow_registry.tracking import Tracking
from churn_assets.settings import Settings
from churn_assets.training.export import ChosenModel

if TYPE_CHECKING:
    from churn_assets.alerting.rules import AlertChanges
    from churn_assets.promotion.retraining import ExternalTrigger
    from churn_assets.promotion.service import Outcome

FLOOR = "the_model_clears_the_floor"
NO_LEAK = "no_unattested_column_carries_the_model"
IN_REGISTRY = "the_model_is_in_the_registry"


@asset(
    "release",
    {"mlflow"},
    checks={IN_REGISTRY: "MLflow has this version, under its alias."},
    blocking={
        FLOOR: "Test PR-AUC reaches the contract's quality.pr_auc_floor.",
        NO_LEAK: "Every column that leakage_audit found over a limit is attested in the contract.",
    },
    deps=["cross_fitted_scores"],  # the gate may be held as soon as the model is registered
)
def registered_model(
    context: dg.AssetExecutionContext,
    project: Project,
    tracking: dg.ResourceParam[Tracking],
    chosen_model: ChosenModel,
    leakage_audit: Audit,
) -> Iterator[dg.Output[dict[str, Any]] | dg.AssetCheckResult]:
    """The chosen model in MLflow's registry as champion or challenger; the first one becomes champion."""
    from churn_assets.promotion.registration import AuditFinding, TrainedModel, unattested
    from churn_assets.promotion.service import PromotionService
    from churn_assets.reporting.model.publish import publish_champion
    from churn_assets.scoring.card import judged_part, no_better_than_random

    settings, contract = project.settings, project.contract
    part = judged_part(chosen_model.metrics)
    pr_auc, floor = chosen_model.metrics[f"{part}_pr_auc"], contract.quality.pr_auc_floor
    figures: dict[str, Any] = {f"{part}_pr_auc": pr_auc, "floor": floor}
    findings = tuple(AuditFinding(finding.column, finding.description) for finding in leakage_audit.read)
    weak = no_better_than_random(chosen_model.metrics)
    model = TrainedModel(chosen_model.version, pr_auc, chosen_model.generated, findings, weak)
    try:
        registration = PromotionService.of(settings).register(
            contract,
            model,
            settings.home / chosen_model.bundle,
            run_id=tracking.run_id,
            missing=tracking.missing,
            request=context.run.tags.get("churn/request"),
            before_champion=partial(freeze_test_rows, project, chosen_model),
        )
    except GateRefused as refusal:
        not_attested = sorted({finding.column for finding in unattested(model, contract)})
        figures |= {"not_attested": not_attested}
        for name, passed in ((FLOOR, pr_auc >= floor), (NO_LEAK, not not_attested)):
            reason = None if passed else str(refusal)
            yield dg.AssetCheckResult(passed=passed, check_name=name, description=reason, metadata=figures)
        raise
    publish_champion(settings)
    summary = {"alias": registration.alias, "bundle_version": registration.version, "champion": registration.champion}
    tracking.tags(summary)
    yield dg.Output(
        asdict(registration),
        metadata={
            **summary,
            "reason": registration.reason,
            "holdout": describe_holdout(project),
            "registry": registration.registry or "not registered",
            **metadata.tracking_run(tracking),
        },
    )
    yield dg.AssetCheckResult(passed=True, check_name=FLOOR, metadata=figures)
    attested = sorted({finding.column for finding in findings})
    yield dg.AssetCheckResult(passed=True, check_name=NO_LEAK, metadata={"over_a_limit_and_attested": attested})
    yield warned(
        passed=registration.registered_version is not None,
        check_name=IN_REGISTRY,
        description=registration.missing or f"{registration.registry} is {registration.alias}",
    )


@asset(
    "release",
    {"bentoml"},
    checks={"the_bento_holds_the_champion": "The bundle inside the Bento is the one the champion pointer names."},
    deps=["registered_model"],
)
def churn_bento(project: Project) -> JsonResult:
    """A Bento with the online service and the champion's bundle, ready to serve or to containerize."""
    from churn_assets.promotion.pointer import require_champion
    from churn_assets.serving.bento import build_bento

    settings = project.settings
    champion = require_champion(settings.home)
    built = build_bento(settings, champion.path(settings.home), champion.version)
    serve = f"CHURN_HOME={settings.home} BENTOML_HOME={settings.bento_home} bentoml serve {built.tag}"
    yield dg.MaterializeResult(
        value={"tag": built.tag, "path": str(built.path), "bundle_version": built.bundle_version},
        metadata={
            "tag": built.tag,
            "path": dg.MetadataValue.path(str(built.path)),
            "bundle_version": built.bundle_version,
            "serve": dg.MetadataValue.md(f"`{serve}`"),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=built.bundle_version == champion.version,
                metadata={"in_the_bento": built.bundle_version, "champion": champion.version},
            )
        ],
    )


class Asking(dg.Config):
    """Who asks: nobody (the reports decide), a `schedule`, or a person by `hand`. `occasion` tells one
    asking from the next; asked again for the same one, nothing happens."""

    trigger: str = ""
    occasion: str = ""
    by: str = ""
    why: str = ""


@asset(
    MONITORING,
    {"json"},
    blocking={
        "no_retraining_on_broken_data": "While the newest window's data is broken, no decision asks for a retraining."
    },
    deps=["data_quality_report", "drift_report", "performance_report"],
)
def retraining_decision(
    context: dg.AssetExecutionContext, project: Project, alerts: dg.ResourceParam[HomeAlerts], config: Asking
) -> JsonResult:
    """Nothing, investigate data, wait or retrain, with its reason; a request for a run is in the ledger."""
    from churn_assets.alerting.rules import alias_alerts, gate_alerts, monitoring_alerts, release_alerts
    from churn_assets.monitoring.latest import read_latest_reports
    from churn_assets.promotion.ledger import Ledger
    from churn_assets.promotion.service import PromotionService

    settings, limits = project.settings, project.contract.monitoring
    # Read from their files: a report that was never made is no reason to fail, it is an input like any other.
    reports = read_latest_reports(settings)
    requested = _external_trigger(config, context.run.run_id)
    service = PromotionService.of(settings)
    record = service.decide_retraining(limits, reports.summary, requested)
    alias = publish(settings, project.contract)
    decision, inputs = record.decision, record.decision.inputs
    ledger = Ledger(settings.ledger_path)
    history = [
        {"at": f"{r.decided_at:%Y-%m-%d %H:%M}", "decision": r.decision.kind, "why": r.decision.message}
        for r in ledger.decisions(10)
    ]
    investigate = decision.message if decision.kind == "investigate_data" else ""
    changes = monitoring_alerts(reports.quality, reports.drift, reports.performance, investigate)
    changes += _log_alerts(settings)
    changes += alias_alerts(alias.moved, alias.message, datetime.now(UTC))
    changes += release_alerts(ledger.policy_moves("done"))
    for challenger in ledger.challengers("waiting_approval"):  # it reminds of those that wait for a person
        changes += gate_alerts(challenger.version, challenger.status, challenger.message)
    stored = record.to_json()
    yield dg.MaterializeResult(
        value=stored,
        metadata={
            "decision": decision.kind,
            "reason": decision.message,
            "request": record.request or "none",
            **({"mlflow": alias.message} if alias.message else {}),
            "inputs": dg.MetadataValue.json(stored["inputs"]),
            "history": metadata.table(history),
            **alerts.update(context.log, changes),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=not (decision.kind == "retrain" and inputs.broken is not None),
                description=inputs.broken or "the newest window's data is not broken",
            )
        ],
    )


def _log_alerts(settings: Settings) -> "AlertChanges":
    """On whose feedback counts, and on rows that are gone."""
    from churn_assets.alerting.rules import loss_alerts, source_alerts, waiting_alerts
    from churn_assets.prediction_log.sources import quarantined_sources, waiting_sources
    from churn_assets.prediction_log.warehouse.read import read_losses

    changes = source_alerts(quarantined_sources(settings))
    changes += waiting_alerts(waiting_sources(settings), settings.feedback_share)
    return changes + loss_alerts(read_losses(settings), datetime.now(UTC).replace(tzinfo=None))


def _external_trigger(config: Asking, run_id: str) -> "ExternalTrigger | None":
    from churn_assets.promotion.retraining import ExternalTrigger

    if not config.trigger:
        return None
    if config.trigger not in ("schedule", "hand"):
        raise SettingsError(f"trigger is '{config.trigger}', expected 'schedule', 'hand' or none; correct the config")
    trigger = cast(Literal["schedule", "hand"], config.trigger)
    return ExternalTrigger(trigger, config.occasion or run_id[:8], config.by, config.why)


@asset(
    MONITORING,
    {"python"},
    checks={
        "the_challenger_is_no_worse": "Every check of the gate holds for every challenger that was waiting; "
        "docs/release.md."
    },
    deps=["registered_model", "labelled_predictions"],
)
def promotion(context: dg.AssetExecutionContext, project: Project, alerts: dg.ResourceParam[HomeAlerts]) -> JsonResult:
    """Challengers against the champion on the same rows; one that passes becomes champion, or waits for a person."""
    from churn_assets.alerting.rules import AlertChanges, gate_alerts
    from churn_assets.monitoring.performance.realized import usable_labels
    from churn_assets.promotion.service import PromotionService
    from churn_assets.reporting.model.publish import publish_champion

    settings = project.settings
    labelled, left_out = usable_labels(settings, project.contract)
    run = PromotionService.of(settings).promote_waiting(project.contract, labelled)
    publish_champion(settings)
    summary = {
        "champion": run.champion.version if run.champion else "none",
        "message": run.message,
        **({"mlflow": run.registry_message} if run.registry_message else {}),
        **({"labelled_predictions_of_broken_data": f"{left_out:,}, left out"} if left_out else {}),
    }
    changes = AlertChanges()
    for outcome in run.outcomes:
        changes += gate_alerts(outcome.challenger, outcome.status, outcome.message)
    summary |= alerts.update(context.log, changes)
    against = [outcome.message for outcome in run.outcomes if outcome.status in ("refused", "undecided")]
    yield dg.MaterializeResult(
        value={"version": 1, **summary, "outcomes": [outcome.to_json() for outcome in run.outcomes]},
        metadata={**summary, **(verdict_metadata(run.outcomes[0]) if run.outcomes else {})},
        # A challenger that is refused is no failure of the run.
        check_results=[warned(passed=not against, description="; ".join(against) or run.message)],
    )


def verdict_metadata(outcome: "Outcome") -> dict[str, Any]:
    """The newest challenger's verdict as metadata: the table, and both charts if the two were compared."""
    fields: dict[str, Any] = {"challenger": outcome.challenger, "status": outcome.status.replace("_", " ")}
    if outcome.missing:
        fields["mlflow_of_the_challenger"] = outcome.missing
    verdict = outcome.verdict
    if verdict is None:
        return fields
    rows = [{**asdict(check), "message": check.message.replace("|", "/")} for check in verdict.checks]
    fields["verdict"] = metadata.table(rows)
    return fields | plots.images(plots.verdict_plots(verdict))


def freeze_test_rows(project: Project, chosen: ChosenModel) -> None:
    """Freeze the table's rows that `chosen` was tested on, unless some are frozen.

    Raises AssetStale if the tables have been made again since the model was chosen, HoldoutCorrupt.
    """
    from churn_assets.data.hashing import data_hash
    from churn_assets.promotion.holdout import freeze, holdout_for
    from churn_assets.training.split import test_rows

    settings, contract = project.settings, project.contract
    if holdout_for(settings.holdout_dir, contract, chosen.generated) is not None:
        return
    made_of = {"validated_customers": chosen.customers_sha256, "splits": chosen.splits_sha256}
    tables = [read(settings.assets_dir, name, pa.Table) for name in made_of]
    for (name, sha256), table in zip(made_of.items(), tables, strict=True):
        if sha256 != data_hash(table):
            raise AssetStale(f"chosen_model was made of other {name} than there are now; make it again: churn run")
    freeze(settings.holdout_dir, contract, test_rows(*tables), chosen.generated, chosen.version, datetime.now(UTC))


def describe_holdout(project: Project) -> str:
    """Which customers are frozen under this contract."""
    from churn_assets.promotion.holdout import read_holdout

    holdout = read_holdout(project.settings.holdout_dir, project.contract)
    if holdout is None:
        return "none: this champion is older than the holdout; until a first champion freezes one, the gate has none"
    kind, day = "generated customers" if holdout.generated else "customers", holdout.frozen_at.date()
    return f"{holdout.rows.num_rows:,} {kind}, frozen {day} with {holdout.version}, never trained on"
