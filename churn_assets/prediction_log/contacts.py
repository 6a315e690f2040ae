"""Contact events, as records of their own: who was reached or got an offer, and who was left alone.

An outcome after a contact is also an effect of the contact, so labels of customers who were reached are set apart; a
control group shows what would have become of them.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import get_args, get_type_hints

from churn_assets.contract.values import MAX_ID, canonical_id, is_id
from churn_assets.errors import NothingIngested, RowsRejected, Violation, describe_value
from churn_assets.prediction_log.feedback import is_past
from churn_assets.prediction_log.records import Contact, decode_head, encode_line, parse_instant
from churn_assets.prediction_log.segment import Segment
from churn_assets.prediction_log.warehouse.connection import has_table, ingested_names, open_published
from churn_assets.prediction_log.warehouse.read import LogCounts, segment_lines, segment_names
from churn_assets.settings import Settings

EVENTS: tuple[str, ...] = get_args(get_type_hints(Contact)["event"])
CONTACT_FIELDS = ("customer_id", "event", "contacted_at", "who")


@dataclass(frozen=True)
class ImportedContacts:
    """What an import did: `added` contacts are on disk, `known` were in the log before, `repeated` in the file."""

    added: int
    known: int
    repeated: int


def import_contacts(settings: Settings, items: Sequence[Mapping[str, object]], now: dt.datetime) -> ImportedContacts:
    """Append contacts, as `data.outcomes` reads them from a file, to the log: all of them or none; known ones are not
    repeated. Raises RowsRejected (every violation, rows counted from 0), LogUnavailable."""
    violations = [violation for index, item in enumerate(items) for violation in _violations(index, item, now)]
    if violations:
        raise RowsRejected(violations)
    contacts = {contact.contact_id: contact for contact in (_contact(item, now) for item in items)}
    known = _known_ids(settings, list(contacts))
    fresh = [contact for own_id, contact in contacts.items() if own_id not in known]
    if fresh:
        segment = Segment(settings.segments_dir, instance=settings.instance)
        segment.append(b"".join(map(encode_line, fresh)))  # one write and one sync: all of them or none
        segment.hand_over()
    return ImportedContacts(len(fresh), len(contacts) - len(fresh), len(items) - len(contacts))


def _contact(item: Mapping[str, object], now: dt.datetime) -> Contact:
    """A contact of a checked item; the same one has the same id in every file."""
    at = parse_instant(str(item["contacted_at"])).isoformat()
    values = [canonical_id(item["customer_id"]), item["event"], at, item.get("who")]
    own_id = "file-" + hashlib.sha256(json.dumps(values).encode()).hexdigest()[:24]
    customer, event, _, who = values
    return Contact(own_id, customer, event, at, who, now.isoformat())  # type: ignore[arg-type]  # they were checked


def _violations(index: int, item: Mapping[str, object], now: dt.datetime) -> list[Violation]:
    who = item.get("who")
    checks = (
        ("customer_id", canonical_id(item.get("customer_id")) is not None, f"an id of 1 to {MAX_ID} characters"),
        ("event", item.get("event") in EVENTS, f"one of {', '.join(EVENTS)}"),
        (
            "contacted_at",
            is_past(item.get("contacted_at"), now),
            "a date or instant such as 2014-01-20, not in the future",
        ),
        (
            "who",
            who is None or (isinstance(who, str) and is_id(who)),
            f"1 to {MAX_ID} printable characters, or nothing",
        ),
    )
    return [Violation(index, name, describe_value(item.get(name)), text) for name, good, text in checks if not good]


def _known_ids(settings: Settings, wanted: list[str]) -> set[str]:
    """Those of the ids that the log has, in the warehouse or in segments that are not ingested yet."""
    ingested: frozenset[str] = frozenset()
    known: set[str] = set()
    with suppress(NothingIngested), open_published(settings) as connection:
        ingested = ingested_names(connection)
        if has_table(connection, "contacts"):
            query = "SELECT contact_id FROM contacts WHERE contact_id IN (SELECT unnest(?::VARCHAR[]))"
            known.update(own_id for (own_id,) in connection.execute(query, [wanted]).fetchall())
    for name in segment_names(settings.predlog_dir):
        for line in () if name in ingested else segment_lines(settings.predlog_dir, name, LogCounts()) or ():
            head = decode_head(line.json)
            if head is not None and head.contact_id is not None:
                known.add(head.contact_id)
    return known
