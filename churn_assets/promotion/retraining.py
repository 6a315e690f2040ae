"""Whether to retrain: a pure function of what monitoring reports and of the state of the ledger.

The order is the rule: without a champion nothing; broken data is investigated, whatever else is requested; then
the strongest trigger (hand, schedule, fall of the labelled PR-AUC, drift, new labels) proposes; then it
waits for what is in flight, for labels and for the cooldown. A proposal is never a promotion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from churn_assets.contract.limits import Monitoring
from churn_assets.promotion import records

LONGEST_DAYS = 3650.0  # of a cooldown that doubles
_CONCLUSIVE = ("stable", "drift")


@dataclass(frozen=True)
class ExternalTrigger:
    """A person or a schedule requests a retraining. `occasion` distinguishes this request from the next."""

    trigger: Literal["schedule", "hand"]
    occasion: str
    by: str = ""
    why: str = ""


@dataclass(frozen=True)
class RetrainingInputs:
    """All that a decision depends on. `champion` is its version, "" before the first."""

    now: datetime
    champion: str
    limits: Monitoring
    ledger: records.LedgerState
    monitoring: records.MonitoringSummary = field(default_factory=records.MonitoringSummary)
    requested: ExternalTrigger | None = None

    @property
    def new_labels(self) -> int:
        """Final labels that neither the champion nor the last retraining has used."""
        labels, used = self.monitoring.labels, self.ledger.labels_used
        # Fewer labels than were used: they belong to another contract, and none of them was used.
        unused = labels - used if labels >= used else labels
        return min(self.monitoring.new_labels, unused)

    def summary(self) -> records.DecisionInputs:
        """What is stored with the decision, so that it can be repeated by hand."""
        ledger, monitoring = self.ledger, self.monitoring
        return records.DecisionInputs(
            **{**vars(monitoring), "windows": monitoring.windows[-5:], "new_labels": self.new_labels},
            champion=self.champion,
            in_flight=_describe_in_flight(ledger),
            waiting=_describe_waiting(ledger),
            rejections=ledger.rejections,
            cooldown_days=cooldown_days(self.limits, ledger.rejections),
        )


@dataclass(frozen=True)
class _Proposal:
    trigger: records.Trigger
    occasion: str
    message: str


def decide(inputs: RetrainingInputs) -> records.Decision:
    """Nothing, investigate_data, wait or retrain, with the reason as a message."""
    requested, monitoring = inputs.requested, inputs.monitoring
    if not inputs.champion:
        return _decision(inputs, "nothing", "there is no champion yet: churn run makes the first", requested)
    if (problem := _data_problem(inputs)) is not None:
        return _decision(inputs, "investigate_data", problem, requested)
    proposals = _proposals(inputs)[
        : None if monitoring.stale is None else 1
    ]  # with a stale log, only an external trigger
    new = [p for p in proposals if (p.trigger, p.occasion, inputs.champion) not in inputs.ledger.asked]
    if not new:
        return _decision(inputs, "nothing", _why_nothing(inputs, proposals), requested)
    proposal = new[0]
    obstacle = _obstacle(inputs, proposal)
    if obstacle is not None:
        return _decision(inputs, "wait", f"{proposal.message}; {obstacle}", proposal)
    return _decision(inputs, "retrain", proposal.message, proposal)


def _data_problem(inputs: RetrainingInputs) -> str | None:
    """Why the data must be investigated first, None if it need not."""
    monitoring = inputs.monitoring
    if monitoring.broken is not None:
        return f"{monitoring.broken}; no model is trained on broken data"
    if monitoring.stale is not None and inputs.requested is None:
        return f"{monitoring.stale}; no report on a stale log leads to a retraining"
    return None


def cooldown_days(limits: Monitoring, rejections: int) -> float:
    """The least time between two retrainings: the contract's, doubled by each challenger rejected in a row."""
    return min(limits.cooldown_days * 2.0 ** min(rejections, 30), LONGEST_DAYS)


def columns_drifting_in_a_row(windows: Sequence[records.MonitoredWindow], needed: int) -> tuple[str, ...]:
    """Columns that drifted in each of the newest `needed` conclusive windows; others neither add nor end a run."""
    newest = _conclusive(windows)[-needed:]
    if len(newest) < needed or any(window.drift != "drift" for window in newest):
        return ()
    first, *later = (set(window.drifted) for window in newest)
    return tuple(sorted(first.intersection(*later)))


def _conclusive(windows: Sequence[records.MonitoredWindow]) -> list[records.MonitoredWindow]:
    """Those with enough customers and without broken data."""
    return [window for window in windows if window.drift in _CONCLUSIVE and window.quality != "broken"]


def _proposals(inputs: RetrainingInputs) -> list[_Proposal]:
    """What proposes a retraining, the strongest first."""
    limits, requested, monitoring = inputs.limits, inputs.requested, inputs.monitoring
    proposals = []
    if requested is not None:
        proposals.append(_external_proposal(requested))
    if monitoring.pr_auc_dropped:
        proposals.append(_performance_proposal(monitoring))
    if columns := columns_drifting_in_a_row(monitoring.windows, limits.windows_to_retrain):
        message = f"{', '.join(columns)} drifted in {limits.windows_to_retrain} windows in a row"
        proposals.append(_Proposal("drift", str(_conclusive(monitoring.windows)[-1].window), message))
    if 0 < limits.labels_to_retrain <= inputs.new_labels:
        message = f"{inputs.new_labels:,} new labels are final, {limits.labels_to_retrain:,} start a retraining"
        proposals.append(_Proposal("labels", str(monitoring.labels), message))
    return proposals


def _external_proposal(requested: ExternalTrigger) -> _Proposal:
    by = f"{requested.by} requests it" if requested.by else "requested"
    message = f"{by} by hand: {requested.why}" if requested.trigger == "hand" else "requested by the schedule"
    return _Proposal(requested.trigger, requested.occasion, message)


def _performance_proposal(monitoring: records.MonitoringSummary) -> _Proposal:
    occasion = str(monitoring.windows[-1].window) if monitoring.windows else f"{monitoring.labels}labels"
    return _Proposal("performance", occasion, monitoring.fall or "the labelled PR-AUC has fallen beyond noise")


def _obstacle(inputs: RetrainingInputs, proposal: _Proposal) -> str | None:
    """Why the proposal must wait, None if it need not."""
    ledger, limits = inputs.ledger, inputs.limits
    if ledger.in_flight:
        return f"{_describe_in_flight(ledger)}: one at a time"
    if ledger.waiting:
        return f"{_describe_waiting(ledger)}: it is decided on first"
    if proposal.trigger in ("drift", "labels") and inputs.new_labels < limits.label_floor:
        return (
            f"only {inputs.new_labels:,} labels are new and final, expected at least {limits.label_floor:,} to train a "
            "challenger on (if the customer table has grown: churn retrain)"
        )
    return None if proposal.trigger == "hand" else _cooldown(inputs)


def _cooldown(inputs: RetrainingInputs) -> str | None:
    """How long the cooldown lasts, None if it is over."""
    ledger = inputs.ledger
    if ledger.last_asked_at is None:
        return None
    days = cooldown_days(inputs.limits, ledger.rejections)
    until = ledger.last_asked_at + timedelta(days=days)
    if inputs.now >= until:
        return None
    after = f" after {ledger.rejections} rejected in a row" if ledger.rejections else ""
    return f"the cooldown of {days:g} days{after} lasts until {until:%Y-%m-%d %H:%M} UTC"


def _why_nothing(inputs: RetrainingInputs, proposals: Sequence[_Proposal]) -> str:
    if proposals:
        return f"{proposals[0].message}; it already led to a retraining"
    conclusive = _conclusive(inputs.monitoring.windows)
    if not conclusive:
        return "no closed window is conclusive, and nothing requests a retraining"
    return _describe_window(conclusive[-1], inputs.limits.windows_to_retrain)


def _describe_window(last: records.MonitoredWindow, needed: int) -> str:
    if last.drift == "drift":
        drifted = ", ".join(last.drifted) or "no single column"
        return f"window {last.window} drifted on {drifted}, {needed} in a row on the same column start a retraining"
    return f"window {last.window} is stable, and nothing requests a retraining"


def _describe_in_flight(ledger: records.LedgerState) -> str:
    return "request {} is {}".format(*ledger.in_flight) if ledger.in_flight else ""


def _describe_waiting(ledger: records.LedgerState) -> str:
    if ledger.waiting is None:
        return ""
    version, status = ledger.waiting
    return f"challenger {version} is {status.replace('_', ' ')}"


def _decision(
    inputs: RetrainingInputs, kind: records.DecisionKind, message: str, source: _Proposal | ExternalTrigger | None
) -> records.Decision:
    requested = inputs.requested
    trigger: records.Trigger = source.trigger if source else ""
    by, why = (requested.by, requested.why) if requested and requested.trigger == trigger else ("", "")
    occasion = source.occasion if source else ""
    return records.Decision(kind, message, trigger, occasion, inputs.champion, by, why, inputs.summary())
