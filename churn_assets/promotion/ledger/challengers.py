"""Challengers, and who approves or rejects them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from sqlite3 import Connection, Row

from churn_assets.errors import TransitionRefused
from churn_assets.promotion.ledger.rows import insert, reads_row, text_of
from churn_assets.promotion.records import (
    Approval,
    Approver,
    Challenger,
    ChallengerStatus,
    Gate,
    Person,
    Verdict,
    approver_of,
)

CHALLENGERS = "SELECT *, words AS message FROM challengers"
LIVE: tuple[ChallengerStatus, ...] = ("waiting_gate", "waiting_approval", "approved")
TO_PROMOTE: tuple[ChallengerStatus, ...] = ("waiting_gate", "approved")


def find_challenger(db: Connection, version: str) -> Challenger | None:
    """The newest round of a version, None if it never was a challenger."""
    query = f"{CHALLENGERS} WHERE version = ? ORDER BY number DESC LIMIT 1"
    row = db.execute(query, (version,)).fetchone()
    return None if row is None else read_challenger(row)


def get_challenger(db: Connection, version: str) -> Challenger:
    """The newest round of a version. Raises TransitionRefused if it never was a challenger."""
    challenger = find_challenger(db, version)
    if challenger is None:
        known = [str(row[0]) for row in db.execute("SELECT version FROM challengers ORDER BY number DESC LIMIT 5")]
        expected = (
            f"expected one of: {', '.join(dict.fromkeys(known))}; see churn status"
            if known
            else "and none in this home yet, expected one; a retraining makes one: churn retrain --by NAME --why TEXT"
        )
        raise TransitionRefused(f"there is no challenger {version}, {expected}")
    return challenger


def expect_status(db: Connection, version: str, statuses: Sequence[ChallengerStatus], become: str) -> Challenger:
    """A challenger in one of these statuses, which can `become` something. Raises TransitionRefused for another."""
    challenger = get_challenger(db, version)
    if challenger.status not in statuses:
        expected = " or ".join(status.replace("_", " ") for status in statuses)
        raise TransitionRefused(
            f"challenger {version} is {challenger.status.replace('_', ' ')} and cannot be {become}"
            f"{_decided(db, challenger)}, expected one that is {expected}; see churn status"
        )
    return challenger


def expect_approved(db: Connection, version: str, bundle_sha256: str) -> None:
    """Raise TransitionRefused unless these bytes are an approved challenger."""
    challenger = get_challenger(db, version)
    if challenger.status != "approved" or challenger.bundle_sha256 != bundle_sha256:
        raise TransitionRefused(
            f"challenger {version} is {challenger.status.replace('_', ' ')} with bundle "
            f"{challenger.bundle_sha256[:12]}, found {bundle_sha256[:12]}; expected an approved one whose "
            "bundle is unchanged: churn approve, or retrain"
        )


def expect_undecided(db: Connection, challenger: Challenger, by: Person, become: str) -> None:
    """Raise TransitionRefused if another than `by` has approved it: of two decisions at once the first holds."""
    if challenger.approved_by not in (None, by):
        raise TransitionRefused(
            f"challenger {challenger.version} is approved and cannot be {become}{_decided(db, challenger)}, expected "
            "one that nobody has decided on; who approved it can reject it, after its promotion: churn rollback"
        )


def expect_not_moving(db: Connection, version: str) -> None:
    """Raise TransitionRefused while a move to this version is unfinished."""
    if db.execute("SELECT 1 FROM moves WHERE status = 'intended' AND \"to\" = ?", (version,)).fetchone():
        raise TransitionRefused(
            f"challenger {version} is just becoming champion, expected one that waits; if that is wrong: churn rollback"
        )


def _decided(db: Connection, challenger: Challenger) -> str:
    """Who decided on it and when, as a clause; empty for one that nobody has decided on."""
    if challenger.status == "refused":
        return f" ({Gate()} refused it on {challenger.changed_at:%Y-%m-%d %H:%M:%S} UTC)"
    query = 'SELECT approved, "by", at FROM approvals WHERE challenger = ? ORDER BY number DESC LIMIT 1'
    row = db.execute(query, (challenger.number,)).fetchone()
    if row is None or challenger.status in ("waiting_gate", "waiting_approval"):
        return ""
    at = datetime.fromisoformat(row["at"])
    return f" ({row['by']} {'approved' if row['approved'] else 'rejected'} it on {at:%Y-%m-%d %H:%M:%S} UTC)"


def change_status(
    db: Connection, challenger: Challenger, status: ChallengerStatus, message: str, by: Approver | None, at: datetime
) -> None:
    """Change the status of a round; its attempts begin anew with another status."""
    attempt = challenger.attempt if status == challenger.status else 1
    db.execute(
        "UPDATE challengers SET status = ?, attempt = ?, words = ?, approved_by = ?, changed_at = ? WHERE number = ?",
        (status, attempt, message, str(by or ""), text_of(at), challenger.number),
    )


def insert_approval(
    db: Connection, challenger: Challenger, approved: bool, by: Approver, why: str, at: datetime
) -> None:
    """Note who approved or rejected what."""
    values = (challenger.number, challenger.version, approved, str(by), why, challenger.bundle_sha256, text_of(at))
    insert(db, "approvals", None, *values)


@reads_row
def read_challenger(row: Row) -> Challenger:
    """A round of a version."""
    verdict = None if row["verdict"] is None else Verdict.from_json(json.loads(row["verdict"]))
    instants = {name: datetime.fromisoformat(row[name]) for name in ("added_at", "changed_at")}
    stored = {name: row[name] for name in Challenger.__dataclass_fields__}
    return Challenger(**{**stored, **instants, "verdict": verdict, "approved_by": approver_of(stored["approved_by"])})


@reads_row
def read_approval(row: Row) -> Approval:
    """An approval or rejection."""
    at, approved = datetime.fromisoformat(row["at"]), bool(row["approved"])
    return Approval(**{**dict(row), "by": approver_of(row["by"]), "approved": approved, "at": at})
