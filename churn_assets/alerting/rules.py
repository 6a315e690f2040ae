"""Which of the loop's reports a person should hear of, and which alerts are over. Pure: nothing is sent here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from churn_assets.alerting.alerts import Alert

DRIFT, DATA, PERFORMANCE, STALE = "drift", "data_quality", "performance_drop", "stale_log"

_RUNBOOK = "docs/operations.md says what to do"
_MOST_FINDINGS = 5
_HELD = "The gate has been held."

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Findings:
    """What to raise, and what is over: key (or beginning of keys, with `*`) -> words."""

    alerts: tuple[Alert, ...] = ()
    over: Mapping[str, str] = field(default_factory=dict)

    def also(self, other: Findings) -> Findings:
        """Both."""
        return Findings((*self.alerts, *other.alerts), {**self.over, **other.over})


def alerts_of(
    quality: Report | None = None,
    drift: Report | None = None,
    performance: Report | None = None,
    decision: Report | None = None,
    promotion: Report | None = None,
) -> Findings:
    """What the loop's reports give cause to tell. None, or a report that concludes nothing, changes nothing.

    `quality` and `drift` hold `windows`, oldest first, each with `status` and `findings` or `drifted`: the
    newest one that concludes something counts, and drift in a window whose data is broken does not. `quality`
    has `log` with `stale` and `words` once there was a prediction. `performance` holds the table `fall` with
    `dropped`, `status` and `words`. `decision` holds `kind` and `words`. `promotion` holds `version`, `status`
    (refused, waiting_approval, promoted, rejected, undecided) and `words`.
    """
    told = _data(quality, decision).also(_staleness(quality)).also(_drift(drift, quality))
    return told.also(_performance(performance)).also(_promotion(promotion))


def waiting_on_people(waiting: Mapping[str, str]) -> Findings:
    """A reminder of challengers, version -> the gate's words, that wait for a person."""
    told = Findings()
    for version, words in waiting.items():
        told = told.also(_promotion({"version": version, "status": "waiting_approval", "words": words}))
    return told


def waiting_key(version: str) -> str:
    """The key of the alert that this challenger waits for a person; over when it is approved or rejected."""
    return f"waiting_approval:{version}"


def _data(quality: Report | None, decision: Report | None) -> Findings:
    window = _newest(quality, ("ok", "broken"))
    if window is None:
        stale = (quality or {}).get("stale")  # an alert of its own
        if not stale and str((decision or {}).get("kind", "")).startswith("investigate"):
            return _broken(str((decision or {}).get("words", "")))
        return Findings()
    if window["status"] == "ok":
        return Findings(over={DATA: f"The data of window {_number(window)} is whole again."})
    found = [one for one in window.get("findings", ()) if one.get("blocks", True)]
    if not found:
        return Findings()  # broken by its age alone, which is an alert of its own
    words = "; ".join(str(one.get("words") or f"{one.get('column')}: {one.get('what')}") for one in found)
    if len(found) > _MOST_FINDINGS:
        first = "; ".join(str(one.get("words") or one.get("column")) for one in found[:_MOST_FINDINGS])
        words = f"{first}; and {len(found) - _MOST_FINDINGS} more"
    return _broken(f"window {_number(window)}: {words}")


def _broken(words: str) -> Findings:
    said = f"The data that is scored looks broken: {words}. Nothing is retrained on it; {_RUNBOOK} (data is broken)."
    return Findings((Alert(DATA, "data_quality", "The data is broken", said, "error"),))


def _staleness(quality: Report | None) -> Findings:
    if quality is None or "log" not in quality:
        return Findings()
    log = quality["log"]
    return _stale(str(log["words"])) if log["stale"] else Findings(over={STALE: "Predictions come again."})


def _stale(words: str) -> Findings:
    said = f"No prediction comes in: {words}. Either nobody asks the service, or its log is not ingested; {_RUNBOOK}."
    return Findings((Alert(STALE, "stale_log", "The prediction log is stale", said),))


def _drift(drift: Report | None, quality: Report | None) -> Findings:
    window = _newest(drift, ("stable", "drift"))
    if window is None:
        return Findings()
    if window["status"] == "stable":
        return Findings(over={DRIFT: f"Window {_number(window)} looks like the training data again."})
    broken = {_number(w) for w in (quality or {}).get("windows", ()) if w.get("status") == "broken"}
    if _number(window) in broken:
        return Findings()
    columns = ", ".join(map(str, window.get("drifted", ()))) or "see the report"
    run, model = 0, window.get("model_version")
    for one in reversed([w for w in (drift or {})["windows"] if w.get("status") in ("stable", "drift")]):
        if one.get("data") == "broken" or _number(one) in broken:
            continue  # says nothing either way, as in the decision
        if one["status"] != "drift" or one.get("model_version") != model:
            break
        run += 1
    since = f" It is the {_ordinal(run)} such window in a row." if run > 1 else ""
    said = f"Window {_number(window)} differs from the training data in: {columns}.{since} {_RUNBOOK}."
    return Findings((Alert(DRIFT, "drift", "Drift", said),))


def _performance(performance: Report | None) -> Findings:
    fall = (performance or {}).get("fall")
    if not isinstance(fall, Mapping):
        return Findings()
    words = str(fall.get("words") or "see performance_report")
    if fall.get("dropped"):
        said = f"{words}. {_RUNBOOK}."
        return Findings((Alert(PERFORMANCE, "performance_drop", "The model has become worse", said, "error"),))
    if fall.get("status") == "ok":
        return Findings(over={PERFORMANCE: f"The labels no longer show a fall: {words}."})
    return Findings()


def _promotion(promotion: Report | None) -> Findings:
    found = promotion or {}
    version, status = str(found.get("version") or ""), found.get("status")
    words = str(found.get("words") or found.get("reason") or "see the asset promotion")
    key, waiting, hindered = f"gate_verdict:{version}", waiting_key(version), f"no_verdict:{version}"
    if not version or status not in ("refused", "waiting_approval", "promoted", "rejected", "undecided"):
        return Findings()
    if status == "undecided":
        alert = Alert(hindered, "gate_verdict", f"The gate cannot judge {version}", f"{words}. {_RUNBOOK}.", "error")
        return Findings((alert,))
    if status == "refused":
        said = f"{words}. The champion stays. {_RUNBOOK} (a retraining was refused)."
        alert = Alert(key, "gate_verdict", f"Challenger {version} is refused", said, "warning", once=True)
        return Findings((alert,), {waiting: "The gate looked again and refuses it.", hindered: _HELD})
    if status == "waiting_approval":
        said = f"{words}. Decide: `churn approve {version} --by NAME --why TEXT`, or `churn reject {version} ...`."
        alert = Alert(waiting, "waiting_approval", f"Challenger {version} waits for approval", said)
        return Findings((alert,), {hindered: _HELD})
    if status == "rejected":
        return Findings(over={waiting: f"It was rejected: {words}."})
    since = f"Challenger {version} has become champion since."
    over = {waiting: "It is the champion.", "gate_verdict:*": since, "no_verdict:*": since, PERFORMANCE: since}
    promoted = Alert(f"promoted:{version}", "gate_verdict", f"Challenger {version} is champion", f"{words}.", "info")
    return Findings((promoted,), over)


def _newest(report: Report | None, statuses: Sequence[str]) -> Report | None:
    windows = [window for window in (report or {}).get("windows", ()) if window.get("status") in statuses]
    return windows[-1] if windows else None


def _number(window: Report) -> Any:
    return window.get("window", "?")


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
