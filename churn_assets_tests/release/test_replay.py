"""What a model says of a logged prediction is what it says of the request."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.check import with_excluded
from churn_assets.errors import DataError, RowsRejected
from churn_assets.features.compile import compile_features
from churn_assets.features.encode import encode_table
from churn_assets.prediction_log.records import Prediction
from churn_assets.prediction_log.schema import columns_of
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.release.replay import answered_id, answered_id_sql, record_of, replay, shadow_id
from churn_assets.scoring.models.logistic import LogisticModel
from churn_assets.scoring.models.piecewise import PiecewiseEncoding
from churn_assets.scoring.online import CustomerScorer
from churn_assets.scoring.scorer import Scorer
from churn_assets.serving.predict import Clock, RequestContext, predict_many, predict_one
from churn_assets.serving.routing.models import ServedModel
from churn_assets.serving.routing.router import Arm
from churn_assets_tests.prediction_log.home import settings, write
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, customers, json_rows, scorer_of
from churn_assets_tests.strategies import rows

DECODE = msgspec.json.Decoder(Prediction).decode
DAYS = st.sampled_from([None, AS_OF, "2026-01-01T23:00:00-05:00", "1999-12-31"])


def model_of(scorer: Scorer, version: str) -> ServedModel:
    scorer = dataclasses.replace(scorer, version=version)
    return ServedModel(Path(version), scorer, CustomerScorer(scorer), {}, None, None, False, None)


def without(*names: str) -> Scorer:
    """A scorer that leaves columns out."""
    contract = with_excluded(CONTRACT, names)
    columns, day = encode_table(contract, customers(300, seed=4)), 16090.0
    program = compile_features(contract).fit(columns, day)
    basis = PiecewiseEncoding.fit(program(columns, day), program.specs, 6)
    model = LogisticModel(basis, np.random.default_rng(3).normal(size=basis.width), -0.5)
    return dataclasses.replace(scorer_of("logistic"), contract=contract, program=program, model=model, ranges={})


ANSWERS, CHALLENGER = model_of(scorer_of("boosted"), "a" * 16), model_of(scorer_of("logistic"), "b" * 16)
NARROW = model_of(without("spent"), "c" * 16)  # does not read `spent`


def context() -> RequestContext:
    return RequestContext("request", "key-1", False, 30, True, *Clock().now())


def asked(model: ServedModel, request: bytes) -> Prediction:
    """The log's line of a request by /predict. Raises RowsRejected, DataError."""
    return DECODE(predict_one(Arm(model), msgspec.json.decode(request), context()).log_lines)


def outcome(call) -> dict[str, object] | str:
    """The row but for what depends on the request's time and path, or that it is refused."""
    try:
        row = msgspec.to_builtins(call())
    except (RowsRejected, DataError):
        return "refused"
    for name in ("prediction_id", "scored_at", "latency_us", "arm", "policy", "shadow"):
        row.pop(name, None)
    return row


def bits(row: Prediction) -> tuple[str, ...]:
    return float.hex(row.score), float.hex(row.margin), *row.warnings


@given(rows(CONTRACT), DAYS, st.booleans(), st.sampled_from([ANSWERS, NARROW]), st.sampled_from([CHALLENGER, NARROW]))
def test_a_replay_is_what_the_model_answers_to_the_request(row, day, is_respelled, answering, other):
    body = {**row, **({} if day is None else {"as_of": day})}
    if is_respelled:
        body |= {
            "paperless": int(row["paperless"]),
            "created": f"{row['created']}T23:30:00Z",
            "sent": float(row["sent"]),
        }
        body["id"] = f" {row['id']} "
    request = json.dumps(body).encode()
    try:
        record = asked(answering, request)
    except (RowsRejected, DataError):
        return  # nothing is logged
    assert outcome(lambda: replay(other.customers, record)) == outcome(lambda: asked(other, request))
    itself = replay(answering.customers, record)
    assert bits(itself) == bits(record)


@pytest.mark.parametrize(
    "spent", [{}, {"spent": None}, {"spent": 12.5}, {"spent": 20000}, {"spent": -1}, {"spent": "x"}]
)
def test_a_column_that_the_answering_model_does_not_read_costs_no_truth(spent):
    """Absent, null, sound, or a value that the log drops: the one who reads it refuses it in both."""
    row = json_rows(customers(1, seed=6))[0]
    body = json.dumps({name: cell for name, cell in row.items() if name != "spent"} | spent | {"as_of": AS_OF}).encode()
    record = asked(NARROW, body)
    expected = outcome(lambda: asked(CHALLENGER, body))
    assert (expected == "refused") == (spent not in ({"spent": None}, {"spent": 12.5}))
    assert outcome(lambda: replay(CHALLENGER.customers, record)) == expected


def test_a_refusal_names_what_the_log_does_not_have():
    row = {**json_rows(customers(1, seed=6))[0], "spent": "much", "as_of": AS_OF}
    record = asked(NARROW, json.dumps(row).encode())
    with pytest.raises(
        RowsRejected, match=r"spent.*that the log does not have.*expected a finite number from 0 to 10000"
    ):
        replay(CHALLENGER.customers, record)


def test_a_shadow_row_is_marked_and_leads_to_its_answer():
    row = json_rows(customers(1, seed=6))[0]
    record = asked(ANSWERS, json.dumps({**row, "as_of": AS_OF}).encode())
    record = msgspec.structs.replace(record, policy="r000001", test=True)
    shadow = replay(CHALLENGER.customers, record)
    assert (shadow.shadow, shadow.arm, shadow.policy, shadow.test) == (True, "challenger", "r000001", True)
    assert (shadow.model_version, shadow.latency_us) == ("b" * 16, None)
    assert (shadow.request_id, answered_id(shadow.prediction_id)) == (record.request_id, record.prediction_id)
    assert shadow.warnings[-1] == "as_of"
    assert replay(CHALLENGER.customers, record) == shadow
    with pytest.raises(ValueError, match="is the id of an answer"):
        answered_id(record.prediction_id)


def test_the_warehouse_has_what_a_replay_needs(tmp_path):
    """The rows of table `predictions` replay as the lines of the log do, batches and trials among them."""
    of = settings(tmp_path)
    many = json_rows(customers(60, seed=11))
    lines = [
        predict_one(
            Arm(ANSWERS), {**row, "as_of": AS_OF, "spent": row["spent"] and row["spent"] / 3}, context()
        ).log_lines
        for row in many[:40]
    ]
    lines.append(predict_many(Arm(ANSWERS), [dict(row) for row in many[40:]], None, context()).log_lines)
    records = {record.prediction_id: record for record in map(DECODE, b"".join(lines).splitlines())}
    shadows = {own.prediction_id: own for own in (replay(CHALLENGER.customers, r) for r in records.values())}
    write(of, "20261127T000000000000-1-a", *lines)
    write(of, "20261127T000000000001-1-b", *shadows.values())
    ingest(of, CONTRACT, now=lambda: dt.datetime(2026, 11, 27, tzinfo=dt.UTC))
    with open_published(of) as connection:
        types = columns_of(connection)
        stored = connection.sql("SELECT * FROM predictions").to_arrow_table().to_pylist()
        pairs = connection.execute(
            f"SELECT s.score - a.score FROM predictions s JOIN predictions a ON a.prediction_id = "
            f"{answered_id_sql('s.prediction_id')} WHERE s.shadow"
        ).fetchall()
    assert len(stored) == 120
    assert len(pairs) == 60
    for row in stored:
        record = record_of(CONTRACT, row, types)
        if record.shadow:
            assert bits(record) == bits(shadows[record.prediction_id])
            assert (record.as_of, record.scored_at) == (shadows[record.prediction_id].as_of, record.scored_at)
            continue
        again = replay(CHALLENGER.customers, record)
        assert bits(again) == bits(shadows[shadow_id(record.prediction_id)])
        assert again.scored_at == records[record.prediction_id].scored_at
