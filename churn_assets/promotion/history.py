"""Where the loop stands and how it came there, for people: `churn status` and `churn history`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from churn_assets.promotion.ledger.ledger import Ledger
from churn_assets.promotion.records import ATTEMPTS, Challenger, Kept, Request
from churn_assets.settings import Settings


@dataclass(frozen=True)
class Standing:
    """Challengers and requests that wait, and the last decision."""

    challengers: tuple[Challenger, ...] = ()
    requests: tuple[Request, ...] = ()
    last: Kept | None = None

    @property
    def lines(self) -> list[str]:
        """One line each, with what to do where a person is waited for."""
        told = [_challenger(one) for one in self.challengers]
        broken = self.last is not None and self.last.decision.situation.get("broken")
        for one in self.requests:
            held = "; it waits until the data is whole" if broken and one.status == "open" else ""
            told.append(f"retraining {one.key} is {one.status}, attempt {one.attempt} of {ATTEMPTS}{held}")
        if self.last is not None:
            at, decision = self.last.decided_at, self.last.decision
            told.append(f"last decision, {at:%Y-%m-%d %H:%M} UTC: {decision.kind.replace('_', ' ')}: {decision.words}")
        return told

    def to_json(self) -> dict[str, Any]:
        """Flat enough for scripts."""
        last: dict[str, Any] | None = None
        if self.last is not None:
            decision = self.last.decision
            told = {"kind": decision.kind, "words": decision.words, "trigger": decision.trigger}
            last = {"at": self.last.decided_at.isoformat(), **told, "request": self.last.request}
        waiting = [{"version": one.version, "status": one.status, "words": one.words} for one in self.challengers]
        requests = [{"key": one.key, "status": one.status, "attempt": one.attempt} for one in self.requests]
        return {"challengers": waiting, "requests": requests, "last_decision": last}


@dataclass(frozen=True)
class Event:
    """Something that was done to a model: `what` in a word or two, by whom, and why."""

    at: datetime
    what: str
    version: str
    by: str
    why: str


def read_standing(settings: Settings) -> Standing:
    """Everything that waits in this home. Raises LedgerCorrupt or LedgerUnavailable."""
    ledger = Ledger(settings.ledger_path)
    waiting = ledger.challengers("waiting_gate", "waiting_approval", "approved")
    last = ledger.decisions(1)
    return Standing(tuple(waiting), tuple(ledger.requests_in_flight()), last[0] if last else None)


def timeline(settings: Settings) -> list[Event]:
    """Every move of the champion, approval and rejection of this home, oldest first."""
    ledger = Ledger(settings.ledger_path)
    events = [
        Event(m.intended_at, m.kind if m.status == "done" else f"{m.kind}, {m.status}", m.to.version, m.by, m.why)
        for m in ledger.moves()
    ]
    events += [
        Event(a.at, "approved" if a.approved else "rejected", a.version, a.by, a.why) for a in ledger.approvals()
    ]
    events += [Event(c.changed_at, "refused", c.version, "the gate", c.words) for c in ledger.challengers("refused")]
    return sorted(events, key=lambda event: event.at)


def to_json(event: Event) -> dict[str, Any]:
    """One event for scripts."""
    return {**asdict(event), "at": event.at.isoformat()}


def _challenger(one: Challenger) -> str:
    if one.status == "waiting_approval":
        return (
            f"challenger {one.version} has passed the gate and waits for a person: "
            f'churn approve {one.version} --by NAME --why "..."'
        )
    if one.attempt > ATTEMPTS:
        return (
            f"challenger {one.version}: {one.words}; it was tried {ATTEMPTS} times. Mend that, then: "
            "dagster asset materialize --select promotion -m churn_assets.definitions"
        )
    status = "was approved and becomes champion" if one.status == "approved" else "waits for the gate"
    return f"challenger {one.version} {status}: the sensor promote_on_approval of a running daemon sees to it"
