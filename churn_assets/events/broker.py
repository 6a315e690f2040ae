"""One connection to the broker as the relay: messages and positions in one transaction, positions read back.

The relay's transactional id is its identity: who begins with it fences every older process of the same name, and the
broker ends what that one left open. Positions go into a compacted topic, in the transaction that has the messages
(as Kafka Connect keeps the offsets of its sources, KIP-618). The number of the transaction goes with them as a
consumer group's offset, which the broker changes on commit only. So the relay knows which of the positions it reads are
committed, also from a broker that shows aborted records to readers who ask for committed ones.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as Record
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from churn_assets.errors import BrokerRefused, BrokerUnavailable, RelayFenced, SettingsError
from churn_assets.events.messages import Message
from churn_assets.events.positions import Changes, apply, corrections, encode, replay
from churn_assets.settings import KafkaSettings

_SLICE_S = 0.5  # of a call that waits for the broker: so quickly a signal is obeyed
_LOOK_S = 1.0  # for what a relay can do without
_PATIENCE_S, _GRACE_S = 20.0, 5.0  # for one answer; then the connection is made anew
TRANSACTION_S = 60.0  # after which the broker ends a transaction whose relay is gone
_HEAD, _TRANSACTION = "head", "transaction"
_OWN = frozenset(
    {
        *("bootstrap.servers", "metadata.broker.list", "transactional.id", "enable.idempotence", "isolation.level"),
        *("group.id", "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "enable.partition.eof"),
    }
)
_FENCED = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)


class Stopped(Exception):
    """A signal came while the broker was waited for."""


def client_properties(kafka: KafkaSettings) -> dict[str, str]:
    """librdkafka's properties of every client: the servers, and what the file of CHURN_KAFKA_CONFIG has. Raises
    SettingsError; no value of the file is ever in a message."""
    if not kafka.servers:
        raise SettingsError(
            "CHURN_KAFKA_SERVERS is not set, expected brokers such as kafka-1:9092,kafka-2:9092; set it"
        )
    return {**(_read_properties(kafka.config) if kafka.config else {}), "bootstrap.servers": kafka.servers}


def _read_properties(path: Path) -> dict[str, str]:
    properties = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SettingsError(f"{path}: cannot be read ({reason}), expected a text file of properties") from error
    for number, line in enumerate(lines, 1):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not name or name.startswith("#"):
            continue
        if not equals or name in _OWN:
            problem = "is set by this package" if equals else "has no value"
            raise SettingsError(f"{path}, line {number}: {name[:60]} {problem}, expected name=value; correct it")
        properties[name] = value
    return properties


class Clients:
    """Makes clients of one broker, and keeps what it said last: librdkafka tells of a failure by a callback."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._logger = logging.getLogger("churn.kafka.client")  # its lines repeat with every attempt
        self._logger.propagate = False
        self._logger.handlers[:] = [logging.NullHandler()]
        self.complaint = ""
        self._shared: dict[str, Any] = {
            "client.id": f"churn-{kafka.name}",
            "reconnect.backoff.max.ms": 5000,
            **client_properties(kafka),
            "error_cb": self._hear,
        }

    def producer(self, **own: object) -> Producer:
        """A producer. Raises BrokerRefused for a property that it does not take."""
        with self._plain_errors():
            return Producer({"compression.type": "zstd", "linger.ms": 5, **self._shared, **own}, logger=self._logger)

    def consumer(self, **own: object) -> Consumer:
        """A consumer of what is committed, which commits nothing by itself. Raises BrokerRefused."""
        fixed = {"isolation.level": "read_committed", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        with self._plain_errors():
            return Consumer({**self._shared, **fixed, **own}, logger=self._logger)

    def admin(self) -> AdminClient:
        """An administrator. Raises BrokerRefused."""
        with self._plain_errors():
            return AdminClient(dict(self._shared), logger=self._logger)

    def failure(self, error: KafkaException) -> BrokerUnavailable | RelayFenced:
        """What an exception of a client means."""
        reason = error.args[0]
        if reason.code() in _FENCED:
            return RelayFenced(
                "another relay of this name has taken over, or the broker ended a transaction that took too long; "
                "expected one relay a name: end the other one, or name this one: CHURN_KAFKA_NAME"
            )
        text = self.complaint if reason.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT) else ""
        return BrokerUnavailable(
            f"the broker does not take it ({(text or reason.str())[:200]}), expected it to answer; what waits is sent "
            "when it does"
        )

    def _hear(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN or not self.complaint:
            self.complaint = error.str()

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            name = re.search(r'property:? "([^"]*)"', error.args[0].str())
            named = f"'{name[1]}'" if name else f"the client's properties ({error.args[0].name()})"
            raise BrokerRefused(
                f"CHURN_KAFKA_CONFIG: librdkafka refuses {named}, expected a property and value that it knows; "
                "correct it"
            ) from None


def make_topics(clients: Clients, kafka: KafkaSettings, stop: threading.Event) -> None:
    """Make the topics that are missing, as the broker makes them by default; the positions in one compacted partition.
    Raises BrokerUnavailable, BrokerRefused, Stopped."""
    admin = clients.admin()
    known = _listed(admin, clients, stop)
    compacted = {"cleanup.policy": "compact"}
    wanted = [NewTopic(name) for name in _event_topics(kafka) if name not in known]
    if kafka.positions not in known:
        wanted.append(NewTopic(kafka.positions, 1, config=compacted))
    for name, made in (admin.create_topics(wanted, request_timeout=10) if wanted else {}).items():
        try:
            made.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise BrokerUnavailable(
                    f"topic {name} is missing and cannot be made ({error.args[0].str()[:200]}), expected it; make it"
                ) from error


def missing_topics(kafka: KafkaSettings, patience_s: float = 5.0) -> list[str]:
    """The topics that the broker does not have; the relay makes them. Raises BrokerUnavailable, BrokerRefused,
    SettingsError."""
    clients = Clients(kafka)
    known = _listed(clients.admin(), clients, threading.Event(), patience_s)
    return [name for name in (*_event_topics(kafka), kafka.positions) if name not in known]


def _event_topics(kafka: KafkaSettings) -> tuple[str, ...]:
    return kafka.predictions, kafka.drift, kafka.outliers, kafka.gate, kafka.feedback, kafka.dead_letters


def _listed(admin: AdminClient, clients: Clients, stop: threading.Event, patience_s: float = 5.0) -> set[str]:
    end = time.monotonic() + patience_s
    while not stop.is_set():
        try:
            return set(admin.list_topics(timeout=_SLICE_S).topics)
        except KafkaException as error:
            admin.poll(0)
            if time.monotonic() > end:
                raise clients.failure(error) from error
    raise Stopped


def _check_compacted(admin: AdminClient, name: str) -> None:
    """Raise BrokerRefused for a topic that deletes old messages, if the broker tells."""
    resource = ConfigResource("topic", name)
    try:
        policy = admin.describe_configs([resource], request_timeout=_LOOK_S)[resource].result()["cleanup.policy"].value
    except (KafkaException, KeyError):  # it may not be ours to read, or the broker does not tell
        return
    if policy and "compact" not in policy:
        raise BrokerRefused(
            f"topic {name}: cleanup.policy is {policy}, expected compact, so that no position is deleted; correct it"
        )


class Session:
    """A transactional producer that is the only one of its name, and the positions that are committed.

    Raises BrokerUnavailable, RelayFenced, Stopped; then it is of no use any more, and a new one reads back what holds.
    `report` is called with a line for people.
    """

    def __init__(
        self, kafka: KafkaSettings, stop: threading.Event, report: Callable[[str], None] = lambda line: None
    ) -> None:
        self._kafka, self._stop, self._clients = kafka, stop, Clients(kafka)
        self._group = f"{kafka.name}-relay"
        make_topics(self._clients, kafka, stop)
        _check_compacted(self._clients.admin(), kafka.positions)
        self._producer = self._clients.producer(
            **{
                "transactional.id": self._group,
                "enable.idempotence": True,
                "transaction.timeout.ms": int(TRANSACTION_S * 1000),
            }
        )
        self._wait_for(self._producer.init_transactions)
        self._reader = self._clients.consumer(
            **{"group.id": self._group, "enable.partition.eof": True, "fetch.wait.max.ms": 100}
        )
        committed, records = self._read_back()
        self.positions, self._number = replay(records, committed)
        self.exposes_aborted = committed is not None and self._number > committed
        if self.exposes_aborted:
            report(
                "the broker shows what was never committed to readers of committed messages: they may see a message "
                "twice, by its id"
            )
        # An offset is kept for some days after it was committed: now these begin.
        self.publish((), corrections(records, committed, self.positions))

    def publish(self, messages: Sequence[Message], changes: Changes) -> None:
        """Send messages and keep changes of the positions: all of it is committed when this returns."""
        self._number += 1
        number = str(self._number).encode()
        try:
            self._producer.begin_transaction()
            for message in messages:
                self._produce(message.topic, message.key, message.value)
            for key, position in (*changes.items(), (_HEAD, None)):
                value = number if key == _HEAD else encode(position)
                name = f"{self._kafka.name}/{key}".encode()
                self._produce(self._kafka.positions, name, value, partition=0, headers=[(_TRANSACTION, number)])
        except KafkaException as error:
            raise self._clients.failure(error) from error
        offsets = [TopicPartition(self._kafka.positions, 0, self._number)]
        group = self._reader.consumer_group_metadata()
        self._wait_for(lambda timeout_s: self._producer.send_offsets_to_transaction(offsets, group, timeout_s))
        self._wait_for(self._producer.commit_transaction)
        apply(self.positions, changes)

    def close(self) -> None:
        """Give up what is not committed; without waiting for the broker."""
        self._producer.purge(blocking=False)
        self._reader.close()

    def _produce(self, topic: str, key: bytes, value: bytes | None, **options: Any) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, **options)
                return
            except BufferError:  # the client's queue is full: it empties as the broker answers
                if self._stop.is_set():
                    raise Stopped from None
                self._producer.poll(_SLICE_S)

    def _wait_for(self, call: Callable[[float], object]) -> None:
        """Make a call that waits for the broker at most for the seconds that it is given. It is made in a thread, which
        is left alone if the call does not come back: librdkafka's may not, where a broker was killed meanwhile."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            ended, errors = threading.Event(), list[KafkaException]()
            begun = threading.Thread(target=_call, args=(call, end - time.monotonic(), ended, errors), daemon=True)
            begun.start()
            while not ended.wait(_SLICE_S):
                self._producer.poll(0)
                if self._stop.is_set():
                    raise Stopped
                if time.monotonic() > end + _GRACE_S:
                    raise BrokerUnavailable(
                        f"the broker has not answered for {_PATIENCE_S + _GRACE_S:.0f} s, expected it to; what waits "
                        "is sent when it does"
                    )
            if not errors:
                return
            if self._stop.is_set():
                raise Stopped
            if not errors[0].args[0].retriable() or time.monotonic() > end:
                raise self._clients.failure(errors[0]) from errors[0]

    def _read_back(self) -> tuple[int | None, list[tuple[int, str, bytes | None]]]:
        """The number of the last committed transaction, None where the broker knows none (any more), and the records
        of this name in order. Waits for that transaction's: an open one of another relay may stand before it."""
        place = TopicPartition(self._kafka.positions, 0, OFFSET_BEGINNING)
        number: list[int | None] = [None]

        def ask(timeout_s: float) -> None:
            [answer] = self._reader.committed([TopicPartition(self._kafka.positions, 0)], timeout_s)
            if answer.error is not None:
                raise KafkaException(answer.error)
            number[0] = answer.offset if answer.offset >= 0 else None

        self._wait_for(ask)
        committed, records, newest = number[0], list[tuple[int, str, bytes | None]](), 0
        self._reader.assign([place])
        end = time.monotonic() + TRANSACTION_S + _PATIENCE_S
        while not self._stop.is_set():
            for record in self._reader.consume(1000, _SLICE_S / 5):
                error = record.error()
                if error is None:
                    position = _position_record(record, f"{self._kafka.name}/")
                    if position is not None:
                        records.append(position)
                        newest = max(newest, position[0])
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise self._clients.failure(KafkaException(error))
                elif committed is None or newest >= committed:
                    return committed, [record for record in records if record[1] != _HEAD]
            if time.monotonic() > end:
                raise BrokerUnavailable(
                    f"topic {self._kafka.positions} lacks transaction {committed:,}, expected its positions; if the "
                    f"topic was deleted, delete the consumer group {self._group} too: then the whole log is sent again"
                )
        raise Stopped


def _call(
    call: Callable[[float], object], timeout_s: float, ended: threading.Event, errors: list[KafkaException]
) -> None:
    try:
        call(max(0.0, timeout_s))
    except KafkaException as error:
        errors.append(error)
    finally:
        ended.set()


def _position_record(record: Record, prefix: str) -> tuple[int, str, bytes | None] | None:
    """(transaction, key, value) of a record of one relay, None for others."""
    key = (record.key() or b"").decode(errors="replace")
    number = dict(record.headers() or []).get(_TRANSACTION)
    if not key.startswith(prefix) or number is None:
        return None
    value: bytes | None = record.value()
    return int(number), key.removeprefix(prefix), value
