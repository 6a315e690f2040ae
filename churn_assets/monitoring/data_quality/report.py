"""The first pass over closed windows: is the data whole? Each is judged once, oldest first."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import Any

from churn_assets.contract.model import Contract
from churn_assets.errors import NothingIngested
from churn_assets.monitoring.data_quality.checks import BROKEN, INSUFFICIENT, check_columns, check_traffic, status_of
from churn_assets.monitoring.data_quality.traffic import Traffic, read_traffic
from churn_assets.monitoring.monitored_model import NO_CHAMPION, Subject, look, read_subject
from churn_assets.monitoring.windows.windows import (
    QUALITY_JSON,
    Window,
    close_windows,
    place_of,
    read_report,
    read_windows,
    still_open,
)
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.settings import Settings
from churn_assets.storage.files import write_json

NO_PREDICTIONS = "no predictions yet: nothing has been ingested from the log"
NEWEST = 30  # windows that an asset's value tells of
_COMPARED = 5  # earlier windows that tell how much traffic is usual

Report = dict[str, Any]


def report_quality(settings: Settings, contract: Contract, now: dt.datetime) -> Report:
    """Close what can be closed, judge the data of every window that was not judged yet, and say how things stand.

    `now` is an aware instant, for the age of the log. The value has `fingerprint`, `status` (of the newest
    window, 'insufficient' without one), `stale`, `blocks` (whether retraining must wait), `words` and
    `windows`, the newest last. Raises WindowUnreadable, PointerCorrupt.
    """
    subject = read_subject(settings, contract)
    if subject is None:
        return nothing(contract.fingerprint, NO_CHAMPION)
    try:
        with open_published(settings) as connection:
            close_windows(connection, settings, subject.fingerprint, subject.limits)
            windows = read_windows(settings, subject.fingerprint)
            told = [quality_of(connection, settings, subject, windows, index) for index in range(len(windows))]
            last = windows[-1] if windows else None
            waiting = still_open(connection, subject.fingerprint, subject.limits, last)
            log = _log(connection, subject, now)
    except NothingIngested:
        return nothing(subject.fingerprint, NO_PREDICTIONS)
    return {
        "fingerprint": subject.fingerprint,
        "model_version": subject.version,
        "status": told[-1]["status"] if told else INSUFFICIENT,
        "stale": log["stale"],
        "blocks": log["stale"] or bool(told and told[-1]["status"] == BROKEN),
        "words": _joined(told[-1]["words"] if told else waiting.words, log["words"], subject.words),
        "open": asdict(waiting),
        "log": log,
        "windows": told[-NEWEST:],
    }


def nothing(fingerprint: str, words: str) -> Report:
    """What is reported when there is nothing to report on."""
    return {
        "fingerprint": fingerprint,
        "status": INSUFFICIENT,
        "stale": False,
        "blocks": False,
        "words": words,
        "windows": [],
    }


def quality_of(connection: Any, settings: Settings, subject: Subject, windows: list[Window], index: int) -> Report:
    """The quality report on `windows[index]`: read, or made and kept."""
    window = windows[index]
    found = read_report(settings, window, QUALITY_JSON)
    if found is None:
        earlier = [read_report(settings, one, QUALITY_JSON) for one in windows[max(0, index - _COMPARED) : index]]
        before = [Traffic(**report["traffic"]) for report in earlier if report]
        found = _judge(connection, subject, window, before)
        write_json(place_of(settings, window) / QUALITY_JSON, found)
    return found


def _judge(connection: Any, subject: Subject, window: Window, before: list[Traffic]) -> Report:
    traffic = read_traffic(connection, window)
    findings = check_traffic(traffic, before, subject.limits)
    missing: dict[str, float] = {}
    if subject.reference is not None:
        content = look(connection, subject, window)
        missing = {name: facts.missing / max(1, facts.rows) for name, facts in content.facts.items()}
        findings = check_columns(content, subject.reference, subject.contract, subject.limits) + findings
    # The log's own count: it may have forgotten rows since the window was closed.
    status = status_of(traffic.customers, findings, subject.limits)
    if subject.reference is None and status != BROKEN:
        status = INSUFFICIENT
    return {
        **asdict(window),
        "model_version": subject.version,
        "status": status,
        "findings": [finding.to_json() for finding in findings],
        "missing": missing,
        "traffic": asdict(traffic),
        "words": _said(window, traffic.customers, status, [f.words for f in findings if f.blocks], subject),
    }


def _said(window: Window, customers: int, status: str, broken: list[str], subject: Subject) -> str:
    named = f"window {window.window}"
    if status == INSUFFICIENT:
        if customers < subject.limits.floor:
            return f"{named}: {customers:,} customers are too few to say, the floor is {subject.limits.floor:,}"
        return f"{named}: {subject.words}"
    if status == BROKEN:
        return f"{named}: the data is broken: {'; '.join(broken)}"
    return f"{named}: the data is whole, {customers:,} customers"


def _joined(said: str, *more: str) -> str:
    """All that is not said already."""
    return "; ".join([said, *(words for words in more if words and words not in said)])


def _log(connection: Any, subject: Subject, now: dt.datetime) -> Report:
    rows, newest = connection.execute(
        "SELECT count(*), max(scored_at) FROM predictions WHERE fingerprint = ?", [subject.fingerprint]
    ).fetchall()[0]
    others = connection.execute(
        "SELECT count(*) FROM predictions WHERE fingerprint <> ?", [subject.fingerprint]
    ).fetchall()[0][0]
    hours = None if newest is None else (now - newest.replace(tzinfo=dt.UTC)).total_seconds() / 3600
    stale = hours is not None and hours > subject.limits.stale_hours
    words = []
    if stale:
        words.append(f"the log is stale: its newest prediction is {hours:.0f} hours old")
    if others:
        words.append(f"{others:,} predictions of other contracts are not looked at")
    return {
        "rows": rows,
        "other_rows": others,
        "newest_scored_at": None if newest is None else newest.isoformat() + "+00:00",
        "age_hours": None if hours is None else round(hours, 3),
        "stale": stale,
        "words": "; ".join(words),
    }
