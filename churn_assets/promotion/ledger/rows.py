"""Rows of the ledger: how values are written, found and read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import wraps
from typing import Any, TypeVar

from churn_assets.storage.sqlite import Connection, Row, RowUnreadable
from churn_assets.storage.store import next_number

T = TypeVar("T")


def reads_row(read: Callable[[Row], T]) -> Callable[[Row], T]:
    """A function whose row has what this package never wrote raises RowUnreadable: the ledger is damaged."""

    @wraps(read)
    def checked(row: Row) -> T:
        try:
            return read(row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RowUnreadable(
                f"a row cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
            ) from error

    return checked


def where(statuses: Sequence[str]) -> str:
    """The clause for rows in any of these statuses, which are its parameters; without one, for every row."""
    return f"WHERE status IN ({', '.join('?' * len(statuses))})" if statuses else ""


def insert(db: Connection, table: str, *values: object) -> int:
    """Add a row, whose first value is its key; None takes the next number. Returns that number."""
    key = next_number(db, table) if values[0] is None else values[0]
    db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", (key, *values[1:]))
    return key if isinstance(key, int) else 0


def text_of(at: datetime) -> str:
    """UTC with microseconds always, so that text sorts as time does. Raises ValueError without a time zone."""
    if at.tzinfo is None:
        raise ValueError(f"at is {at}, expected an instant with a time zone")
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def json_of(value: dict[str, Any]) -> str:
    """As JSON is stored."""
    return json.dumps(value, sort_keys=True)
