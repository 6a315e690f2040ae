"""What the ledger stores: decisions, requests, challengers, verdicts, approvals and moves, as frozen values.

Every instant is UTC-aware. A `version` is a bundle's (16 hex digits); `bundle` its path inside the home. What is
stored as JSON carries the format's number as `version` or, where that is taken, says so; JSON of churn_assets
0.1 (no number, keys such as `words` and `found`) is still read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from churn_assets.errors import TransitionRefused
from churn_assets.promotion.pointer import Champion
from churn_assets.release.policy import Policy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from churn_assets.promotion.gate.evidence import Evidence

DecisionKind = Literal["nothing", "investigate_data", "retrain", "wait"]
Trigger = Literal["", "drift", "performance", "labels", "schedule", "hand"]
RequestStatus = Literal["open", "started", "failed", "finished", "abandoned"]
ChallengerStatus = Literal["waiting_gate", "refused", "waiting_approval", "approved", "rejected", "promoted"]
MoveKind = Literal["first", "promotion", "rollback"]
MoveStatus = Literal["intended", "done", "abandoned"]
# Of the policy: the strategies, the next step of a canary, what a person does, the automatic end of a release, and a
# champion that became it by other ways (a training, the gate, a rollback).
PolicyMoveKind = Literal["shadow", "canary", "ab", "advance", "promote", "rollback", "end", "champion"]
# What became of the release that was running: "" if it goes on, or none was.
ReleaseOutcome = Literal["", "promoted", "rolled_back", "inconclusive", "replaced", "champion_moved"]

ATTEMPTS = 3  # of a request, and of one round of the gate
FORMAT = 1  # of the JSON of a decision and of a verdict


_GATE_TEXT = "the gate"  # how a gate's approval is stored


@dataclass(frozen=True)
class Gate:
    """The gate itself approves, because the contract says approval = "automatic"."""

    def __str__(self) -> str:
        return _GATE_TEXT


@dataclass(frozen=True)
class Person:
    """A person approves, by name. Raises TransitionRefused for an empty name and for the gate's."""

    name: str

    def __post_init__(self) -> None:
        if not self.name.strip() or self.name == _GATE_TEXT:
            raise TransitionRefused(f"approver is '{self.name}', expected the name of a person; name one with --by")

    def __str__(self) -> str:
        return self.name


Approver = Gate | Person


def approver_of(text: str) -> Approver | None:
    """The approver that the ledger stored as `str(approver)`, None for ""."""
    if not text:
        return None
    return Gate() if text == _GATE_TEXT else Person(text)


@dataclass(frozen=True)
class MonitoredWindow:
    """One closed window: the status of its drift report against the champion, and of its quality report."""

    window: int
    drift: str
    drifted: tuple[str, ...] = ()
    quality: str = "ok"


@dataclass(frozen=True)
class MonitoringSummary:
    """What the monitoring reports say about one champion, in plain values.

    `windows` are those that were compared with this champion, oldest first. `broken` and `stale` are the messages
    on the newest window's data and on the age of the log, None if all is well. `pr_auc_dropped`: the champion's
    labelled PR-AUC has fallen beyond noise; `fall` is the message. `labels` counts all final ones, `new_labels`
    those that the champion was not trained on.
    """

    windows: tuple[MonitoredWindow, ...] = ()
    broken: str | None = None
    stale: str | None = None
    pr_auc_dropped: bool = False
    fall: str = ""
    labels: int = 0
    new_labels: int = 0


@dataclass(frozen=True)
class DecisionInputs(MonitoringSummary):
    """What a decision was made from, stored beside it so that it can be repeated by hand.

    The newest `windows` only; `new_labels` are those that the last retraining has not used either. `in_flight` and
    `waiting` are messages on the ledger, "" where there is nothing to report.
    """

    champion: str = ""
    in_flight: str = ""
    waiting: str = ""
    rejections: int = 0
    cooldown_days: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        return {"version": FORMAT, **msgspec.to_builtins(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> DecisionInputs:
        """The inverse of `to_json`, a missing key being a default. 0.1 stored a window as a list of its values, and ""
        where `broken` and `stale` are None."""
        names = ("window", "quality", "drift", "drifted")
        windows = [
            dict(zip(names, window, strict=True)) if isinstance(window, list) else window
            for window in stored.get("windows", ())
        ]
        problems = {name: stored.get(name) or None for name in ("broken", "stale")}
        return msgspec.convert({**stored, **problems, "windows": windows}, cls)


@dataclass(frozen=True)
class Decision:
    """What to do, and the reason in one line.

    `occasion` distinguishes one firing of a trigger from the next: the window's number, the day of a schedule,
    the instant of a person's command. A trigger fires once per occasion and champion ("" before the first).
    `by` and `why` are a person's.
    """

    kind: DecisionKind
    message: str
    trigger: Trigger = ""
    occasion: str = ""
    champion: str = ""
    by: str = ""
    why: str = ""
    inputs: DecisionInputs = field(default_factory=DecisionInputs)

    def __post_init__(self) -> None:
        if self.kind == "retrain" and not (self.trigger and self.occasion):
            raise ValueError("a decision to retrain needs a trigger and an occasion")


@dataclass(frozen=True)
class DecisionRecord:
    """A decision as the ledger has it; `request` is the key of the retraining it asks for, None if it does not."""

    number: int
    decided_at: datetime
    decision: Decision
    request: str | None

    def to_json(self) -> dict[str, Any]:
        """The value of the asset `retraining_decision`."""
        stored: dict[str, Any] = {"version": FORMAT, "number": self.number, "decided_at": self.decided_at.isoformat()}
        stored |= {name: getattr(self.decision, name) for name in ("kind", "message", "trigger", "champion")}
        return {**stored, "request": self.request, "inputs": self.decision.inputs.to_json()}


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
class LedgerState:
    """The part of the ledger that a decision depends on.

    `in_flight` is (key, status) of the request under way, `waiting` (version, status) of the newest challenger that
    nobody has decided on. `asked` are (trigger, occasion, champion) of every request; `last_asked_at` is when the
    newest was first opened; `rejections` counts challengers in a row that were refused or rejected; `labels_used`
    is how many final labels there were when the newest request was made of which a model came or may still come.
    """

    in_flight: tuple[str, RequestStatus] | None = None
    waiting: tuple[str, ChallengerStatus] | None = None
    asked: frozenset[tuple[str, str, str]] = frozenset()
    last_asked_at: datetime | None = None
    rejections: int = 0
    labels_used: int = 0


@dataclass(frozen=True)
class Check:
    """One row of a verdict: the value of a check, its limit (None where it has none), and both in a sentence.

    A check that is only `shown` passes whatever its value: other evidence decides.
    """

    check: str
    value: float | None
    limit: float | None
    passed: bool
    message: str
    shown: bool = False


FORBIDDEN = "champion_reads_no_excluded_column"  # the check that is there if it does


@dataclass(frozen=True)
class Verdict:
    """The gate's result on a challenger against a champion (versions).

    For plots, and no part of the JSON: `draws`, bootstrapped PR-AUC differences by the name of the rows, and
    `evidence`, the rows of the frozen holdout.
    """

    champion: str
    challenger: str
    checks: tuple[Check, ...] = ()
    draws: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict, repr=False, compare=False)
    evidence: Evidence | None = field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether every check passed; without checks, no."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def needs_person(self) -> bool:
        """Whether a person must approve whatever the contract says: the champion reads what no model may read now."""
        return any(check.check == FORBIDDEN for check in self.checks)

    @property
    def reason(self) -> str:
        """The verdict in one sentence."""
        failed = [check for check in self.checks if not check.passed]
        if not failed:
            count = len(self.checks)
            shown = "; recent labels decide, the frozen holdout is shown" if any(c.shown for c in self.checks) else ""
            return f"challenger {self.challenger} passes all {count} checks against champion {self.champion}{shown}"
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        return f"challenger {self.challenger} is refused: {failed[0].message}{more}"

    def to_json(self) -> dict[str, Any]:
        """Everything but what is for plots."""
        names = ("champion", "challenger", "passed", "reason")
        stored = {"version": FORMAT, **{name: getattr(self, name) for name in names}}
        return {**stored, "checks": [asdict(check) for check in self.checks]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Verdict:
        """The inverse of `to_json`; reads 0.1 as well, which wrote `found` and `words` in a check."""
        renamed = {"found": "value", "words": "message"}
        checks = [{renamed.get(key, key): value for key, value in check.items()} for check in stored.get("checks", ())]
        return cls(stored.get("champion", ""), stored.get("challenger", ""), msgspec.convert(checks, tuple[Check, ...]))


@dataclass(frozen=True)
class Challenger:
    """A model that may become champion. `attempt` counts the runs of the gate in its present status."""

    number: int
    version: str
    bundle: str
    bundle_sha256: str
    registered_version: int | None
    request: str | None
    status: ChallengerStatus
    attempt: int
    message: str
    verdict: Verdict | None
    approved_by: Approver | None
    added_at: datetime
    changed_at: datetime

    @property
    def run_key(self) -> str:
        """Dagster's key of the next run of the gate; it changes with the status and the attempt."""
        return f"promote-{self.version}-{self.number}-{self.status}-{self.attempt}"


@dataclass(frozen=True)
class Approval:
    """Who approved or rejected which bytes, and why."""

    version: str
    approved: bool
    by: Approver
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
class PolicyMove:
    """One move of the routing policy: from `before` (None at first) to `after`, whose id has the move's number.

    `outcome` is that of the release in `before`. `numbers` are what it was judged by, as JSON, None if by a person.
    `decides` are challengers (by the number of their round) that are "approved" again or "rejected" with it.
    """

    number: int
    kind: PolicyMoveKind
    before: Policy | None
    after: Policy
    by: str
    why: str
    outcome: ReleaseOutcome
    status: MoveStatus
    intended_at: datetime
    ended_at: datetime | None = None
    numbers: Mapping[str, Any] | None = None
    decides: Mapping[int, Literal["approved", "rejected"]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; instants as ISO 8601."""
        stored: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return stored
