"""The ledger: every transition that may be, none that may not, and plain words for a file that is none."""

from __future__ import annotations

import multiprocessing
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from churn_assets.errors import LedgerCorrupt, LedgerUnavailable, TransitionRefused
from churn_assets.promotion.ledger.ledger import Ledger
from churn_assets.promotion.records import GATE, Decision
from churn_assets_tests.promotion.homes import AT, champion

DRIFT = Decision("retrain", "a drifted twice", "drift", "7", "v1", situation={"labels": 30})
KEY = "retrain-drift-7-v1-1"
VERDICT = {"difference": 0.01}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "home" / "ledger.db")


def challenged(ledger: Ledger, version: str = "v2") -> None:
    ledger.add_challenger(version, f"bundles/{version}", "aa", None, None, AT)


def waiting(ledger: Ledger) -> None:
    challenged(ledger)
    ledger.record_verdict("v2", True, VERDICT, "manual", now=AT)


# -- decisions and requests --------------------------------------------------------------------------


def test_reading_a_home_without_a_ledger_finds_nothing_and_makes_nothing(ledger):
    assert (ledger.decisions(), ledger.open_requests(), ledger.challengers(), ledger.moves()) == ([], [], [], [])
    assert ledger.unfinished_move() is None
    assert ledger.memory().asked == frozenset()
    assert not ledger.path.parent.exists()


def test_a_decision_and_its_request_are_kept_together(ledger):
    assert ledger.record_decision(DRIFT, AT) == 1
    (kept,), (request,) = ledger.decisions(), ledger.open_requests()
    assert (kept.decision, kept.decided_at, kept.request) == (DRIFT, AT, KEY)
    assert (request.key, request.decision, request.attempt, request.status) == (KEY, 1, 1, "open")
    memory = ledger.memory()
    assert (memory.asked, memory.last_asked_at, memory.labels_used) == ({("drift", "7", "v1")}, AT, 30)
    assert memory.in_flight == f"request {KEY} is open"


def test_a_retraining_that_was_given_up_has_used_no_labels_and_still_counts_for_the_cooldown(ledger):
    ledger.record_decision(DRIFT, AT)
    for attempt in range(1, 4):
        assert ledger.memory().labels_used == 30
        ledger.fail_request(f"{KEY[:-1]}{attempt}", f"run{attempt}", "the disk is full", AT)
    assert ledger.requests()[-1].status == "abandoned"
    assert (ledger.memory().labels_used, ledger.memory().last_asked_at) == (0, AT)


def test_broken_data_is_what_the_newest_decision_has_found(ledger):
    assert ledger.broken_data() == ""
    ledger.record_decision(Decision("investigate_data", "mend it", situation={"broken": "window 7: all zero"}), AT)
    assert ledger.broken_data() == "window 7: all zero"
    ledger.record_decision(DRIFT, AT)
    assert ledger.broken_data() == ""


@pytest.mark.parametrize("kind", ["nothing", "wait", "investigate_data"])
def test_any_other_decision_asks_for_nothing(ledger, kind):
    ledger.record_decision(Decision(kind, "so it is"), AT)
    assert ledger.requests() == []
    assert ledger.decisions()[0].request is None


def test_a_decision_to_retrain_without_an_occasion_cannot_be_made():
    with pytest.raises(ValueError, match="occasion"):
        Decision("retrain", "why not")


def test_no_second_request_is_opened_while_one_is_in_flight_and_no_decision_is_kept_without_its_request(ledger):
    ledger.record_decision(DRIFT, AT)
    for _ in range(2):
        with pytest.raises(TransitionRefused, match=rf"{KEY} is (open|started)[^\n]+wait until it has ended"):
            ledger.record_decision(Decision("retrain", "again", "hand", "1", "v1"), AT)
        ledger.start_request(KEY, "run1")
    assert len(ledger.decisions()) == len(ledger.requests()) == 1


def test_the_same_occasion_is_never_asked_for_twice(ledger):
    ledger.record_decision(DRIFT, AT)
    ledger.finish_request(KEY, "done")
    with pytest.raises(TransitionRefused, match="was made before"):
        ledger.record_decision(DRIFT, AT)


def test_a_request_belongs_to_the_run_that_took_it_first(ledger):
    ledger.record_decision(DRIFT, AT)
    ledger.start_request(KEY, "run1")
    ledger.start_request(KEY, "run1")
    with pytest.raises(TransitionRefused, match=r"is started \(run run1\), expected open"):
        ledger.start_request(KEY, "run2")
    assert ledger.fail_request(KEY, "run2", "another's failure") is None
    assert [r.status for r in ledger.requests()] == ["started"]


def test_a_failed_request_is_opened_again_twice_and_then_given_up(ledger):
    ledger.record_decision(DRIFT, AT)
    for attempt in (1, 2, 3):
        key = f"retrain-drift-7-v1-{attempt}"
        ledger.start_request(key, f"run{attempt}")
        following = ledger.fail_request(key, f"run{attempt}", "boom", AT)
        assert (following is None) == (attempt == 3)
        assert ledger.fail_request(key, f"run{attempt}", "told twice") is None
    assert [r.status for r in ledger.requests()] == ["failed", "failed", "abandoned"]
    assert ledger.requests()[2].outcome == "run run3: boom"
    assert ledger.requests_in_flight() == []


def test_a_request_whose_run_never_began_can_fail_as_well(ledger):
    ledger.record_decision(DRIFT, AT)
    assert ledger.fail_request(KEY, "run1", "it could not be launched").attempt == 2


def test_a_challenger_ends_its_request_whatever_becomes_of_the_run_afterwards(ledger):
    ledger.record_decision(DRIFT, AT)
    ledger.start_request(KEY, "run1")
    ledger.add_challenger("v2", "bundles/v2", "aa", None, KEY, AT)
    ledger.finish_request(KEY, "told again")
    assert ledger.fail_request(KEY, "run1", "the report failed") is None
    assert [(r.status, r.outcome) for r in ledger.requests()] == [("finished", "challenger v2")]


def test_a_run_that_is_run_again_after_its_request_has_ended_makes_a_challenger_of_its_own(ledger):
    ledger.record_decision(DRIFT, AT)
    ledger.add_challenger("v2", "bundles/v2", "aa", None, KEY)
    assert ledger.add_challenger("v3", "bundles/v3", "bb", None, KEY).request is None
    assert ledger.requests()[0].outcome == "challenger v2"


def test_an_unknown_or_ended_request_is_refused_in_words(ledger):
    with pytest.raises(TransitionRefused, match="there is no request nowhere"):
        ledger.start_request("nowhere", "run1")
    ledger.record_decision(DRIFT, AT)
    ledger.fail_request(KEY, "run1", "boom")
    with pytest.raises(TransitionRefused, match="is failed"):
        ledger.finish_request(KEY, "done")
    with pytest.raises(TransitionRefused, match="is failed"):
        ledger.add_challenger("v2", "bundles/v2", "aa", None, KEY)
    assert ledger.challengers() == []


# -- challengers -------------------------------------------------------------------------------------

START = {
    "waiting_gate": challenged,
    "waiting_approval": waiting,
    "approved": lambda ledger: (waiting(ledger), ledger.approve("v2", "ana", "read it", "aa")),
    "refused": lambda ledger: (challenged(ledger), ledger.record_verdict("v2", False, VERDICT, "manual")),
    "rejected": lambda ledger: (waiting(ledger), ledger.reject("v2", "ana", "no")),
}
DO = {
    "pass, manual": lambda ledger: ledger.record_verdict("v2", True, VERDICT, "manual"),
    "pass, automatic": lambda ledger: ledger.record_verdict("v2", True, VERDICT, "automatic"),
    "fail": lambda ledger: ledger.record_verdict("v2", False, VERDICT, "automatic"),
    "approve": lambda ledger: ledger.approve("v2", "ana", "read it", "aa"),
    "reject": lambda ledger: ledger.reject("v2", "ana", "no"),
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
    assert ledger.record_verdict("v2", True, VERDICT, "automatic").approved_by == GATE
    assert ledger.record_verdict("v2", True, VERDICT, "manual").status == "waiting_approval"
    assert [(a.by, a.approved) for a in ledger.approvals()] == [(GATE, True)]


def test_an_approval_is_of_the_bytes_that_were_judged(ledger):
    waiting(ledger)
    with pytest.raises(TransitionRefused, match="its bundle is bb now, the gate judged aa"):
        ledger.approve("v2", "ana", "read it", "bb")
    ledger.approve("v2", "ana", "read it", "aa", AT)
    (said,) = ledger.approvals()
    assert (said.by, said.why, said.bundle_sha256, said.at) == ("ana", "read it", "aa", AT)
    assert ledger.challenger("v2").verdict == VERDICT


def test_an_unknown_challenger_is_answered_with_those_there_are(ledger):
    with pytest.raises(TransitionRefused, match="no challenger v9, expected one of: none yet"):
        ledger.challenger("v9")
    challenged(ledger)
    with pytest.raises(TransitionRefused, match="no challenger v9, expected one of: v2"):
        ledger.approve("v9", "ana", "", "aa")


def test_the_same_version_waits_once_and_starts_again_after_it_was_refused(ledger):
    challenged(ledger)
    first = ledger.add_challenger("v2", "bundles/v2", "aa", 4, None)
    assert (len(ledger.challengers()), first.registered_version) == (1, 4)
    ledger.record_verdict("v2", False, VERDICT, "automatic", "worse")
    again = ledger.add_challenger("v2", "bundles/v2", "aa", 4, None)
    assert (again.number, again.status) == (2, "waiting_gate")
    assert first.run_key != again.run_key


def test_a_gate_that_cannot_be_run_is_tried_three_times(ledger):
    challenged(ledger)
    keys = []
    while ledger.challengers_to_promote():
        (one,) = ledger.challengers_to_promote()
        keys.append(one.run_key)
        ledger.fail_promotion(one.run_key, "MLflow is away")
        assert ledger.fail_promotion(one.run_key, "told twice") is None
    assert len(set(keys)) == 3
    assert ledger.challenger("v2").words == "the gate could not be run: MLflow is away"


def test_rejections_are_counted_since_the_last_promotion(ledger, tmp_path):
    for number in range(3):
        challenged(ledger, f"r{number}")
        ledger.record_verdict(f"r{number}", False, VERDICT, "automatic")
    assert ledger.rejections_in_a_row() == ledger.memory().rejections == 3
    challenged(ledger)
    ledger.record_verdict("v2", True, VERDICT, "automatic")
    ledger.finish_move(ledger.intend_move("promotion", "v1", champion("v2"), "aa", GATE, "better", AT))
    assert ledger.challenger("v2").status == "promoted"
    assert ledger.rejections_in_a_row() == 0


# -- the file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"not a database, and longer than a header of one" * 9, b"SQLite format 3\0" + b"\xff" * 900]
)
def test_a_damaged_file_is_an_error_that_says_what_to_do(ledger, content):
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(content)
    for act in (ledger.memory, lambda: ledger.record_decision(DRIFT)):
        with pytest.raises(
            LedgerCorrupt, match=r"ledger\.db: is no ledger or a damaged one [^\n]+restore it, or move it away"
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
    with pytest.raises(LedgerCorrupt, match="format 99, expected 1"):
        ledger.decisions()


def test_a_ledger_that_was_killed_before_its_first_transaction_is_empty(ledger):
    ledger.path.parent.mkdir()
    ledger.path.touch()
    assert ledger.decisions() == []
    ledger.record_decision(DRIFT)
    assert len(ledger.decisions()) == 1


def test_a_locked_ledger_is_told_after_a_while_and_read_all_the_same(ledger, monkeypatch):
    ledger.record_decision(DRIFT)
    monkeypatch.setattr(Ledger, "busy_s", 0.05)
    with sqlite3.connect(ledger.path, isolation_level=None) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="database is locked"):
            ledger.finish_request(KEY, "done")
        assert len(ledger.open_requests()) == 1
    holder.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerUnavailable, match="expected a ledger and a folder that can be written"):
        Ledger(tmp_path / "file" / "ledger.db").record_decision(DRIFT)


def test_an_instant_without_a_time_zone_is_refused(ledger):
    with pytest.raises(ValueError, match="time zone"):
        ledger.record_decision(DRIFT, datetime(2026, 1, 1))


def _decide(path: str, number: int) -> int:
    try:
        Ledger(Path(path)).record_decision(Decision("retrain", "me", "hand", f"{number}", "v1"))
    except TransitionRefused:
        return 0
    return 1


def test_of_many_processes_that_decide_at_once_one_opens_a_request(ledger):
    ledger.path.parent.mkdir()
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        opened = pool.starmap(_decide, [(str(ledger.path), number) for number in range(12)])
    assert sum(opened) == 1
    assert len(ledger.decisions()) == len(ledger.requests()) == 1


def test_two_moves_at_once_and_a_promotion_that_nobody_approved_are_refused(ledger):
    challenged(ledger)
    with pytest.raises(TransitionRefused, match="is waiting gate"):
        ledger.intend_move("promotion", "v1", champion("v2"), "aa", GATE, "better")
    ledger.record_verdict("v2", True, VERDICT, "automatic")
    with pytest.raises(TransitionRefused, match="bundle aa, found bb"):
        ledger.intend_move("promotion", "v1", champion("v2"), "bb", GATE, "better")
    ledger.intend_move("promotion", "v1", champion("v2"), "aa", GATE, "better")
    with pytest.raises(TransitionRefused, match="the move to v2 is not finished"):
        ledger.intend_move("rollback", "v1", champion("v0"), "aa", "ana", "back")
    with pytest.raises(TransitionRefused, match="just becoming champion"):
        ledger.reject("v2", "ana", "no")


def test_instants_come_back_as_they_were_kept(ledger):
    at = AT + timedelta(microseconds=5)
    ledger.record_decision(DRIFT, at)
    assert ledger.decisions()[0].decided_at == at
    assert ledger.decisions()[0].decided_at.tzinfo == UTC
