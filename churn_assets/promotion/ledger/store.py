"""The ledger as a store: each call is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from churn_assets.errors import LedgerCorrupt, LedgerUnavailable, TransitionRefused
from churn_assets.promotion.ledger.challengers import (
    CHALLENGERS,
    LIVE,
    TO_PROMOTE,
    change_status,
    expect_approved,
    expect_not_moving,
    expect_status,
    expect_undecided,
    find_challenger,
    get_challenger,
    insert_approval,
    read_approval,
    read_challenger,
)
from churn_assets.promotion.ledger.moves import end_move, read_move, read_policy_move, was_champion
from churn_assets.promotion.ledger.requests import (
    DECISION,
    IN_FLIGHT,
    end_request,
    finish_request,
    get_request,
    insert_request,
    open_request,
    read_decision,
    read_request,
    read_state,
)
from churn_assets.promotion.ledger.rows import insert, json_of, text_of, where
from churn_assets.promotion.ledger.schema import POLICIES, SCHEMA
from churn_assets.promotion.pointer import Champion
from churn_assets.promotion.records import (
    ATTEMPTS,
    Approval,
    Approver,
    Challenger,
    ChallengerStatus,
    Decision,
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
)
from churn_assets.release.policy import ANSWERING
from churn_assets.storage.sqlite import SqliteStore


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
            decision = judge(read_state(db))
            values = [getattr(decision, name) for name in DECISION]
            number = insert(db, "decisions", None, text_of(at), *values, json_of(decision.inputs.to_json()))
            key = insert_request(db, number, decision, at) if decision.kind == "retrain" else None
            return DecisionRecord(number, at, decision, key)

    def state(self) -> LedgerState:
        """What a decision made now would depend on."""
        with self._reading() as db:
            return read_state(db)

    def decisions(self, last: int = 50) -> Sequence[DecisionRecord]:
        """The newest decisions, newest first."""
        query = (
            "SELECT d.*, d.words AS message, (SELECT min(key) FROM requests r WHERE r.decision = d.number) AS request "
            "FROM decisions d ORDER BY d.number DESC LIMIT ?"
        )
        with self._reading() as db:
            return [read_decision(row) for row in db.execute(query, (last,))]

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
            rows = db.execute(f"SELECT * FROM requests {where(statuses)} ORDER BY rowid", statuses)
            return [read_request(row) for row in rows]

    def start_request(self, key: str, run_id: str) -> None:
        """A run starts the request; again by the same run changes nothing. Raises TransitionRefused."""
        with self._writing() as db:
            request = get_request(db, key)
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
            request = get_request(db, key)
            if request.status not in IN_FLIGHT or request.run_id not in (None, run_id):
                return None
            is_last = request.attempt >= ATTEMPTS
            end_request(db, key, "abandoned" if is_last else "failed", f"run {run_id}: {why}", at)
            db.execute("UPDATE requests SET run_id = ? WHERE key = ?", (run_id, key))
            if is_last:
                return None
            return open_request(db, request.decision, request, request.attempt + 1, at)

    def abandon_request(self, key: str, outcome: str, at: datetime) -> None:
        """The request ends without a model and without another attempt: the labels it was asked for are not used up.
        Nothing changes if it has ended already."""
        with self._writing() as db:
            if get_request(db, key).status in IN_FLIGHT:
                end_request(db, key, "abandoned", outcome, at)

    def finish_request(self, key: str, outcome: str, at: datetime) -> None:
        """The request ended with this outcome; again changes nothing. Raises TransitionRefused."""
        with self._writing() as db:
            finish_request(db, key, outcome, at)

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
            if request is not None and get_request(db, request).status in ("finished", "abandoned"):
                request = None
            if request is not None:
                finish_request(db, request, f"challenger {version}", at)
            newest = find_challenger(db, version)
            if newest is not None and newest.status in LIVE:
                number = registered_version if registered_version is not None else newest.registered_version
                db.execute("UPDATE challengers SET registered_version = ? WHERE number = ?", (number, newest.number))
            else:
                values = (version, bundle, sha256, registered_version, request, "waiting_gate", 1, "", None, "")
                insert(db, "challengers", None, *values, text_of(at), text_of(at))
            return get_challenger(db, version)

    def challengers(self, *statuses: ChallengerStatus) -> Sequence[Challenger]:
        """Challengers in any of these statuses (all if none is named), oldest first."""
        with self._reading() as db:
            rows = db.execute(f"{CHALLENGERS} {where(statuses)} ORDER BY number", statuses)
            return [read_challenger(row) for row in rows]

    def challenger(self, version: str) -> Challenger:
        """The newest round of a version. Raises TransitionRefused if it never was a challenger."""
        with self._reading() as db:
            return get_challenger(db, version)

    def rounds(self, version: str) -> Sequence[Challenger]:
        """Every round of a version, oldest first; none if it never was a challenger."""
        with self._reading() as db:
            return [
                read_challenger(row)
                for row in db.execute(f"{CHALLENGERS} WHERE version = ? ORDER BY number", (version,))
            ]

    def challengers_to_promote(self) -> Sequence[Challenger]:
        """Those that a run of the gate should judge: waiting for it or approved, not failed 3 times. What is approved
        while a canary or ab runs waits for its end."""
        policy = self.newest_policy_move("done")
        running = policy is not None and policy.after.kind in ANSWERING
        return [
            c
            for c in self.challengers(*TO_PROMOTE)
            if c.attempt <= ATTEMPTS and not (running and c.status == "approved")
        ]

    def record_verdict(self, version: str, verdict: Verdict, *, needs_person: bool, at: datetime) -> Challenger:
        """Store the gate's verdict. Not passed: refused, also if a person had approved it.

        Passed: approved, unless it `needs_person` and none has approved it: then it waits for one. Raises
        TransitionRefused from refused, rejected and promoted.
        """
        with self._writing() as db:
            challenger = expect_status(db, version, LIVE, "judged")
            person = challenger.approved_by if isinstance(challenger.approved_by, Person) else None
            status: ChallengerStatus = "refused"
            by: Approver | None = person
            if verdict.passed and needs_person and person is None:
                status = "waiting_approval"
            elif verdict.passed:
                status, by = "approved", person or Gate()
                if challenger.status != "approved":
                    insert_approval(db, challenger, True, by, verdict.reason, at)
            stored = json_of(verdict.to_json())
            db.execute("UPDATE challengers SET verdict = ? WHERE number = ?", (stored, challenger.number))
            change_status(db, challenger, status, verdict.reason, by, at)
            return get_challenger(db, version)

    def approve(self, version: str, by: Person, why: str, bundle_sha256: str, at: datetime) -> Challenger:
        """A person approves these bytes. Raises TransitionRefused unless it waits for approval, also if another
        has approved it, or if the bundle is not the one that was judged. The same person again changes nothing."""
        with self._writing() as db:
            challenger = expect_status(db, version, ("waiting_approval", "approved"), "approved")
            if challenger.bundle_sha256 != bundle_sha256:
                raise TransitionRefused(
                    f"challenger {version}: its bundle is {bundle_sha256[:12]} now, the gate judged "
                    f"{challenger.bundle_sha256[:12]}; restore {challenger.bundle}, or retrain"
                )
            expect_undecided(db, challenger, by, "approved")
            if challenger.status == "waiting_approval":
                insert_approval(db, challenger, True, by, why, at)
                change_status(db, challenger, "approved", challenger.message, by, at)
            return get_challenger(db, version)

    def reject(self, version: str, by: Person, why: str, at: datetime) -> Challenger:
        """A person rejects it before promotion; the gate's approval and the person's own can be taken back. Raises
        TransitionRefused if it does not wait any more, or another person has approved it."""
        with self._writing() as db:
            challenger = expect_status(db, version, LIVE, "rejected")
            if challenger.approved_by != Gate():
                expect_undecided(db, challenger, by, "rejected")
            expect_not_moving(db, version)
            insert_approval(db, challenger, False, by, why, at)
            change_status(db, challenger, "rejected", why, None, at)
            return get_challenger(db, version)

    def fail_promotion(self, run_key: str, why: str, at: datetime) -> Challenger | None:
        """A run of the gate has failed: let it be run again, up to 3 times. None if its attempt is over already."""
        with self._writing() as db:
            rows = db.execute(f"{CHALLENGERS} {where(TO_PROMOTE)}", TO_PROMOTE)
            challenger = next((c for c in map(read_challenger, rows) if c.run_key == run_key), None)
            if challenger is None or challenger.attempt > ATTEMPTS:
                return None
            db.execute(
                "UPDATE challengers SET attempt = attempt + 1, words = ?, changed_at = ? WHERE number = ?",
                (f"the gate could not be run: {why}", text_of(at), challenger.number),
            )
            return get_challenger(db, challenger.version)

    def approvals(self) -> Sequence[Approval]:
        """Every approval and rejection, oldest first."""
        query = 'SELECT version, approved, "by", why, bundle_sha256, at FROM approvals ORDER BY number'
        with self._reading() as db:
            return [read_approval(row) for row in db.execute(query)]

    # -- moves of the champion ---------------------------------------------------------------------------

    def intend_move(
        self, kind: MoveKind, before: str | None, to: Champion, bundle_sha256: str, by: str, why: str, at: datetime
    ) -> int:
        """Record that the pointer is about to be written; the move's number.

        Raises TransitionRefused while another move is unfinished, and for a promotion of anything but an
        approved challenger whose bundle is the one that was judged, or a former champion whose bundle is what it was.
        """
        with self._writing() as db:
            unfinished = db.execute("SELECT \"to\" FROM moves WHERE status = 'intended'").fetchone()
            if unfinished is not None:
                raise TransitionRefused(
                    f"the move to {unfinished[0]} is not finished, expected no other; churn status finishes it"
                )
            if kind == "promotion" and not was_champion(db, to.version, bundle_sha256):
                expect_approved(db, to.version, bundle_sha256)
            values = (kind, before, to.version, json_of(to.to_json()), bundle_sha256, by, why)
            return insert(db, "moves", None, *values, "intended", text_of(at), None)

    def finish_move(self, number: int, at: datetime) -> None:
        """The pointer names the new champion; a challenger counts as promoted from here on."""
        with self._writing() as db:
            kind, version = db.execute('SELECT kind, "to" FROM moves WHERE number = ?', (number,)).fetchone()
            end_move(db, number, "done", at)
            challenger = find_challenger(db, version) if kind == "promotion" else None
            if challenger is not None and challenger.status in LIVE:
                change_status(db, challenger, "promoted", challenger.message, challenger.approved_by, at)

    def abandon_move(self, number: int, at: datetime) -> None:
        """The pointer was never written; the challenger, if there is one, stays approved."""
        with self._writing() as db:
            end_move(db, number, "abandoned", at)

    def unfinished_move(self) -> Move | None:
        """The move that was intended and neither done nor abandoned, if a process died in it."""
        return next(iter(self.moves("intended")), None)

    def moves(self, *statuses: MoveStatus) -> Sequence[Move]:
        """Moves in any of these statuses (all if none is named), oldest first."""
        with self._reading() as db:
            rows = db.execute(f"SELECT * FROM moves {where(statuses)} ORDER BY number", statuses)
            return [read_move(row) for row in rows]

    # -- moves of the routing policy ---------------------------------------------------------------------

    def intend_policy(self, move: PolicyMove, approved: Mapping[str, str]) -> None:
        """Record that the policy is about to be written. Its number is free: the caller holds the pointer's lock.

        `approved` are versions, and their bundles' hashes, that must be approved challengers. Raises TransitionRefused
        if one is not, and while another move is unfinished.
        """
        with self._writing() as db:
            for version, sha256 in approved.items():
                expect_approved(db, version, sha256)
            before = None if move.before is None else json_of(move.before.to_json())
            values = (move.kind, before, json_of(move.after.to_json()), move.by, move.why, move.outcome, "intended")
            numbers = None if move.numbers is None else json_of(dict(move.numbers))
            decides = json_of({str(number): decision for number, decision in move.decides.items()})
            insert(db, "policies", move.number, *values, text_of(move.intended_at), None, numbers, decides)

    def finish_policy(self, number: int, at: datetime) -> None:
        """The policy is in its file; challengers that it decides on are so from here on."""
        with self._writing() as db:
            move = read_policy_move(db.execute("SELECT * FROM policies WHERE number = ?", (number,)).fetchone())
            end_move(db, number, "done", at, "policies")
            for challenger in map(read_challenger, db.execute(CHALLENGERS).fetchall()):
                decision = move.decides.get(challenger.number)
                person = Person(move.by) if decision else None
                if person is not None and challenger.status in (*LIVE, "rejected") and decision != challenger.status:
                    insert_approval(db, challenger, decision == "approved", person, move.why, at)
                    by = person if decision == "approved" else None
                    change_status(db, challenger, decision, move.why, by, at)  # type: ignore[arg-type]

    def abandon_policy(self, number: int, at: datetime) -> None:
        """The policy was never written."""
        with self._writing() as db:
            end_move(db, number, "abandoned", at, "policies")

    def policy_moves(self, *statuses: MoveStatus) -> Sequence[PolicyMove]:
        """Moves of the policy in any of these statuses (all if none is named), oldest first."""
        return self._policy_moves(f"{where(statuses)} ORDER BY number", statuses)

    def newest_policy_move(self, *statuses: MoveStatus) -> PolicyMove | None:
        """The newest of `policy_moves`, None if there is none."""
        return next(iter(self._policy_moves(f"{where(statuses)} ORDER BY number DESC LIMIT 1", statuses)), None)

    def policy_heads(self) -> tuple[PolicyMove | None, PolicyMove | None]:
        """The unfinished move of the policy, and the newest one that is done; one reading, for what runs often."""
        newest = "WHERE number = (SELECT max(number) FROM policies WHERE status = 'done') OR status = 'intended'"
        heads = {move.status: move for move in self._policy_moves(newest, ())}
        return heads.get("intended"), heads.get("done")

    def _policy_moves(self, clause: str, statuses: Sequence[str]) -> Sequence[PolicyMove]:
        with self._reading() as db:
            if self._stored_version(db) < 2:  # a ledger that nothing was written to since an earlier release
                return []
            return [read_policy_move(row) for row in db.execute(f"SELECT * FROM policies {clause}", statuses)]

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
