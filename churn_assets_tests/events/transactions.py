"""What a reader of committed messages gets from a topic, worked out from the markers that the broker wrote into it.

A broker that implements `read_committed` sends its readers, with each answer, the list of aborted transactions, and
ends the answer at the last stable offset. The two brokers that run here, tansu and librdkafka's mock cluster, do not:
they write the markers and show everything. So the batches are read as they are in the log, by the wire protocol, and
their markers applied as KIP-98 defines it: a transactional batch counts once its producer's next marker is a commit;
after an abort, or without a marker, it does not.
"""

from __future__ import annotations

import socket
import struct
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from confluent_kafka import Message as Record

_FETCH, _VERSION = 1, 4
_MOST = 8 * 2**20
_ABORT, _COMMIT = 0, 1
_HEADER = struct.Struct(">qiibIhiqqqhii")  # of a record batch, magic 2
_TRANSACTIONAL, _CONTROL = 0x10, 0x20


@dataclass(frozen=True)
class Batch:
    """One batch of a partition: its offsets, who produced it, and whether it belongs to a transaction; `marker` is 0
    for an abort, 1 for a commit, None for a batch of records."""

    first: int
    last: int
    producer: int
    transactional: bool
    marker: int | None


@dataclass
class TopicRecords:
    """Records of a topic by what became of their transactions; `commits` and `aborts` count markers, `lost` offsets
    that the broker has given to records and does not have."""

    committed: list[Record] = field(default_factory=list)
    aborted: list[Record] = field(default_factory=list)
    undecided: list[Record] = field(default_factory=list)
    commits: int = 0
    aborts: int = 0
    lost: int = 0


def read_topic(servers: str, topic: str, limit_s: float = 30.0) -> TopicRecords:
    """Everything that a topic has now."""
    result, outcomes = TopicRecords(), dict[tuple[int, int], bool]()
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "reader", "enable.partition.eof": True, "fetch.wait.max.ms": 10,
         "enable.auto.commit": False}
    )  # fmt: skip
    try:
        partitions = consumer.list_topics(topic, timeout=limit_s).topics[topic].partitions
        for partition in partitions:
            batches = list(read_batches(servers, topic, partition))
            outcomes |= {(partition, offset): outcome for offset, outcome in outcomes_of(batches).items()}
            result.commits += sum(batch.marker == _COMMIT for batch in batches)
            result.aborts += sum(batch.marker == _ABORT for batch in batches)
            firsts, lasts = [batch.first for batch in batches], [-1, *(batch.last for batch in batches)]
            result.lost += sum(first - last - 1 for first, last in zip(firsts, lasts, strict=False))
        places = [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions]
        for record in _records(consumer, places, limit_s):
            outcome = outcomes.get((record.partition(), record.offset()))
            kind = {True: result.committed, False: result.aborted, None: result.undecided}[outcome]
            kind.append(record)
    finally:
        consumer.close()
    return result


def outcomes_of(batches: list[Batch]) -> dict[int, bool]:
    """Offset -> whether its record is committed; records of open transactions are not in it."""
    outcomes: dict[int, bool] = {}
    open_batches: dict[int, list[Batch]] = defaultdict(list)
    for batch in batches:
        if batch.marker is not None:
            for ended in open_batches.pop(batch.producer, []):
                outcomes.update(dict.fromkeys(range(ended.first, ended.last + 1), batch.marker == _COMMIT))
        elif batch.transactional:
            open_batches[batch.producer].append(batch)
        else:
            outcomes.update(dict.fromkeys(range(batch.first, batch.last + 1), True))
    return outcomes


def read_batches(servers: str, topic: str, partition: int) -> Iterator[Batch]:
    """The batches of a partition in order, markers among them."""
    host, _, port = servers.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        offset = 0
        while records := _fetch(connection, topic, partition, offset):
            start = offset
            for batch in _batches(records):
                if batch.first >= offset:
                    yield batch
                    offset = batch.last + 1
            if offset == start:
                return


def _fetch(connection: socket.socket, topic: str, partition: int, offset: int) -> bytes:
    name = topic.encode()
    at = 4 + 4 + 4 + 2 + len(name) + 4  # correlation, throttle, topics, name, partitions
    answer = b""
    for attempt in range(7):
        request = struct.pack(">hhih", _FETCH, _VERSION, 7, -1)  # correlation 7, no client id
        request += struct.pack(">iiiib", -1, 50 << attempt, 0, _MOST, 0)  # ms to wait; uncommitted records too
        request += struct.pack(">ih", 1, len(name)) + name
        request += struct.pack(">iiqi", 1, partition, offset, _MOST)
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _exactly(connection, 4))
        answer = _exactly(connection, size)
        if len(answer) > at:  # else the storage took longer, and the topic is left out
            break
    _, error, _, _, aborted = struct.unpack_from(">ihqqi", answer, at)
    assert error == 0, f"fetch of {topic}: error {error}"
    at += struct.calcsize(">ihqqi") + 16 * max(0, aborted)
    (length,) = struct.unpack_from(">i", answer, at)
    return answer[at + 4 : at + 4 + max(0, length)]


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        assert part, "the broker closed the connection"
        parts += part
    return parts


def _batches(records: bytes) -> Iterator[Batch]:
    at = 0
    while at + _HEADER.size <= len(records):
        first, length, _, magic, _, attributes, delta, _, _, producer, _, _, _ = _HEADER.unpack_from(records, at)
        if at + 12 + length > len(records):
            return  # cut off by the limit of the answer
        assert magic == 2, magic
        marker = None
        if attributes & _CONTROL:  # length, attributes, time, offset and key's length: one byte each; version, type
            (marker,) = struct.unpack_from(">h", _key_of(records, at + _HEADER.size), 2)
        yield Batch(first, first + delta, producer, bool(attributes & _TRANSACTIONAL), marker)
        at += 12 + length


def _key_of(records: bytes, at: int) -> bytes:
    """The key of the only record of a control batch."""
    _, at = _varint(records, at)  # length
    at += 1  # attributes
    for _ in ("timestamp", "offset"):
        _, at = _varint(records, at)
    length, at = _varint(records, at)
    return records[at : at + length]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), at


def _records(consumer: Consumer, places: list[TopicPartition], limit_s: float) -> Iterator[Record]:
    consumer.assign(places)
    end, ended = time.monotonic() + limit_s, set[int]()
    while time.monotonic() < end:
        for record in consumer.consume(1000, 0.05):  # waits for the time, or for so many
            if record.error() is None:
                yield record
            elif record.error().code() == KafkaError._PARTITION_EOF:
                ended.add(record.partition())  # it comes again where more has arrived
            else:
                raise AssertionError(record.error())
        if len(ended) == len(places):
            return
    raise AssertionError(f"{places[0].topic}: its end was not reached in {limit_s:g} s")
