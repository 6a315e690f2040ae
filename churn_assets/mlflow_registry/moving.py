"""Copying MLflow's records from the SQLite store of a home to the home's database: MLflow itself has no way to.

Experiments, runs, metrics and registered versions keep their numbers, which ledger and bundles refer to. Artifacts stay
where they are, in the home.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from churn_assets.errors import CopyRefused
from churn_assets.mlflow_registry.connect import connect, quiet
from churn_assets.settings import MLFLOW_SCHEMA, Settings, tool_database_url
from churn_assets.storage.moving import Outcome, StoreCopy
from churn_assets.storage.postgresql import plain_database_errors
from churn_assets.storage.store import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

_REVISION = "alembic_version"
_DEFAULTS = ("experiments", "workspaces")  # a new store has rows of its own in these


def copy_records(settings: Settings) -> StoreCopy:
    """Copy MLflow's store; nothing where there is no file of it, or where CHURN_MLFLOW_URI names another store.

    Raises CopyRefused if the database has other runs or models already, TrackingUnavailable, DatabaseUnavailable.
    """
    file, uri = settings.mlflow_dir / "mlflow.db", tool_database_url(settings.database_url, MLFLOW_SCHEMA)
    if not file.is_file() or settings.mlflow_uri != uri:
        return StoreCopy("mlflow", "nothing to copy", {}, "")
    connect(f"sqlite:///{file}")  # MLflow refuses a store of another release, and says what to do
    connect(uri)
    from sqlalchemy import MetaData, create_engine

    database = Database(settings.database_url)
    source, target = create_engine(f"sqlite:///{file}"), create_engine(uri)
    try:
        with quiet(), plain_database_errors(database), source.connect() as here, target.begin() as there:
            metadata = MetaData()
            metadata.reflect(there)
            tables = [table for table in metadata.sorted_tables if table.name != _REVISION]
            return _copy(here, there, tables, database)
    finally:
        source.dispose()
        target.dispose()


def _copy(here: Connection, there: Connection, tables: list[Table], database: Database) -> StoreCopy:
    rows = {table.name: _rows(here, table) for table in tables}
    present = {table.name: _rows(there, table) for table in tables}
    counts, digest = {name: len(each) for name, each in rows.items()}, _hash(rows)
    outcome: Outcome = "there already"
    if _hash(present) != digest:
        outcome = "copied"
        others = [name for name, each in present.items() if each and name not in _DEFAULTS]
        if others:
            raise CopyRefused(
                f"{database}: MLflow has records there already ({', '.join(others[:4])}), expected none; go on with "
                f"the database, or drop its schema {MLFLOW_SCHEMA} and copy again"
            )
        for table in reversed(tables):
            there.execute(table.delete())
        for table in tables:
            if rows[table.name]:
                there.execute(table.insert(), rows[table.name])
            _continue_numbers(there, table)
        if _hash({table.name: _rows(there, table) for table in tables}) != digest:
            raise CopyRefused(
                f"{database}: MLflow's records differ after the copy, expected the same; nothing was changed"
            )
    return StoreCopy("mlflow", outcome, counts, digest)


def _rows(connection: Connection, table: Table) -> list[dict[str, Any]]:
    """Its rows, with values of the types that PostgreSQL's table has."""
    from sqlalchemy import select

    return [dict(row._mapping) for row in connection.execute(select(table))]


def _continue_numbers(connection: Connection, table: Table) -> None:
    """Let the next row get a number of its own: rows that bring theirs do not move the sequence."""
    from sqlalchemy import text

    for column in table.columns:
        if column.server_default is not None and "nextval" in str(getattr(column.server_default, "arg", "")):
            name = f"{table.name}', '{column.name}"
            last = f'(SELECT max("{column.name}") FROM "{table.name}")'
            connection.execute(
                text(f"SELECT setval(pg_get_serial_sequence('{name}'), {last}) WHERE {last} IS NOT NULL")
            )


def _hash(rows: dict[str, list[dict[str, Any]]]) -> str:
    ordered = [
        [name, sorted(json.dumps(row, default=repr, sort_keys=True) for row in each)] for name, each in rows.items()
    ]
    return sha256(json.dumps(ordered).encode()).hexdigest()
