"""Challengers on their way: waiting_gate -> refused | waiting_approval | approved -> promoted, or rejected."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from churn_assets.errors import TransitionRefused
from churn_assets.promotion.ledger.requests import finish, rejections_in_a_row, request_of
from churn_assets.promotion.ledger.store import Store, instant, now_or, text_of
from churn_assets.promotion.records import ATTEMPTS, GATE, Approval, Challenger, ChallengerStatus

_COLUMNS = (
    "number, version, bundle, bundle_sha256, registered_version, request, status, attempt, words, verdict, "
    "approved_by, added_at, changed_at"
)
_LIVE: tuple[ChallengerStatus, ...] = ("waiting_gate", "waiting_approval", "approved")


class Challengers(Store):
    """The part of the ledger that knows who wants to be champion, and who said what about it."""

    def add_challenger(
        self,
        version: str,
        bundle: str,
        bundle_sha256: str,
        registered_version: int | None,
        request_key: str | None,
        now: datetime | None = None,
    ) -> Challenger:
        """A new model waits for the gate; the request it came of is finished in the same transaction.

        The same version again, while it waits, changes nothing but its number in the registry; after it
        was refused, rejected or promoted it starts a new round. A request that has ended before is not
        answered twice: somebody has run its run again, and the challenger is theirs. Raises
        TransitionRefused for an attempt that has failed, whose successor answers.
        """
        at = now_or(now)
        with self._writing() as db:
            if request_key is not None and request_of(db, request_key).status in ("finished", "abandoned"):
                request_key = None
            if request_key is not None:
                finish(db, request_key, f"challenger {version}", at)
            found = newest(db, version)
            if found is not None and found.status in _LIVE:
                number = registered_version if registered_version is not None else found.registered_version
                db.execute("UPDATE challengers SET registered_version = ? WHERE number = ?", (number, found.number))
            else:
                told = (version, bundle, bundle_sha256, registered_version, request_key)
                db.execute(
                    f"INSERT INTO challengers ({_COLUMNS}) "
                    "VALUES (NULL, ?, ?, ?, ?, ?, 'waiting_gate', 1, '', NULL, '', ?, ?)",
                    (*told, text_of(at), text_of(at)),
                )
            return challenger_of(db, version)

    def challengers(self, *statuses: ChallengerStatus) -> Sequence[Challenger]:
        """Challengers in any of these statuses (all if none is named), oldest first."""
        marks = ", ".join("?" * len(statuses))
        where = f"WHERE status IN ({marks})" if statuses else ""
        with self._reading() as db:
            found = db.execute(f"SELECT {_COLUMNS} FROM challengers {where} ORDER BY number", statuses)
            return [_challenger(row) for row in found]

    def challenger(self, version: str) -> Challenger:
        """The newest round of a version. Raises TransitionRefused if it never was a challenger."""
        with self._reading() as db:
            return challenger_of(db, version)

    def record_verdict(
        self,
        version: str,
        passed: bool,
        verdict: Mapping[str, Any],
        approval: Literal["automatic", "manual"],
        words: str = "",
        now: datetime | None = None,
    ) -> Challenger:
        """Keep what the gate found, and move the challenger on.

        Not passed: refused, also if a person had approved it. Passed: approved if `approval` is automatic
        or a person has approved it, else it waits for one. Raises TransitionRefused from refused, rejected
        and promoted.
        """
        at = now_or(now)
        with self._writing() as db:
            found = _expect(db, version, _LIVE, "judged")
            by_person = found.status == "approved" and found.approved_by != GATE
            status: ChallengerStatus = "refused"
            if passed:
                status = "approved" if by_person or approval == "automatic" else "waiting_approval"
            by = found.approved_by if by_person else GATE if status == "approved" else ""
            if status == "approved" and found.status != "approved":
                _sign(db, found, True, GATE, words or "it passed", at)
            db.execute("UPDATE challengers SET verdict = ? WHERE number = ?", (_json(verdict), found.number))
            _change(db, found, status, words, by, at)
            return challenger_of(db, version)

    def approve(self, version: str, by: str, why: str, bundle_sha256: str, now: datetime | None = None) -> Challenger:
        """A person says yes to these bytes. Raises TransitionRefused unless it waits for approval, or if
        the bundle is not the one that was judged. Approving twice changes nothing."""
        at = now_or(now)
        with self._writing() as db:
            found = _expect(db, version, ("waiting_approval", "approved"), "approved")
            if found.bundle_sha256 != bundle_sha256:
                raise TransitionRefused(
                    f"challenger {version}: its bundle is {bundle_sha256[:12]} now, the gate judged "
                    f"{found.bundle_sha256[:12]}; restore {found.bundle}, or retrain"
                )
            if found.status == "waiting_approval":
                _sign(db, found, True, by, why, at)
                _change(db, found, "approved", found.words, by, at)
            return challenger_of(db, version)

    def reject(self, version: str, by: str, why: str, now: datetime | None = None) -> Challenger:
        """A person says no, at any moment before promotion; it lengthens the cooldown. Raises TransitionRefused."""
        at = now_or(now)
        with self._writing() as db:
            found = _expect(db, version, _LIVE, "rejected")
            moving = db.execute("SELECT 1 FROM moves WHERE status = 'intended' AND \"to\" = ?", (version,)).fetchone()
            if moving:
                raise TransitionRefused(
                    f"challenger {version} is just becoming champion, expected one that waits; "
                    "if that is wrong: churn rollback"
                )
            _sign(db, found, False, by, why, at)
            _change(db, found, "rejected", why, "", at)
            return challenger_of(db, version)

    def fail_promotion(self, run_key: str, why: str, now: datetime | None = None) -> Challenger | None:
        """A run of the gate has failed before it came to an end: let it be run again, up to 3 times.

        Returns the challenger as it is then, None if the run's status or attempt is over already.
        """
        at = now_or(now)
        with self._writing() as db:
            rows = db.execute(f"SELECT {_COLUMNS} FROM challengers WHERE status IN ('waiting_gate', 'approved')")
            found = next((c for c in map(_challenger, rows) if c.run_key == run_key), None)
            if found is None or found.attempt > ATTEMPTS:
                return None
            db.execute(
                "UPDATE challengers SET attempt = attempt + 1, words = ?, changed_at = ? WHERE number = ?",
                (f"the gate could not be run: {why}", text_of(at), found.number),
            )
            return challenger_of(db, found.version)

    def challengers_to_promote(self) -> Sequence[Challenger]:
        """Those that a run of the gate should take up: waiting for it or approved, not failed 3 times."""
        return [c for c in self.challengers("waiting_gate", "approved") if c.attempt <= ATTEMPTS]

    def approvals(self) -> Sequence[Approval]:
        """Every yes and no there ever was, oldest first."""
        asked = 'SELECT version, approved, "by", why, bundle_sha256, at FROM approvals ORDER BY number'
        with self._reading() as db:
            rows: list[dict[str, Any]] = [dict(row) for row in db.execute(asked)]
        return [Approval(**{**row, "approved": bool(row["approved"]), "at": instant(row["at"])}) for row in rows]

    def rejections_in_a_row(self) -> int:
        """Challengers refused by the gate or rejected by a person since the last that was promoted."""
        with self._reading() as db:
            return rejections_in_a_row(db)


def newest(db: sqlite3.Connection, version: str) -> Challenger | None:
    """The newest round of a version, None if it never was a challenger."""
    asked = f"SELECT {_COLUMNS} FROM challengers WHERE version = ? ORDER BY number DESC LIMIT 1"
    row = db.execute(asked, (version,)).fetchone()
    return None if row is None else _challenger(row)


def challenger_of(db: sqlite3.Connection, version: str) -> Challenger:
    """The newest round of a version. Raises TransitionRefused if it never was a challenger."""
    found = newest(db, version)
    if found is None:
        known = [str(row[0]) for row in db.execute("SELECT version FROM challengers ORDER BY number DESC LIMIT 5")]
        raise TransitionRefused(
            f"there is no challenger {version}, expected one of: {', '.join(dict.fromkeys(known)) or 'none yet'}; "
            "see churn status"
        )
    return found


def mark_promoted(db: sqlite3.Connection, version: str, at: datetime) -> None:
    """The champion has moved to this challenger."""
    found = newest(db, version)
    if found is not None and found.status in _LIVE:
        _change(db, found, "promoted", found.words, found.approved_by, at)


def _expect(db: sqlite3.Connection, version: str, statuses: Sequence[ChallengerStatus], become: str) -> Challenger:
    found = challenger_of(db, version)
    if found.status not in statuses:
        wanted = " or ".join(s.replace("_", " ") for s in statuses)
        raise TransitionRefused(
            f"challenger {version} is {found.status.replace('_', ' ')} and cannot be {become}, expected one that is "
            f"{wanted}; see churn status"
        )
    return found


def _change(
    db: sqlite3.Connection, found: Challenger, status: ChallengerStatus, words: str, by: str, at: datetime
) -> None:
    attempt = found.attempt if status == found.status else 1
    db.execute(
        "UPDATE challengers SET status = ?, attempt = ?, words = ?, approved_by = ?, changed_at = ? WHERE number = ?",
        (status, attempt, words, by, text_of(at), found.number),
    )


def _sign(db: sqlite3.Connection, found: Challenger, yes: bool, by: str, why: str, at: datetime) -> None:
    told = (found.number, found.version, int(yes), by, why, found.bundle_sha256, text_of(at))
    db.execute(
        'INSERT INTO approvals (challenger, version, approved, "by", why, bundle_sha256, at) '
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        told,
    )


def _json(verdict: Mapping[str, Any]) -> str:
    return json.dumps(dict(verdict), sort_keys=True)


def _challenger(row: sqlite3.Row) -> Challenger:
    told: dict[str, Any] = dict(row)
    verdict = None if row["verdict"] is None else json.loads(row["verdict"])
    instants = {name: instant(row[name]) for name in ("added_at", "changed_at")}
    return Challenger(**{**told, **instants, "verdict": verdict})
