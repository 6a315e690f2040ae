"""What a person decides from outside of Dagster, the same for command, API and dashboard: to ask for a retraining, and
that a challenger waits no more.

It stands here and not in `promotion` because it reads what monitoring reports and ends alerts, which promotion does not
import; the service imports nothing of monitoring, and calls this as it calls `watchdog`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from churn_assets.alerting.alerts import recover_alert
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.rules import waiting_key
from churn_assets.contract.load import load_contract
from churn_assets.monitoring.latest import LatestReports, read_latest_reports
from churn_assets.promotion.records import DecisionRecord
from churn_assets.promotion.retraining import ExternalTrigger
from churn_assets.promotion.service import PromotionService
from churn_assets.settings import Settings


def request_retraining(settings: Settings, by: str, why: str, now: datetime) -> tuple[DecisionRecord, LatestReports]:
    """Ask for a retraining, whatever the cooldown says; the decision and the reports that it was made from.

    The decision has no request where broken data, or a retraining under way, stand against it.
    """
    limits = load_contract(settings.contract_path).monitoring
    requested = ExternalTrigger("hand", f"{now:%Y%m%dT%H%M%S%f}", by, why)
    reports = read_latest_reports(settings)
    return PromotionService.of(settings).decide_retraining(limits, reports.summary, requested), reports


def end_waiting(settings: Settings, environ: Mapping[str, str], version: str, message: str, now: datetime) -> str:
    """End the alert of this challenger; the decision holds even if no destination can be reached. Why the destinations
    cannot be used, "" if they can."""
    alerts, problem = AlertSettings.or_unsent(environ, settings.home)
    recover_alert(alerts, waiting_key(version), message, now)
    return problem
