"""An ingested log in memory: the tables that monitoring reads, with rows of one's own."""

from __future__ import annotations

import datetime as dt
from typing import Any

import duckdb

from churn_assets.contract.model import Contract
from churn_assets.prediction_log.schema import migrate
from churn_assets.prediction_log.warehouse.connection import make_views
from churn_assets_tests.scoring.tiny import CONTRACT

DAY = dt.timedelta(days=1)
AS_OF = dt.datetime(2026, 1, 10, 12)  # the horizon is 30 days: the 9th of February
MATURE = dt.datetime(2026, 2, 9, 12)
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)


def log(
    predictions: list[dict[str, Any]] | None = None,
    feedback: list[dict[str, Any]] | None = None,
    rejections: list[dict[str, Any]] | None = None,
    contract: Contract = CONTRACT,
) -> duckdb.DuckDBPyConnection:
    """Rows are given by what differs from a usual one; they are ingested in the order given."""
    connection = duckdb.connect()
    migrate(connection, contract)
    make_views(connection)
    _insert(connection, "predictions", [_prediction(n, row, contract) for n, row in enumerate(predictions or [], 1)])
    replace_feedback(connection, feedback or [])
    _insert(connection, "rejections", [_rejection(n, row) for n, row in enumerate(rejections or [], 1)])
    return connection


def replace_feedback(connection: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]]) -> None:
    """These reports and no other."""
    connection.execute("DELETE FROM feedback")
    _insert(connection, "feedback", [_report(n, row) for n, row in enumerate(rows, 1)])


def _prediction(number: int, row: dict[str, Any], contract: Contract) -> dict[str, Any]:
    usual = {
        "seq": number,
        "prediction_id": f"p{number}",
        "request_id": f"r{number}",
        "customer_id": f"c{number}",
        "as_of": AS_OF,
        "scored_at": AS_OF,
        "score": 0.25,
        "margin": -1.1,
        "decision": False,
        "threshold": 0.3,
        "risk_band": "low",
        "model_version": "v1",
        "contract": contract.name,
        "fingerprint": contract.fingerprint,
        "arm": "champion",
        "policy": "champion",
        "status": "ok",
        "latency_us": 100.0,
        "warnings": [],
        "segment": "s",
    }
    return usual | row


def _report(number: int, row: dict[str, Any]) -> dict[str, Any]:
    usual = {
        "feedback_id": f"f{number}",
        "seq": number,
        "request_id": "r",
        "prediction_id": None,
        "customer_id": None,
        "churned": True,
        "observed_at": AS_OF + DAY,
        "contacted": None,
        "received_at": AS_OF + DAY,
        "segment": "s",
    }
    seen = row.get("observed_at", usual["observed_at"])
    return usual | {"received_at": seen} | row


def _rejection(number: int, row: dict[str, Any]) -> dict[str, Any]:
    usual = {"seq": number, "since_at": AS_OF, "until_at": AS_OF, "worker": "w", "cause": "json", "requests": 1}
    return usual | {"segment": "s"} | row


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa

    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        added = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
        connection.register("added", added)
        connection.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT * FROM added")
        connection.unregister("added")
