"""The alert rules: which reports raise an alert, with which text, and which alerts they end. Pure: nothing is sent.

An alert's text says what is wrong, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from churn_assets.alerting.alerts import Alert
from churn_assets.promotion.rollout.status import describe_policy, guardrail_lines, versions_of
from churn_assets.release.policy import CHAMPION

if TYPE_CHECKING:  # a sensor that raises an alert loads no NumPy
    from churn_assets.monitoring.data_quality import QualityReport
    from churn_assets.monitoring.drift.report import DriftReport
    from churn_assets.monitoring.performance.report import PerformanceReport
    from churn_assets.prediction_log.warehouse.read import Loss
    from churn_assets.promotion.records import PolicyMove
    from churn_assets.release.guardrails import GuardrailReport
    from churn_assets.release.policy import Policy

DRIFT, DATA, PERFORMANCE, STALE = "drift", "data_quality", "performance_drop", "stale_log"
SOURCES, WAITING = "implausible_feedback", "waiting_feedback"
MOVED_ALIAS, NEVER_FULL = "moved_alias", "window_never_full"

_RUNBOOK = "What to do: docs/operations.md"
_MOST_FINDINGS = 5
_LOSS_DAYS = 7  # for so long a loss is open unless it is restored
_JUDGED = "The gate has judged it."
_RELEASE_KINDS: Mapping[str, Literal["release_rolled_back", "release_inconclusive"]]
_RELEASE_KINDS = {"rolled_back": "release_rolled_back", "inconclusive": "release_inconclusive"}


@dataclass(frozen=True)
class AlertChanges:
    """Alerts to raise, and alerts that have ended: key (or the beginning of keys, with `*`) -> message."""

    raised: tuple[Alert, ...] = ()
    ended: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: AlertChanges) -> AlertChanges:
        return AlertChanges((*self.raised, *other.raised), {**self.ended, **other.ended})


def monitoring_alerts(
    quality: QualityReport | None = None,
    drift: DriftReport | None = None,
    performance: PerformanceReport | None = None,
    investigate: str = "",
) -> AlertChanges:
    """What the monitoring reports raise and end. None, or a report without a conclusion, changes nothing.

    Of windows the newest with a conclusion counts, and drift in a window whose data is broken does not.
    `investigate` is the reason of a decision to investigate the data, '' for every other decision.
    """
    return (
        _data_alerts(quality, investigate)
        + _staleness_alerts(quality)
        + _open_window_alerts(quality)
        + _drift_alerts(drift, quality)
        + _performance_alerts(performance)
    )


def _data_alerts(quality: QualityReport | None, investigate: str) -> AlertChanges:
    windows = [window for window in (quality.windows if quality else ()) if window.status in ("ok", "broken")]
    if not windows:
        stale = quality is not None and quality.stale  # an alert of its own
        return _broken_data(investigate) if investigate and not stale else AlertChanges()
    newest = windows[-1]
    if newest.status == "ok":
        return AlertChanges(ended={DATA: f"The data of window {newest.window} is ok again."})
    messages = [finding.message for finding in newest.findings if finding.blocks]
    more = f"; and {len(messages) - _MOST_FINDINGS} more" if len(messages) > _MOST_FINDINGS else ""
    return _broken_data(f"window {newest.window}: {'; '.join(messages[:_MOST_FINDINGS])}{more}")


def _broken_data(reason: str) -> AlertChanges:
    message = (
        f"The data that is scored is broken: {reason}. Expected: data like the training rows. "
        f"No model is retrained until a window is ok. {_RUNBOOK} (The data is broken)."
    )
    return AlertChanges((Alert(DATA, "data_quality", "The data is broken", message, "error"),))


def _staleness_alerts(quality: QualityReport | None) -> AlertChanges:
    if quality is None or quality.log is None:
        return AlertChanges()
    if not quality.log.stale:
        return AlertChanges(ended={STALE: "Predictions are logged again."})
    message = (
        f"No prediction is logged: {quality.log.message}. Expected: a prediction within the contract's stale_hours. "
        f"Check whether the service is called, and whether its log is ingested. {_RUNBOOK}."
    )
    return AlertChanges((Alert(STALE, "stale_log", "The prediction log is stale", message),))


def _open_window_alerts(quality: QualityReport | None) -> AlertChanges:
    if quality is None or quality.open is None:
        return AlertChanges()
    if not quality.open.never_full:
        return AlertChanges(ended={NEVER_FULL: "The window is complete, or may become so."})
    message = (
        f"Nothing is monitored: {quality.open.message}. Expected: a window that is complete now and then. "
        f"{_RUNBOOK} (A window is never complete)."
    )
    return AlertChanges((Alert(NEVER_FULL, "window_never_full", "A window is never complete", message),))


def _drift_alerts(drift: DriftReport | None, quality: QualityReport | None) -> AlertChanges:
    broken = {window.window for window in (quality.windows if quality else ()) if window.status == "broken"}
    windows = [window for window in (drift.windows if drift else ()) if window.status in ("stable", "drift")]
    if not windows:
        return AlertChanges()
    newest = windows[-1]
    if newest.status == "stable":
        return AlertChanges(ended={DRIFT: f"Window {newest.window} is like the training data again."})
    if newest.window in broken:
        return AlertChanges()
    usable = [window for window in windows if window.data != "broken" and window.window not in broken]
    drifting = takewhile(lambda w: (w.status, w.model_version) == ("drift", newest.model_version), reversed(usable))
    count = len([*drifting])
    in_a_row = f" It is the {_ordinal(count)} such window in a row." if count > 1 else ""
    message = (
        f"Window {newest.window} differs from the training data in: {', '.join(newest.drifted)}.{in_a_row} "
        "Expected: no column beyond the contract's limits. Read drift.md of that window. "
        f"{_RUNBOOK} (Drift, but no labels)."
    )
    return AlertChanges((Alert(DRIFT, "drift", "Drift", message),))


def _performance_alerts(performance: PerformanceReport | None) -> AlertChanges:
    if performance is None:
        return AlertChanges()
    fall = performance.fall
    if fall.dropped:
        expected = "Expected: no fall beyond the contract's pr_auc_drop. Rule out broken data first."
        message = f"{fall.message}. {expected} {_RUNBOOK}."
        return AlertChanges((Alert(PERFORMANCE, "performance_drop", "The model has become worse", message, "error"),))
    if fall.status == "ok":
        return AlertChanges(ended={PERFORMANCE: f"The labels no longer show a fall: {fall.message}."})
    return AlertChanges()


def source_alerts(quarantined: Mapping[str, str]) -> AlertChanges:
    """The alert that feedback of these sources (source -> reason) is not counted; it ends when there are none."""
    if not quarantined:
        return AlertChanges(ended={SOURCES: "A person has decided on every source of feedback."})
    reasons = "; ".join(f"{source}: {reason}" for source, reason in [*quarantined.items()][:_MOST_FINDINGS])
    message = (
        f"Feedback is not plausible and not counted: {reasons}. Expected: outcomes that the scores do not contradict. "
        "Find out who sent it, then `churn feedback accept SOURCE` or `churn feedback withdraw SOURCE` "
        f"(--by NAME --why TEXT). {_RUNBOOK} (Feedback is not plausible)."
    )
    return AlertChanges((Alert(SOURCES, "implausible_feedback", "Feedback is not plausible", message, "error"),))


def waiting_alerts(waiting: Mapping[str, int], share: float) -> AlertChanges:
    """The alert that of these sources (source -> reports that wait) only a share of customers counts, until a person
    decides; it ends when there are none."""
    if not waiting:
        return AlertChanges(ended={WAITING: "A person has decided on every source of feedback."})
    reports = "; ".join(f"{source}: {count:,} reports wait" for source, count in [*waiting.items()][:_MOST_FINDINGS])
    message = (
        f"Feedback over the network counts for {share:.0%} of customers until its source is accepted: {reports}. "
        "Expected: a person who says whose outcomes they are. `churn feedback accept SOURCE` or `churn feedback "
        f"withdraw SOURCE` (--by NAME --why TEXT). {_RUNBOOK} (Feedback waits)."
    )
    return AlertChanges((Alert(WAITING, "waiting_feedback", "Feedback waits for a decision", message),))


def loss_alerts(losses: Iterable[Loss], now: datetime) -> AlertChanges:
    """The alerts that acknowledged rows are gone from the log; each ends when its segment is ingested after all, or
    after a week. `now` is UTC without a zone, as the losses are."""
    changes = AlertChanges()
    for loss in losses:
        key = f"lost_rows:{loss.segment or loss.noted_at.isoformat()}"
        if loss.restored:
            changes += AlertChanges(ended={key: f"Segment {loss.segment} is in the log again."})
        elif now - loss.noted_at > timedelta(days=_LOSS_DAYS):
            changes += AlertChanges(ended={key: f"It was not restored within {_LOSS_DAYS} days."})
        else:
            changes += AlertChanges((_loss_alert(key, loss),))
    return changes


def _loss_alert(key: str, loss: Loss) -> Alert:
    gone = f"segment {loss.segment} with {loss.rows:,} acknowledged rows" if loss.segment else "the folder of the log"
    message = (
        f"At {loss.noted_at:%Y-%m-%d %H:%M} UTC {gone} was deleted or moved away while the service ran. Expected: only "
        "the ingest removes segments. Put them back, or restore them from a backup, and ingest. "
        f"{_RUNBOOK} (Rows of the log are gone)."
    )
    return Alert(key, "lost_rows", "Rows of the prediction log are gone", message, "error", once=True)


def alias_alerts(moved: bool, message: str, at: datetime) -> AlertChanges:
    """The alert that somebody has `moved` the alias champion in MLflow by hand, noticed `at` this instant; it was put
    back, so it is told once."""
    if not moved:
        return AlertChanges()
    text = f"{message[0].upper()}{message[1:]}. Ask who moved it. {_RUNBOOK} (Somebody has moved the alias)."
    title = "The alias champion was moved by hand"
    return AlertChanges((Alert(f"{MOVED_ALIAS}:{at:%Y-%m-%dT%H:%M:%S}", "moved_alias", title, text, "info"),))


def waiting_key(version: str) -> str:
    """The key of the alert that this challenger waits for a person; it ends when it is approved or rejected."""
    return f"waiting_approval:{version}"


def gate_alerts(version: str, status: str, reason: str) -> AlertChanges:
    """What the gate's outcome for a challenger raises and ends; other statuses change nothing."""
    refused_key, waiting, undecided_key = f"gate_verdict:{version}", waiting_key(version), f"no_verdict:{version}"
    match status:
        case "undecided":
            message = f"{reason}. Expected: a verdict. The champion stays. {_RUNBOOK}."
            title = f"The gate cannot judge {version}"
            return AlertChanges((Alert(undecided_key, "gate_verdict", title, message, "error"),))
        case "refused":
            runbook = f"{_RUNBOOK} (A retraining was refused)"
            message = f"{reason}. Expected: no check of the gate fails. The champion stays. {runbook}."
            alert = Alert(refused_key, "gate_verdict", f"Challenger {version} is refused", message, once=True)
            ended = {waiting: "The gate judged it again and refuses it.", undecided_key: _JUDGED}
            return AlertChanges((alert,), ended)
        case "waiting_approval":
            decide = f"`churn approve {version} --by NAME --why TEXT`, or `churn reject {version} ...`"
            message = f"{reason}. Decide: {decide}."
            alert = Alert(waiting, "waiting_approval", f"Challenger {version} waits for approval", message)
            return AlertChanges((alert,), {undecided_key: _JUDGED})
        case "canary":
            title = f"Challenger {version} is let in step by step"
            alert = Alert(f"canary:{version}", "gate_verdict", title, f"{reason}.", "info")
            return AlertChanges((alert,), {waiting: "It is let in.", undecided_key: _JUDGED})
        case "waiting_release":
            return AlertChanges(ended={waiting: "It was approved.", undecided_key: _JUDGED})
        case "rejected":
            return AlertChanges(ended={waiting: f"It was rejected: {reason}."})
        case "promoted":
            since = f"Challenger {version} has become champion since."
            ended = {waiting: "It is the champion.", "gate_verdict:*": since, "no_verdict:*": since, PERFORMANCE: since}
            title = f"Challenger {version} is champion"
            return AlertChanges((Alert(f"promoted:{version}", "gate_verdict", title, f"{reason}.", "info"),), ended)
        case _:
            return AlertChanges()


def release_alerts(moves: Sequence[PolicyMove]) -> AlertChanges:
    """The alert that a release has ended without a person; it ends with the next release or champion. So does the one
    that a release waits for a person. `moves` are the done ones of the policy, oldest first."""
    decided = {
        _waiting_release_key(move.before): f"Since then: {describe_policy(move.after)}, by {move.by}."
        for move in moves[-_MOST_FINDINGS:]
        if move.before is not None and move.before.kind != "champion"
    }
    changes = AlertChanges(ended=decided)
    ends = [number for number, move in enumerate(moves) if move.kind == "end" and move.outcome in _RELEASE_KINDS]
    for number in ends[-_MOST_FINDINGS:]:
        move, later = moves[number], moves[number + 1 :]
        kind = _RELEASE_KINDS[move.outcome]
        if later:
            since = f"Since then: {describe_policy(later[0].after)}, by {later[0].by}."
            changes += AlertChanges(ended={f"{kind}:{move.after.id}": since})
        else:
            changes += AlertChanges((_release_alert(move, kind),))
    return changes


def waiting_release_alerts(policy: Policy, report: GuardrailReport, now: datetime) -> AlertChanges:
    """The reminder that a release whose checks are all ok waits for a person after its deadline."""
    deadline = policy.deadline_at
    if deadline is None or now < deadline or (report.policy, report.waiting) != (policy.id, "person"):
        return AlertChanges()
    versions = ", ".join(arm.version for arm in policy.arms if arm.name != CHAMPION)
    message = (
        f"The {policy.kind} of {versions} has passed its deadline, {deadline:%Y-%m-%d %H:%M} UTC: {report.message}. "
        f"Expected: a decision before it. Decide: `churn release canary {versions} --by NAME --why TEXT` if the gate "
        f"has passed it, or `churn release rollback --by NAME --why TEXT`. {_RUNBOOK} (A release waits for a person)."
    )
    title = f"The {policy.kind} of {versions} waits for a person"
    return AlertChanges((Alert(_waiting_release_key(policy), "release_waiting", title, message),))


def _waiting_release_key(policy: Policy) -> str:
    return f"release_waiting:{policy.id}"


def _release_alert(move: PolicyMove, kind: Literal["release_rolled_back", "release_inconclusive"]) -> Alert:
    before, versions = move.before.kind if move.before else "release", versions_of(move)
    figures = "".join(f"\n{line.strip()}" for line in guardrail_lines(move.numbers))
    champion = f"Champion {move.after.champion.version} answers everybody."
    if kind == "release_inconclusive":
        message = (
            f"The {before} of {versions} ended without a conclusion: {move.why}. Expected: a decision before its "
            f"deadline. {champion} {_RUNBOOK} (A release is inconclusive).{figures}"
        )
        return Alert(f"{kind}:{move.after.id}", kind, f"The {before} of {versions} is inconclusive", message, once=True)
    message = (
        f"The {before} of {versions} was rolled back by {move.by}: {move.why}. Expected: no guardrail is crossed. "
        f"{champion} It needs a person, or a new version. {_RUNBOOK} (A release was rolled back).{figures}"
    )
    title = f"The {before} of {versions} was rolled back"
    return Alert(f"{kind}:{move.after.id}", kind, title, message, "error", once=True)


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
