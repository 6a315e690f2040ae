"""What a person says to the loop, as they type it: `churn retrain | approve | reject | rollback | history`."""

import json
import re
from datetime import UTC, datetime

import pytest

from churn_assets.alerting.alerts import Alert, open_alerts, raise_alert
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.alerting.rules import waiting_key
from churn_assets.monitoring.windows import read_acceptance, read_window_quality
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import read_champion
from churn_assets.promotion.records import Person
from churn_assets.storage.files import write_json
from churn_assets.storage.sealed import bundle_hash
from churn_assets_tests.cli.test_main import churn, refused
from churn_assets_tests.promotion.homes import AT, champion, home_with, moves, verdict

WHO = ("--by", "ana", "--why", "because")


@pytest.fixture
def home(tmp_path):
    """A home whose champion is the first of three bundles, with the second waiting for a person."""
    settings, versions = home_with(tmp_path, 3)
    moves(settings).move(champion(versions[0]), "first", "training", "the first model of this home")
    ledger, second = Ledger(settings.ledger_path), versions[1]
    ledger.add_challenger(second, f"bundles/{second}", bundle_hash(settings.bundles_dir / second), None, None, AT)
    ledger.record_verdict(second, verdict(second), needs_person=True, at=AT)
    return settings, versions


def test_a_challenger_is_approved_and_the_history_says_by_whom(home):
    settings, versions = home
    done = churn("approve", versions[1], *WHO, home=settings.home)
    assert done.returncode == 0, done.stderr
    assert "by a canary where the contract says so, within 30 s" in done.stdout
    assert Ledger(settings.ledger_path).challenger(versions[1]).approved_by == Person("ana")
    told = churn("history", home=settings.home).stdout
    assert f"first  {versions[0]}  by training: the first model of this home" in told
    assert f"approved  {versions[1]}  by ana: because" in told


@pytest.mark.parametrize("says", ["approve", "reject"])
def test_who_has_answered_is_waited_for_no_more_even_if_nobody_can_be_told(home, says):
    settings, versions = home
    alert = Alert(waiting_key(versions[1]), "waiting_approval", "It waits", "Decide.")
    raise_alert(AlertSettings(settings.home), alert, datetime.now(UTC))
    done = churn(says, versions[1], *WHO, home=settings.home, CHURN_ALERT_TIMEOUT_S="never")
    assert done.returncode == 0, done.stderr
    assert "CHURN_ALERT_TIMEOUT_S" in done.stderr
    assert open_alerts(AlertSettings(settings.home)) == []


def test_a_changed_bundle_is_not_approved(home):
    settings, versions = home
    (settings.bundles_dir / versions[1] / "card.json").write_text("another")
    assert "card.json: has 7 bytes" in refused(churn("approve", versions[1], *WHO, home=settings.home))
    assert Ledger(settings.ledger_path).approvals() == []


def test_a_rejected_challenger_cannot_be_approved_any_more(home):
    settings, versions = home
    assert churn("reject", versions[1], *WHO, home=settings.home).returncode == 0
    assert "is rejected and cannot be approved" in refused(churn("approve", versions[1], *WHO, home=settings.home))
    assert "(ana rejected it on " in refused(churn("reject", versions[1], *WHO, home=settings.home))
    assert "there is no challenger nobody" in refused(churn("reject", "nobody", *WHO, home=settings.home))


def test_rollback_says_where_it_went_and_refuses_what_is_not_there(home):
    settings, versions = home
    for version in versions[1:]:  # one waits for a person, one never was a challenger
        text = refused(churn("rollback", "--to", version, *WHO, home=settings.home))
        assert f"version {version} never was champion of this home" in text
    moves(settings).move(champion(versions[2]), "first", "training", "another table")
    assert churn("rollback", *WHO, home=settings.home).returncode == 0
    done = churn("rollback", "--to", versions[2], *WHO, home=settings.home)
    assert done.stdout.startswith(f"champion {versions[2]} (was {versions[0]}), since ")
    assert churn("rollback", *WHO, home=settings.home).returncode == 0
    assert read_champion(settings.home).version == versions[0]
    assert "there is no champion before the present one" in refused(churn("rollback", *WHO, home=settings.home))
    events = json.loads(churn("history", "--json", home=settings.home).stdout)["events"]
    assert [event["what"] for event in events] == ["first", "first", "rollback", "rollback", "rollback"]


def test_a_retraining_is_asked_for_by_hand_once_at_a_time(home):
    settings, versions = home
    busy = churn("retrain", *WHO, home=settings.home)
    assert (busy.returncode, busy.stdout.count("it is decided on first")) == (1, 1)
    Ledger(settings.ledger_path).reject(versions[1], Person("ana"), "no", AT)
    done = churn("retrain", *WHO, home=settings.home)
    assert done.returncode == 0, done.stderr
    key = re.search(r"request (retrain-hand-\S+-1) is open", done.stdout)[1]
    assert "dagster job execute" in done.stdout
    assert [r.key for r in Ledger(settings.ledger_path).requests("open")] == [key]
    assert "one at a time" in churn("retrain", *WHO, home=settings.home).stdout
    assert "the table alone: there are no labels yet" in done.stdout
    told = json.loads(churn("history", "--json", home=settings.home).stdout)
    assert [d["kind"] for d in told["decisions"]] == ["wait", "retrain", "wait"]
    assert told["verdicts"] == [
        {"version": versions[1], "status": "rejected", "verdict": verdict(versions[1]).to_json()}
    ]


def test_who_and_why_must_be_said(home):
    settings, versions = home
    for words in (("--by", "ana"), ("--by", " ", "--why", "x"), ("--by", "ana", "--why", "")):
        done = churn("reject", versions[1], *words, home=settings.home)
        assert done.returncode == 2
        assert "--why" in done.stderr or "--by" in done.stderr


def test_a_fresh_home_answers_every_question(tmp_path):
    assert "No model has been promoted" in churn("history", home=tmp_path).stdout
    asked = churn("retrain", *WHO, home=tmp_path)
    assert (asked.returncode, "there is no champion yet" in asked.stdout) == (1, True)
    assert "last decision" in churn("status", home=tmp_path).stdout


def test_nobody_approves_in_the_name_of_the_gate(home):
    settings, versions = home
    words = ("--by", "the gate", "--why", "because")
    assert "expected the name of a person" in refused(churn("approve", versions[1], *words, home=settings.home))
    assert Ledger(settings.ledger_path).approvals() == []


def test_only_a_broken_window_is_accepted_and_the_audit_log_has_who(home):
    settings, _ = home
    assert "window 3 has no quality report" in refused(churn("window", "accept", "3", *WHO, home=settings.home))
    fingerprint = read_champion(settings.home).fingerprint
    folder = settings.monitoring_dir / fingerprint[:12] / "0003"
    write_json(folder / "quality.json", {"version": 2, "status": "broken", "message": "sent is 0 for everybody"})
    done = churn("window", "accept", "3", *WHO, home=settings.home)
    assert done.returncode == 0, done.stderr
    assert "Window 3 counts as ok" in done.stdout
    assert (read_window_quality(folder), read_acceptance(folder).by) == ("ok", "ana")
    assert '"action": "window accept"' in (settings.home / "audit.jsonl").read_text()
