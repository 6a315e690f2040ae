"""Challengers that wait meet the gate; the gate is inside, so that materialising this by hand goes through it too."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from churn_assets.defs import plots, report
from churn_assets.defs.labels import LABELLED, sound_labels
from churn_assets.defs.policy import OWNERS
from churn_assets.defs.project import Project

if TYPE_CHECKING:
    from churn_assets.promotion.gate.verdict import Verdict
    from churn_assets.promotion.promote import Outcome

GROUP = "monitoring"  # what `churn run` leaves out
NO_WORSE = "the_challenger_is_no_worse"


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python"},
    code_version="1",
    deps=["registered_model", LABELLED],
    check_specs=[
        dg.AssetCheckSpec(
            NO_WORSE,
            asset="promotion",
            description="Every check of the gate holds for every challenger that was waiting; docs/release.md.",
        )
    ],
)
def promotion(context: dg.AssetExecutionContext, project: Project) -> Iterator[dg.MaterializeResult[dict[str, Any]]]:
    """Challengers against the champion on the same rows; one that passes becomes champion, or waits for a person."""
    from churn_assets.alerting.rules import Findings, alerts_of
    from churn_assets.defs.telling import tell
    from churn_assets.mlflow_registry.tags import follow
    from churn_assets.promotion.pointer import read_champion
    from churn_assets.promotion.promote import promote_waiting

    settings = project.settings
    labelled, left_out = sound_labels(settings, project.contract.fingerprint)
    outcomes = promote_waiting(settings, project.contract, labelled)
    champion = read_champion(settings.home)
    missing = follow(settings, champion)
    told = {
        "champion": champion.version if champion else "none",
        "words": "; ".join(outcome.words for outcome in outcomes) or "no challenger waits for the gate",
        **({"mlflow": missing} if missing else {}),
        **({"labelled_predictions_of_broken_data": f"{left_out:,}, left out"} if left_out else {}),
    }
    news = Findings()
    for outcome in outcomes:
        news = news.also(alerts_of(promotion=outcome.to_json()))
    told |= tell(context, settings, news)
    against = [outcome.words for outcome in outcomes if outcome.status in ("refused", "undecided")]
    yield dg.MaterializeResult(
        value={**told, "outcomes": [outcome.to_json() for outcome in outcomes]},
        metadata={**told, **(shown(outcomes[0]) if outcomes else {})},
        check_results=[
            dg.AssetCheckResult(
                passed=not against,
                check_name=NO_WORSE,
                severity=dg.AssetCheckSeverity.WARN,  # a challenger that is refused is no failure of the run
                description="; ".join(against) or told["words"],
            )
        ],
    )


def shown(outcome: "Outcome") -> dict[str, Any]:
    """The newest challenger's verdict as metadata: the table, and both pictures if the two were compared."""
    told: dict[str, Any] = {"challenger": outcome.version, "status": outcome.status.replace("_", " ")}
    if outcome.missing:
        told["mlflow_of_the_challenger"] = outcome.missing
    verdict = outcome.verdict
    if verdict is None:
        return told
    told["verdict"] = report.table(_row(check) for check in verdict.to_json()["checks"])
    for name, png in pictures(verdict).items():
        told[name] = report.image(png, name.replace("_", " "))
    return told


def pictures(verdict: "Verdict") -> dict[str, bytes]:
    """PNGs by name: bootstrapped differences, and both precision-recall curves on the frozen holdout."""
    from churn_assets.defs.pictures import recall_precision

    if not verdict.draws or verdict.evidence is None:
        return {}
    rows = verdict.evidence
    curves = {
        f"champion {verdict.champion}": recall_precision(rows.churned, rows.champion),
        f"challenger {verdict.challenger}": recall_precision(rows.churned, rows.challenger),
    }
    return {
        "pr_auc_differences": plots.differences(verdict.draws, "PR-AUC of the challenger minus the champion's"),
        "precision_and_recall": plots.precision_recall(curves, float(rows.churned.mean()), "the frozen holdout"),
    }


def _row(check: Mapping[str, Any]) -> dict[str, Any]:
    return {**check, "words": check["words"].replace("|", "/")}
