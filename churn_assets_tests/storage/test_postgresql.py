"""What a store on PostgreSQL has that one in a file has not: a server that goes away, sessions, types, orders."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from churn_assets.alerting.alerts import Alert, AlertStore, open_alerts, raise_alert
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.errors import LedgerCorrupt, LedgerUnavailable, TransitionRefused
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.records import Decision
from churn_assets.storage import postgresql as store_module
from churn_assets.storage.postgresql import SESSIONS, tables_in_postgresql
from churn_assets.storage.store import Database
from churn_assets_tests.promotion.homes import AT, record_decision

NOW = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)
RETRAIN = Decision("retrain", "a drifted twice", "drift", "7", "v1")


@pytest.fixture
def ledger(database_url: str) -> Ledger:
    return Ledger(Database(database_url))


def sessions_of(database_url: str) -> list[tuple[int, str]]:
    """Process and state of every session that churn has with a database."""
    query = "SELECT pid, state FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'churn'"
    with psycopg.connect(database_url) as admin:
        return admin.execute(query).fetchall()


# -- a server that is away -----------------------------------------------------------------------------


@pytest.mark.parametrize("act", [Ledger.state, lambda ledger: record_decision(ledger, RETRAIN, AT)])
def test_a_server_that_is_away_is_one_line_that_says_what_to_do_and_no_password(act):
    ledger = Ledger(Database("postgresql://churn:s3cret@127.0.0.1:1/churn"))
    with pytest.raises(LedgerUnavailable) as error:
        act(ledger)
    text = str(error.value)
    assert text.startswith("postgresql://…@127.0.0.1:1/churn: cannot be used now (")
    assert "refused" in text
    assert "start PostgreSQL or correct CHURN_DATABASE_URL" in text
    assert "\n" not in text
    assert "s3cret" not in text + repr(ledger.place) + repr(error.value.__cause__)


def test_a_database_that_does_not_exist_is_told(database_url):
    with pytest.raises(LedgerUnavailable, match='database "nowhere" does not exist'):
        Ledger(Database(database_url.rpartition("/")[0] + "/nowhere")).state()


def test_an_alert_is_sent_and_logged_while_the_server_is_away(tmp_path, caplog):
    away = AlertSettings(tmp_path, database_url="postgresql://churn:s3cret@127.0.0.1:1/churn")
    assert raise_alert(away, Alert("drift", "drift", "Drift", "visits moved."), NOW).action == "raised"
    assert "without memory" in caplog.text
    assert "s3cret" not in caplog.text


def test_sessions_that_the_server_ended_are_replaced_without_a_word(ledger, database_url):
    record_decision(ledger, RETRAIN, AT)
    with psycopg.connect(database_url, autocommit=True) as admin:
        ended = [
            admin.execute("SELECT pg_terminate_backend(%s)", (pid,)).fetchone()[0]
            for pid, _ in sessions_of(database_url)
        ]
    assert ended
    assert all(ended)
    assert len(ledger.decisions()) == 1
    ledger.start_request(ledger.requests("open")[0].key, "run1")


def test_a_session_that_ends_in_a_transaction_is_an_error_and_leaves_nothing(ledger, database_url):
    def judge(_):
        with psycopg.connect(database_url, autocommit=True) as admin:
            for pid, state in sessions_of(database_url):
                if state == "idle in transaction":
                    admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
        return RETRAIN

    with pytest.raises(LedgerUnavailable, match="cannot be used now"):
        ledger.decide(judge, AT)
    assert ledger.decisions() == []
    assert record_decision(ledger, RETRAIN, AT) == 1


# -- one writer, any number of readers ------------------------------------------------------------------


def test_a_ledger_that_another_process_writes_is_read_and_a_second_writer_is_told_after_a_while(ledger, monkeypatch):
    record_decision(ledger, RETRAIN, AT)
    holding, done = threading.Event(), threading.Event()

    def hold(state):
        holding.set()
        done.wait(30)
        return Decision("wait", "so it is")

    with ThreadPoolExecutor() as pool:
        writer = pool.submit(ledger.decide, hold, AT)
        assert holding.wait(30)
        monkeypatch.setattr(Ledger, "busy_s", 0.05)
        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            record_decision(ledger, Decision("nothing", "no"), AT)
        assert len(ledger.decisions()) == 1
        done.set()
        assert writer.result().number == 2


def test_ledger_and_alerts_are_written_at_the_same_time(ledger, database_url, tmp_path):
    alerts = AlertSettings(tmp_path, database_url=database_url)

    def judge(_):
        raise_alert(alerts, Alert("drift", "drift", "Drift", "visits moved."), NOW)
        return Decision("wait", "so it is")

    started = time.monotonic()
    ledger.decide(judge, AT)
    assert time.monotonic() - started < AlertStore.busy_s
    assert [alert.key for alert in open_alerts(alerts)] == ["drift"]


def test_two_processes_that_write_first_make_the_tables_once(database_url):
    with ThreadPoolExecutor(8) as pool:
        numbers = list(
            pool.map(lambda n: record_decision(Ledger(Database(database_url)), Decision("wait", "-"), AT), range(16))
        )
    assert sorted(numbers) == list(range(1, 17))


def test_a_process_has_a_bounded_number_of_sessions(ledger, database_url):
    record_decision(ledger, RETRAIN, AT)
    most = []

    def read(_):
        ledger.decisions()
        most.append(len(sessions_of(database_url)))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(read, range(60)))
    assert 1 <= max(most) <= SESSIONS
    assert len(sessions_of(database_url)) <= store_module.IDLE_SESSIONS


def test_a_child_process_has_sessions_of_its_own(ledger, database_url):
    record_decision(ledger, RETRAIN, AT)
    mine = {pid for pid, _ in sessions_of(database_url)}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        theirs = {pid for pid, _ in sessions_of(database_url)} if len(ledger.decisions()) == 1 else mine
        os.write(writing, b"other" if ledger.decisions() and len(theirs) > len(mine) else b"same")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 10) == b"other"
    assert len(ledger.decisions()) == 1
    assert mine <= {pid for pid, _ in sessions_of(database_url)}


# -- what is stored ------------------------------------------------------------------------------------------


def test_texts_and_numbers_come_back_as_they_were_given(ledger, database_url, tmp_path):
    words = "ünïcode ☂ 'quoted' \"twice\" 100% ?:key %s \\ \n\t" + chr(0x1F600)
    record_decision(ledger, Decision("wait", words), AT + timedelta(microseconds=7))
    (record,) = ledger.decisions()
    assert (record.decision.message, record.decided_at) == (words, AT + timedelta(microseconds=7))
    alerts = AlertSettings(tmp_path, database_url=database_url)
    now = NOW + timedelta(microseconds=123_457)
    raise_alert(alerts, Alert("k%?", "drift", "T", words), now)
    (entry,) = open_alerts(alerts)
    assert (entry.key, entry.message, entry.opened_at) == ("k%?", words, now)


def test_the_character_0_which_postgresql_cannot_hold_becomes_a_sign_of_it(ledger):
    record_decision(ledger, Decision("wait", "a\0b"), AT)
    assert ledger.decisions()[0].decision.message == "a\N{REPLACEMENT CHARACTER}b"


def test_what_the_rules_of_the_tables_forbid_is_refused(ledger, database_url):
    record_decision(ledger, RETRAIN, AT)
    (request,) = ledger.requests()
    with psycopg.connect(database_url) as admin, pytest.raises(psycopg.errors.UniqueViolation):
        admin.execute(
            "INSERT INTO churn.requests SELECT 'other', decision, 'hand', occasion, champion, attempt, 'open', NULL,"
            " '', opened_at, NULL FROM churn.requests"
        )
    with pytest.raises(TransitionRefused, match="refuses the change"), ledger._writing() as db:
        db.execute("UPDATE requests SET status = 'no such status' WHERE key = ?", (request.key,))


def test_a_ledger_of_a_newer_churn_or_with_strange_rows_is_told(ledger, database_url):
    record_decision(ledger, RETRAIN, AT)
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("UPDATE churn.decisions SET situation = 'nonsense'")
        with pytest.raises(LedgerCorrupt, match="a row cannot be read"):
            ledger.decisions()
        admin.execute("UPDATE churn.store_versions SET version = 99")
        for act in (ledger.requests, lambda: record_decision(ledger, RETRAIN, AT)):
            with pytest.raises(LedgerCorrupt, match="format 99, expected 2"):
                act()
        admin.execute("DROP TABLE churn.approvals, churn.store_versions")
        with pytest.raises(LedgerCorrupt, match='relation "decisions" already exists'):
            record_decision(ledger, RETRAIN, AT)


def test_an_account_that_may_not_read_is_told(ledger, database_url, postgresql):
    record_decision(ledger, RETRAIN, AT)
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE guest_{os.getpid()} LOGIN PASSWORD 'x'")
    guest = Ledger(Database(database_url.replace("churn:s3cret", f"guest_{os.getpid()}:x")))
    with pytest.raises(LedgerUnavailable, match="permission denied"):
        guest.decisions()
    store_module.close_sessions(guest.place.url)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("n INTEGER PRIMARY KEY", "n BIGINT PRIMARY KEY"),
        ("a REAL, b TEXT NOT NULL DEFAULT 'x'", "a DOUBLE PRECISION, b TEXT COLLATE \"C\" NOT NULL DEFAULT 'x'"),
        (") STRICT;", ") ;"),
        ('"to" TEXT, texture', '"to" TEXT COLLATE "C", texture'),
    ],
)
def test_types_of_tables(sql, expected):
    assert tables_in_postgresql(sql) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("a = ? AND b = ?", "a = %s AND b = %s"),
        ("a = :key OR b = :key", "a = %(key)s OR b = %(key)s"),
        ("a = '?:key' AND b LIKE '5%' OR c % 2 = ?", "a = '?:key' AND b LIKE '5%%' OR c %% 2 = %s"),
        ("x::text = ?", "x::text = %s"),
    ],
)
def test_parameters_of_statements(sql, expected):
    assert store_module._in_postgresql(sql) == expected
