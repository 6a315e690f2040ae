"""Tables of the ingested log, read from the contract, and how they grow when the contract does.

A logged column `age` of kind number is the column `x_age` of type DOUBLE. When the contract changes its kind, the old
column is renamed to `x_age__varchar` (its old type) and a new `x_age` is added; rows that were scored under the older
contract go on to the older column. A column that leaves the contract stays, null in newer rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from churn_assets.contract.model import Contract, Kind
from churn_assets.errors import WarehouseCorrupt

if TYPE_CHECKING:
    import duckdb

TYPES: Mapping[Kind, str] = {
    **dict.fromkeys((Kind.ID, Kind.TEXT, Kind.CATEGORY), "VARCHAR"),
    **dict.fromkeys((Kind.NUMBER, Kind.INTEGER), "DOUBLE"),
    Kind.BOOLEAN: "BOOLEAN",
    Kind.DATE: "DATE",
}

# Each entry changes the fixed columns from one version to the next; entries are added, never edited.
VERSIONS: tuple[str, ...] = (
    """
    CREATE TABLE segments (
        name VARCHAR PRIMARY KEY, number BIGINT NOT NULL UNIQUE, first_seq BIGINT NOT NULL, last_seq BIGINT NOT NULL,
        rows BIGINT NOT NULL, predictions BIGINT NOT NULL, feedback BIGINT NOT NULL, rejections BIGINT NOT NULL,
        quarantined BIGINT NOT NULL, torn BIGINT NOT NULL, bytes BIGINT NOT NULL,
        ingested_at TIMESTAMP NOT NULL, expired BOOLEAN NOT NULL
    );
    CREATE TABLE predictions (
        seq BIGINT NOT NULL, prediction_id VARCHAR PRIMARY KEY CHECK (prediction_id <> ''),
        request_id VARCHAR NOT NULL, customer_id VARCHAR, as_of TIMESTAMP NOT NULL, scored_at TIMESTAMP NOT NULL,
        score DOUBLE NOT NULL CHECK (score BETWEEN 0 AND 1), margin DOUBLE, decision BOOLEAN NOT NULL,
        threshold DOUBLE NOT NULL, risk_band VARCHAR NOT NULL, model_version VARCHAR NOT NULL,
        contract VARCHAR NOT NULL, fingerprint VARCHAR NOT NULL, arm VARCHAR NOT NULL, policy VARCHAR NOT NULL,
        status VARCHAR NOT NULL, latency_us DOUBLE, warnings VARCHAR[] NOT NULL, segment VARCHAR NOT NULL
    );
    CREATE TABLE feedback (
        feedback_id VARCHAR PRIMARY KEY CHECK (feedback_id <> ''), seq BIGINT NOT NULL, request_id VARCHAR NOT NULL,
        prediction_id VARCHAR, customer_id VARCHAR, churned BOOLEAN NOT NULL, observed_at TIMESTAMP NOT NULL,
        contacted BOOLEAN, received_at TIMESTAMP NOT NULL, segment VARCHAR NOT NULL,
        CHECK (prediction_id IS NOT NULL OR customer_id IS NOT NULL)
    );
    CREATE TABLE rejections (
        seq BIGINT NOT NULL, since_at TIMESTAMP NOT NULL, until_at TIMESTAMP NOT NULL, worker VARCHAR NOT NULL,
        cause VARCHAR NOT NULL, requests BIGINT NOT NULL CHECK (requests >= 0), segment VARCHAR NOT NULL
    );
    CREATE TABLE quarantine (segment VARCHAR NOT NULL, line BIGINT NOT NULL, reason VARCHAR NOT NULL, text VARCHAR);
    """,
    """
    ALTER TABLE predictions ADD COLUMN source VARCHAR;
    ALTER TABLE predictions ADD COLUMN test BOOLEAN DEFAULT false;
    ALTER TABLE predictions ADD COLUMN shadow BOOLEAN DEFAULT false;
    ALTER TABLE feedback ADD COLUMN source VARCHAR;
    CREATE TABLE source_decisions (
        decision_id VARCHAR PRIMARY KEY, seq BIGINT NOT NULL, source VARCHAR NOT NULL, accepted BOOLEAN NOT NULL,
        since_at TIMESTAMP NOT NULL, until_at TIMESTAMP NOT NULL, who VARCHAR NOT NULL, why VARCHAR NOT NULL,
        received_at TIMESTAMP NOT NULL, segment VARCHAR NOT NULL
    );
    CREATE TABLE unacknowledged (
        seq BIGINT NOT NULL, noted_at TIMESTAMP NOT NULL, id VARCHAR NOT NULL, segment VARCHAR NOT NULL
    );
    """,
    "CREATE TABLE judged (seq BIGINT NOT NULL); INSERT INTO judged VALUES (0);",  # the line up to which `sources` did
    """
    CREATE TABLE contacts (
        contact_id VARCHAR PRIMARY KEY, seq BIGINT NOT NULL, customer_id VARCHAR NOT NULL, event VARCHAR NOT NULL,
        contacted_at TIMESTAMP NOT NULL, who VARCHAR, received_at TIMESTAMP NOT NULL, segment VARCHAR NOT NULL
    );
    """,
    """
    CREATE TABLE lost_rows (
        seq BIGINT NOT NULL, noted_at TIMESTAMP NOT NULL, lost_segment VARCHAR NOT NULL, lost BIGINT NOT NULL,
        segment VARCHAR NOT NULL
    );
    """,
    """
    CREATE TABLE rejected_rows (
        seq BIGINT NOT NULL, since_at TIMESTAMP NOT NULL, until_at TIMESTAMP NOT NULL, worker VARCHAR NOT NULL,
        cause VARCHAR NOT NULL, rows BIGINT NOT NULL CHECK (rows >= 0), segment VARCHAR NOT NULL
    );
    """,
)
ROW_TABLES = (
    *(
        "predictions",
        "feedback",
        "contacts",
        "rejections",
        "rejected_rows",
        "source_decisions",
        "unacknowledged",
        "lost_rows",
    ),
    "quarantine",
)
_RENAME, _ADD = "ALTER TABLE predictions RENAME COLUMN {} TO {}", "ALTER TABLE predictions ADD COLUMN {} {}"


def table_column(name: str) -> str:
    """The warehouse's name of a column of the contract."""
    return f"x_{name}"


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def stored_version(connection: duckdb.DuckDBPyConnection) -> int:
    """The version of the tables of a warehouse that has some; 0 before the first."""
    [(stored,)] = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchall()
    return int(stored)


def migrate(connection: duckdb.DuckDBPyConnection, contract: Contract) -> list[str]:
    """Bring the tables to this version of the package and to `contract`; a description of each change. One transaction:
    a kill leaves the tables as they were. Raises WarehouseCorrupt for a warehouse of a newer version."""
    connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
    stored = stored_version(connection)
    if stored > len(VERSIONS):
        raise WarehouseCorrupt(
            f"the warehouse has version {stored}, this package knows versions to {len(VERSIONS)}; "
            "use the newer package, or make it again: `churn log ingest --rebuild`"
        )
    done: list[str] = []
    connection.execute("BEGIN")
    for version, script in enumerate(VERSIONS[stored:], stored + 1):
        connection.execute(script)
        connection.execute("INSERT INTO schema_version VALUES (?)", [version])
        done.append(f"tables of version {version}")
    done += _contract_columns(connection, contract)
    connection.execute("COMMIT")
    return done


def _contract_columns(connection: duckdb.DuckDBPyConnection, contract: Contract) -> list[str]:
    """Make `x_<name>` of the contract's type for each logged column; a column of another type gets its type's name."""
    done, existing = [], columns_of(connection)
    for name, sql_type in _wanted(contract).items():
        column = table_column(name)
        stored_type = existing.get(column.lower())
        if stored_type == sql_type:
            continue
        if stored_type is not None:
            older = _typed(column, stored_type)
            connection.execute(_RENAME.format(quoted(column), quoted(older)))
            done.append(f"{column} was {stored_type}, now {older}")
        kept = _typed(column, sql_type)
        if existing.get(kept.lower()) == sql_type:
            connection.execute(_RENAME.format(quoted(kept), quoted(column)))
            done.append(f"{kept} is {column} again")
        else:
            connection.execute(_ADD.format(quoted(column), sql_type))
            done.append(f"{column} {sql_type} added")
    return done


def holder(there: Mapping[str, str], name: str, kind: Kind) -> str:
    """Which of a table's columns (small letters -> type) has the values of `name` under a contract that gave it `kind`.
    That is `name`, unless a newer contract of another kind has taken that name."""
    older = _typed(name, TYPES[kind])
    return older if there.get(name.lower()) != TYPES[kind] and older.lower() in there else name


def targets(connection: duckdb.DuckDBPyConnection, contract: Contract) -> dict[str, str]:
    """Column of the contract -> column of the table that holds its values; added if there is none of its type."""
    existing, holders = columns_of(connection), {}
    for name, sql_type in _wanted(contract).items():
        column = table_column(name)
        if existing.get(column.lower()) not in (sql_type, None):
            column = _typed(column, sql_type)
        if column.lower() not in existing:
            connection.execute(_ADD.format(quoted(column), sql_type))
        holders[name] = column
    return holders


def columns_of(connection: duckdb.DuckDBPyConnection, table: str = "predictions") -> dict[str, str]:
    """Columns of a table, in small letters as DuckDB compares them, and their SQL types, in its order."""
    rows = connection.execute(
        "SELECT lower(column_name), data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [table]
    ).fetchall()
    return dict(rows)


def _wanted(contract: Contract) -> dict[str, str]:
    return {column.name: TYPES[column.kind] for column in contract.logged_columns}


def _typed(column: str, sql_type: str) -> str:
    return f"{column}__{sql_type.lower()}"
