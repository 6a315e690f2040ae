"""The alert that a challenger waits for a person ends with that person's decision."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from churn_assets.alerting.alerts import recover_alert
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.rules import waiting_key
from churn_assets.errors import SettingsError
from churn_assets.settings import Settings


def end_waiting(settings: Settings, environ: Mapping[str, str], version: str, message: str, now: datetime) -> str:
    """End the alert of this challenger; the decision holds even if no destination can be reached. Why the destinations
    cannot be used, "" if they can."""
    problem, alerts = "", AlertSettings(settings.home)
    try:
        alerts = AlertSettings.from_environ(environ, settings.home)
    except SettingsError as error:
        problem = str(error)
    recover_alert(alerts, waiting_key(version), message, now)
    return problem
