"""What a person changes beside the models (`moves`): alerts, contacts. Who acts, and why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from churn_assets.alerting.alerts import acknowledge_alert, mute_alert
from churn_assets.contract.values import canonical_id
from churn_assets.dashboard.session import Viewer
from churn_assets.dashboard.sources import Mark, Sources
from churn_assets.prediction_log.contacts import EVENTS as CONTACT_EVENTS
from churn_assets.prediction_log.contacts import import_contacts

MOST_LETTERS = 1000  # of a reason
HOURS = ("1", "8", "24", "72")  # for which an alert can be mute
EVENTS = tuple(event for event in CONTACT_EVENTS if event != "control")  # by hand; who is left alone is drawn


@dataclass(frozen=True)
class ActionResult:
    """What was done, in sentences."""

    version: str
    messages: tuple[str, ...]


def person_of(fields: Mapping[str, str], viewer: Viewer) -> str:
    """Who acts: the key's name, or the name in the form where the home has no keys. Raises HTTPException."""
    return viewer.name or _text(fields, "by", "your name", 100)


def reason_of(fields: Mapping[str, str]) -> str:
    """The reason in the form. Raises HTTPException."""
    return _text(fields, "why", "a reason", MOST_LETTERS)


def _text(fields: Mapping[str, str], name: str, title: str, most: int) -> str:
    text = " ".join(fields.get(name, "").split())
    if not text or len(text) > most:
        problem = "is empty" if not text else f"has {len(text):,} characters"
        raise HTTPException(
            422, f"{title} {problem}, expected 1 to {most:,} characters: it goes into the history; go back and give it"
        )
    return text


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


def record_contact(sources: Sources, fields: Mapping[str, str], viewer: Viewer) -> ActionResult:
    """Record that a customer was contacted, got an offer or has agreed to stay, now; the same event in the same minute
    once. `mark` of the fields is "event customer". Raises HTTPException for a form that does not say so, RowsRejected,
    LogUnavailable."""
    who = person_of(fields, viewer)
    event, _, own_id = fields.get("mark", "").partition(" ")
    customer = canonical_id(own_id)
    if customer is None or event not in EVENTS:
        raise HTTPException(
            422, f"the form names no customer and event, expected one of {', '.join(EVENTS)}, a space and the id"
        )
    now = sources.clock().astimezone(dt.UTC)
    at = now.replace(second=0, microsecond=0)
    item = {"customer_id": customer, "event": event, "contacted_at": at.isoformat(), "who": who}
    imported = import_contacts(sources.settings, [item], now)
    sources.remember(customer, Mark(event, at, who))
    word = "was recorded" if imported.added else "had been recorded already"
    return ActionResult(customer, (f"That customer {customer} was {event} {word}, by {who}.",))
