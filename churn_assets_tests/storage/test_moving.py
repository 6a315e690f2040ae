"""From a laptop's files to PostgreSQL: every decision and every alert, once; what was written there since is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from churn_assets.alerting.alerts import Alert, AlertStore, acknowledge_alert, all_alerts, raise_alert, recover_alert
from churn_assets.alerting.destinations import AlertSettings, Destination
from churn_assets.errors import CopyRefused, LedgerUnavailable
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.records import Check, Decision, Person, Verdict
from churn_assets.settings import Settings
from churn_assets.storage.moving import copy_store, is_copied
from churn_assets.storage.store import Database
from churn_assets_tests.cli.test_main import churn
from churn_assets_tests.prediction_log.home import STORE, ask, prediction, settings, write
from churn_assets_tests.promotion.homes import AT, champion, record_decision

NEXT = Decision("retrain", "by hand", "hand", "8", "v2")


@pytest.fixture
def laptop(tmp_path: Path) -> Settings:
    """A home without a database: decisions, a promotion, alerts that wait for a destination, predictions."""
    of = settings(tmp_path / "home")
    ledger = Ledger.of(of)
    record_decision(ledger, Decision("wait", "zero \0, 'quotes', ☂"), AT)
    record_decision(ledger, Decision("retrain", "a drifted twice", "drift", "7", "v1"), AT)
    ledger.add_challenger("v2", "bundles/v2", "aa", 3, "retrain-drift-7-v1-1", AT)
    ledger.record_verdict("v2", Verdict("v1", "v2", (Check("a", 0.1, 0.0, True, "better"),)), needs_person=True, at=AT)
    ledger.approve("v2", Person("ana"), "read it", "aa", AT)
    ledger.finish_move(ledger.intend_move("promotion", "v1", champion("v2"), "aa", "ana", "better", AT), AT)
    alerts = AlertSettings(of.home, (Destination("closed", "json://127.0.0.1:1/"),))
    for key in ("drift", "gate"):
        raise_alert(alerts, Alert(key, "drift", key, "visits moved."), AT)
    acknowledge_alert(alerts, 1, "ana", AT)
    recover_alert(alerts, "gate", "Over.", AT)
    write(of, "a", *(prediction(f"a-{number}") for number in range(3)))
    ingest(of, STORE)
    return of


def facts(ledger: Ledger) -> list[Any]:
    """All that the ledger says."""
    reads = (ledger.decisions, ledger.requests, ledger.challengers, ledger.approvals, ledger.moves, ledger.state)
    return [read() for read in reads]


def test_a_laptops_home_moves_with_every_decision_alert_and_prediction(laptop, database_url):
    environ = {"CHURN_DATABASE_URL": database_url}
    before, alerts = facts(Ledger.of(laptop)), all_alerts(AlertSettings(laptop.home))
    predictions = ask(laptop, "SELECT prediction_id FROM predictions ORDER BY 1")
    done = churn("database", "copy", "--json", home=laptop.home, **environ)
    assert done.returncode == 0, done.stderr
    ledger_copy, alerts_copy, records = json.loads(done.stdout)
    assert (ledger_copy["outcome"], alerts_copy["outcome"], records["outcome"]) == (
        "copied",
        "copied",
        "nothing to copy",
    )
    tables = ("decisions", "requests", "challengers", "approvals", "moves", "policies")
    assert ledger_copy["rows"] == dict(zip(tables, (2, 1, 1, 1, 1, 0), strict=True))
    assert alerts_copy["rows"] == {"alerts": 2, "messages": 3, "deliveries": 3}

    moved = settings(laptop.home, **environ)
    now = facts(Ledger.of(moved))
    assert repr(now) == repr(before).replace("\\x00", "\N{REPLACEMENT CHARACTER}")
    assert all_alerts(AlertSettings.from_environ(environ, laptop.home)) == alerts
    assert ask(moved, "SELECT prediction_id FROM predictions ORDER BY 1") == predictions
    assert record_decision(Ledger.of(moved), NEXT, AT) == 3
    raise_alert(AlertSettings.from_environ(environ, laptop.home), Alert("new", "drift", "New", "."), AT)
    assert [entry.number for entry in all_alerts(AlertSettings.from_environ(environ, laptop.home))] == [3, 2, 1]
    assert len(Ledger.of(laptop).decisions()) == 2, "the files stay as they are"


def test_a_second_copy_changes_nothing_and_takes_what_was_written_to_the_file_since(laptop, database_url):
    source, target = Ledger.of(laptop), Ledger(Database(database_url))
    first = copy_store(source, target)
    assert (first.outcome, copy_store(source, target).outcome) == ("copied", "there already")
    assert is_copied(source, target)
    record_decision(source, NEXT, AT)
    assert not is_copied(source, target)
    assert copy_store(source, target).outcome == "copied"
    assert len(target.decisions()) == 3


def test_what_was_written_to_the_database_is_never_replaced(laptop, database_url):
    source, target = Ledger.of(laptop), Ledger(Database(database_url))
    copy_store(source, target)
    record_decision(target, NEXT, AT)
    assert is_copied(source, target)
    before = facts(target)
    with pytest.raises(CopyRefused, match=r"has 3 decisions, .* that no copy wrote.*2 decisions, "):
        copy_store(source, target)
    assert facts(target) == before


def test_a_copy_that_fails_leaves_the_database_as_it_was(laptop, database_url, monkeypatch):
    class Failing(Ledger):
        def tables(self):
            return {**super().tables(), "nowhere": ["a"]}

    source, target = Failing(laptop.ledger_path), Ledger(Database(database_url))
    with pytest.raises(Exception, match="nowhere"):
        copy_store(source, target)
    assert target.decisions() == []


def test_a_home_whose_files_are_not_copied_does_not_begin_anew_in_the_database(laptop, database_url):
    moved = settings(laptop.home, CHURN_DATABASE_URL=database_url)
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db of this home is not in .*`churn database copy`"):
        record_decision(Ledger.of(moved), NEXT, AT)
    copy_store(Ledger.of(laptop), Ledger(Database(database_url)))
    assert record_decision(Ledger.of(moved), NEXT, AT) == 3


def test_a_home_without_files_has_nothing_to_copy(tmp_path, database_url):
    home = settings(tmp_path / "home")
    alerts = AlertSettings(home.home)
    assert copy_store(Ledger.of(home), Ledger(Database(database_url))).outcome == "nothing to copy"
    assert copy_store(AlertStore(alerts), AlertStore(alerts, Database(database_url))).outcome == "nothing to copy"
    with psycopg.connect(database_url) as session:
        assert session.execute("SELECT to_regnamespace('churn')").fetchone() == (None,)
    assert not home.home.exists()
    assert record_decision(Ledger.of(settings(home.home, CHURN_DATABASE_URL=database_url)), NEXT, AT) == 1


def test_without_a_database_the_command_says_so(tmp_path):
    assert "CHURN_DATABASE_URL is not set" in churn("database", "copy", home=tmp_path).stderr
