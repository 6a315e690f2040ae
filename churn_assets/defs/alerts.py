"""How an asset or a sensor tells: by the home's alerts, in the run's log and in its metadata."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from churn_assets.alerting.alerts import Told, raise_alert, recover_alert, send_waiting
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.rules import AlertChanges
from churn_assets.errors import SettingsError
from churn_assets.settings import Settings


def tell(context: Any, settings: Settings, changes: AlertChanges, now: datetime | None = None) -> dict[str, str]:
    """Raise and end what `changes` says; metadata for the asset. Never fails the asset it is called from.

    `context` is anything with Dagster's `log`. What waited for a destination is tried again, news or not.
    """
    told = _tell(settings.home, changes, now or datetime.now(UTC))
    for words in told:
        context.log.info(words)
    raised = ", ".join(alert.title for alert in changes.raised)
    return {"alerts": raised or "none", **({"alerts_told": "; ".join(told)} if told else {})}


def _tell(home: Path, changes: AlertChanges, now: datetime) -> list[str]:
    try:
        settings = AlertSettings.from_environ(os.environ, home)
    except SettingsError as error:
        # An alert that is remembered and logged, and goes nowhere, beats a monitoring run that fails.
        settings, wrong = AlertSettings(home), [str(error)]
    else:
        wrong = []
    said: list[tuple[str, Told]] = []
    for alert in changes.raised:
        said.append((alert.title, raise_alert(settings, alert, now)))
    for key, words in changes.ended.items():
        said.append((key, recover_alert(settings, key, words, now)))
    if not said:
        said.append(("alerts that waited", send_waiting(settings, now)))
    return wrong + [f"{what}: {told.words}" for what, told in said if told.words]
