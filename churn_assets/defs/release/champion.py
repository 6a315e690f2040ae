"""What follows a champion that has moved without the gate: MLflow's alias, and the report for people."""

from datetime import UTC, datetime

import dagster as dg

from churn_assets.contract.model import Contract
from churn_assets.defs.alerts import HomeAlerts
from churn_assets.defs.release.sensors import PUBLISH
from churn_assets.defs.resources import Project
from churn_assets.promotion.service import AliasState, PromotionService
from churn_assets.settings import Settings

_TRIES, _WAIT_S = 3, 30.0  # where MLflow does not answer; the next `monitor` tells it as well


def publish(settings: Settings, contract: Contract) -> AliasState:
    """Let MLflow's alias and the report in `reports/` follow the champion; what became of the alias."""
    from churn_assets.reporting.model.publish import publish_champion

    alias = PromotionService.of(settings).watch_alias(contract)
    publish_champion(settings)
    return alias


@dg.op(description="Lets MLflow's alias champion and the report in reports/ follow the champion.")
def follow_champion(context: dg.OpExecutionContext, project: Project, alerts: dg.ResourceParam[HomeAlerts]) -> None:
    """Raises RetryRequested while MLflow does not answer."""
    from churn_assets.alerting.rules import alias_alerts

    alias = publish(project.settings, project.contract)
    context.log.info(alias.message or "MLflow's alias names the champion")
    alerts.update(context.log, alias_alerts(alias.moved, alias.message, datetime.now(UTC)))
    if not alias.is_settled:
        raise dg.RetryRequested(_TRIES, _WAIT_S)


@dg.job(
    name=PUBLISH,
    executor_def=dg.in_process_executor,
    description="Tell MLflow which model is champion, and put its report into reports/.",
)
def publish_job() -> None:
    """One op, of no asset: it makes nothing, what is there follows the champion."""
    follow_champion()
