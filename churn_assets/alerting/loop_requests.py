"""What a person asks of the loop from outside of Dagster: a retraining. The command and the API share it.

It stands here and not with the decision because it reads what monitoring reports, which promotion does not import; the
service imports nothing of monitoring, and calls this as it calls `watchdog`.
"""

from __future__ import annotations

from datetime import datetime

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
