"""What became of customers, as clients report it: checked, and made into lines of the log."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from typing import Any

from churn_assets.errors import RowsRejected, Violation
from churn_assets.predlog.rows import Feedback, encode_line
from churn_assets.serving.answer import shown

FIELDS = ("prediction_id", "customer_id", "churned", "observed_at", "contacted")
MAX_ID = 200
MAX_ITEMS = 10_000
_AHEAD = dt.timedelta(days=1)  # clocks and time zones differ


def read_feedback(body: object, request_id: str, now: dt.datetime) -> tuple[list[str], bytes]:
    """(feedback ids, lines for the log) of one object or a list of them. Raises RowsRejected."""
    items: Sequence[object] = body if isinstance(body, list) else [body]
    if not 1 <= len(items) <= MAX_ITEMS:
        expected = f"from 1 to {MAX_ITEMS:,} reports"
        raise RowsRejected([Violation(0, "", f"{len(items):,} reports", expected)])
    violations: list[Violation] = []
    for index, item in enumerate(items):
        violations += _violations(index, item, now)
    if violations:
        raise RowsRejected(violations)
    rows = [_row(item, request_id, now) for item in items if isinstance(item, dict)]
    return [row.feedback_id for row in rows], b"".join(map(encode_line, rows))


def _row(item: Mapping[str, Any], request_id: str, now: dt.datetime) -> Feedback:
    observed = dt.datetime.fromisoformat(item["observed_at"])
    observed = observed.replace(tzinfo=dt.UTC) if observed.tzinfo is None else observed.astimezone(dt.UTC)
    return Feedback(
        feedback_id=os.urandom(12).hex(),
        request_id=request_id,
        prediction_id=item.get("prediction_id"),
        customer_id=item.get("customer_id"),
        churned=item["churned"],
        observed_at=observed.isoformat(),
        contacted=item.get("contacted"),
        received_at=now.isoformat(),
    )


def _violations(index: int, item: object, now: dt.datetime) -> list[Violation]:
    if not isinstance(item, dict):
        return [Violation(index, "", shown(item), "a report as a JSON object")]
    found = [
        Violation(index, name, "an unknown field", f"only {', '.join(FIELDS)}")
        for name in sorted(item.keys() - set(FIELDS))[:10]
    ]
    ids = [name for name in ("prediction_id", "customer_id") if item.get(name) is not None]
    for name in ids:
        if not isinstance(item[name], str) or not 0 < len(item[name].strip()) <= MAX_ID:
            found.append(Violation(index, name, shown(item[name]), f"a text of 1 to {MAX_ID} characters"))
    if not ids:
        found.append(Violation(index, "prediction_id", "neither id", "a prediction_id or a customer_id"))
    if not isinstance(item.get("churned"), bool):
        found.append(Violation(index, "churned", shown(item.get("churned")), "true or false"))
    if not isinstance(item.get("contacted"), bool | None):
        found.append(Violation(index, "contacted", shown(item.get("contacted")), "true or false or null"))
    if not _is_past(item.get("observed_at"), now):
        expected = "a date or instant such as 2014-01-20, not in the future"
        found.append(Violation(index, "observed_at", shown(item.get("observed_at")), expected))
    return found


def _is_past(value: object, now: dt.datetime) -> bool:
    if not isinstance(value, str) or len(value) > 40:
        return False
    try:
        instant = dt.datetime.fromisoformat(value)
        instant = instant.replace(tzinfo=dt.UTC) if instant.tzinfo is None else instant.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return False
    return instant <= now + _AHEAD
