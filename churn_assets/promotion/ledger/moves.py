"""Moves of the champion in the ledger: intended, then done or abandoned. What moves it is in moves.py."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from churn_assets.errors import TransitionRefused
from churn_assets.promotion.ledger.challengers import challenger_of, mark_promoted
from churn_assets.promotion.ledger.store import Store, instant, now_or, text_of
from churn_assets.promotion.pointer import Champion
from churn_assets.promotion.records import Move, MoveKind

_COLUMNS = 'number, kind, "before", champion, bundle_sha256, "by", why, status, intended_at, ended_at'


class Moves(Store):
    """The part of the ledger that remembers who was champion, and why."""

    def intend_move(
        self,
        kind: MoveKind,
        before: str | None,
        to: Champion,
        bundle_sha256: str,
        by: str,
        why: str,
        now: datetime | None = None,
    ) -> int:
        """Say what is about to happen; the move's number.

        Raises TransitionRefused while another move is unfinished, and for a promotion of anything but an
        approved challenger whose bundle is the one that was judged.
        """
        at = now_or(now)
        with self._writing() as db:
            unfinished = db.execute("SELECT \"to\" FROM moves WHERE status = 'intended'").fetchone()
            if unfinished is not None:
                raise TransitionRefused(
                    f"the move to {unfinished[0]} is not finished, expected no other; churn status finishes it"
                )
            if kind == "promotion":
                found = challenger_of(db, to.version)
                if found.status != "approved" or found.bundle_sha256 != bundle_sha256:
                    raise TransitionRefused(
                        f"challenger {to.version} is {found.status.replace('_', ' ')} with bundle "
                        f"{found.bundle_sha256[:12]}, found {bundle_sha256[:12]}; expected an approved one whose "
                        "bundle is unchanged: churn approve, or retrain"
                    )
            done = db.execute(
                'INSERT INTO moves (kind, "before", "to", champion, bundle_sha256, "by", why, status, intended_at) '
                "VALUES (?, ?, ?, ?, ?, ?, ?, 'intended', ?)",
                (kind, before, to.version, _to_json(to), bundle_sha256, by, why, text_of(at)),
            )
            return int(done.lastrowid or 0)

    def finish_move(self, number: int, now: datetime | None = None) -> None:
        """The pointer names the new champion; a promoted challenger is so from here on."""
        at = now_or(now)
        with self._writing() as db:
            kind, to = db.execute('SELECT kind, "to" FROM moves WHERE number = ?', (number,)).fetchone()
            db.execute(
                "UPDATE moves SET status = 'done', ended_at = ? WHERE number = ? AND status = 'intended'",
                (text_of(at), number),
            )
            if kind == "promotion":
                mark_promoted(db, to, at)

    def abandon_move(self, number: int, now: datetime | None = None) -> None:
        """The pointer was never written; the challenger, if there is one, stays approved."""
        with self._writing() as db:
            db.execute(
                "UPDATE moves SET status = 'abandoned', ended_at = ? WHERE number = ? AND status = 'intended'",
                (text_of(now_or(now)), number),
            )

    def unfinished_move(self) -> Move | None:
        """The move that was intended and neither done nor abandoned, if a process died in it."""
        found = self._moves("status = 'intended'")
        return found[0] if found else None

    def moves(self) -> Sequence[Move]:
        """Every move there ever was, oldest first."""
        return self._moves("1")

    def _moves(self, where: str) -> Sequence[Move]:
        with self._reading() as db:
            return [_move(row) for row in db.execute(f"SELECT {_COLUMNS} FROM moves WHERE {where} ORDER BY number")]


def _to_json(champion: Champion) -> str:
    return json.dumps({**asdict(champion), "since_at": champion.since_at.isoformat()}, sort_keys=True)


def _move(row: sqlite3.Row) -> Move:
    told: dict[str, Any] = dict(row)
    stored = json.loads(told.pop("champion"))
    champion = Champion(**{**stored, "since_at": datetime.fromisoformat(stored["since_at"])})
    instants = {name: instant(row[name]) for name in ("intended_at", "ended_at")}
    return Move(**{**told, **instants}, to=champion)
