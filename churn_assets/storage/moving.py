"""Copying a store from its file to the database, whole and once.

The rows of all tables, as one hash, are compared before the copy is committed. The database keeps that hash: a second
copy changes nothing, or replaces rows that only the copy has written; it never replaces what was written there since.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from churn_assets.errors import CopyRefused
from churn_assets.storage.postgresql import storable
from churn_assets.storage.sqlite import Connection
from churn_assets.storage.store import Store

Outcome = Literal["copied", "there already", "nothing to copy"]
Rows = dict[str, list[tuple[Any, ...]]]


@dataclass(frozen=True)
class StoreCopy:
    """What a copy did; rows by table, and the hash of all of them."""

    store: str
    outcome: Outcome
    rows: Mapping[str, int]
    sha256: str


def copy_store(source: Store, target: Store) -> StoreCopy:
    """Copy the store in a file, which nobody can write meanwhile, to the same store in a database, in one transaction.

    Raises CopyRefused if the database has rows that no copy wrote, or if they differ after the copy, and as the stores.
    """
    if not source.is_made():
        return StoreCopy(source.name, "nothing to copy", {}, "")
    with source.exclusive() as file, target.exclusive() as database:
        rows, present = _read(source, file), _read(target, database)
        counts, digest = {table: len(each) for table, each in rows.items()}, _hash(rows)
        if _hash(present) == digest:
            outcome: Outcome = "there already"
        else:
            outcome = "copied"
            if any(present.values()) and _hash(present) != _copied(database, source.name):
                raise CopyRefused(
                    f"{target.place}: its {source.name} has {_summary(present)} that no copy wrote, {source.place} has "
                    f"{_summary(rows)}; expected an empty one: go on with the database, or drop its schema churn and "
                    "copy again"
                )
            _replace(source, database, rows)
            if _hash(_read(target, database)) != digest:
                raise CopyRefused(
                    f"{target.place}: the {source.name} differs from {source.place} after the copy, expected the same "
                    "rows; nothing was changed: make the database with the encoding UTF8"
                )
        database.execute("UPDATE store_versions SET copied = ? WHERE store = ?", (digest, source.name))
    return StoreCopy(source.name, outcome, counts, digest)


def is_copied(source: Store, target: Store) -> bool:
    """Whether all rows of the store in a file were copied to the database, whatever was written there since."""
    if not source.is_made():
        return True
    if not target.is_made():
        return False
    with source.snapshot() as file, target.snapshot() as database:
        return _copied(database, source.name) == _hash(_read(source, file))


def _read(store: Store, db: Connection) -> Rows:
    """Every row of every table, in an order that does not depend on the database; values as PostgreSQL holds them."""
    rows: Rows = {}
    for table, columns in store.tables().items():
        selected = db.execute(f"SELECT {_names(columns)} FROM {table}")
        rows[table] = sorted((tuple(map(storable, row)) for row in selected), key=json.dumps)
    return rows


def _replace(store: Store, db: Connection, rows: Rows) -> None:
    """Let tables have these rows; those that others refer to come first."""
    for table in reversed(rows):
        db.execute(f"DELETE FROM {table}")
    for table, columns in store.tables().items():
        if rows[table]:
            marks = ", ".join("?" * len(columns))
            db.executemany(f"INSERT INTO {table} ({_names(columns)}) VALUES ({marks})", rows[table])


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def _hash(rows: Rows) -> str:
    return sha256(json.dumps([[table, each] for table, each in rows.items()]).encode()).hexdigest()


def _copied(db: Connection, store: str) -> str | None:
    row = db.execute("SELECT copied FROM store_versions WHERE store = ?", (store,)).fetchone()
    return None if row is None else row[0]


def _summary(rows: Rows) -> str:
    return ", ".join(f"{len(each):,} {table}" for table, each in rows.items() if each) or "no rows"
