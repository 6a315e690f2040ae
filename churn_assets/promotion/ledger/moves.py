"""Moves of the champion and of the routing policy."""

from __future__ import annotations

import json
from datetime import datetime
from sqlite3 import Connection, Row

import msgspec

from churn_assets.promotion.ledger.challengers import find_challenger
from churn_assets.promotion.ledger.rows import reads_row, text_of
from churn_assets.promotion.records import Move, PolicyMove
from churn_assets.release.policy import policy_from_json


def was_champion(db: Connection, version: str, bundle_sha256: str) -> bool:
    """Whether these bytes were champion, and no round at the gate has begun since."""
    challenger = find_challenger(db, version)
    if challenger is not None and challenger.status != "promoted":
        return False
    done = 'SELECT "to", bundle_sha256, "before" FROM moves WHERE status = \'done\' ORDER BY number'
    moves = [tuple(row) for row in db.execute(done)]
    is_oldest = bool(moves) and moves[0][2] == version  # the champion of a home that is older than its ledger
    return is_oldest or any(move[:2] == (version, bundle_sha256) for move in moves)


def end_move(db: Connection, number: int, status: str, at: datetime, table: str = "moves") -> None:
    """Note how an intended move ended."""
    end = f"UPDATE {table} SET status = ?, ended_at = ? WHERE number = ? AND status = 'intended'"
    db.execute(end, (status, text_of(at), number))


@reads_row
def read_policy_move(row: Row) -> PolicyMove:
    """A move of the policy."""
    stored = dict(row)
    before, after = stored.pop("before"), policy_from_json(json.loads(stored.pop("after")))
    numbers, decides = stored.pop("numbers"), json.loads(stored.pop("decides"))
    instants = {name: at and datetime.fromisoformat(at) for name, at in stored.items() if name.endswith("_at")}
    return PolicyMove(
        **{**stored, **instants},
        before=None if before is None else policy_from_json(json.loads(before)),
        after=after,
        numbers=None if numbers is None else json.loads(numbers),
        decides={int(number): decision for number, decision in decides.items()},
    )


@reads_row
def read_move(row: Row) -> Move:
    """A move of the champion."""
    return msgspec.convert({**dict(row), "to": json.loads(row["champion"])}, Move)
