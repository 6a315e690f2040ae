"""What a person does about an open alert: acknowledge it, or mute it for hours."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from starlette.exceptions import HTTPException

from churn_assets.alerting.alerts import acknowledge_alert, mute_alert
from churn_assets.dashboard.actions import ActionResult, person_of
from churn_assets.dashboard.session import Viewer
from churn_assets.dashboard.sources import Sources

HOURS = ("1", "8", "24", "72")


def handle_alert(sources: Sources, number: int, fields: Mapping[str, str], viewer: Viewer) -> ActionResult:
    """Acknowledge or mute an open alert. Raises HTTPException for a form that does not say so, and if the alert has
    ended meanwhile; AlertsUnreadable."""
    by, settings, now = person_of(fields, viewer), sources.alert_settings(), sources.clock()
    hours, action = fields.get("hours", ""), fields.get("action", "")
    if action == "acknowledge":
        entry, done = acknowledge_alert(settings, number, by, now), "acknowledged"
    elif action == "mute" and hours in HOURS:
        entry = mute_alert(settings, number, by, now + dt.timedelta(hours=int(hours)))
        done = f"muted for {hours} h"
    else:
        raise HTTPException(422, f"the form says neither acknowledge nor mute for {', '.join(HOURS)} hours")
    if entry is None:
        raise HTTPException(409, f"alert {number} is not open any more, expected an open one; look at /alerts again")
    if action == "acknowledge" and entry.acknowledged_by != by:
        return ActionResult("", (f"{entry.acknowledged_by} had acknowledged '{entry.title}' before.",))
    return ActionResult("", (f"'{entry.title}' is {done}, by {by}. Its end is sent all the same.",))
