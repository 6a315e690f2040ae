"""What a person changes: models (approve, reject, release, roll back), alerts, contacts. Each is the function behind
the command.

The person first sees what is so now and what will be, and gives a reason; the form carries the champion that was shown,
so that of two people who act at once the second one sees what the first has done.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from churn_assets.alerting.alerts import acknowledge_alert, mute_alert
from churn_assets.alerting.decisions import end_waiting
from churn_assets.contract.values import canonical_id
from churn_assets.dashboard.pages.models import Model, ModelPage, actions_of, read_model, read_release
from churn_assets.dashboard.session import Viewer
from churn_assets.dashboard.sources import Mark, Sources
from churn_assets.errors import TransitionRefused
from churn_assets.prediction_log.contacts import EVENTS as CONTACT_EVENTS
from churn_assets.prediction_log.contacts import import_contacts
from churn_assets.promotion.pointer import read_champion
from churn_assets.promotion.records import Person
from churn_assets.promotion.releases import Releases
from churn_assets.promotion.rollout.status import describe_policy
from churn_assets.promotion.service import PromotionService
from churn_assets.promotion.status import SCORE_AGAIN, list_version
from churn_assets.release.policy import CHAMPION

MOST_LETTERS = 1000  # of a reason
HOURS = ("1", "8", "24", "72")  # for which an alert can be mute
EVENTS = tuple(event for event in CONTACT_EVENTS if event != "control")  # by hand; who is left alone is drawn
TITLES = {
    "approve": "Approve",
    "reject": "Reject",
    "roll-back": "Roll back to",
    "shadow": "Start a shadow of",
    "canary": "Start a canary of",
    "promote": "Promote",
    "end": "End the release of",
}


@dataclass(frozen=True)
class Confirmation:
    """What is so now and what an action will change; the form carries `champion` and the id of the `policy` in force,
    `outcomes` are sentences."""

    action: str
    title: str
    model: Model
    champion: Model | None
    policy: str
    outcomes: tuple[str, ...]


@dataclass(frozen=True)
class ActionResult:
    """What was done, in sentences."""

    version: str
    messages: tuple[str, ...]


def read_confirmation(sources: Sources, action: str, version: str) -> Confirmation:
    """What the page before an action shows. Raises HTTPException for an unknown version or action, TransitionRefused
    for one that is not possible now."""
    page = _possible(sources, action, version)
    champion = read_model(sources, {"version": page.champion}).model if page.champion else None
    release = read_release(sources) if page.champion else None
    policy = release.policy if release else ""
    title = f"{TITLES[action]} {version}"
    return Confirmation(action, title, page.model, champion, policy, _outcomes(sources, action, page))


def act(sources: Sources, action: str, version: str, fields: Mapping[str, str], viewer: Viewer) -> ActionResult:
    """Do it. Raises HTTPException for a form without a name or reason, TransitionRefused if it is not possible any
    more, and what `PromotionService` raises."""
    by, why = person_of(fields, viewer), reason_of(fields)
    _check_champion(sources, fields.get("champion", ""))
    _possible(sources, action, version)
    service, settings, now = PromotionService.of(sources.settings), sources.settings, sources.clock()
    if action in ("shadow", "canary", "promote", "end"):
        return _release(sources, action, version, by, why, fields.get("policy", "") or CHAMPION)
    if action == "roll-back":
        return _roll_back(sources, service, version, by, why)
    if action == "approve":
        service.approve(version, Person(by), why)
        done = f"{version} is approved by {by}."
        next_step = (
            f"A running daemon (churn ui) promotes it, by a canary where the contract says "
            f"so, within {settings.sensor_s} s, if it passes the gate again."
        )
    else:
        service.reject(version, Person(by), why)
        done = f"{version} is rejected by {by}."
        next_step = "The champion stays; the time until the next retraining doubles."
    problem = end_waiting(settings, sources.environ, version, f"{done} {why}", now)
    return ActionResult(version, tuple(filter(None, (done, next_step, problem))))


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


def _possible(sources: Sources, action: str, version: str) -> ModelPage:
    if action not in TITLES:
        raise HTTPException(404, f"there is no action {action[:20]!r}, expected one of: {', '.join(TITLES)}")
    page = read_model(sources, {"version": version})
    if action not in actions_of(sources, version):
        possible = ", ".join(actions_of(sources, version)) or "none"
        state = f"model {version} is {page.model.role}, and to {action.replace('-', ' ')} it is not possible now"
        raise TransitionRefused(f"{state} ({page.message or 'see its history'}); expected one of: {possible}")
    return page


def _check_champion(sources: Sources, shown: str) -> None:
    """Raise TransitionRefused if another model has become champion since the page was shown."""
    champion = read_champion(sources.settings.home)
    if champion is not None and champion.version != shown:
        raise TransitionRefused(
            f"{champion.by} has made {champion.version} champion at {champion.since_at:%Y-%m-%d %H:%M:%S} UTC "
            f"({champion.reason}), expected {shown or 'no champion'}, as the page showed; look again, then decide"
        )


def _outcomes(sources: Sources, action: str, page: ModelPage) -> tuple[str, ...]:
    match action:
        case "approve":
            return (
                f"{page.model.version} is held against the champion by the gate once more, and becomes champion if it "
                "passes.",
                f"Until then {page.champion or 'no model'} answers.",
            )
        case "reject":
            return (
                f"{page.champion or 'No model'} goes on answering; {page.model.version} is not considered again.",
                "The time until the next retraining doubles.",
            )
        case "shadow":
            return (
                f"{page.champion} goes on answering every customer; {page.model.version} scores the same rows, and "
                "nobody gets its answers.",
            )
        case "canary":
            shares = ", ".join(f"{weight:.0%}" for weight in sources.contract().release.canary_weights)
            return (
                f"{page.model.version} answers a share of the customers that grows in steps ({shares}); "
                f"{page.champion} answers the others.",
                "If a guardrail is crossed, the service ends the canary by itself.",
            )
        case "promote":
            return (f"{page.model.version} answers every customer, {page.champion} no longer.",)
        case "end":
            return (f"{page.champion} answers every customer; challengers that answered are rejected with it.",)
    return (
        f"{page.model.version} answers every customer, {page.champion} no longer; services follow within a second.",
    )


def _release(sources: Sources, action: str, version: str, by: str, why: str, expected: str) -> ActionResult:
    releases = Releases.of(sources.settings)
    match action:
        case "shadow":
            move = releases.shadow(version, by, why, expected)
        case "canary":
            move = releases.canary(version, by, why, expected)
        case "promote":
            move = releases.promote(version, by, why, expected)
        case _:
            move = releases.rollback(by, why, expected)
    done = f"Policy {move.after.id} is in force: {describe_policy(move.after)}, by {by}."
    return ActionResult(version, (done, "Services follow within a second."))


def _roll_back(sources: Sources, service: PromotionService, version: str, by: str, why: str) -> ActionResult:
    move = service.rollback(version, by=by, why=why)
    messages = [f"{move.to.version} is champion (was {move.before or 'none'}), by {by}."]
    settings = sources.settings
    if settings.reports_dir.is_dir():  # the champion answers already: what is for people follows
        from churn_assets.reporting.model.publish import publish_champion

        listed = list_version(settings)
        publish_champion(settings)
        if listed not in (None, move.to.version):
            messages.append(f"The call list is of model {listed}; score the customers with the champion: {SCORE_AGAIN}")
    return ActionResult(version, tuple(messages))


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
