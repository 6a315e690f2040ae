"""What became of customers, as clients report it: checked, and made into lines of the log."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence

from churn_assets.errors import RowsRejected, Violation
from churn_assets.prediction_log.feedback import FIELDS, MAX_ID, make, wrong
from churn_assets.prediction_log.records import encode_line

__all__ = ["FIELDS", "MAX_ID", "MAX_ITEMS", "read_feedback"]

MAX_ITEMS = 10_000


def read_feedback(body: object, request_id: str, now: dt.datetime) -> tuple[list[str], bytes]:
    """(feedback ids, lines for the log) of one object or a list of them. Raises RowsRejected."""
    items: Sequence[object] = body if isinstance(body, list) else [body]
    if not 1 <= len(items) <= MAX_ITEMS:
        expected = f"from 1 to {MAX_ITEMS:,} reports"
        raise RowsRejected([Violation(0, "", f"{len(items):,} reports", expected)])
    violations = [found for index, item in enumerate(items) for found in wrong(index, item, now)]
    if violations:
        raise RowsRejected(violations)
    rows = [make(item, request_id, now, os.urandom(12).hex()) for item in items if isinstance(item, dict)]
    return [row.feedback_id for row in rows], b"".join(map(encode_line, rows))
