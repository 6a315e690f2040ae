"""The ingested log as tables in PostgreSQL, for tools that ask there: a copy of the published copy.

Segments are copied in the order of their numbers. The rows of a segment and its row in `segments`, which is the
position of the copy, are in one transaction: a copy that is killed goes on where it was, and has no row twice or not at
all. What the retention deleted from the log is deleted from the copy. A log that was made anew in another order, or
whose columns have other types, is copied from the beginning, in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from churn_assets.errors import SettingsError
from churn_assets.prediction_log.schema import ROW_TABLES, literal, quoted
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.prediction_log.warehouse.rebuild import COLUMNS
from churn_assets.settings import DATABASE_URL, Settings
from churn_assets.storage.postgresql import Session, begin_writing, plain_database_errors, transaction
from churn_assets.storage.store import Database

if TYPE_CHECKING:
    import duckdb

SCHEMA = "churn_log"
_TABLES = ("segments", *ROW_TABLES)
_KEYS = {
    "segments": "number",
    "predictions": "prediction_id",
    "feedback": "feedback_id",
    "contacts": "contact_id",
    "source_decisions": "decision_id",
}
_TYPES = {"VARCHAR": "TEXT", "DOUBLE": "DOUBLE PRECISION", "VARCHAR[]": "TEXT[]"}  # the others have the same names
_BATCH_ROWS = 50_000  # of a transaction, at least one segment
_READ_ROWS = 2000  # in memory at once
_BUSY_S = 30.0  # for another copy that runs
_BEGIN = begin_writing(SCHEMA, "log copy", _BUSY_S)


@dataclass
class CopyReport:
    """What one copy did: rows by table, segments, segments whose rows were deleted, whether it began anew."""

    rows: dict[str, int] = field(default_factory=dict)
    segments: int = 0
    expired: int = 0
    anew: bool = False


def copy_log(settings: Settings) -> CopyReport:
    """Copy what has been ingested since the last copy. Raises SettingsError without a database, DatabaseUnavailable,
    and as `open_published`."""
    if not settings.database_url:
        raise SettingsError(
            f"{DATABASE_URL} is not set, expected the PostgreSQL database that gets the copy; set it, or ask the "
            "published copy itself: churn log query"
        )
    database, report = Database(settings.database_url), CopyReport()
    with open_published(settings) as log, plain_database_errors(database):
        copy = _Copy(log, database, report)
        with transaction(database, _BEGIN) as session:
            copy.prepare(session)
        while copy.next_batch():
            pass
    return report


class _Copy:
    """One copy: the published log, open, and what is done so far."""

    def __init__(self, log: duckdb.DuckDBPyConnection, database: Database, report: CopyReport) -> None:
        self.log, self.database, self.report = log, database, report
        self.columns = {table: columns for table in _TABLES if (columns := _columns(log, table))}

    def prepare(self, session: Session) -> None:
        """Tables as the log has them, without what has expired in it. Begins anew if the copy is of another log."""
        session.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        if not (self._has_fitting_columns(session) and self._has_same_segments(session)):
            for table in _TABLES:
                session.execute(f"DROP TABLE IF EXISTS {table}")
            self.report.anew = True
        for table, columns in self.columns.items():
            self._make(session, table, columns)
        self._expire(session)
        if self.report.anew:  # whoever asks meanwhile sees the old rows, and then all of the new ones
            while self._copy_batch(session):
                pass

    def next_batch(self) -> bool:
        """Copy some segments in a transaction of their own; whether there were any."""
        with transaction(self.database, _BEGIN) as session:
            return self._copy_batch(session)

    def _copy_batch(self, session: Session) -> bool:
        (position,) = session.execute("SELECT coalesce(max(number), 0) FROM segments").fetchone()
        segments = self.log.execute(
            "SELECT number FROM (SELECT number, sum(rows) OVER (ORDER BY number) - rows AS before FROM segments"
            " WHERE number > ?) WHERE before < ? ORDER BY number",
            [position, _BATCH_ROWS],
        ).fetchall()
        if not segments:
            return False
        first, last = segments[0][0], segments[-1][0]
        names = f"SELECT name FROM segments WHERE number BETWEEN {first} AND {last}"
        for table, columns in self.columns.items():
            where = f"number BETWEEN {first} AND {last}" if table == "segments" else f"segment IN ({names})"
            rows = self._copy_rows(session, table, columns, where)
            if table != "segments":
                self.report.rows[table] = self.report.rows.get(table, 0) + rows
        self.report.segments += len(segments)
        return True

    def _copy_rows(self, session: Session, table: str, columns: Mapping[str, str], where: str) -> int:
        names = ", ".join(map(quoted, columns))
        # PostgreSQL's texts cannot hold the character 0.
        cells = ", ".join(
            f"replace({quoted(name)}, chr(0), chr(65533))" if kind == "VARCHAR" else quoted(name)
            for name, kind in columns.items()
        )
        count = 0
        with session.session.cursor().copy(cast(Any, f"COPY {table} ({names}) FROM STDIN")) as copy:
            for row in _rows(self.log, f"SELECT {cells} FROM {table} WHERE {where}"):
                copy.write_row(row)
                count += 1
        return count

    def _has_fitting_columns(self, session: Session) -> bool:
        """Whether each column that both have has the same type in both; those that are missing can be added."""
        for table, columns in self.columns.items():
            present = _present(session, table)
            if any(present.get(name, wanted) != wanted for name, wanted in _in_postgresql(columns).items()):
                return False
        return True

    def _has_same_segments(self, session: Session) -> bool:
        """Whether every segment of the copy is one of the log, by number, name and lines, and none came back."""
        if not _present(session, "segments"):
            return False
        copied = session.execute("SELECT number, name, first_seq, last_seq, expired FROM segments").fetchall()
        query = "SELECT number, name, first_seq, last_seq, expired FROM segments"
        there = {row[0]: row[1:] for row in self.log.execute(query).fetchall()}
        return all(
            tuple(row[1:4]) == there.get(row[0], ())[:3] and (there[row[0]][3] or not row["expired"]) for row in copied
        )

    def _make(self, session: Session, table: str, columns: Mapping[str, str]) -> None:
        present, wanted = _present(session, table), _in_postgresql(columns)
        if not present:
            cells = [f"{quoted(name)} {kind}" for name, kind in wanted.items()]
            cells += [f"PRIMARY KEY ({_KEYS[table]})"] if table in _KEYS else []
            session.execute(f"CREATE TABLE {table} ({', '.join(cells)})")
            if "segment" in columns:
                session.execute(f"CREATE INDEX {table}_by_segment ON {table} (segment)")
            return
        for name, kind in wanted.items():
            if name not in present:
                session.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(name)} {kind}")

    def _expire(self, session: Session) -> None:
        expired = [name for (name,) in self.log.execute("SELECT name FROM segments WHERE expired").fetchall()]
        gone = session.session.execute(
            "UPDATE segments SET expired = true WHERE NOT expired AND name = ANY(%s) RETURNING name", [expired]
        ).fetchall()
        names = [name for (name,) in gone]
        for table in self.columns if names else ():
            if table != "segments":
                session.session.execute(cast(Any, f"DELETE FROM {table} WHERE segment = ANY(%s)"), [names])
        self.report.expired = len(names)


def _rows(log: duckdb.DuckDBPyConnection, query: str) -> Iterator[Sequence[Any]]:
    cursor = log.cursor()
    cursor.execute(query)
    while rows := cursor.fetchmany(_READ_ROWS):
        yield from rows
    cursor.close()


def _columns(log: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """Columns of a table of the log as it spells them, and their types; empty for a table that an older one lacks."""
    if table == "segments":
        kinds = dict(log.execute(_COLUMNS, [table]).fetchall())
        return {name: kinds[name] for name in COLUMNS}
    return dict(log.execute(_COLUMNS, [table]).fetchall())


_COLUMNS = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index"


def _in_postgresql(columns: Mapping[str, str]) -> dict[str, str]:
    return {name: _TYPES.get(kind, kind) for name, kind in columns.items()}


def _present(session: Session, table: str) -> dict[str, str]:
    """Columns of a table of the copy and their types; empty without one."""
    query = (
        "SELECT a.attname, upper(format_type(a.atttypid, NULL)) FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid"
        f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {literal(SCHEMA)} AND c.relname = ?"
        " AND a.attnum > 0 AND NOT a.attisdropped"
    )
    columns = session.execute(query, (table,)).fetchall()
    return {name: "TIMESTAMP" if kind.startswith("TIMESTAMP") else kind for name, kind in columns}
