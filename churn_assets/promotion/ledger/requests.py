"""Decisions and the retrainings they ask for: open -> started -> finished, or failed and open again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from churn_assets.errors import TransitionRefused
from churn_assets.promotion.ledger.store import Store, instant, now_or, text_of
from churn_assets.promotion.records import ATTEMPTS, Decision, Kept, Memory, Request

_COLUMNS = 'key, decision, "trigger", occasion, champion, attempt, status, run_id, outcome, opened_at, ended_at'
_LIVE = "status IN ('open', 'started')"


class Requests(Store):
    """The part of the ledger that starts retrainings."""

    def decide(self, judge: Callable[[Memory], Decision], now: datetime | None = None) -> Kept:
        """Judge by what is remembered and keep the decision, with its request, in one transaction.

        Nobody else decides meanwhile: `judge` must be quick. Raises TransitionRefused if it asks for a
        retraining while one is in flight, or for one that was asked for before.
        """
        at = now_or(now)
        with self._writing() as db:
            decision = judge(_memory(db))
            number = _insert_decision(db, decision, at)
            key = _insert_request(db, number, decision, at) if decision.kind == "retrain" else None
            return Kept(number, at, decision, key)

    def record_decision(self, decision: Decision, now: datetime | None = None) -> int:
        """Keep a decision that was made already, with its request; its number. Raises as `decide`."""
        return self.decide(lambda _: decision, now).number

    def memory(self) -> Memory:
        """What a decision made now would remember."""
        with self._reading() as db:
            return _memory(db)

    def decisions(self, last: int = 50) -> Sequence[Kept]:
        """The newest decisions, newest first."""
        asked = (
            'SELECT d.number, d.decided_at, d.kind, d.words, d."trigger", d.occasion, d.champion, d."by", d.why, '
            "d.situation, (SELECT min(key) FROM requests r WHERE r.decision = d.number) AS request FROM decisions d "
            "ORDER BY d.number DESC LIMIT ?"
        )
        with self._reading() as db:
            return [_kept(row) for row in db.execute(asked, (last,))]

    def broken_data(self) -> str:
        """What the newest decision found broken in the newest window's data, in words; "" if nothing.

        No open request is run meanwhile: it waits until a later decision finds the data whole.
        """
        newest = self.decisions(1)
        return str(newest[0].decision.situation.get("broken") or "") if newest else ""

    def open_requests(self) -> Sequence[Request]:
        """Requests that no run has taken yet."""
        return self.requests("status = 'open'")

    def requests_in_flight(self) -> Sequence[Request]:
        """Requests that are open or taken by a run: at most one."""
        return self.requests(_LIVE)

    def requests(self, where: str = "1") -> Sequence[Request]:
        """Requests by a condition in SQL, oldest first."""
        with self._reading() as db:
            return [
                _request(row) for row in db.execute(f"SELECT {_COLUMNS} FROM requests WHERE {where} ORDER BY rowid")
            ]

    def start_request(self, key: str, run_id: str) -> None:
        """A run takes the request; again by the same run changes nothing. Raises TransitionRefused."""
        with self._writing() as db:
            found = request_of(db, key)
            if found.status == "started" and found.run_id == run_id:
                return
            if found.status != "open":
                raise TransitionRefused(
                    f"request {key} is {found.status} (run {found.run_id}), expected open; "
                    "see churn status for the request in flight"
                )
            db.execute("UPDATE requests SET status = 'started', run_id = ? WHERE key = ?", (run_id, key))

    def fail_request(self, key: str, run_id: str, why: str, now: datetime | None = None) -> Request | None:
        """The run of a request has failed or vanished: open the next attempt, up to 3, then give up.

        Returns the next attempt, or None: given up, or there was nothing to fail, because the request has
        ended, or is in the hands of another run. Safe to call any number of times.
        """
        at = text_of(now_or(now))
        with self._writing() as db:
            found = request_of(db, key)
            if found.status not in ("open", "started") or found.run_id not in (None, run_id):
                return None
            last = found.attempt >= ATTEMPTS
            status = "abandoned" if last else "failed"
            _end(db, key, status, f"run {run_id}: {why}", at)
            db.execute("UPDATE requests SET run_id = ? WHERE key = ?", (run_id, key))
            if last:
                return None
            following = key_of(found.trigger, found.occasion, found.champion, found.attempt + 1)
            told = (found.decision, found.trigger, found.occasion, found.champion, found.attempt + 1)
            db.execute(
                f"INSERT INTO requests ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, 'open', NULL, '', ?, NULL)",
                (following, *told, at),
            )
            return request_of(db, following)

    def finish_request(self, key: str, outcome: str, now: datetime | None = None) -> None:
        """The request is done, and what came of it; again changes nothing. Raises TransitionRefused."""
        with self._writing() as db:
            finish(db, key, outcome, now_or(now))


def key_of(trigger: str, occasion: str, champion: str, attempt: int) -> str:
    """Dagster's run key: it is never used twice, also by another decision."""
    return f"retrain-{trigger}-{occasion}-{champion or 'none'}-{attempt}"


def request_of(db: sqlite3.Connection, key: str) -> Request:
    """The request of a key. Raises TransitionRefused if there is none."""
    row = db.execute(f"SELECT {_COLUMNS} FROM requests WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise TransitionRefused(f"there is no request {key}, expected one of this home's ledger; see churn status")
    return _request(row)


def finish(db: sqlite3.Connection, key: str, outcome: str, at: datetime) -> None:
    """As `finish_request`, inside a transaction that does more."""
    found = request_of(db, key)
    if found.status == "finished":
        return
    if found.status not in ("open", "started"):
        raise TransitionRefused(
            f"request {key} is {found.status} ({found.outcome}), expected one in flight; its next attempt goes on"
        )
    _end(db, key, "finished", outcome, text_of(at))


def _end(db: sqlite3.Connection, key: str, status: str, outcome: str, at: str) -> None:
    db.execute("UPDATE requests SET status = ?, outcome = ?, ended_at = ? WHERE key = ?", (status, outcome, at, key))


def _insert_decision(db: sqlite3.Connection, decision: Decision, at: datetime) -> int:
    told = (decision.kind, decision.words, decision.trigger, decision.occasion, decision.champion)
    rest = (decision.by, decision.why, json.dumps(dict(decision.situation), sort_keys=True))
    done = db.execute(
        'INSERT INTO decisions (decided_at, kind, words, "trigger", occasion, champion, "by", why, situation) '
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (text_of(at), *told, *rest),
    )
    return int(done.lastrowid or 0)


def _insert_request(db: sqlite3.Connection, number: int, decision: Decision, at: datetime) -> str:
    live = db.execute(f"SELECT key, status FROM requests WHERE {_LIVE}").fetchone()
    key = key_of(decision.trigger, decision.occasion, decision.champion, 1)
    if live is not None:
        raise TransitionRefused(
            f"request {key} cannot be opened: {live[0]} is {live[1]}, expected none in flight; wait until it has ended"
        )
    if db.execute("SELECT 1 FROM requests WHERE key = ?", (key,)).fetchone():
        raise TransitionRefused(f"request {key} was made before, expected a new occasion; see churn history")
    told = (decision.trigger, decision.occasion, decision.champion)
    db.execute(
        f"INSERT INTO requests ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, 1, 'open', NULL, '', ?, NULL)",
        (key, number, *told, text_of(at)),
    )
    return key


def _memory(db: sqlite3.Connection) -> Memory:
    live = db.execute(f"SELECT key, status FROM requests WHERE {_LIVE}").fetchone()
    waiting = db.execute(
        "SELECT version, status FROM challengers WHERE status IN ('waiting_gate', 'waiting_approval', 'approved') "
        "ORDER BY number DESC"
    ).fetchone()
    newest = db.execute("SELECT opened_at FROM requests WHERE attempt = 1 ORDER BY rowid DESC LIMIT 1").fetchone()
    learnt = db.execute(
        "SELECT d.situation FROM requests r JOIN decisions d ON d.number = r.decision "
        "WHERE r.status IN ('open', 'started', 'finished') ORDER BY r.rowid DESC LIMIT 1"
    ).fetchone()
    asked = db.execute('SELECT DISTINCT "trigger", occasion, champion FROM requests')
    return Memory(
        in_flight=f"request {live[0]} is {live[1]}" if live else "",
        waiting=f"challenger {waiting[0]} is {waiting[1].replace('_', ' ')}" if waiting else "",
        asked=frozenset((row[0], row[1], row[2]) for row in asked),
        last_asked_at=instant(newest[0]) if newest else None,
        rejections=rejections_in_a_row(db),
        labels_used=int(json.loads(learnt[0]).get("labels", 0)) if learnt else 0,
    )


def rejections_in_a_row(db: sqlite3.Connection) -> int:
    """Challengers refused by the gate or rejected by a person since the last that was promoted."""
    counted = (
        "SELECT count(*) FROM challengers WHERE status IN ('refused', 'rejected') AND number > "
        "(SELECT coalesce(max(number), 0) FROM challengers WHERE status = 'promoted')"
    )
    return int(db.execute(counted).fetchone()[0])


def _kept(row: sqlite3.Row) -> Kept:
    told = {name: row[name] for name in ("kind", "words", "trigger", "occasion", "champion", "by", "why")}
    decision = Decision(**told, situation=json.loads(row["situation"]))
    return Kept(row["number"], datetime.fromisoformat(row["decided_at"]), decision, row["request"])


def _request(row: sqlite3.Row) -> Request:
    told: dict[str, Any] = dict(row)
    return Request(**{**told, "opened_at": instant(row["opened_at"]), "ended_at": instant(row["ended_at"])})
