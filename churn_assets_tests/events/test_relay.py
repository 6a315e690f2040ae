"""The relay and its session: messages and positions in one transaction, and what happens when the broker is gone."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from churn_assets.errors import BrokerRefused, BrokerUnavailable, EventsError, HomeBusy, RelayFenced, SettingsError
from churn_assets.events.broker import Clients, Session, client_properties, missing_topics
from churn_assets.events.messages import Message
from churn_assets.events.metrics import RelayCollector
from churn_assets.events.positions import Position
from churn_assets.events.relay import Relay
from churn_assets.events.status import describe_relay, read_relay_status
from churn_assets.exporter.collector import exposition
from churn_assets.settings import KafkaSettings
from churn_assets_tests.events.kills import free_port
from churn_assets_tests.events.mock_cluster import ids_in, mock_cluster, running
from churn_assets_tests.exporter.scraped import Scrape
from churn_assets_tests.prediction_log.home import prediction, settings, write
from churn_assets_tests.strategies import ROOT


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaSettings]:
    with mock_cluster() as known:
        yield known


def session_of(kafka: KafkaSettings) -> Session:
    return Session(kafka, threading.Event())


def message(kafka: KafkaSettings, own_id: str) -> Message:
    return Message(kafka.predictions, b"customer", json.dumps({"prediction_id": own_id}).encode())


def relaying(home: Path, kafka: KafkaSettings, lines: list[str]) -> AbstractContextManager[Relay]:
    return running(lambda stop: Relay(settings(home), kafka, stop, lines.append))


def wait(until, limit_s: float = 20.0):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        with suppress(OSError, ValueError):
            if value := until():
                return value
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def test_positions_are_read_back_as_they_were_committed(kafka):
    own = replace(kafka, name="positions")
    first = session_of(own)
    assert first.positions == {}
    first.publish([message(own, "x1")], {"segment/a": Position(10), "segment/b": Position(3)})
    first.publish([message(own, "x2")], {"segment/a": Position(20, ended=True), "segment/b": None})
    assert first.positions == {"segment/a": Position(20, ended=True)}
    first.close()
    second = session_of(own)
    assert second.positions == {"segment/a": Position(20, ended=True)}
    assert not second.exposes_aborted
    second.close()
    assert session_of(replace(kafka, name="another")).positions == {}


def test_a_relay_that_starts_again_goes_on_where_the_last_one_ended(kafka, tmp_path):
    own, lines = replace(kafka, name="again", predictions="ml.predictions-again"), list[str]()
    Clients(own).producer().list_topics(own.predictions, timeout=10)
    write(settings(tmp_path), "s1", *(prediction(f"a{i}") for i in range(20)))
    with relaying(tmp_path, own, lines):
        wait(lambda: len(ids_in(own)) == 20)
    write(settings(tmp_path), "s2", *(prediction(f"b{i}") for i in range(5)))
    with relaying(tmp_path, own, lines) as relay:
        wait(lambda: len(ids_in(own)) == 25)
        wait(lambda: relay.status.produced)
        with pytest.raises(HomeBusy, match=r"^process \d+ relays the events of .+ already, expected at most one"):
            Relay(settings(tmp_path), own, threading.Event(), print).run()
    assert sorted(ids_in(own)) == sorted([f"a{i}" for i in range(20)] + [f"b{i}" for i in range(5)])
    assert lines == []
    status = read_relay_status(settings(tmp_path))
    assert status is not None
    assert (status.produced, status.lag_bytes, status.problem) == ({own.predictions: 5}, 0, "it was stopped")


def test_the_metrics_of_a_relay_are_those_of_the_alert_and_the_documentation(kafka, tmp_path):
    relay = Relay(settings(tmp_path), kafka, threading.Event(), print)
    scrape = Scrape.of(exposition(RelayCollector(lambda: relay.status))[0].decode())
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    assert scrape.names | {"churn_relay_produced_total"} == set(re.findall(r"^\| `(churn_relay_\w+)`", page, re.M))
    rules = (ROOT / "deploy" / "prometheus" / "rules" / "alerts.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"churn_relay_\w+", rules)) <= scrape.names


def test_a_relay_without_a_broker_waits_says_so_once_and_its_lag_grows(tmp_path):
    gone = KafkaSettings(servers=f"127.0.0.1:{free_port()}")
    write(settings(tmp_path), "s1", prediction("a", scored_at="2026-11-21T10:00:00+00:00"))
    lines: list[str] = []
    with relaying(tmp_path, gone, lines) as relay:
        wait(lambda: relay.status.problem, 30)
    [line] = lines
    assert re.match(
        r"the broker does not take it \(.+\), expected it to answer; what waits is sent when it does$", line
    )
    status = read_relay_status(settings(tmp_path))
    assert status is not None
    assert (status.failed, status.produced) == (1, {})
    assert describe_relay(status, status.at).startswith("events: nothing is sent: the broker does not take it")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("sasl.password", "line 1: sasl.password has no value, expected name=value; correct it"),
        ("# TLS\nbootstrap.servers=x", "line 2: bootstrap.servers is set by this package, expected name=value"),
        ("transactional.id = x", "line 1: transactional.id is set by this package"),
    ],
)
def test_a_file_of_properties_that_cannot_be_used_is_refused_without_its_values(text, error, tmp_path):
    file = tmp_path / "client.properties"
    file.write_text(text)
    with pytest.raises(SettingsError, match=re.escape(error)):
        client_properties(KafkaSettings(servers="broker:9092", config=file))


def test_a_file_of_properties_goes_to_every_client(kafka, tmp_path):
    file = tmp_path / "client.properties"
    file.write_text("# of the broker's team\nclient.rack = b\n\nsocket.timeout.ms=5000\n")
    own = replace(kafka, config=file)
    assert client_properties(own) == {
        "client.rack": "b",
        "socket.timeout.ms": "5000",
        "bootstrap.servers": kafka.servers,
    }
    assert missing_topics(own) == []
    file.write_text("no.such.property=secret-value\n")
    with pytest.raises(BrokerRefused, match=r"librdkafka refuses 'no\.such\.property', expected a property") as refused:
        Clients(own).producer()
    assert "secret-value" not in str(refused.value)


def test_a_broker_that_does_not_answer_is_told_in_one_line_and_a_newer_relay_as_what_it_is():
    gone = KafkaSettings(servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(BrokerUnavailable, match="expected it to answer") as unavailable:
        missing_topics(gone, 1.0)
    assert isinstance(unavailable.value, EventsError)
    assert "\n" not in str(unavailable.value)
    fenced = Clients(gone).failure(KafkaException(KafkaError(KafkaError._FENCED)))
    assert isinstance(fenced, RelayFenced)
    assert "expected one relay a name" in str(fenced)
