"""What a person reads about a home: what waits, what was decided, what was done."""

from __future__ import annotations

from datetime import timedelta

from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.records import Decision, DecisionInputs, Person
from churn_assets.promotion.status import read_events, read_ledger_status
from churn_assets_tests.promotion.homes import AT, place, record_decision, verdict


def challenged(ledger, version):
    ledger.add_challenger(version, f"bundles/{version}", "aa", None, None, AT)


def test_a_fresh_home_has_nothing_to_tell(tmp_path):
    assert read_ledger_status(place(tmp_path)).lines == []
    nothing = {"challengers": [], "requests": [], "last_decision": None}
    no_release = {"policy": None, "running": False, "waits_for": "", "guardrails": None, "problem": None}
    assert read_ledger_status(place(tmp_path)).to_json() == {**nothing, **no_release}
    assert read_events(place(tmp_path)) == []


def test_each_that_waits_has_a_line_with_what_to_do(tmp_path):
    settings = place(tmp_path)
    ledger = Ledger(settings.ledger_path)
    record_decision(ledger, Decision("retrain", "spent drifted", "drift", "7", "v1"), AT)
    for version in ("waits", "passed", "yes", "stuck"):
        challenged(ledger, version)
    ledger.record_verdict("passed", verdict("passed"), needs_person=True, at=AT)
    ledger.record_verdict("yes", verdict("yes"), needs_person=False, at=AT)
    for _ in range(3):
        ledger.fail_promotion(ledger.challenger("stuck").run_key, "the holdout is damaged", AT)
    told = read_ledger_status(settings).lines
    assert told[0].startswith("challenger waits waits for the gate")
    assert 'churn approve passed --by NAME --why "..."' in told[1]
    assert told[2].startswith("challenger yes was approved and becomes champion")
    assert "the holdout is damaged; it was tried 3 times" in told[3]
    assert told[4] == "retraining retrain-drift-7-v1-1 is open, attempt 1 of 3"
    assert told[5] == "last decision, 2026-11-21 12:00 UTC: retrain: spent drifted"


def test_an_open_request_says_that_it_waits_while_the_data_is_broken(tmp_path):
    settings = place(tmp_path)
    ledger = Ledger(settings.ledger_path)
    record_decision(ledger, Decision("retrain", "spent drifted", "drift", "7", "v1"), AT)
    record_decision(ledger, Decision("investigate_data", "mend it", inputs=DecisionInputs(broken="window 8")), AT)
    assert read_ledger_status(settings).lines[0].endswith("attempt 1 of 3; it waits until the data is complete")


def test_the_history_is_in_order_whatever_was_done(tmp_path):
    settings = place(tmp_path)
    ledger = Ledger(settings.ledger_path)
    for number, version in enumerate(("one", "two", "three")):
        challenged(ledger, version)
        at = AT + timedelta(hours=number)
        ledger.record_verdict(version, verdict(version, version != "two", "worse"), needs_person=True, at=at)
    ledger.reject("three", Person("ana"), "no", AT + timedelta(hours=9))
    ledger.approve("one", Person("ben"), "yes", "aa", AT + timedelta(hours=8))
    told = [(event.what, event.version, event.by, event.why) for event in read_events(settings)]
    assert told == [
        ("refused", "two", "the gate", "challenger two is refused: worse"),
        ("approved", "one", "ben", "yes"),
        ("rejected", "three", "ana", "no"),
    ]
