"""The ledger: every allowed transition, no other, and clear errors for a damaged file."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from churn_assets.errors import LedgerCorrupt, LedgerUnavailable, TransitionRefused
from churn_assets.promotion.ledger import IN_FLIGHT, SCHEMA, Ledger
from churn_assets.promotion.records import Check, Decision, DecisionInputs, Gate, MonitoredWindow, Person, Verdict
from churn_assets_tests.promotion.homes import AT, champion, record_decision

DRIFT = Decision("retrain", "a drifted twice", "drift", "7", "v1", inputs=DecisionInputs(labels=30))
KEY = "retrain-drift-7-v1-1"
PASSED = Verdict("v1", "v2", (Check("holdout_pr_auc", 0.01, 0.0, True, "better"),))
FAILED = Verdict("v1", "v2", (Check("holdout_pr_auc", -0.01, 0.0, False, "worse"),))
ANA = Person("ana")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "home" / "ledger.db")


def challenged(ledger: Ledger, version: str = "v2") -> None:
    ledger.add_challenger(version, f"bundles/{version}", "aa", None, None, AT)


def waiting(ledger: Ledger) -> None:
    challenged(ledger)
    ledger.record_verdict("v2", PASSED, needs_person=True, at=AT)


# -- decisions and requests --------------------------------------------------------------------------


def test_reading_a_home_without_a_ledger_finds_nothing_and_makes_nothing(ledger):
    assert (ledger.decisions(), ledger.requests("open"), ledger.challengers(), ledger.moves()) == ([], [], [], [])
    assert ledger.unfinished_move() is None
    assert ledger.state().asked == frozenset()
    assert not ledger.path.parent.exists()


def test_a_decision_and_its_request_are_kept_together(ledger):
    assert record_decision(ledger, DRIFT, AT) == 1
    (kept,), (request,) = ledger.decisions(), ledger.requests("open")
    assert (kept.decision, kept.decided_at, kept.request) == (DRIFT, AT, KEY)
    assert (request.key, request.decision, request.attempt, request.status) == (KEY, 1, 1, "open")
    state = ledger.state()
    assert (state.asked, state.last_asked_at, state.labels_used) == ({("drift", "7", "v1")}, AT, 30)
    assert state.in_flight == (KEY, "open")


def test_a_retraining_that_was_given_up_has_used_no_labels_and_still_counts_for_the_cooldown(ledger):
    record_decision(ledger, DRIFT, AT)
    for attempt in range(1, 4):
        assert ledger.state().labels_used == 30
        ledger.fail_request(f"{KEY[:-1]}{attempt}", f"run{attempt}", "the disk is full", AT)
    assert ledger.requests()[-1].status == "abandoned"
    assert (ledger.state().labels_used, ledger.state().last_asked_at) == (0, AT)


def test_broken_data_is_what_the_newest_decision_has_found(ledger):
    assert ledger.broken_data() is None
    record_decision(
        ledger, Decision("investigate_data", "mend it", inputs=DecisionInputs(broken="window 7: all zero")), AT
    )
    assert ledger.broken_data() == "window 7: all zero"
    record_decision(ledger, DRIFT, AT)
    assert ledger.broken_data() is None


@pytest.mark.parametrize("kind", ["nothing", "wait", "investigate_data"])
def test_any_other_decision_asks_for_nothing(ledger, kind):
    record_decision(ledger, Decision(kind, "so it is"), AT)
    assert ledger.requests() == []
    assert ledger.decisions()[0].request is None


def test_a_decision_to_retrain_without_an_occasion_cannot_be_made():
    with pytest.raises(ValueError, match="occasion"):
        Decision("retrain", "why not")


def test_no_second_request_is_opened_while_one_is_in_flight_and_no_decision_is_kept_without_its_request(ledger):
    record_decision(ledger, DRIFT, AT)
    for _ in range(2):
        with pytest.raises(TransitionRefused, match=rf"{KEY} is (open|started)[^\n]+wait until it has ended"):
            record_decision(ledger, Decision("retrain", "again", "hand", "1", "v1"), AT)
        ledger.start_request(KEY, "run1")
    assert len(ledger.decisions()) == len(ledger.requests()) == 1


def test_the_same_occasion_is_never_asked_for_twice(ledger):
    record_decision(ledger, DRIFT, AT)
    ledger.finish_request(KEY, "done", AT)
    with pytest.raises(TransitionRefused, match="was made before"):
        record_decision(ledger, DRIFT, AT)


def test_a_request_belongs_to_the_run_that_took_it_first(ledger):
    record_decision(ledger, DRIFT, AT)
    ledger.start_request(KEY, "run1")
    ledger.start_request(KEY, "run1")
    with pytest.raises(TransitionRefused, match=r"is started \(run run1\), expected open"):
        ledger.start_request(KEY, "run2")
    assert ledger.fail_request(KEY, "run2", "another's failure", AT) is None
    assert [r.status for r in ledger.requests()] == ["started"]


def test_a_failed_request_is_opened_again_twice_and_then_given_up(ledger):
    record_decision(ledger, DRIFT, AT)
    for attempt in (1, 2, 3):
        key = f"retrain-drift-7-v1-{attempt}"
        ledger.start_request(key, f"run{attempt}")
        following = ledger.fail_request(key, f"run{attempt}", "boom", AT)
        assert (following is None) == (attempt == 3)
        assert ledger.fail_request(key, f"run{attempt}", "told twice", AT) is None
    assert [r.status for r in ledger.requests()] == ["failed", "failed", "abandoned"]
    assert ledger.requests()[2].outcome == "run run3: boom"
    assert ledger.requests(*IN_FLIGHT) == []


def test_a_request_whose_run_never_began_can_fail_as_well(ledger):
    record_decision(ledger, DRIFT, AT)
    assert ledger.fail_request(KEY, "run1", "it could not be launched", AT).attempt == 2


def test_a_challenger_ends_its_request_whatever_becomes_of_the_run_afterwards(ledger):
    record_decision(ledger, DRIFT, AT)
    ledger.start_request(KEY, "run1")
    ledger.add_challenger("v2", "bundles/v2", "aa", None, KEY, AT)
    ledger.finish_request(KEY, "told again", AT)
    assert ledger.fail_request(KEY, "run1", "the report failed", AT) is None
    assert [(r.status, r.outcome) for r in ledger.requests()] == [("finished", "challenger v2")]


def test_a_run_that_is_run_again_after_its_request_has_ended_makes_a_challenger_of_its_own(ledger):
    record_decision(ledger, DRIFT, AT)
    ledger.add_challenger("v2", "bundles/v2", "aa", None, KEY, AT)
    assert ledger.add_challenger("v3", "bundles/v3", "bb", None, KEY, AT).request is None
    assert ledger.requests()[0].outcome == "challenger v2"


def test_an_unknown_or_ended_request_is_refused_in_words(ledger):
    with pytest.raises(TransitionRefused, match="there is no request nowhere"):
        ledger.start_request("nowhere", "run1")
    record_decision(ledger, DRIFT, AT)
    ledger.fail_request(KEY, "run1", "boom", AT)
    with pytest.raises(TransitionRefused, match="is failed"):
        ledger.finish_request(KEY, "done", AT)
    with pytest.raises(TransitionRefused, match="is failed"):
        ledger.add_challenger("v2", "bundles/v2", "aa", None, KEY, AT)
    assert ledger.challengers() == []


# -- challengers -------------------------------------------------------------------------------------

START = {
    "waiting_gate": challenged,
    "waiting_approval": waiting,
    "approved": lambda ledger: (waiting(ledger), ledger.approve("v2", ANA, "read it", "aa", AT)),
    "refused": lambda ledger: (challenged(ledger), ledger.record_verdict("v2", FAILED, needs_person=True, at=AT)),
    "rejected": lambda ledger: (waiting(ledger), ledger.reject("v2", ANA, "no", AT)),
}
DO = {
    "pass, manual": lambda ledger: ledger.record_verdict("v2", PASSED, needs_person=True, at=AT),
    "pass, automatic": lambda ledger: ledger.record_verdict("v2", PASSED, needs_person=False, at=AT),
    "fail": lambda ledger: ledger.record_verdict("v2", FAILED, needs_person=False, at=AT),
    "approve": lambda ledger: ledger.approve("v2", ANA, "read it", "aa", AT),
    "reject": lambda ledger: ledger.reject("v2", ANA, "no", AT),
}
BECOMES = {
    "waiting_gate": ("waiting_approval", "approved", "refused", None, "rejected"),
    "waiting_approval": ("waiting_approval", "approved", "refused", "approved", "rejected"),
    "approved": ("approved", "approved", "refused", "approved", "rejected"),
    "refused": (None,) * 5,
    "rejected": (None,) * 5,
}


@pytest.mark.parametrize("start", START)
@pytest.mark.parametrize("act", DO)
def test_a_challenger_becomes_what_it_may_and_nothing_else(ledger, start, act):
    START[start](ledger)
    becomes = BECOMES[start][list(DO).index(act)]
    if becomes is None:
        with pytest.raises(TransitionRefused, match=r"^challenger v2 is \w+[^\n]+; see churn status$"):
            DO[act](ledger)
        assert ledger.challenger("v2").status == start
    else:
        DO[act](ledger)
        assert ledger.challenger("v2").status == becomes


def test_an_approval_by_the_gate_is_taken_back_when_the_contract_now_wants_a_person(ledger):
    challenged(ledger)
    assert ledger.record_verdict("v2", PASSED, needs_person=False, at=AT).approved_by == Gate()
    assert ledger.record_verdict("v2", PASSED, needs_person=True, at=AT).status == "waiting_approval"
    assert [(a.by, a.approved) for a in ledger.approvals()] == [(Gate(), True)]


def test_an_approval_is_of_the_bytes_that_were_judged(ledger):
    waiting(ledger)
    with pytest.raises(TransitionRefused, match="its bundle is bb now, the gate judged aa"):
        ledger.approve("v2", ANA, "read it", "bb", AT)
    ledger.approve("v2", ANA, "read it", "aa", AT)
    (approval,) = ledger.approvals()
    assert (approval.by, approval.why, approval.bundle_sha256, approval.at) == (ANA, "read it", "aa", AT)
    assert ledger.challenger("v2").verdict == PASSED


def test_an_unknown_challenger_is_answered_with_those_there_are(ledger):
    with pytest.raises(
        TransitionRefused, match=r"no challenger v9, and none in this home yet, .* makes one: churn retrain"
    ):
        ledger.challenger("v9")
    challenged(ledger)
    with pytest.raises(TransitionRefused, match=r"no challenger v9, expected one of: v2"):
        ledger.approve("v9", ANA, "", "aa", AT)


def test_the_same_version_waits_once_and_starts_again_after_it_was_refused(ledger):
    challenged(ledger)
    first = ledger.add_challenger("v2", "bundles/v2", "aa", 4, None, AT)
    assert (len(ledger.challengers()), first.registered_version) == (1, 4)
    ledger.record_verdict("v2", FAILED, needs_person=False, at=AT)
    again = ledger.add_challenger("v2", "bundles/v2", "aa", 4, None, AT)
    assert (again.number, again.status) == (2, "waiting_gate")
    assert first.run_key != again.run_key


def test_a_gate_that_cannot_be_run_is_tried_three_times(ledger):
    challenged(ledger)
    keys = []
    while ledger.challengers_to_promote():
        (challenger,) = ledger.challengers_to_promote()
        keys.append(challenger.run_key)
        ledger.fail_promotion(challenger.run_key, "MLflow is away", AT)
        assert ledger.fail_promotion(challenger.run_key, "told twice", AT) is None
    assert len(set(keys)) == 3
    assert ledger.challenger("v2").message == "the gate could not be run: MLflow is away"


def test_rejections_are_counted_since_the_last_promotion(ledger, tmp_path):
    for number in range(3):
        challenged(ledger, f"r{number}")
        ledger.record_verdict(f"r{number}", FAILED, needs_person=False, at=AT)
    assert ledger.state().rejections == 3
    challenged(ledger)
    ledger.record_verdict("v2", PASSED, needs_person=False, at=AT)
    ledger.finish_move(ledger.intend_move("promotion", "v1", champion("v2"), "aa", "the gate", "better", AT), AT)
    assert ledger.challenger("v2").status == "promoted"
    assert ledger.state().rejections == 0


# -- the file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"not a database, and longer than a header of one" * 9, b"SQLite format 3\0" + b"\xff" * 900]
)
def test_a_damaged_file_is_an_error_that_says_what_to_do(ledger, content):
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(content)
    for act in (ledger.state, lambda: record_decision(ledger, DRIFT, AT)):
        with pytest.raises(
            LedgerCorrupt, match=r"ledger\.db: is damaged or not a ledger [^\n]+restore it, or move it away"
        ):
            act()
    assert ledger.path.read_bytes() == content


def test_a_database_of_another_program_or_of_a_newer_churn_is_told(ledger):
    ledger.path.parent.mkdir()
    with sqlite3.connect(ledger.path) as db:
        db.execute("PRAGMA user_version = 1")
    db.close()
    with pytest.raises(LedgerCorrupt, match="no such table"):
        ledger.decisions()
    with sqlite3.connect(ledger.path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LedgerCorrupt, match="format 99, expected 2"):
        ledger.decisions()


def test_a_ledger_that_was_killed_before_its_first_transaction_is_empty(ledger):
    ledger.path.parent.mkdir()
    ledger.path.touch()
    assert ledger.decisions() == []
    record_decision(ledger, DRIFT, AT)
    assert len(ledger.decisions()) == 1


def test_a_locked_ledger_is_told_after_a_while_and_read_all_the_same(ledger, monkeypatch):
    record_decision(ledger, DRIFT, AT)
    monkeypatch.setattr(Ledger, "busy_s", 0.05)
    with sqlite3.connect(ledger.path, isolation_level=None) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="database is locked"):
            ledger.finish_request(KEY, "done", AT)
        assert len(ledger.requests("open")) == 1
    holder.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerUnavailable, match="expected a ledger and a folder that can be written"):
        record_decision(Ledger(tmp_path / "file" / "ledger.db"), DRIFT, AT)


def test_an_instant_without_a_time_zone_is_refused(ledger):
    with pytest.raises(ValueError, match="time zone"):
        record_decision(ledger, DRIFT, datetime(2026, 1, 1))


def _decide(path: str, number: int) -> int:
    try:
        record_decision(Ledger(Path(path)), Decision("retrain", "me", "hand", f"{number}", "v1"), AT)
    except TransitionRefused:
        return 0
    return 1


def test_of_many_processes_that_decide_at_once_one_opens_a_request(ledger):
    ledger.path.parent.mkdir()
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        opened = pool.starmap(_decide, [(str(ledger.path), number) for number in range(12)])
    assert sum(opened) == 1
    assert len(ledger.decisions()) == len(ledger.requests()) == 1


def _answer(path: str, answers: Sequence[str], name: str, barrier: Barrier, results: Any) -> None:
    ledger, outcomes = Ledger(Path(path)), []
    for number, answer in enumerate(answers):
        barrier.wait(60)
        at = datetime.now(UTC)
        try:
            if answer == "approve":
                ledger.approve(f"c{number}", Person(name), "read it", "aa", at)
            else:
                ledger.reject(f"c{number}", Person(name), "no", at)
            outcomes.append((f"{name} {answer.removesuffix('e')}ed it on {at:%Y-%m-%d %H:%M:%S} UTC", ""))
        except TransitionRefused as error:
            outcomes.append(("", str(error)))
    results.put(outcomes)


def test_of_two_persons_who_decide_at_once_one_does_and_the_other_is_told_who_and_when(ledger):
    pairs = [("approve", "approve"), ("approve", "reject"), ("reject", "approve"), ("reject", "reject")] * 6
    for number in range(len(pairs)):
        challenged(ledger, f"c{number}")
        ledger.record_verdict(f"c{number}", PASSED, needs_person=True, at=AT)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    persons = [
        context.Process(target=_answer, args=(str(ledger.path), answers, name, barrier, results))
        for name, answers in zip(("ana", "ben"), zip(*pairs, strict=True), strict=True)
    ]
    for person in persons:
        person.start()
    outcomes = [results.get(timeout=120) for _ in persons]
    for person in persons:
        person.join()
    for number, ((first, first_error), (second, second_error)) in enumerate(zip(*outcomes, strict=True)):
        assert bool(first) != bool(second), f"c{number}: exactly one decides"
        assert f"({first or second})" in (first_error or second_error)
        assert ledger.challenger(f"c{number}").status == ("approved" if "approved" in first + second else "rejected")
    assert len(ledger.approvals()) == len(pairs)


def test_who_approved_can_reject_until_the_promotion_and_what_the_gate_approved_anybody(ledger):
    waiting(ledger)
    ledger.approve("v2", ANA, "read it", "aa", AT)
    for act in (
        lambda: ledger.approve("v2", Person("ben"), "too", "aa", AT),
        lambda: ledger.reject("v2", Person("ben"), "no", AT),
    ):
        with pytest.raises(TransitionRefused, match=r"\(ana approved it on 2026-11-21 12:00:00 UTC\)"):
            act()
    assert ledger.reject("v2", ANA, "read it again", AT).status == "rejected"
    challenged(ledger, "v3")
    ledger.record_verdict("v3", PASSED, needs_person=False, at=AT)
    with pytest.raises(TransitionRefused, match=r"\(the gate approved it on "):
        ledger.approve("v3", ANA, "read it", "aa", AT)
    assert ledger.reject("v3", ANA, "no", AT).status == "rejected"


def test_two_moves_at_once_and_a_promotion_that_nobody_approved_are_refused(ledger):
    challenged(ledger)
    with pytest.raises(TransitionRefused, match="is waiting gate"):
        ledger.intend_move("promotion", "v1", champion("v2"), "aa", "the gate", "better", AT)
    ledger.record_verdict("v2", PASSED, needs_person=False, at=AT)
    with pytest.raises(TransitionRefused, match="bundle aa, found bb"):
        ledger.intend_move("promotion", "v1", champion("v2"), "bb", "the gate", "better", AT)
    ledger.intend_move("promotion", "v1", champion("v2"), "aa", "the gate", "better", AT)
    with pytest.raises(TransitionRefused, match="the move to v2 is not finished"):
        ledger.intend_move("rollback", "v1", champion("v0"), "aa", "ana", "back", AT)
    with pytest.raises(TransitionRefused, match="just becoming champion"):
        ledger.reject("v2", ANA, "no", AT)


def test_instants_come_back_as_they_were_kept(ledger):
    at = AT + timedelta(microseconds=5)
    record_decision(ledger, DRIFT, at)
    assert ledger.decisions()[0].decided_at == at
    assert ledger.decisions()[0].decided_at.tzinfo == UTC


def test_the_gate_and_a_person_are_different_approvers_and_nobody_takes_the_name_of_the_gate(ledger):
    waiting(ledger)
    for name in ("the gate", " ", ""):
        with pytest.raises(TransitionRefused, match="expected the name of a person"):
            Person(name)
    assert ledger.approve("v2", ANA, "read it", "aa", AT).approved_by == ANA != Gate()


OLD = """
INSERT INTO decisions VALUES (1, '2026-01-01T00:00:00.000000+00:00', 'retrain', 'a drifted', 'drift', '7', 'v1', '', '',
  '{"champion": "v1", "windows": [[6, "ok", "stable", []], [7, "broken", "drift", ["a"]]], "broken": "",
    "stale": "the log is stale", "labels": 30}');
INSERT INTO requests VALUES ('retrain-drift-7-v1-1', 1, 'drift', '7', 'v1', 1, 'finished', NULL, 'challenger v2',
  '2026-01-01T00:00:00.000000+00:00', '2026-01-02T00:00:00.000000+00:00');
INSERT INTO challengers VALUES (1, 'v2', 'bundles/v2', 'aa', NULL, 'retrain-drift-7-v1-1', 'promoted', 1, 'it passed',
  '{"champion": "v1", "challenger": "v2", "passed": true, "reason": "it passed", "checks":
    [{"check": "holdout_pr_auc", "found": 0.01, "limit": 0.0, "passed": true, "words": "better"}]}',
  'the gate', '2026-01-01T00:00:00.000000+00:00', '2026-01-03T00:00:00.000000+00:00');
INSERT INTO challengers VALUES (2, 'v3', 'bundles/v3', 'bb', 4, NULL, 'approved', 1, 'it passed', '{}',
  'ana', '2026-01-01T00:00:00.000000+00:00', '2026-01-03T00:00:00.000000+00:00');
INSERT INTO approvals VALUES (1, 1, 'v2', 1, 'the gate', 'it passed', 'aa', '2026-01-03T00:00:00.000000+00:00');
INSERT INTO approvals VALUES (2, 2, 'v3', 1, 'ana', 'read it', 'bb', '2026-01-03T00:00:00.000000+00:00');
"""


def test_a_ledger_of_version_0_1_is_read_as_it_was_written(ledger):
    ledger.path.parent.mkdir()
    with sqlite3.connect(ledger.path) as db:
        db.executescript(f"{SCHEMA} PRAGMA user_version = 1; {OLD}")
    db.close()
    (record,), (first, second) = ledger.decisions(), ledger.challengers()
    assert record.decision.message == "a drifted"
    assert record.decision.inputs.windows == (
        MonitoredWindow(6, "stable"),
        MonitoredWindow(7, "drift", ("a",), "broken"),
    )
    assert (record.decision.inputs.broken, record.decision.inputs.stale) == (None, "the log is stale")
    assert (first.verdict, first.approved_by) == (PASSED, Gate())
    assert (second.verdict, second.approved_by) == (Verdict("", ""), ANA)
    assert [approval.by for approval in ledger.approvals()] == [Gate(), ANA]
    assert (ledger.state().labels_used, ledger.state().waiting) == (30, ("v3", "approved"))
    assert ledger.record_verdict("v3", FAILED, needs_person=True, at=AT).status == "refused"


def test_decisions_and_verdicts_are_stored_with_the_number_of_their_format(ledger):
    waiting(ledger)
    record_decision(ledger, DRIFT, AT)
    with sqlite3.connect(ledger.path) as db:
        stored = [*db.execute("SELECT situation FROM decisions"), *db.execute("SELECT verdict FROM challengers")]
    db.close()
    assert [json.loads(text)["version"] for (text,) in stored] == [1, 1]
    assert ledger.decisions()[0].decision == DRIFT
