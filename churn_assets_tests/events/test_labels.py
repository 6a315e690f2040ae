"""Labels from a topic: each in the log once, as `POST /feedback` takes it; the rest are dead letters with a reason."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from churn_assets.events.broker import Clients
from churn_assets.events.labels import LabelConsumer, NotALabel, parse_label, request_id, start_offset, stored_offsets
from churn_assets.events.messages import schema_of
from churn_assets.prediction_log.records import Feedback
from churn_assets.prediction_log.segment import OPEN
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.prediction_log.warehouse.read import read_lines
from churn_assets.settings import KafkaSettings
from churn_assets_tests.events.mock_cluster import mock_cluster, running
from churn_assets_tests.events.test_relay import wait
from churn_assets_tests.events.transactions import read_topic
from churn_assets_tests.prediction_log.home import STORE, feedback, settings, write

NOW = dt.datetime(2026, 11, 28, 12, tzinfo=dt.UTC)
LABEL = {"schema_version": 1, "customer_id": 17, "churned": True, "observed_at": "2026-11-20"}


def parse(value: object) -> Feedback:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse_label(text, "kafka:t:0:5", "kafka:t", NOW)


def test_a_label_becomes_the_row_that_the_service_would_write():
    row = parse(LABEL)
    assert (row.customer_id, row.churned, row.prediction_id) == ("17", True, None)
    assert (row.request_id, row.source) == ("kafka:t:0:5", "kafka:t")
    assert row.observed_at == "2026-11-20T00:00:00+00:00"
    jsonschema.Draft202012Validator(schema_of("feedback")).validate(LABEL)


WRONG: Mapping[str, tuple[object, str]] = {
    "not JSON": (b"\xff", "it is not JSON"),
    "nothing": (b"", "it is not JSON"),
    "a list": ([LABEL], "it is not a JSON object"),
    "no version": ({**LABEL, "schema_version": None}, "its schema_version is null, expected 1"),
    "a newer version": ({**LABEL, "schema_version": 2}, "its schema_version is 2, expected 1"),
    "a version that is true": ({**LABEL, "schema_version": True}, "its schema_version is true, expected 1"),
    "no id": ({**LABEL, "customer_id": None}, "a prediction_id or a customer_id"),
    "the future": ({**LABEL, "observed_at": "2027-01-01"}, "not in the future"),
    "a word": ({**LABEL, "churned": "yes"}, "true or false"),
    "another field": ({**LABEL, "note": 1}, "an unknown field"),
}


@pytest.mark.parametrize(("value", "reason"), WRONG.values(), ids=WRONG)
def test_what_is_no_label_is_refused_with_the_reason(value, reason):
    with pytest.raises(NotALabel) as error:
        parse(value)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("committed", "stored", "low", "high", "start"),
    [
        (None, None, 0, 10, 0),  # nothing is known: from the beginning
        (None, None, 4, 10, 4),  # of which the broker has deleted some
        (None, 6, 4, 10, 7),  # the group's offset has expired: after what the log has
        (None, 20, 0, 10, 0),  # the log remembers another topic of this name
        (5, None, 0, 10, 5),
        (5, 4, 0, 10, 5),
        (5, 8, 0, 10, 9),  # killed between the write and the commit
        (5, 50_000, 0, 60_000, 5),  # further ahead than a batch: another topic
    ],
)
def test_where_a_consumer_goes_on(committed, stored, low, high, start):
    assert start_offset(committed, stored, low, high) == start


def test_the_log_tells_how_far_it_has_come_before_and_after_the_ingest(tmp_path):
    of = settings(tmp_path)

    def label(name: str, partition: int, offset: int) -> Feedback:
        return feedback(name, request_id=request_id("t", partition, offset))

    write(of, "s1", label("a", 0, 5), label("b", 1, 2), feedback("by HTTP"))
    assert stored_offsets(of, "t") == {0: 5, 1: 2}
    ingest(of, STORE)
    assert stored_offsets(of, "t") == {0: 5, 1: 2}
    write(of, "s2", label("c", 0, 10), suffix=OPEN)
    assert stored_offsets(of, "t") == {0: 10, 1: 2}
    assert stored_offsets(of, "another") == {}


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaSettings]:
    with mock_cluster() as known:
        yield known


def consuming(home: Path, kafka: KafkaSettings) -> AbstractContextManager[LabelConsumer]:
    return running(lambda stop: LabelConsumer(settings(home), kafka, stop, print))


def send(kafka: KafkaSettings, *values: object) -> None:
    producer = Clients(kafka).producer()
    for value in values:
        producer.produce(kafka.feedback, value if isinstance(value, bytes) else json.dumps(value).encode(), b"17")
    assert producer.flush(10) == 0


def labels_in(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line.json) for line in read_lines(settings(home).predlog_dir)]


def test_labels_of_a_topic_are_in_the_log_once_and_the_rest_are_dead_letters(kafka, tmp_path):
    send(kafka, LABEL, b"no json", {**LABEL, "customer_id": 18}, {**LABEL, "churned": None})
    with consuming(tmp_path, kafka) as consumer:
        wait(lambda: consumer.counts.labels == 2 and consumer.counts.dead_letters == 2)
        send(kafka, {**LABEL, "customer_id": 19})
        wait(lambda: consumer.counts.labels == 3)
    with consuming(tmp_path, kafka):  # again: nothing comes twice
        time.sleep(1.5)
    assert sorted(row["customer_id"] for row in labels_in(tmp_path)) == ["17", "18", "19"]
    assert {row["source"] for row in labels_in(tmp_path)} == {f"kafka:{kafka.feedback}"}
    letters = read_topic(kafka.servers, kafka.dead_letters).committed
    headers = [{name: value.decode() for name, value in record.headers()} for record in letters]
    assert sorted(record.value() for record in letters)[0] == b"no json"
    assert {header["reason"].split(" (")[0].split(":")[0] for header in headers} >= {"it is not JSON"}
    assert all(header.keys() == {"reason", "partition", "offset"} for header in headers)
