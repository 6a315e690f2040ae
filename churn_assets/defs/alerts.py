"""Alerts of an asset or a sensor: into the home's alerts, the run's log and the metadata."""

import os
from datetime import UTC, datetime
from typing import Any

from churn_assets.alerting.alerts import raise_alert, recover_alert, send_waiting
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.rules import AlertChanges
from churn_assets.errors import SettingsError
from churn_assets.settings import Settings


def update_alerts(
    context: Any, settings: Settings, changes: AlertChanges, now: datetime | None = None
) -> dict[str, str]:
    """Raise and end what `changes` has; metadata for the asset. Never fails the asset it is called from.

    `context` is anything with Dagster's `log`. What waited for a destination is tried again, news or not.
    """
    now = now or datetime.now(UTC)
    messages: list[str] = []
    try:
        alert_settings = AlertSettings.from_environ(os.environ, settings.home)
    except SettingsError as error:
        # An alert that is stored and logged, and goes nowhere, beats a monitoring run that fails.
        alert_settings = AlertSettings(settings.home)
        messages.append(str(error))
    results = [(alert.title, raise_alert(alert_settings, alert, now)) for alert in changes.raised]
    results += [(key, recover_alert(alert_settings, key, ending, now)) for key, ending in changes.ended.items()]
    if not results:
        results = [("alerts that waited", send_waiting(alert_settings, now))]
    messages += [f"{subject}: {result.summary}" for subject, result in results if result.summary]
    for message in messages:
        context.log.info(message)
    raised = ", ".join(alert.title for alert in changes.raised)
    return {"alerts": raised or "none", **({"alerts_told": "; ".join(messages)} if messages else {})}
