"""Rows of the ledger: how values are written, found and read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import wraps
from sqlite3 import Connection, DatabaseError, Row
from typing import Any, TypeVar

T = TypeVar("T")


def reads_row(read: Callable[[Row], T]) -> Callable[[Row], T]:
    """A function whose row has what this package never wrote raises sqlite3's DatabaseError: the ledger is damaged."""

    @wraps(read)
    def checked(row: Row) -> T:
        try:
            return read(row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatabaseError(
                f"a row cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
            ) from error

    return checked


def where(statuses: Sequence[str]) -> str:
    """The clause for rows in any of these statuses, which are its parameters; without one, for every row."""
    return f"WHERE status IN ({', '.join('?' * len(statuses))})" if statuses else ""


def insert(db: Connection, table: str, *values: object) -> int:
    """The number of the new row; a first value of None lets SQLite number it."""
    return int(db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values).lastrowid or 0)


def text_of(at: datetime) -> str:
    """UTC with microseconds always, so that text sorts as time does. Raises ValueError without a time zone."""
    if at.tzinfo is None:
        raise ValueError(f"at is {at}, expected an instant with a time zone")
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def json_of(value: dict[str, Any]) -> str:
    """As JSON is stored."""
    return json.dumps(value, sort_keys=True)
