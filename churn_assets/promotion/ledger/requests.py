"""Decisions and the retrainings that they request."""

from __future__ import annotations

import json
from datetime import datetime
from sqlite3 import Connection, Row

import msgspec

from churn_assets.errors import TransitionRefused
from churn_assets.promotion.ledger.challengers import LIVE
from churn_assets.promotion.ledger.rows import insert, reads_row, text_of, where
from churn_assets.promotion.records import Decision, DecisionInputs, DecisionRecord, LedgerState, Request, RequestStatus

DECISION = ("kind", "message", "trigger", "occasion", "champion", "by", "why")
IN_FLIGHT: tuple[RequestStatus, ...] = ("open", "started")


def read_state(db: Connection) -> LedgerState:
    """What a decision made now would depend on."""
    newest_live = f"SELECT version, status FROM challengers {where(LIVE)} ORDER BY number DESC"
    waiting = db.execute(newest_live, LIVE).fetchone()
    newest = db.execute("SELECT opened_at FROM requests WHERE attempt = 1 ORDER BY rowid DESC LIMIT 1").fetchone()
    used = db.execute(
        "SELECT d.situation FROM requests r JOIN decisions d ON d.number = r.decision "
        "WHERE r.status IN ('open', 'started', 'finished') ORDER BY r.rowid DESC LIMIT 1"
    ).fetchone()
    (rejections,) = db.execute(
        "SELECT count(*) FROM challengers WHERE status IN ('refused', 'rejected') AND number > "
        "(SELECT coalesce(max(number), 0) FROM challengers WHERE status = 'promoted')"
    ).fetchone()
    asked = db.execute('SELECT DISTINCT "trigger", occasion, champion FROM requests')
    return LedgerState(
        in_flight=read_in_flight(db),
        waiting=tuple(waiting) if waiting else None,
        asked=frozenset(map(tuple, asked)),
        last_asked_at=datetime.fromisoformat(newest[0]) if newest else None,
        rejections=int(rejections),
        labels_used=DecisionInputs.from_json(json.loads(used[0])).labels if used else 0,
    )


def read_in_flight(db: Connection) -> tuple[str, RequestStatus] | None:
    """Key and status of the request under way."""
    row = db.execute(f"SELECT key, status FROM requests {where(IN_FLIGHT)}", IN_FLIGHT).fetchone()
    return tuple(row) if row else None


def insert_request(db: Connection, number: int, decision: Decision, at: datetime) -> str:
    """Open the request of a decision; its key. Raises TransitionRefused as `Ledger.decide`."""
    key, in_flight = _request_key(decision, 1), read_in_flight(db)
    if in_flight is not None:
        raise TransitionRefused(
            f"request {key} cannot be opened: {in_flight[0]} is {in_flight[1]}, expected none in flight; "
            "wait until it has ended"
        )
    if db.execute("SELECT 1 FROM requests WHERE key = ?", (key,)).fetchone():
        raise TransitionRefused(f"request {key} was made before, expected a new occasion; see churn history")
    return open_request(db, number, decision, 1, at).key


def open_request(db: Connection, decision: int, asked: Decision | Request, attempt: int, at: datetime) -> Request:
    """Open an attempt at what was asked for."""
    key = _request_key(asked, attempt)
    values = (decision, asked.trigger, asked.occasion, asked.champion, attempt, "open", None, "", text_of(at), None)
    insert(db, "requests", key, *values)
    return get_request(db, key)


def _request_key(asked: Decision | Request, attempt: int) -> str:
    """Dagster's run key: it is never used twice, also by another decision."""
    return f"retrain-{asked.trigger}-{asked.occasion}-{asked.champion or 'none'}-{attempt}"


def get_request(db: Connection, key: str) -> Request:
    """One request. Raises TransitionRefused if there is none."""
    row = db.execute("SELECT * FROM requests WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise TransitionRefused(f"there is no request {key}, expected one of this home's ledger; see churn status")
    return read_request(row)


def finish_request(db: Connection, key: str, outcome: str, at: datetime) -> None:
    """As `Ledger.finish_request`."""
    request = get_request(db, key)
    if request.status == "finished":
        return
    if request.status not in IN_FLIGHT:
        raise TransitionRefused(
            f"request {key} is {request.status} ({request.outcome}), expected one in flight; its next attempt goes on"
        )
    end_request(db, key, "finished", outcome, at)


def end_request(db: Connection, key: str, status: str, outcome: str, at: datetime) -> None:
    """Note how a request ended."""
    values = (status, outcome, text_of(at), key)
    db.execute("UPDATE requests SET status = ?, outcome = ?, ended_at = ? WHERE key = ?", values)


@reads_row
def read_decision(row: Row) -> DecisionRecord:
    """A decision."""
    decision = Decision(
        **{name: row[name] for name in DECISION}, inputs=DecisionInputs.from_json(json.loads(row["situation"]))
    )
    return DecisionRecord(row["number"], datetime.fromisoformat(row["decided_at"]), decision, row["request"])


@reads_row
def read_request(row: Row) -> Request:
    """A request."""
    return msgspec.convert(dict(row), Request)
