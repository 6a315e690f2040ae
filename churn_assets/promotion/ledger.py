"""The ledger of a home: what was decided, requested, trained, judged, approved and moved, and why.

decision -> request: open -> started -> finished            (at most one in flight)
                                |-> failed -> open again, 3 attempts, then abandoned
                                `-> abandoned: canceled by a person, or ended without a model
challenger: waiting_gate -> refused | waiting_approval | approved -> promoted; or rejected by a person
move of the champion, move of the policy: intended -> done | abandoned
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from sqlite3 import Connection, Row
from typing import Any

import msgspec

from churn_assets.errors import LedgerCorrupt, LedgerUnavailable, TransitionRefused
from churn_assets.promotion.pointer import Champion
from churn_assets.promotion.records import (
    ATTEMPTS,
    Approval,
    Approver,
    Challenger,
    ChallengerStatus,
    Decision,
    DecisionInputs,
    DecisionKind,
    DecisionRecord,
    Gate,
    LedgerState,
    Move,
    MoveKind,
    MoveStatus,
    Person,
    PolicyMove,
    Request,
    RequestStatus,
    Trigger,
    Verdict,
    approver_of,
)
from churn_assets.release.policy import ANSWERING, policy_from_json
from churn_assets.storage.sqlite import SqliteStore

# The two partial indexes are the rules "one retraining in flight" and "one move at a time". Some columns have older
# names than the fields they hold: `words` is a message, `situation` the inputs of a decision.
SCHEMA = """
CREATE TABLE decisions (
    number INTEGER PRIMARY KEY, decided_at TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('nothing', 'investigate_data', 'retrain', 'wait')),
    words TEXT NOT NULL, "trigger" TEXT NOT NULL, occasion TEXT NOT NULL, champion TEXT NOT NULL,
    "by" TEXT NOT NULL, why TEXT NOT NULL, situation TEXT NOT NULL
) STRICT;
CREATE TABLE requests (
    key TEXT PRIMARY KEY, decision INTEGER NOT NULL REFERENCES decisions (number),
    "trigger" TEXT NOT NULL, occasion TEXT NOT NULL, champion TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt BETWEEN 1 AND 3),
    status TEXT NOT NULL CHECK (status IN ('open', 'started', 'failed', 'finished', 'abandoned')),
    run_id TEXT, outcome TEXT NOT NULL, opened_at TEXT NOT NULL, ended_at TEXT,
    UNIQUE ("trigger", occasion, champion, attempt)
) STRICT;
CREATE UNIQUE INDEX one_request_in_flight ON requests ((1)) WHERE status IN ('open', 'started');
CREATE TABLE challengers (
    number INTEGER PRIMARY KEY, version TEXT NOT NULL, bundle TEXT NOT NULL, bundle_sha256 TEXT NOT NULL,
    registered_version INTEGER, request TEXT REFERENCES requests (key),
    status TEXT NOT NULL CHECK (
        status IN ('waiting_gate', 'refused', 'waiting_approval', 'approved', 'rejected', 'promoted')),
    attempt INTEGER NOT NULL, words TEXT NOT NULL, verdict TEXT, approved_by TEXT NOT NULL,
    added_at TEXT NOT NULL, changed_at TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_live_challenger_a_version ON challengers (version)
    WHERE status IN ('waiting_gate', 'waiting_approval', 'approved');
CREATE TABLE approvals (
    number INTEGER PRIMARY KEY, challenger INTEGER NOT NULL REFERENCES challengers (number),
    version TEXT NOT NULL, approved INTEGER NOT NULL, "by" TEXT NOT NULL, why TEXT NOT NULL,
    bundle_sha256 TEXT NOT NULL, at TEXT NOT NULL
) STRICT;
CREATE TABLE moves (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('first', 'promotion', 'rollback')),
    "before" TEXT, "to" TEXT NOT NULL, champion TEXT NOT NULL, bundle_sha256 TEXT NOT NULL,
    "by" TEXT NOT NULL, why TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('intended', 'done', 'abandoned')),
    intended_at TEXT NOT NULL, ended_at TEXT
) STRICT;
CREATE UNIQUE INDEX one_move_at_a_time ON moves ((1)) WHERE status = 'intended';
"""
POLICIES = """
CREATE TABLE policies (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL CHECK (
        kind IN ('shadow', 'canary', 'ab', 'advance', 'promote', 'rollback', 'end', 'champion')),
    "before" TEXT, "after" TEXT NOT NULL, "by" TEXT NOT NULL, why TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (
        outcome IN ('', 'promoted', 'rolled_back', 'inconclusive', 'replaced', 'champion_moved')),
    status TEXT NOT NULL CHECK (status IN ('intended', 'done', 'abandoned')),
    intended_at TEXT NOT NULL, ended_at TEXT, numbers TEXT, decides TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_policy_at_a_time ON policies ((1)) WHERE status = 'intended';
"""

_CHALLENGERS = "SELECT *, words AS message FROM challengers"
_DECISION = ("kind", "message", "trigger", "occasion", "champion", "by", "why")
IN_FLIGHT: tuple[RequestStatus, ...] = ("open", "started")
_LIVE: tuple[ChallengerStatus, ...] = ("waiting_gate", "waiting_approval", "approved")
_TO_PROMOTE: tuple[ChallengerStatus, ...] = ("waiting_gate", "approved")


class Ledger(SqliteStore):
    """`Ledger(settings.ledger_path)`. Each call is one transaction of SQLite, on disk when it returns.

    Reading is cheap enough for sensors and creates no file. Raises LedgerCorrupt, LedgerUnavailable, and
    TransitionRefused for a change that the rules above do not allow. `PromotionService`, `Releases` and what moves the
    champion call what writes.
    """

    schema, version, steps = SCHEMA + POLICIES, 2, {2: POLICIES}

    # -- decisions and the retrainings they request ------------------------------------------------------

    def decide(self, judge: Callable[[LedgerState], Decision], at: datetime) -> DecisionRecord:
        """Judge by the state of the ledger and store the decision, with its request, in one transaction.

        Nobody else decides meanwhile: `judge` must be quick. Raises TransitionRefused if it requests a
        retraining while one is in flight, or one that was requested before.
        """
        with self._writing() as db:
            decision = judge(_state(db))
            values = [getattr(decision, name) for name in _DECISION]
            number = _insert(db, "decisions", None, _text(at), *values, _json(decision.inputs.to_json()))
            key = _insert_request(db, number, decision, at) if decision.kind == "retrain" else None
            return DecisionRecord(number, at, decision, key)

    def state(self) -> LedgerState:
        """What a decision made now would depend on."""
        with self._reading() as db:
            return _state(db)

    def decisions(self, last: int = 50) -> Sequence[DecisionRecord]:
        """The newest decisions, newest first."""
        query = (
            "SELECT d.*, d.words AS message, (SELECT min(key) FROM requests r WHERE r.decision = d.number) AS request "
            "FROM decisions d ORDER BY d.number DESC LIMIT ?"
        )
        with self._reading() as db:
            return [_decision(row) for row in db.execute(query, (last,))]

    def count_decisions(self) -> Mapping[tuple[DecisionKind, Trigger], int]:
        """How many decisions of each kind and trigger there were."""
        query = 'SELECT kind, "trigger", count(*) FROM decisions GROUP BY kind, "trigger"'
        with self._reading() as db:
            return {(kind, trigger): count for kind, trigger, count in db.execute(query)}

    def broken_data(self) -> str | None:
        """The fault that the newest decision reports in the newest window's data; no open request is run meanwhile."""
        newest = self.decisions(1)
        return newest[0].decision.inputs.broken if newest else None

    def requests(self, *statuses: RequestStatus) -> Sequence[Request]:
        """Requests in any of these statuses (all if none is named), oldest first; `IN_FLIGHT` gives at most one."""
        with self._reading() as db:
            rows = db.execute(f"SELECT * FROM requests {_where(statuses)} ORDER BY rowid", statuses)
            return [msgspec.convert(dict(row), Request) for row in rows]

    def start_request(self, key: str, run_id: str) -> None:
        """A run starts the request; again by the same run changes nothing. Raises TransitionRefused."""
        with self._writing() as db:
            request = _get_request(db, key)
            if request.status == "started" and request.run_id == run_id:
                return
            if request.status != "open":
                raise TransitionRefused(
                    f"request {key} is {request.status} (run {request.run_id}), expected open; "
                    "see churn status for the request in flight"
                )
            db.execute("UPDATE requests SET status = 'started', run_id = ? WHERE key = ?", (run_id, key))

    def fail_request(self, key: str, run_id: str, why: str, at: datetime) -> Request | None:
        """The run of a request has failed or vanished: open the next attempt; after 3 abandon the request. None if
        there is no next one, also if the request has ended or belongs to another run."""
        with self._writing() as db:
            request = _get_request(db, key)
            if request.status not in IN_FLIGHT or request.run_id not in (None, run_id):
                return None
            is_last = request.attempt >= ATTEMPTS
            _end_request(db, key, "abandoned" if is_last else "failed", f"run {run_id}: {why}", at)
            db.execute("UPDATE requests SET run_id = ? WHERE key = ?", (run_id, key))
            if is_last:
                return None
            return _open_request(db, request.decision, request, request.attempt + 1, at)

    def abandon_request(self, key: str, outcome: str, at: datetime) -> None:
        """The request ends without a model and without another attempt: the labels it was asked for are not used up.
        Nothing changes if it has ended already."""
        with self._writing() as db:
            if _get_request(db, key).status in IN_FLIGHT:
                _end_request(db, key, "abandoned", outcome, at)

    def finish_request(self, key: str, outcome: str, at: datetime) -> None:
        """The request ended with this outcome; again changes nothing. Raises TransitionRefused."""
        with self._writing() as db:
            _finish_request(db, key, outcome, at)

    # -- challengers and who approves them ---------------------------------------------------------------

    def add_challenger(
        self, version: str, bundle: str, sha256: str, registered_version: int | None, request: str | None, at: datetime
    ) -> Challenger:
        """A new model waits for the gate; the request it answers is finished in the same transaction.

        The same version again, while it waits, changes nothing but its number in the registry; once decided on,
        it starts a new round. A request that has ended is not answered twice: somebody has executed its run again.
        Raises TransitionRefused for an attempt that has failed, whose successor answers.
        """
        with self._writing() as db:
            if request is not None and _get_request(db, request).status in ("finished", "abandoned"):
                request = None
            if request is not None:
                _finish_request(db, request, f"challenger {version}", at)
            newest = _find_challenger(db, version)
            if newest is not None and newest.status in _LIVE:
                number = registered_version if registered_version is not None else newest.registered_version
                db.execute("UPDATE challengers SET registered_version = ? WHERE number = ?", (number, newest.number))
            else:
                values = (version, bundle, sha256, registered_version, request, "waiting_gate", 1, "", None, "")
                _insert(db, "challengers", None, *values, _text(at), _text(at))
            return _get_challenger(db, version)

    def challengers(self, *statuses: ChallengerStatus) -> Sequence[Challenger]:
        """Challengers in any of these statuses (all if none is named), oldest first."""
        with self._reading() as db:
            rows = db.execute(f"{_CHALLENGERS} {_where(statuses)} ORDER BY number", statuses)
            return [_challenger(row) for row in rows]

    def challenger(self, version: str) -> Challenger:
        """The newest round of a version. Raises TransitionRefused if it never was a challenger."""
        with self._reading() as db:
            return _get_challenger(db, version)

    def rounds(self, version: str) -> Sequence[Challenger]:
        """Every round of a version, oldest first; none if it never was a challenger."""
        with self._reading() as db:
            return [
                _challenger(row) for row in db.execute(f"{_CHALLENGERS} WHERE version = ? ORDER BY number", (version,))
            ]

    def challengers_to_promote(self) -> Sequence[Challenger]:
        """Those that a run of the gate should judge: waiting for it or approved, not failed 3 times. What is approved
        while a canary or ab runs waits for its end."""
        policy = self.newest_policy_move("done")
        running = policy is not None and policy.after.kind in ANSWERING
        return [
            c
            for c in self.challengers(*_TO_PROMOTE)
            if c.attempt <= ATTEMPTS and not (running and c.status == "approved")
        ]

    def record_verdict(self, version: str, verdict: Verdict, *, needs_person: bool, at: datetime) -> Challenger:
        """Store the gate's verdict. Not passed: refused, also if a person had approved it.

        Passed: approved, unless it `needs_person` and none has approved it: then it waits for one. Raises
        TransitionRefused from refused, rejected and promoted.
        """
        with self._writing() as db:
            challenger = _expect(db, version, _LIVE, "judged")
            person = challenger.approved_by if isinstance(challenger.approved_by, Person) else None
            status: ChallengerStatus = "refused"
            by: Approver | None = person
            if verdict.passed and needs_person and person is None:
                status = "waiting_approval"
            elif verdict.passed:
                status, by = "approved", person or Gate()
                if challenger.status != "approved":
                    _insert_approval(db, challenger, True, by, verdict.reason, at)
            stored = _json(verdict.to_json())
            db.execute("UPDATE challengers SET verdict = ? WHERE number = ?", (stored, challenger.number))
            _change(db, challenger, status, verdict.reason, by, at)
            return _get_challenger(db, version)

    def approve(self, version: str, by: Person, why: str, bundle_sha256: str, at: datetime) -> Challenger:
        """A person approves these bytes. Raises TransitionRefused unless it waits for approval, also if another
        has approved it, or if the bundle is not the one that was judged. The same person again changes nothing."""
        with self._writing() as db:
            challenger = _expect(db, version, ("waiting_approval", "approved"), "approved")
            if challenger.bundle_sha256 != bundle_sha256:
                raise TransitionRefused(
                    f"challenger {version}: its bundle is {bundle_sha256[:12]} now, the gate judged "
                    f"{challenger.bundle_sha256[:12]}; restore {challenger.bundle}, or retrain"
                )
            _expect_undecided(db, challenger, by, "approved")
            if challenger.status == "waiting_approval":
                _insert_approval(db, challenger, True, by, why, at)
                _change(db, challenger, "approved", challenger.message, by, at)
            return _get_challenger(db, version)

    def reject(self, version: str, by: Person, why: str, at: datetime) -> Challenger:
        """A person rejects it before promotion; the gate's approval and the person's own can be taken back. Raises
        TransitionRefused if it does not wait any more, or another person has approved it."""
        with self._writing() as db:
            challenger = _expect(db, version, _LIVE, "rejected")
            if challenger.approved_by != Gate():
                _expect_undecided(db, challenger, by, "rejected")
            _expect_not_moving(db, version)
            _insert_approval(db, challenger, False, by, why, at)
            _change(db, challenger, "rejected", why, None, at)
            return _get_challenger(db, version)

    def fail_promotion(self, run_key: str, why: str, at: datetime) -> Challenger | None:
        """A run of the gate has failed: let it be run again, up to 3 times. None if its attempt is over already."""
        with self._writing() as db:
            rows = db.execute(f"{_CHALLENGERS} {_where(_TO_PROMOTE)}", _TO_PROMOTE)
            challenger = next((c for c in map(_challenger, rows) if c.run_key == run_key), None)
            if challenger is None or challenger.attempt > ATTEMPTS:
                return None
            db.execute(
                "UPDATE challengers SET attempt = attempt + 1, words = ?, changed_at = ? WHERE number = ?",
                (f"the gate could not be run: {why}", _text(at), challenger.number),
            )
            return _get_challenger(db, challenger.version)

    def approvals(self) -> Sequence[Approval]:
        """Every approval and rejection, oldest first."""
        query = 'SELECT version, approved, "by", why, bundle_sha256, at FROM approvals ORDER BY number'
        with self._reading() as db:
            return [_approval(row) for row in db.execute(query)]

    # -- moves of the champion ---------------------------------------------------------------------------

    def intend_move(
        self, kind: MoveKind, before: str | None, to: Champion, bundle_sha256: str, by: str, why: str, at: datetime
    ) -> int:
        """Record that the pointer is about to be written; the move's number.

        Raises TransitionRefused while another move is unfinished, and for a promotion of anything but an
        approved challenger whose bundle is the one that was judged.
        """
        with self._writing() as db:
            unfinished = db.execute("SELECT \"to\" FROM moves WHERE status = 'intended'").fetchone()
            if unfinished is not None:
                raise TransitionRefused(
                    f"the move to {unfinished[0]} is not finished, expected no other; churn status finishes it"
                )
            if kind == "promotion":
                _expect_approved(db, to.version, bundle_sha256)
            values = (kind, before, to.version, _json(to.to_json()), bundle_sha256, by, why)
            return _insert(db, "moves", None, *values, "intended", _text(at), None)

    def finish_move(self, number: int, at: datetime) -> None:
        """The pointer names the new champion; a challenger counts as promoted from here on."""
        with self._writing() as db:
            kind, version = db.execute('SELECT kind, "to" FROM moves WHERE number = ?', (number,)).fetchone()
            _end_move(db, number, "done", at)
            challenger = _find_challenger(db, version) if kind == "promotion" else None
            if challenger is not None and challenger.status in _LIVE:
                _change(db, challenger, "promoted", challenger.message, challenger.approved_by, at)

    def abandon_move(self, number: int, at: datetime) -> None:
        """The pointer was never written; the challenger, if there is one, stays approved."""
        with self._writing() as db:
            _end_move(db, number, "abandoned", at)

    def unfinished_move(self) -> Move | None:
        """The move that was intended and neither done nor abandoned, if a process died in it."""
        return next(iter(self.moves("intended")), None)

    def moves(self, *statuses: MoveStatus) -> Sequence[Move]:
        """Moves in any of these statuses (all if none is named), oldest first."""
        with self._reading() as db:
            rows = db.execute(f"SELECT * FROM moves {_where(statuses)} ORDER BY number", statuses)
            return [msgspec.convert({**dict(row), "to": json.loads(row["champion"])}, Move) for row in rows]

    # -- moves of the routing policy ---------------------------------------------------------------------

    def intend_policy(self, move: PolicyMove, approved: Mapping[str, str]) -> None:
        """Record that the policy is about to be written. Its number is free: the caller holds the pointer's lock.

        `approved` are versions, and their bundles' hashes, that must be approved challengers. Raises TransitionRefused
        if one is not, and while another move is unfinished.
        """
        with self._writing() as db:
            for version, sha256 in approved.items():
                _expect_approved(db, version, sha256)
            before = None if move.before is None else _json(move.before.to_json())
            values = (move.kind, before, _json(move.after.to_json()), move.by, move.why, move.outcome, "intended")
            numbers = None if move.numbers is None else _json(dict(move.numbers))
            decides = _json({str(number): decision for number, decision in move.decides.items()})
            _insert(db, "policies", move.number, *values, _text(move.intended_at), None, numbers, decides)

    def finish_policy(self, number: int, at: datetime) -> None:
        """The policy is in its file; challengers that it decides on are so from here on."""
        with self._writing() as db:
            move = _policy_move(db.execute("SELECT * FROM policies WHERE number = ?", (number,)).fetchone())
            _end_move(db, number, "done", at, "policies")
            for challenger in map(_challenger, db.execute(_CHALLENGERS).fetchall()):
                decision = move.decides.get(challenger.number)
                person = Person(move.by) if decision else None
                if person is not None and challenger.status in (*_LIVE, "rejected") and decision != challenger.status:
                    _insert_approval(db, challenger, decision == "approved", person, move.why, at)
                    by = person if decision == "approved" else None
                    _change(db, challenger, decision, move.why, by, at)  # type: ignore[arg-type]

    def abandon_policy(self, number: int, at: datetime) -> None:
        """The policy was never written."""
        with self._writing() as db:
            _end_move(db, number, "abandoned", at, "policies")

    def policy_moves(self, *statuses: MoveStatus) -> Sequence[PolicyMove]:
        """Moves of the policy in any of these statuses (all if none is named), oldest first."""
        return self._policy_moves(f"{_where(statuses)} ORDER BY number", statuses)

    def newest_policy_move(self, *statuses: MoveStatus) -> PolicyMove | None:
        """The newest of `policy_moves`, None if there is none."""
        return next(iter(self._policy_moves(f"{_where(statuses)} ORDER BY number DESC LIMIT 1", statuses)), None)

    def policy_heads(self) -> tuple[PolicyMove | None, PolicyMove | None]:
        """The unfinished move of the policy, and the newest one that is done; one reading, for what runs often."""
        newest = "WHERE number = (SELECT max(number) FROM policies WHERE status = 'done') OR status = 'intended'"
        heads = {move.status: move for move in self._policy_moves(newest, ())}
        return heads.get("intended"), heads.get("done")

    def _policy_moves(self, clause: str, statuses: Sequence[str]) -> Sequence[PolicyMove]:
        with self._reading() as db:
            if self._stored_version(db) < 2:  # a ledger that nothing was written to since an earlier release
                return []
            return [_policy_move(row) for row in db.execute(f"SELECT * FROM policies {clause}", statuses)]

    def _refused(self, message: str) -> TransitionRefused:
        return TransitionRefused(
            f"{self.path}: refuses the change ({message}), expected at most one request in flight and one move "
            "at a time; see churn status"
        )

    def _unavailable(self, message: str) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"{self.path}: cannot be used now ({message}), expected a ledger and a folder that can be written; "
            "see who holds it, the disk and its permissions, then try again"
        )

    def _corrupt(self, message: str) -> LedgerCorrupt:
        return LedgerCorrupt(
            f"{self.path}: is damaged or not a ledger ({message}), expected one that churn wrote; restore it, "
            "or move it away: the champion stays, its history and open requests are lost"
        )

    def _too_new(self, version: int) -> LedgerCorrupt:
        return LedgerCorrupt(
            f"{self.path}: is a ledger of format {version}, expected {self.version}; use the churn that wrote it"
        )


def _where(statuses: Sequence[str]) -> str:
    """The clause for rows in any of these statuses, which are its parameters; without one, for every row."""
    return f"WHERE status IN ({', '.join('?' * len(statuses))})" if statuses else ""


def _insert(db: Connection, table: str, *values: object) -> int:
    """The number of the new row; a first value of None lets SQLite number it."""
    return int(db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values).lastrowid or 0)


def _state(db: Connection) -> LedgerState:
    newest_live = f"SELECT version, status FROM challengers {_where(_LIVE)} ORDER BY number DESC"
    waiting = db.execute(newest_live, _LIVE).fetchone()
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
        in_flight=_in_flight(db),
        waiting=tuple(waiting) if waiting else None,
        asked=frozenset(map(tuple, asked)),
        last_asked_at=datetime.fromisoformat(newest[0]) if newest else None,
        rejections=int(rejections),
        labels_used=DecisionInputs.from_json(json.loads(used[0])).labels if used else 0,
    )


def _in_flight(db: Connection) -> tuple[str, RequestStatus] | None:
    """Key and status of the request under way."""
    row = db.execute(f"SELECT key, status FROM requests {_where(IN_FLIGHT)}", IN_FLIGHT).fetchone()
    return tuple(row) if row else None


def _insert_request(db: Connection, number: int, decision: Decision, at: datetime) -> str:
    key, in_flight = _request_key(decision, 1), _in_flight(db)
    if in_flight is not None:
        raise TransitionRefused(
            f"request {key} cannot be opened: {in_flight[0]} is {in_flight[1]}, expected none in flight; "
            "wait until it has ended"
        )
    if db.execute("SELECT 1 FROM requests WHERE key = ?", (key,)).fetchone():
        raise TransitionRefused(f"request {key} was made before, expected a new occasion; see churn history")
    return _open_request(db, number, decision, 1, at).key


def _open_request(db: Connection, decision: int, asked: Decision | Request, attempt: int, at: datetime) -> Request:
    key = _request_key(asked, attempt)
    values = (decision, asked.trigger, asked.occasion, asked.champion, attempt, "open", None, "", _text(at), None)
    _insert(db, "requests", key, *values)
    return _get_request(db, key)


def _request_key(asked: Decision | Request, attempt: int) -> str:
    """Dagster's run key: it is never used twice, also by another decision."""
    return f"retrain-{asked.trigger}-{asked.occasion}-{asked.champion or 'none'}-{attempt}"


def _get_request(db: Connection, key: str) -> Request:
    row = db.execute("SELECT * FROM requests WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise TransitionRefused(f"there is no request {key}, expected one of this home's ledger; see churn status")
    return msgspec.convert(dict(row), Request)


def _finish_request(db: Connection, key: str, outcome: str, at: datetime) -> None:
    request = _get_request(db, key)
    if request.status == "finished":
        return
    if request.status not in IN_FLIGHT:
        raise TransitionRefused(
            f"request {key} is {request.status} ({request.outcome}), expected one in flight; its next attempt goes on"
        )
    _end_request(db, key, "finished", outcome, at)


def _end_request(db: Connection, key: str, status: str, outcome: str, at: datetime) -> None:
    values = (status, outcome, _text(at), key)
    db.execute("UPDATE requests SET status = ?, outcome = ?, ended_at = ? WHERE key = ?", values)


def _find_challenger(db: Connection, version: str) -> Challenger | None:
    """The newest round of a version, None if it never was a challenger."""
    query = f"{_CHALLENGERS} WHERE version = ? ORDER BY number DESC LIMIT 1"
    row = db.execute(query, (version,)).fetchone()
    return None if row is None else _challenger(row)


def _get_challenger(db: Connection, version: str) -> Challenger:
    challenger = _find_challenger(db, version)
    if challenger is None:
        known = [str(row[0]) for row in db.execute("SELECT version FROM challengers ORDER BY number DESC LIMIT 5")]
        raise TransitionRefused(
            f"there is no challenger {version}, expected one of: {', '.join(dict.fromkeys(known)) or 'none yet'}; "
            "see churn status"
        )
    return challenger


def _expect(db: Connection, version: str, statuses: Sequence[ChallengerStatus], become: str) -> Challenger:
    challenger = _get_challenger(db, version)
    if challenger.status not in statuses:
        expected = " or ".join(status.replace("_", " ") for status in statuses)
        raise TransitionRefused(
            f"challenger {version} is {challenger.status.replace('_', ' ')} and cannot be {become}"
            f"{_decided(db, challenger)}, expected one that is {expected}; see churn status"
        )
    return challenger


def _expect_approved(db: Connection, version: str, bundle_sha256: str) -> None:
    challenger = _get_challenger(db, version)
    if challenger.status != "approved" or challenger.bundle_sha256 != bundle_sha256:
        raise TransitionRefused(
            f"challenger {version} is {challenger.status.replace('_', ' ')} with bundle "
            f"{challenger.bundle_sha256[:12]}, found {bundle_sha256[:12]}; expected an approved one whose "
            "bundle is unchanged: churn approve, or retrain"
        )


def _expect_undecided(db: Connection, challenger: Challenger, by: Person, become: str) -> None:
    """Raise TransitionRefused if another than `by` has approved it: of two decisions at once the first holds."""
    if challenger.approved_by not in (None, by):
        raise TransitionRefused(
            f"challenger {challenger.version} is approved and cannot be {become}{_decided(db, challenger)}, expected "
            "one that nobody has decided on; who approved it can reject it, after its promotion: churn rollback"
        )


def _expect_not_moving(db: Connection, version: str) -> None:
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


def _change(
    db: Connection, challenger: Challenger, status: ChallengerStatus, message: str, by: Approver | None, at: datetime
) -> None:
    attempt = challenger.attempt if status == challenger.status else 1
    db.execute(
        "UPDATE challengers SET status = ?, attempt = ?, words = ?, approved_by = ?, changed_at = ? WHERE number = ?",
        (status, attempt, message, str(by or ""), _text(at), challenger.number),
    )


def _insert_approval(
    db: Connection, challenger: Challenger, approved: bool, by: Approver, why: str, at: datetime
) -> None:
    values = (challenger.number, challenger.version, approved, str(by), why, challenger.bundle_sha256, _text(at))
    _insert(db, "approvals", None, *values)


def _end_move(db: Connection, number: int, status: str, at: datetime, table: str = "moves") -> None:
    end = f"UPDATE {table} SET status = ?, ended_at = ? WHERE number = ? AND status = 'intended'"
    db.execute(end, (status, _text(at), number))


def _decision(row: Row) -> DecisionRecord:
    decision = Decision(
        **{name: row[name] for name in _DECISION}, inputs=DecisionInputs.from_json(json.loads(row["situation"]))
    )
    return DecisionRecord(row["number"], datetime.fromisoformat(row["decided_at"]), decision, row["request"])


def _challenger(row: Row) -> Challenger:
    verdict = None if row["verdict"] is None else Verdict.from_json(json.loads(row["verdict"]))
    instants = {name: datetime.fromisoformat(row[name]) for name in ("added_at", "changed_at")}
    stored = {name: row[name] for name in Challenger.__dataclass_fields__}
    return Challenger(**{**stored, **instants, "verdict": verdict, "approved_by": approver_of(stored["approved_by"])})


def _policy_move(row: Row) -> PolicyMove:
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


def _approval(row: Row) -> Approval:
    at, approved = datetime.fromisoformat(row["at"]), bool(row["approved"])
    return Approval(**{**dict(row), "by": approver_of(row["by"]), "approved": approved, "at": at})


def _text(at: datetime) -> str:
    """UTC with microseconds always, so that text sorts as time does. Raises ValueError without a time zone."""
    if at.tzinfo is None:
        raise ValueError(f"at is {at}, expected an instant with a time zone")
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
