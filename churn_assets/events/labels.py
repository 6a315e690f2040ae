"""The consumer of `ml.feedback`: outcomes of customers from a topic into the log, as `POST /feedback` takes them.

Each label once: its place in the topic is stored with it, as its request id, in one write with the label. After a kill
the log says how far it came, so that a commit of the offset that was not made any more repeats nothing. A message that
is no label goes to the topic of dead letters with the reason, before its offset is committed; that may repeat it there.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as Record

from churn_assets.errors import BrokerUnavailable, HomeBusy, LogError, NothingIngested, RowsRejected
from churn_assets.events.broker import Clients, Stopped, make_topics
from churn_assets.events.messages import VERSION
from churn_assets.prediction_log.feedback import parse_reports
from churn_assets.prediction_log.records import Feedback, encode_line
from churn_assets.prediction_log.segment import Segment, adopt_orphans
from churn_assets.prediction_log.warehouse.connection import ingested_names, open_published
from churn_assets.prediction_log.warehouse.read import LogCounts, segment_lines, segment_names
from churn_assets.settings import KafkaSettings, Settings
from churn_assets.storage.lock import file_lock

LOCK = ".consume.lock"
SOURCE = "kafka"  # of its labels, before the name of the topic
_BATCH, _SLICE_S, _DELIVERY_S = 500, 0.5, 30.0
_PARTITIONS_S = 60.0  # between two looks at how many the topic has
_SEGMENT_S = 20.0
_AHEAD = 10_000  # offsets by which the log may be ahead of the broker; markers of transactions take some
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0
_REASON = 500  # characters


class NotALabel(Exception):
    """Why a message is none."""


@dataclass
class ConsumeCounts:
    """Since the start: labels in the log, and dead letters."""

    labels: int = 0
    dead_letters: int = 0


def request_id(topic: str, partition: int, offset: int) -> str:
    """The place of a message, as it is stored with its label."""
    return f"{SOURCE}:{topic}:{partition}:{offset}"


def parse_label(value: bytes | None, own_id: str, source: str, now: dt.datetime) -> Feedback:
    """The row of a message. Raises NotALabel."""
    try:
        item = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotALabel(f"it is not JSON ({error})") from None
    if not isinstance(item, dict):
        raise NotALabel("it is not a JSON object")
    version = item.pop("schema_version", None)
    if version != VERSION or isinstance(version, bool):
        raise NotALabel(f"its schema_version is {msgspec.json.encode(version).decode()[:40]}, expected {VERSION}")
    try:
        [row] = parse_reports([item], own_id, now, source)
    except RowsRejected as error:
        raise NotALabel("; ".join(map(str, error.violations))) from None
    return row


def stored_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """Partition -> offset of its last message that the log has. Raises LogUnreadable, WarehouseCorrupt."""
    prefix, ingested, offsets = f"{SOURCE}:{topic}:", frozenset[str](), dict[int, int]()

    def note(place: str) -> None:
        with suppress(ValueError):
            partition, offset = map(int, place.removeprefix(prefix).split(":"))
            offsets[partition] = max(offset, offsets.get(partition, -1))

    with suppress(NothingIngested), open_published(settings) as connection:
        ingested = ingested_names(connection)
        query = (
            "SELECT arg_max(request_id, split_part(request_id, ':', 4)::BIGINT) FROM feedback "
            "WHERE starts_with(request_id, ?) GROUP BY split_part(request_id, ':', 3)"
        )
        for (place,) in connection.execute(query, [prefix]).fetchall():
            note(place)
    marker = prefix.encode()
    for name in segment_names(settings.predlog_dir):
        for line in () if name in ingested else segment_lines(settings.predlog_dir, name, LogCounts()) or ():
            if marker in line.json:
                note(str(msgspec.json.decode(line.json).get("request_id")))
    return offsets


def start_offset(committed: int | None, stored: int | None, low: int, high: int) -> int:
    """Where to go on in a partition that holds offsets `low` to before `high`: after the committed offset, or after the
    last one in the log if that is later. If the log is ahead by more than a batch can be, it remembers another topic
    of this name."""
    base = low if committed is None else committed
    after = base if stored is None else stored + 1
    if committed is None:
        return after if low <= after <= high else low
    return after if base < after <= min(high, base + _AHEAD) else base


class LabelConsumer:
    """The consumer of one home. `say` is called with a line for people: once for a problem, once for its end."""

    def __init__(
        self, settings: Settings, kafka: KafkaSettings, stop: threading.Event, say: Callable[[str], None]
    ) -> None:
        self._settings, self._kafka, self._stop, self._say = settings, kafka, stop, say
        self._source = f"{SOURCE}:{kafka.feedback}"
        self._segment = Segment(settings.segments_dir, max_age_s=_SEGMENT_S, report=say, instance=settings.instance)
        self._problem = ""
        self.counts = ConsumeCounts()

    def run(self) -> None:
        """Take labels until `stop` is set. Raises HomeBusy, SettingsError, BrokerRefused."""

        def busy(holder: str) -> HomeBusy:
            return HomeBusy(
                f"{holder} consumes labels into {self._settings.home} already, expected at most one consumer a home; "
                "end that one, or name another home: --home"
            )

        with file_lock(self._settings.home / LOCK, busy=busy):
            wait_s = _FIRST_WAIT_S
            adopt_orphans(self._settings.segments_dir)  # and syncs what one that was killed has left
            try:
                while not self._stop.is_set():
                    before = self.counts.labels
                    try:
                        self._connect_and_follow()
                    except Stopped:
                        break
                    except (BrokerUnavailable, LogError, OSError) as error:
                        if not self._problem:
                            self._say(str(error))
                        self._problem = str(error)
                        wait_s = _FIRST_WAIT_S if self.counts.labels > before else wait_s
                        self._stop.wait(wait_s)
                        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            finally:
                self._segment.hand_over()

    def _connect_and_follow(self) -> None:
        clients = Clients(self._kafka)
        make_topics(clients, self._kafka, self._stop)
        consumer = clients.consumer(**{"group.id": f"{self._kafka.name}-feedback"})
        try:
            producer = clients.producer(**{"enable.idempotence": True})
            self._follow(consumer, producer)
        except KafkaException as error:
            raise clients.failure(error) from error
        finally:
            consumer.close()

    def _follow(self, consumer: Consumer, producer: Producer) -> None:
        """Take labels until the topic has other partitions than at the start, or `stop` is set."""
        places = self._places(consumer)
        consumer.assign(places)
        if self._problem:
            self._say("labels are taken again")
            self._problem = ""
        look_at = time.monotonic() + _PARTITIONS_S
        while not self._stop.is_set():
            records = consumer.consume(_BATCH, _SLICE_S)
            for record in records:
                if (error := record.error()) is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
            if records:
                self._take(consumer, producer, records)
            else:
                self._segment.hand_over_if_due()
            if time.monotonic() > look_at:
                look_at += _PARTITIONS_S
                if len(self._partitions(consumer)) != len(places):
                    return

    def _partitions(self, consumer: Consumer) -> Sequence[int]:
        topic = consumer.list_topics(self._kafka.feedback, timeout=10).topics[self._kafka.feedback]
        if topic.error is not None:
            raise KafkaException(topic.error)
        return sorted(topic.partitions)

    def _places(self, consumer: Consumer) -> list[TopicPartition]:
        stored = stored_offsets(self._settings, self._kafka.feedback)
        places = []
        for partition in self._partitions(consumer):
            place = TopicPartition(self._kafka.feedback, partition)
            [answer] = consumer.committed([place], timeout=10)
            low, high = consumer.get_watermark_offsets(place, timeout=10)
            committed = answer.offset if answer.offset >= 0 else None
            start = start_offset(committed, stored.get(partition), low, high)
            places.append(TopicPartition(self._kafka.feedback, partition, start))
        return places

    def _take(self, consumer: Consumer, producer: Producer, records: Sequence[Record]) -> None:
        """Labels into the log, the rest to the dead letters; then their offsets are committed."""
        now, rows, letters, ends = dt.datetime.now(dt.UTC), list[Feedback](), 0, dict[int, int]()
        for record in records:
            partition, offset = record.partition(), record.offset()
            ends[partition] = offset + 1
            try:
                own_id = request_id(self._kafka.feedback, partition, offset)
                rows.append(parse_label(record.value(), own_id, self._source, now))
            except NotALabel as reason:
                letters += 1
                self._send_dead_letter(
                    producer, record, {"reason": str(reason)[:_REASON], "partition": partition, "offset": offset}
                )
        if letters and producer.flush(_DELIVERY_S):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "dead letters were not delivered"))
        if rows:
            self._segment.append(b"".join(map(encode_line, rows)))
        consumer.commit(
            offsets=[TopicPartition(self._kafka.feedback, partition, end) for partition, end in ends.items()],
            asynchronous=False,
        )
        self.counts.labels += len(rows)
        self.counts.dead_letters += letters

    def _send_dead_letter(self, producer: Producer, record: Record, facts: Mapping[str, object]) -> None:
        headers = [(name, str(value).encode()) for name, value in facts.items()]
        producer.produce(self._kafka.dead_letters, record.value(), record.key(), headers=headers)
