"""From the reports of a home to a decision in its ledger; the asset and `churn retrain` both call this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from churn_assets.contract.policy import Monitoring
from churn_assets.promotion.ledger.ledger import Ledger
from churn_assets.promotion.pointer import Champion, read_champion
from churn_assets.promotion.records import Decision, Kept, Memory
from churn_assets.promotion.retraining import Asked, MonitoredWindow, Situation, decide
from churn_assets.promotion.status import read_asset
from churn_assets.settings import Settings

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Reports:
    """The newest reports as they are kept; an empty one was never made."""

    quality: Report
    drift: Report
    performance: Report


def decide_now(
    settings: Settings, limits: Monitoring, reports: Reports, asked: Asked | None = None, now: datetime | None = None
) -> Kept:
    """Decide, and keep the decision and its request in one transaction. Raises as `Ledger.decide`."""
    at = now or datetime.now(UTC)
    champion = read_champion(settings.home)

    def judge(memory: Memory) -> Decision:
        return decide(situation_of(reports, champion, limits, memory, at, asked))

    return Ledger(settings.ledger_path).decide(judge, at)


def situation_of(
    reports: Reports,
    champion: Champion | None,
    limits: Monitoring,
    memory: Memory,
    now: datetime,
    asked: Asked | None = None,
) -> Situation:
    """What the reports say about this champion; what they say about another is left out."""
    bare = Situation(now, champion.version if champion else "", limits, memory, asked=asked)
    if champion is None:
        return bare
    quality = reports.quality if _of_contract(reports.quality, champion) else {}
    labels, new = _labels(reports.performance, champion, memory)
    fall = _part(reports.performance, "fall") if _about(reports.performance, champion) else {}
    return replace(
        bare,
        windows=_windows(quality, reports.drift, champion),
        broken=_broken(quality),
        stale=_stale(quality),
        dropped=bool(fall.get("dropped")),
        fall=str(fall.get("words", "")),
        labels=labels,
        new_labels=new,
    )


def _windows(quality: Report, drift: Report, champion: Champion) -> tuple[MonitoredWindow, ...]:
    """Windows whose drift was measured against this champion: an older one's reference says nothing now."""
    whole = {int(told["window"]): str(told.get("status")) for told in _list(quality, "windows")}
    seen = [
        replace(found, quality=whole.get(found.window, found.quality))
        for told in _list(drift, "windows")
        if _of_contract(drift, champion) and told.get("model_version", champion.version) == champion.version
        for found in [MonitoredWindow.of(told)]
    ]
    return tuple(sorted(seen, key=lambda one: one.window))


def _broken(quality: Report) -> str:
    windows = _list(quality, "windows")
    if not windows:
        return str(quality.get("words", "the data is broken")) if quality.get("status") == "broken" else ""
    newest = max(windows, key=lambda told: int(told["window"]))
    if newest.get("status") != "broken":
        return ""
    return str(newest.get("words") or f"the data of window {newest['window']} is broken")


def _stale(quality: Report) -> str:
    if not quality.get("stale"):
        return ""
    return str(_part(quality, "log").get("words") or "the log is stale")


def _labels(performance: Report, champion: Champion, memory: Memory) -> tuple[int, int]:
    """(final labels, those that neither the champion nor the last retraining knew)."""
    told = _part(performance, "labels")
    final = int(told.get("final", 0))
    if not _about(performance, champion):
        return final, 0
    # Fewer than were used: they are of another contract, and none of them was used.
    unused = final - memory.labels_used if final >= memory.labels_used else final
    return final, min(int(told.get("new", final)), unused)


def _about(report: Report, champion: Champion) -> bool:
    return bool(report.get("champion", champion.version) == champion.version)


def _of_contract(report: Report, champion: Champion) -> bool:
    return bool(report.get("fingerprint", champion.fingerprint) == champion.fingerprint)


def _part(report: Report, name: str) -> Report:
    found = report.get(name)
    return found if isinstance(found, Mapping) else {}


def _list(report: Report, name: str) -> list[Report]:
    found = report.get(name)
    told = [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
    return [one for one in told if isinstance(one.get("window"), int)]


def read_reports(settings: Settings) -> Reports:
    """The reports as their assets left them in this home."""
    names = ("data_quality_report", "drift_report", "performance_report")
    quality, drift, performance = (read_asset(settings, name) or {} for name in names)
    return Reports(quality, drift, performance)
