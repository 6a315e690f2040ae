"""Whether to retrain, decided by the reports and the ledger, and written down before anything is asked for."""

from collections.abc import Iterator
from typing import Any, Literal, cast

import dagster as dg

from churn_assets.defs import report
from churn_assets.defs.policy import OWNERS
from churn_assets.defs.project import Project
from churn_assets.errors import SettingsError

GROUP = "monitoring"
CHECK = "no_retraining_on_broken_data"
REPORTS = ["data_quality_report", "drift_report", "performance_report"]


class Asking(dg.Config):
    """Who asks: nobody (the reports decide), a `schedule`, or a person by `hand`. `occasion` tells one
    asking from the next; asked again for the same one, nothing happens."""

    trigger: str = ""
    occasion: str = ""
    by: str = ""
    why: str = ""


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json"},
    code_version="1",
    deps=REPORTS,
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset="retraining_decision",
            blocking=True,
            description="While the newest window's data is broken, no decision asks for a retraining.",
        )
    ],
)
def retraining_decision(
    context: dg.AssetExecutionContext, project: Project, config: Asking
) -> Iterator[dg.MaterializeResult[dict[str, Any]]]:
    """Nothing, investigate data, wait or retrain, with its reason; a request for a run is in the ledger."""
    from churn_assets.alerting.rules import alerts_of, waiting_on_people
    from churn_assets.defs.telling import tell
    from churn_assets.promotion.champion import recover
    from churn_assets.promotion.ledger.ledger import Ledger
    from churn_assets.promotion.retraining_inputs import decide_now, read_reports

    settings = project.settings
    recover(settings)
    # Read from their files: a report that was never made is no reason to fail, it is part of the situation.
    reports, run_id = read_reports(settings), context.run.run_id
    kept = decide_now(settings, project.contract.monitoring, reports, _asked(config, run_id))
    decision = kept.decision
    told = {"kind": decision.kind, "words": decision.words, "trigger": decision.trigger, "request": kept.request}
    ledger = Ledger(settings.ledger_path)
    past = [
        {"at": f"{k.decided_at:%Y-%m-%d %H:%M}", "decision": k.decision.kind, "why": k.decision.words}
        for k in ledger.decisions(10)
    ]
    news = alerts_of(reports.quality, reports.drift, reports.performance, told)
    waiting = {one.version: one.words for one in ledger.challengers("waiting_approval")}
    alerts = tell(context, settings, news.also(waiting_on_people(waiting)))
    yield dg.MaterializeResult(
        value={**told, "number": kept.number, "champion": decision.champion, "situation": dict(decision.situation)},
        metadata={
            "decision": decision.kind,
            "reason": decision.words,
            "request": kept.request or "none",
            "situation": dg.MetadataValue.json(dict(decision.situation)),
            "history": report.table(past),
            **alerts,
        },
        check_results=[
            dg.AssetCheckResult(
                passed=not (decision.kind == "retrain" and decision.situation.get("broken")),
                check_name=CHECK,
                description=str(decision.situation.get("broken") or "the newest window's data is not broken"),
            )
        ],
    )


def _asked(config: Asking, run_id: str) -> Any:
    from churn_assets.promotion.retraining import Asked

    if not config.trigger:
        return None
    if config.trigger not in ("schedule", "hand"):
        raise SettingsError(f"trigger is '{config.trigger}', expected 'schedule', 'hand' or none; correct the config")
    trigger = cast(Literal["schedule", "hand"], config.trigger)
    return Asked(trigger, config.occasion or run_id[:8], config.by, config.why)
