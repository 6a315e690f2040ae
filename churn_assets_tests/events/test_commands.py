"""`churn events ...`, and what `churn status` and `churn doctor` say of the relay."""

from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path

import httpx
import pytest

from churn_assets.doctor import Deployment, check_broker
from churn_assets.events.messages import KINDS, schema_of
from churn_assets.events.status import RelayStatus, delay_of, describe_relay, read_relay_status, write_relay_status
from churn_assets.settings import KafkaSettings, MetricsSettings
from churn_assets_tests.cli.test_main import churn, refused
from churn_assets_tests.events.kills import RelayProcess, free_port
from churn_assets_tests.events.mock_cluster import mock_cluster
from churn_assets_tests.events.test_relay import wait
from churn_assets_tests.prediction_log.home import settings

NOW = dt.datetime(2026, 11, 28, 12, tzinfo=dt.UTC)


def status(**changed: object) -> RelayStatus:
    values = {"at": NOW, "since_at": NOW - dt.timedelta(hours=1), "produced": {"a": 5, "b": 2}, **changed}
    return RelayStatus(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "environ", "error"),
    [
        (("relay",), {}, "CHURN_KAFKA_SERVERS is not set, expected brokers such as"),
        (("consume",), {}, "CHURN_KAFKA_SERVERS is not set, expected brokers such as"),
        (("relay",), {"CHURN_KAFKA_NAME": "My Shop"}, "CHURN_KAFKA_NAME is"),
        (("relay",), {"CHURN_TOPIC_DRIFT": "a b"}, "CHURN_TOPIC_DRIFT is 'a b', expected 1 to 249 letters"),
        (("relay",), {"CHURN_KAFKA_CONFIG": "/nowhere"}, "CHURN_KAFKA_CONFIG is '/nowhere', expected a file"),
        (("schema", "predictoin"), {}, "there is no message 'predictoin', did you mean 'prediction'? expected one of"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(words, environ, error, tmp_path):
    assert error in refused(churn("events", *words, home=tmp_path, **environ))


def test_the_schema_is_printed(tmp_path):
    done = churn("events", "schema", "gate", home=tmp_path)
    assert json.loads(done.stdout) == schema_of("gate")
    assert set(KINDS) == {"prediction", "drift", "outliers", "gate", "feedback"}


def test_the_relay_is_a_process_with_metrics_and_json_lines_that_ends_at_once_on_sigterm(tmp_path):
    port, servers = free_port(), f"127.0.0.1:{free_port()}"
    home = tmp_path / "home"
    relay = RelayProcess(home, servers, tmp_path / "log", CHURN_RELAY_METRICS_PORT=str(port), CHURN_LOG_FORMAT="json")
    try:
        wait(lambda: "does not take it" in (tmp_path / "log").read_text(), 30)
        page = httpx.get(f"http://127.0.0.1:{port}/metrics")
        assert "churn_relay_up 0.0" in page.text
        assert httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"host": "evil.example"}).status_code == 400
    finally:
        began = time.monotonic()
        assert relay.stop() == 0
    assert time.monotonic() - began < 5
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["event"].split(" (")[0] for line in lines] == [
        f"relaying {home}/predlog to {servers} as churn",
        "the broker does not take it",
        "0 messages were sent in 0 transactions",
    ]
    assert {line["level"] for line in lines} == {"INFO"}


@pytest.mark.parametrize(
    ("told", "after_s", "late", "line"),
    [
        (status(), 5, "", "events: 7 messages sent since 2026-11-28 11:00 UTC, 0 rows wait"),
        (status(problem="no broker"), 5, "", "events: nothing is sent: no broker"),
        (status(lag_rows=1200, lag_s=400.0), 5, "about 1,200 predictions wait, the oldest for 400 s", ""),
        (status(lag_rows=3, lag_s=400.0, problem="no broker"), 5, "the oldest for 400 s; no broker", ""),
        (status(), 3600, "the relay has not reported since 2026-11-28 12:00 UTC", ""),
    ],
)
def test_a_relay_is_late_when_rows_wait_or_it_is_silent(told, after_s, late, line):
    now = NOW + dt.timedelta(seconds=after_s)
    assert late in delay_of(told, now)
    assert bool(late) == bool(delay_of(told, now))
    assert describe_relay(told, now) == (line or f"events: {delay_of(told, now)}")


def test_status_shows_the_relay_and_a_damaged_report_is_none(tmp_path):
    assert json.loads(churn("status", "--json", home=tmp_path).stdout)["events"] is None
    write_relay_status(settings(tmp_path), status(at=dt.datetime.now(dt.UTC)))
    assert read_relay_status(settings(tmp_path)) is not None
    assert "events: 7 messages sent" in churn("status", home=tmp_path).stdout
    (tmp_path / "relay.json").write_text('{"at": 1')
    assert read_relay_status(settings(tmp_path)) is None


def broker_lines(home: Path, **environ: str) -> list[str]:
    deployment = Deployment(settings(home), environ, NOW)
    return [f"{each[0]}: {each[1]}" for each in check_broker(deployment)]


def test_doctor_looks_at_broker_and_relay(tmp_path):
    assert broker_lines(tmp_path) == ["ok: CHURN_KAFKA_SERVERS is not set: no events are sent"]
    [line] = broker_lines(tmp_path, CHURN_KAFKA_SERVERS=f"127.0.0.1:{free_port()}")
    assert line.startswith("wrong: the broker does not take it (")
    with mock_cluster() as kafka:
        here = {"CHURN_KAFKA_SERVERS": kafka.servers}
        answers, relay = broker_lines(tmp_path, **here)
        assert answers == f"ok: {kafka.servers} answers, and has every topic"
        assert relay == "wrong: no relay has ever run in this home"
        write_relay_status(settings(tmp_path), status())
        assert broker_lines(tmp_path, **here)[1] == (
            "ok: events: 7 messages sent since 2026-11-28 11:00 UTC, 0 rows wait"
        )
        write_relay_status(settings(tmp_path), status(lag_s=900.0))
        assert broker_lines(tmp_path, **here)[1].startswith("wrong: about 0 predictions wait, the oldest for 900 s")


def test_ports_and_names_have_the_defaults_of_the_documentation():
    environ = {"CHURN_METRICS_PORT": "4000"}
    assert MetricsSettings.from_environ(environ).port == 4000
    assert MetricsSettings.from_environ(environ, of_relay=True).port == 3006
    assert MetricsSettings.from_environ({"CHURN_RELAY_METRICS_PORT": "0"}, of_relay=True).port == 0
    assert KafkaSettings.from_environ({}) == KafkaSettings()
