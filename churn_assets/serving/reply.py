"""What goes back to a client: answers, and refusals in one shape for every error of every route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from churn_assets.errors import RowsRejected, Violation

JSON = b"application/json"
MAX_DETAIL = 100  # violations told; the first sentence says how many there are
MAX_NAME = 100  # characters of a field's name, which may be the client's own

encode = msgspec.json.Encoder().encode

Header = tuple[bytes, bytes]


@dataclass(slots=True)
class Reply:
    """Status, body and headers. `cause` names why a request was refused, for metrics; None if it was not."""

    status: int
    body: bytes
    content_type: bytes = JSON
    cause: str | None = None
    headers: tuple[Header, ...] = ()


def answered(content: object) -> Reply:
    """A 200 with `content` as JSON."""
    return Reply(200, encode(content))


def refused(
    status: int, cause: str, error: str, detail: Sequence[Violation] = (), headers: tuple[Header, ...] = ()
) -> Reply:
    """An error as every route gives it: `{"error": ..., "detail": [{"row", "column", "found", "expected"}]}`."""
    told = [
        {"row": v.row, "column": v.column[:MAX_NAME], "found": v.found, "expected": v.expected}
        for v in detail[:MAX_DETAIL]
    ]
    return Reply(status, encode({"error": error, "detail": told}), cause=cause, headers=headers)


def rejected(error: RowsRejected) -> Reply:
    """A 422 for rows that break the contract, each violation told."""
    return refused(422, "contract", str(error), error.violations)


def retry(status: int, cause: str, error: str, seconds: int = 1) -> Reply:
    """A refusal that will pass: `Retry-After` says when to ask again."""
    return refused(status, cause, error, headers=((b"retry-after", str(seconds).encode()),))
