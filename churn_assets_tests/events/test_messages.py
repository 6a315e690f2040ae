"""Messages and their schemas: what is published is what is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from churn_assets.events.messages import KINDS, MAX_BYTES, VERSION, prediction_message, schema_of
from churn_assets.events.outbox import Batch
from churn_assets.events.positions import Positions, apply
from churn_assets.events.reports import ReportSource
from churn_assets.prediction_log.records import encode_line
from churn_assets.promotion.ledger import Ledger
from churn_assets.settings import KafkaSettings, Settings
from churn_assets_tests.prediction_log.home import prediction
from churn_assets_tests.promotion.homes import AT, verdict
from churn_assets_tests.strategies import ROOT
from churn_assets_tests.test_home_0_1 import unpack

KAFKA = KafkaSettings(servers="unused:9092")


def check(kind: str, value: bytes) -> dict[str, Any]:
    message = json.loads(value)
    jsonschema.Draft202012Validator(schema_of(kind)).validate(message)
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_the_schemas_in_the_package_and_in_the_documentation_are_those_of_the_messages(kind):
    jsonschema.Draft202012Validator.check_schema(schema_of(kind))
    for folder in ("churn_assets/events/schemas", "docs/schemas"):
        assert json.loads((ROOT / folder / f"{kind}.v{VERSION}.json").read_text(encoding="utf-8")) == schema_of(kind)


@pytest.mark.parametrize("changed", [{}, {"test": True}, {"customer_id": None, "margin": None}, {"source": "key"}])
def test_a_prediction_is_sent_as_the_log_has_it_with_its_version_and_keyed_by_customer(changed):
    row = prediction("p-1", **changed)
    message = prediction_message("topic", encode_line(row))
    assert message is not None
    sent = check("prediction", message.value)
    assert (message.topic, message.key) == ("topic", (row.customer_id or "p-1").encode())
    assert sent.pop("schema_version") == VERSION
    assert sent.pop("features_omitted") is False
    assert sent == {"kind": "prediction", **{name: getattr(row, name) for name in row.__struct_fields__}}


def test_a_shadow_score_is_no_event_and_a_line_that_the_ingest_refuses_neither():
    assert prediction_message("topic", encode_line(prediction("p-1", shadow=True))) is None
    with pytest.raises(msgspec.DecodeError):
        prediction_message("topic", encode_line(prediction("p-1", score=1.5)))


def test_what_no_broker_takes_is_sent_without_its_features():
    message = prediction_message("topic", encode_line(prediction("p-1", features={"note": "x" * MAX_BYTES})))
    assert message is not None
    assert check("prediction", message.value)["features_omitted"] is True
    assert len(message.value) < 2000


@pytest.mark.parametrize(
    ("wrong", "where"),
    [({"score": 1.5}, "score"), ({"schema_version": 2}, "schema_version"), ({"kind": "drift"}, "kind")],
)
def test_the_schema_refuses_what_is_no_message_of_its_version(wrong, where):
    message = prediction_message("topic", encode_line(prediction("p-1")))
    assert message is not None
    with pytest.raises(jsonschema.ValidationError) as error:
        jsonschema.Draft202012Validator(schema_of("prediction")).validate({**json.loads(message.value), **wrong})
    assert list(error.value.path) == [where]


# -- reports of a home that has drifted, retrained and judged -----------------------------------------


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return unpack(tmp_path_factory.mktemp("events"))


def collect(settings: Settings, positions: Positions) -> list[tuple[str, dict[str, Any]]]:
    batch = Batch()
    ReportSource(settings, KAFKA).collect(positions, batch)
    apply(positions, batch.changes)
    kinds = {KAFKA.drift: "drift", KAFKA.outliers: "outliers", KAFKA.gate: "gate"}
    return [(message.topic, check(kinds[message.topic], message.value)) for message in batch.messages]


def test_drift_outliers_and_verdicts_of_a_home_are_sent_once(settings):
    positions: Positions = {}
    messages = collect(settings, positions)
    topics = {topic for topic, _ in messages}
    assert {KAFKA.drift, KAFKA.gate} <= topics
    drift = [message for topic, message in messages if topic == KAFKA.drift]
    reports = [json.loads(path.read_text()) for path in settings.monitoring_dir.glob("*/*/drift.json")]
    assert sorted(message["drifted"] for message in drift) == sorted(
        report["drifted"] for report in reports if report["status"] == "drift"
    )
    ids = [message["event_id"] for _, message in messages]
    assert len(ids) == len(set(ids))
    assert collect(settings, positions) == []


def test_verdicts_of_a_ledger_in_a_database_are_sent(tmp_path, database_url):
    home = Settings.from_environ({"CHURN_HOME": str(tmp_path), "CHURN_DATABASE_URL": database_url}, ROOT)
    ledger = Ledger.of(home)
    ledger.add_challenger("v2", "bundles/v2", "aa", None, None, AT)
    ledger.record_verdict("v2", verdict("v2"), needs_person=True, at=AT)
    ((topic, message),) = collect(home, {})
    assert (topic, message["challenger"]) == (KAFKA.gate, "v2")


def test_each_status_of_a_challenger_is_an_event(settings):
    positions: Positions = {}
    gates = [message for topic, message in collect(settings, positions) if topic == KAFKA.gate]
    assert all(message["challenger"] and message["reason"] for message in gates)
    key = next(key for key in positions if key.startswith("gate/"))
    positions[key] = msgspec.structs.replace(positions[key], state="waiting_gate")  # as it was before the verdict
    again = collect(settings, positions)
    assert [message["round"] for _, message in again] == [int(key.removeprefix("gate/"))]


def test_a_report_that_is_being_written_is_left_for_the_next_time(settings, tmp_path):
    home = Settings.from_environ({"CHURN_HOME": str(tmp_path)}, ROOT)
    source = next(settings.monitoring_dir.glob("*/*/drift.json"))
    path = home.monitoring_dir / Path(*source.parts[-3:])
    path.parent.mkdir(parents=True)
    path.write_text(source.read_text()[:100])
    positions: Positions = {}
    assert collect(home, positions) == []
    path.write_text(source.read_text())
    assert len(positions) == 0
    collect(home, positions)
    assert [key.split("/")[0] for key in positions] == ["window"]
