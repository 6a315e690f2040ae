"""Outcomes of customers: the check of a report, and the import of many of them into the log."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from churn_assets import errors
from churn_assets.contract.values import MAX_ID, MAX_INSTANT, canonical_id, is_id
from churn_assets.errors import NothingIngested, Violation, describe_value
from churn_assets.prediction_log.records import ANONYMOUS, IMPORT, Feedback, decode_head, encode_line, parse_instant
from churn_assets.prediction_log.segment import Segment
from churn_assets.prediction_log.warehouse.connection import ingested_names, open_published
from churn_assets.prediction_log.warehouse.read import LogCounts, segment_lines, segment_names
from churn_assets.settings import Settings

FIELDS = ("prediction_id", "customer_id", "churned", "observed_at", "contacted")
IDS = ("prediction_id", "customer_id")
_ID_TEXT = {
    "prediction_id": f"a text of 1 to {MAX_ID} printable characters",
    "customer_id": f"a text of 1 to {MAX_ID} printable characters, or a whole number",
}
_AHEAD = dt.timedelta(days=1)  # clocks and time zones differ


@dataclass(frozen=True)
class Imported:
    """What an import did: `added` reports are on disk, `known` were in the log before, `repeated` in the file.

    Of those added, `unmatched` name no prediction and no customer of the log, the first as `example`; `conflicting`
    customers of the file are churned in one report and kept in another.
    """

    added: int
    known: int
    repeated: int
    unmatched: int = 0
    example: str = ""
    conflicting: int = 0


def parse_reports(items: Sequence[object], request_id: str, now: dt.datetime, source: str | None) -> list[Feedback]:
    """A row, with a new id, of each report; `source` is who reports. Raises RowsRejected with every violation, rows
    counted from 0."""
    violations = [violation for index, item in enumerate(items) for violation in _violations(index, item, now)]
    if violations:
        raise errors.RowsRejected(violations)
    shared: dict[str, Any] = {
        **dict.fromkeys(FIELDS),
        "request_id": request_id,
        "received_at": now.isoformat(),
        "source": source or ANONYMOUS,
    }
    rows = []
    for item in items:
        assert isinstance(item, dict)  # else it were a violation
        own = {
            "feedback_id": os.urandom(12).hex(),
            "customer_id": canonical_id(item.get("customer_id")),
            "observed_at": parse_instant(item["observed_at"]).isoformat(),
        }
        rows.append(Feedback(**shared | item | own))
    return rows


def import_reports(
    settings: Settings, items: Sequence[Mapping[str, object]], now: dt.datetime, source: str = IMPORT
) -> Imported:
    """Append reports, as `data.outcomes` reads them from a file, to the log: all of them or none; known ones are not
    repeated.

    After a kill during the write the same import adds the rest, nothing twice. Raises RowsRejected (every violation,
    rows counted from 0), SourceRefused, LogUnavailable.
    """
    if not is_id(source) or source == ANONYMOUS:
        expected = f"1 to {MAX_ID} printable characters, and not '{ANONYMOUS}', who reports without a key"
        raise errors.SourceRefused(f"--source is {source[:40]!r}, expected {expected}; correct it")
    reports = {_content_id(report): report for report in parse_reports(items, IMPORT, now, source)}
    log = _search_log(settings, reports)
    known = log.feedback
    fresh = [replace(report, feedback_id=own_id) for own_id, report in reports.items() if own_id not in known]
    if fresh:
        segment = Segment(settings.segments_dir, instance=settings.instance)
        segment.append(b"".join(map(encode_line, fresh)))  # one write and one sync: all of them or none
        segment.hand_over()
    unmatched = [r for r in fresh if r.prediction_id not in log.predictions and r.customer_id not in log.customers]
    outcomes = {(r.customer_id, r.churned) for r in reports.values() if r.customer_id is not None}
    return Imported(
        added=len(fresh),
        known=len(reports) - len(fresh),
        repeated=len(items) - len(reports),
        unmatched=len(unmatched),
        example=next((r.prediction_id or r.customer_id or "" for r in unmatched), ""),
        conflicting=len(outcomes) - len({customer for customer, _ in outcomes}),
    )


def _content_id(report: Feedback) -> str:
    """The same report of a source has the same id in every file."""
    values = [report.prediction_id, report.customer_id, report.churned, report.contacted, report.observed_at]
    values += [report.source] if report.source != IMPORT else []
    return "file-" + hashlib.sha256(json.dumps(values).encode()).hexdigest()[:24]


def _violations(index: int, item: object, now: dt.datetime) -> list[Violation]:
    """The violations of one report, the one numbered `index`."""
    if not isinstance(item, dict):
        return [Violation(index, "", describe_value(item), "a report as a JSON object")]
    violations = [
        Violation(index, name, "an unknown field", f"only {', '.join(FIELDS)}")
        for name in sorted(item.keys() - set(FIELDS))[:10]
    ]
    ids = [name for name in IDS if item.get(name) is not None]
    if not ids:
        violations.append(Violation(index, "prediction_id", "neither id", "a prediction_id or a customer_id"))
    checks = [
        *((name, _is_id(name, item[name]), _ID_TEXT[name]) for name in ids),
        ("churned", isinstance(item.get("churned"), bool), "true or false"),
        ("contacted", isinstance(item.get("contacted"), bool | None), "true or false or null"),
        (
            "observed_at",
            is_past(item.get("observed_at"), now),
            "a date or instant such as 2014-01-20, not in the future",
        ),
    ]
    violations += [
        Violation(index, name, describe_value(item.get(name)), text) for name, good, text in checks if not good
    ]
    return violations


def _is_id(name: str, value: object) -> bool:
    if name == "customer_id":
        return canonical_id(value) is not None
    return isinstance(value, str) and is_id(value)


def is_past(value: object, now: dt.datetime) -> bool:
    """Whether this is a day or an instant as text, and not in the future."""
    with contextlib.suppress(ValueError, OverflowError):
        return isinstance(value, str) and len(value) <= MAX_INSTANT and parse_instant(value) <= now + _AHEAD
    return False


@dataclass(frozen=True)
class _LogIds:
    """Those ids of reports that the log has: of feedback, predictions and customers."""

    feedback: set[str]
    predictions: set[str]
    customers: set[str]


def _search_log(settings: Settings, reports: Mapping[str, Feedback]) -> _LogIds:
    """The ids of `reports` (by their own id) in the warehouse, and all ids of segments that are not ingested yet."""
    ingested: frozenset[str] = frozenset()
    log = _LogIds(set(), set(), set())
    with contextlib.suppress(NothingIngested), open_published(settings) as connection:
        ingested = ingested_names(connection)
        searches: tuple[tuple[set[str], str, str, Iterable[str | None]], ...] = (
            (log.feedback, "feedback", "feedback_id", reports),
            (log.predictions, "given", "prediction_id", (r.prediction_id for r in reports.values())),
            (log.customers, "given", "customer_id", (r.customer_id for r in reports.values())),
        )
        for ids, table, column, wanted in searches:
            query = f"SELECT DISTINCT {column} FROM {table} WHERE {column} IN (SELECT unnest(?::VARCHAR[]))"
            ids.update(own_id for (own_id,) in connection.execute(query, [list(wanted)]).fetchall())
    for name in segment_names(settings.predlog_dir):
        for line in () if name in ingested else segment_lines(settings.predlog_dir, name, LogCounts()) or ():
            _add_line(log, line.json)
    return log


def _add_line(log: _LogIds, line: bytes) -> None:
    head = decode_head(line)
    if head is None:
        return
    if head.feedback_id is not None:
        log.feedback.add(head.feedback_id)
    elif head.prediction_id is not None and not head.shadow:
        log.predictions.add(head.prediction_id)
        log.customers.update(filter(None, [head.customer_id]))
