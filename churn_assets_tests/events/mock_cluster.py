"""A broker inside librdkafka: the client's own test double of the protocol, in this process, with transactions.

It keeps records and group offsets as a broker does, and does not fence, filter or make topics; what needs those is
tested against a real broker in `deploy/`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from confluent_kafka import Producer

from churn_assets.settings import KafkaSettings
from churn_assets_tests.events.transactions import read_topic


@contextmanager
def mock_cluster() -> Iterator[KafkaSettings]:
    """The settings of its broker; every topic of the events is there."""
    owner = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    try:
        brokers = owner.list_topics(timeout=10).brokers.values()
        kafka = KafkaSettings(servers=",".join(f"{broker.host}:{broker.port}" for broker in brokers))
        named = (kafka.predictions, kafka.drift, kafka.outliers, kafka.gate, kafka.feedback, kafka.dead_letters)
        for topic in (*named, kafka.positions):
            owner.list_topics(topic, timeout=10)  # makes it
        yield kafka
    finally:
        del owner


class Worker(Protocol):
    """A relay or a consumer."""

    def run(self) -> None: ...


W = TypeVar("W", bound=Worker)


@contextmanager
def running(make: Callable[[threading.Event], W]) -> Iterator[W]:
    """A worker that runs in the block; `make` gives it what stops it."""
    stop = threading.Event()
    worker = make(stop)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def ids_in(kafka: KafkaSettings, topic: str | None = None) -> list[str]:
    """Ids of predictions that are committed, in the order of each partition."""
    records = read_topic(kafka.servers, topic or kafka.predictions).committed
    return [json.loads(record.value())["prediction_id"] for record in records]
