"""Whether to retrain: a pure function of what the reports say and what the ledger remembers.

The order is the rule: without a champion nothing; broken data is investigated, whatever else asks; then
the strongest trigger (hand, schedule, fall of the labelled PR-AUC, drift, new labels) proposes; then it
waits for what is in flight, for labels and for the cooldown. A proposal is never a promotion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from churn_assets.contract.policy import Monitoring
from churn_assets.promotion.records import Decision, DecisionKind, Memory, Trigger

LONGEST_DAYS = 3650.0  # a cooldown that doubles is not let grow beyond what a calendar holds
_CONCLUSIVE = ("stable", "drift")


@dataclass(frozen=True)
class MonitoredWindow:
    """One closed window: what its drift report says against the champion, and what its quality report says."""

    window: int
    drift: str
    drifted: tuple[str, ...] = ()
    quality: str = "ok"

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> MonitoredWindow:
        """From a window's drift report, which knows what its data was."""
        drifted = tuple(str(name) for name in report.get("drifted", ()))
        return cls(int(report["window"]), str(report.get("status", "unknown")), drifted, str(report.get("data", "ok")))


@dataclass(frozen=True)
class Asked:
    """Somebody or something outside the reports asks. `occasion` tells this asking from the next."""

    trigger: Literal["schedule", "hand"]
    occasion: str
    by: str = ""
    why: str = ""


@dataclass(frozen=True)
class Situation:
    """All that a decision depends on.

    `champion` is its version, "" before the first. `windows` are those that were compared with it, oldest
    first. `broken` and `stale` say in words what is wrong with the newest window's data and with the age
    of the log ("" if nothing is). `dropped`: the champion's labelled PR-AUC has fallen beyond noise, told in
    `fall`. `labels` are all final ones, `new_labels` those that neither the champion nor the last
    retraining knew.
    """

    now: datetime
    champion: str
    limits: Monitoring
    memory: Memory
    windows: tuple[MonitoredWindow, ...] = ()
    broken: str = ""
    stale: str = ""
    dropped: bool = False
    fall: str = ""
    labels: int = 0
    new_labels: int = 0
    asked: Asked | None = None

    def to_json(self) -> dict[str, Any]:
        """What is kept with the decision, so that it can be repeated by hand."""
        return {
            "champion": self.champion,
            "windows": [[seen.window, seen.quality, seen.drift, list(seen.drifted)] for seen in self.windows[-5:]],
            "broken": self.broken,
            "stale": self.stale,
            "pr_auc_dropped": self.dropped,
            "fall": self.fall,
            "labels": self.labels,
            "new_labels": self.new_labels,
            "in_flight": self.memory.in_flight,
            "waiting": self.memory.waiting,
            "rejections": self.memory.rejections,
            "cooldown_days": cooldown_days(self.limits, self.memory.rejections),
        }


@dataclass(frozen=True)
class _Proposal:
    trigger: Trigger
    occasion: str
    words: str


def decide(situation: Situation) -> Decision:
    """Nothing, investigate_data, wait or retrain, with the reason in words."""
    asked = situation.asked
    if not situation.champion:
        return _decision(situation, "nothing", "there is no champion yet: churn run makes the first", asked)
    if situation.broken:
        return _decision(
            situation, "investigate_data", f"{situation.broken}; no model is trained on broken data", asked
        )
    if situation.stale and asked is None:
        return _decision(situation, "investigate_data", f"{situation.stale}; what it says is not acted upon", None)
    proposals = _proposals(situation)[: 1 if situation.stale else None]  # of a stale log only who asks is heard
    new = [p for p in proposals if (p.trigger, p.occasion, situation.champion) not in situation.memory.asked]
    if not new:
        return _decision(situation, "nothing", _why_not(situation, proposals), asked)
    proposal = new[0]
    hindrance = _hindrance(situation, proposal)
    kind: DecisionKind = "wait" if hindrance else "retrain"
    words = f"{proposal.words}; {hindrance}" if hindrance else proposal.words
    return _decision(situation, kind, words, proposal)


def cooldown_days(limits: Monitoring, rejections: int) -> float:
    """The least time between two retrainings: the contract's, doubled by each challenger rejected in a row."""
    return min(limits.cooldown_days * 2.0 ** min(rejections, 30), LONGEST_DAYS)


def columns_drifting_in_a_row(windows: Sequence[MonitoredWindow], needed: int) -> tuple[str, ...]:
    """Columns that drifted in each of the newest `needed` windows that say anything.

    A window with too few customers or with broken data says nothing: it neither adds to a run nor ends it.
    """
    told = _telling(windows)[-needed:]
    if len(told) < needed or any(seen.drift != "drift" for seen in told):
        return ()
    first, *others = (set(seen.drifted) for seen in told)
    return tuple(sorted(first.intersection(*others)))


def _telling(windows: Sequence[MonitoredWindow]) -> list[MonitoredWindow]:
    return [seen for seen in windows if seen.drift in _CONCLUSIVE and seen.quality != "broken"]


def _proposals(situation: Situation) -> list[_Proposal]:
    """What asks for a retraining, the strongest first."""
    limits, asked, found = situation.limits, situation.asked, []
    telling = _telling(situation.windows)
    if asked is not None:
        by = f"{asked.by} asks" if asked.by else "asked"
        words = f"{by} by hand: {asked.why}" if asked.trigger == "hand" else "the schedule asks"
        found.append(_Proposal(asked.trigger, asked.occasion, words))
    if situation.dropped:
        at = str(situation.windows[-1].window) if situation.windows else f"{situation.labels}labels"
        found.append(_Proposal("performance", at, situation.fall or "the labelled PR-AUC has fallen beyond noise"))
    if columns := columns_drifting_in_a_row(situation.windows, limits.windows_to_retrain):
        words = f"{', '.join(columns)} drifted in {limits.windows_to_retrain} windows in a row"
        found.append(_Proposal("drift", str(telling[-1].window), words))
    if 0 < limits.labels_to_retrain <= situation.new_labels:
        words = f"{situation.new_labels:,} new labels are final, {limits.labels_to_retrain:,} ask for a retraining"
        found.append(_Proposal("labels", str(situation.labels), words))
    return found


def _hindrance(situation: Situation, proposal: _Proposal) -> str:
    """Why the proposal must wait, "" if it need not."""
    memory, limits = situation.memory, situation.limits
    if memory.in_flight:
        return f"{memory.in_flight}: one at a time"
    if memory.waiting:
        return f"{memory.waiting}: it is decided upon first"
    if proposal.trigger in ("drift", "labels") and situation.new_labels < limits.label_floor:
        return (
            f"only {situation.new_labels:,} labels are new and final, {limits.label_floor:,} are needed: until then a "
            "challenger knows and proves nothing new (a grown customer table: churn retrain)"
        )
    until = _cool_at(situation)
    if proposal.trigger != "hand" and until is not None and situation.now < until:
        count = memory.rejections
        after = f" after {count} rejected in a row" if count else ""
        return f"the cooldown of {cooldown_days(limits, count):g} days{after} lasts until {until:%Y-%m-%d %H:%M} UTC"
    return ""


def _cool_at(situation: Situation) -> datetime | None:
    last = situation.memory.last_asked_at
    if last is None:
        return None
    return last + timedelta(days=cooldown_days(situation.limits, situation.memory.rejections))


def _why_not(situation: Situation, proposals: Sequence[_Proposal]) -> str:
    if proposals:
        return f"{proposals[0].words}; it was acted upon already"
    telling = _telling(situation.windows)
    if not telling:
        return "no window has closed that says anything, and nobody asks"
    last = telling[-1]
    if last.drift == "drift":
        return (
            f"window {last.window} drifted on {', '.join(last.drifted) or 'no single column'}, "
            f"{situation.limits.windows_to_retrain} in a row on the same column ask for a retraining"
        )
    return f"window {last.window} is stable, and nobody asks"


def _decision(situation: Situation, kind: DecisionKind, words: str, proposal: _Proposal | Asked | None) -> Decision:
    asked = situation.asked
    by_hand = asked if asked is not None and proposal is not None and proposal.trigger == asked.trigger else None
    return Decision(
        kind=kind,
        words=words,
        trigger=proposal.trigger if proposal else "",
        occasion=proposal.occasion if proposal else "",
        champion=situation.champion,
        by=by_hand.by if by_hand else "",
        why=by_hand.why if by_hand else "",
        situation=situation.to_json(),
    )
