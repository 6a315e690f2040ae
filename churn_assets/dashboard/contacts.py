"""Contact events from the dashboard: the same records of the log as `churn contacts import` writes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from starlette.exceptions import HTTPException

from churn_assets.contract.values import canonical_id
from churn_assets.dashboard.actions import ActionResult, person_of
from churn_assets.dashboard.session import Viewer
from churn_assets.dashboard.sources import Mark, Sources
from churn_assets.prediction_log.contacts import import_contacts

EVENTS = ("contacted", "offered")  # by hand; who is left alone is drawn


def record_contact(sources: Sources, fields: Mapping[str, str], viewer: Viewer) -> ActionResult:
    """Record that a customer was contacted or got an offer, now; the same event in the same minute once. Raises
    HTTPException for a form that does not say so, RowsRejected, LogUnavailable."""
    who, event = person_of(fields, viewer), fields.get("event", "")
    customer = canonical_id(fields.get("customer", ""))
    if customer is None or event not in EVENTS:
        raise HTTPException(422, f"the form has no customer or event, expected one of: {', '.join(EVENTS)}")
    now = sources.clock().astimezone(dt.UTC)
    at = now.replace(second=0, microsecond=0)
    item = {"customer_id": customer, "event": event, "contacted_at": at.isoformat(), "who": who}
    imported = import_contacts(sources.settings, [item], now)
    sources.remember(customer, Mark(event, at, who))
    word = "was recorded" if imported.added else "had been recorded already"
    return ActionResult(customer, (f"That customer {customer} was {event} {word}, by {who}.",))
