"""What the ledger keeps: decisions, requests, challengers, approvals and moves, as frozen values.

Every instant is UTC-aware. A `version` is a bundle's (16 hex digits); `bundle` its path inside the home.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from churn_assets.promotion.pointer import Champion

DecisionKind = Literal["nothing", "investigate_data", "retrain", "wait"]
Trigger = Literal["", "drift", "performance", "labels", "schedule", "hand"]
RequestStatus = Literal["open", "started", "failed", "finished", "abandoned"]
ChallengerStatus = Literal["waiting_gate", "refused", "waiting_approval", "approved", "rejected", "promoted"]
MoveKind = Literal["first", "promotion", "rollback"]
MoveStatus = Literal["intended", "done", "abandoned"]

ATTEMPTS = 3  # of a request, and of one round of the gate
GATE = "the gate"  # who approves when the contract says approval = "automatic"


@dataclass(frozen=True)
class Decision:
    """What is to be done, and why, in words.

    `occasion` tells one asking of a trigger from the next: the window's number, the day of a schedule,
    the instant of a hand. A trigger asks once per occasion and champion ("" before the first). `situation`
    is the JSON it was decided from; `by` and `why` are a person's.
    """

    kind: DecisionKind
    words: str
    trigger: Trigger = ""
    occasion: str = ""
    champion: str = ""
    by: str = ""
    why: str = ""
    situation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind == "retrain" and not (self.trigger and self.occasion):
            raise ValueError("a decision to retrain names its trigger and its occasion")


@dataclass(frozen=True)
class Kept:
    """A decision as the ledger has it; `request` is the key of what it asked for, if it did."""

    number: int
    decided_at: datetime
    decision: Decision
    request: str | None


@dataclass(frozen=True)
class Request:
    """A retraining that was asked for. `key` is Dagster's run key; a new attempt has a new key."""

    key: str
    decision: int
    trigger: Trigger
    occasion: str
    champion: str
    attempt: int
    status: RequestStatus
    run_id: str | None
    outcome: str
    opened_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class Challenger:
    """A model that wants to be champion. `attempt` counts the runs of the gate in its present status."""

    number: int
    version: str
    bundle: str
    bundle_sha256: str
    registered_version: int | None
    request: str | None
    status: ChallengerStatus
    attempt: int
    words: str
    verdict: Mapping[str, Any] | None
    approved_by: str
    added_at: datetime
    changed_at: datetime

    @property
    def run_key(self) -> str:
        """What Dagster knows the next run of the gate by; it changes with the status and the attempt."""
        return f"promote-{self.version}-{self.number}-{self.status}-{self.attempt}"


@dataclass(frozen=True)
class Approval:
    """Who said yes or no to which bytes, and why."""

    version: str
    approved: bool
    by: str
    why: str
    bundle_sha256: str
    at: datetime


@dataclass(frozen=True)
class Move:
    """One move of the champion pointer: from `before` (None at first) to `to`."""

    number: int
    kind: MoveKind
    before: str | None
    to: Champion
    bundle_sha256: str
    by: str
    why: str
    status: MoveStatus
    intended_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class Memory:
    """What the ledger remembers that a decision depends on.

    `in_flight` and `waiting` say in words which request or challenger is under way ("" if none).
    `asked` are (trigger, occasion, champion) of every request there ever was; `last_asked_at` is when the
    newest was first opened; `rejections` counts challengers in a row that were refused or rejected;
    `labels_used` is how many final labels there were when the newest request was made that was not given up: that
    one has learnt from none.
    """

    in_flight: str = ""
    waiting: str = ""
    asked: frozenset[tuple[str, str, str]] = frozenset()
    last_asked_at: datetime | None = None
    rejections: int = 0
    labels_used: int = 0
