"""Predictions from the log as rows to learn from: which ones, and that they say what was scored."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.check import with_excluded
from churn_assets.contract.limits import Monitoring
from churn_assets.contract.model import Contract
from churn_assets.data.customers import MARKS, mark_table, reported_rows, table_rows
from churn_assets.features.compile import as_of_days, compile_features
from churn_assets.features.encode import encode_rows, encode_table
from churn_assets.training.feature_table import as_of_of
from churn_assets.training.labelled_rows import USED, WINDOW, join, labelled_rows, set_apart_rows
from churn_assets_tests.data.log import labelled
from churn_assets_tests.strategies import CONTRACTS, STORE, make_columns, rows, typed_table

WHEN = st.datetimes(dt.datetime(2013, 1, 1), dt.datetime(2026, 12, 31))
ABOUT = st.fixed_dictionaries(
    {
        "customer_id": st.sampled_from(["a", "b", "c", "d", None]),
        "label_state": st.sampled_from(["final", "open", "early", "late", "conflicting"]),
        "part": st.sampled_from(["train", "train", "gate"]),
        "churned": st.sampled_from([True, False, None]),
        "contacted": st.sampled_from([True, False, None]),
        "fingerprint": st.sampled_from([STORE.fingerprint, STORE.fingerprint, "another"]),
    }
)


def table(contract: Contract, ids: list[str]) -> pa.Table:
    """A small validated table, marked."""
    values = make_columns(contract, len(ids), 1)
    many: list[dict[str, Any]] = []
    for index in range(len(ids)):
        row: dict[str, Any] = {contract.key.name: ids[index]}
        for column in contract.scoring_columns:
            cell = values[column.name][index]
            if column.choices:
                row[column.name] = column.choices[cell] if cell >= 0 else None
            elif column.kind == "date":
                row[column.name] = None if np.isnan(cell) else str(np.datetime64(int(cell), "D"))
            else:
                row[column.name] = None if np.isnan(cell) else int(cell) if column.kind == "integer" else float(cell)
        many.append(row)
    typed = typed_table(contract, many).append_column("churned", pa.array([0, 1] * (len(ids) // 2), pa.int8()))
    metadata = {"churn_as_of": "2014-01-20", "churn_source": "a file", "churn_contract": contract.fingerprint}
    return mark_table(contract, typed.replace_schema_metadata(metadata))


def one_row(about: dict[str, Any], frozen: set[str] = frozenset()) -> str:  # type: ignore[assignment]  # a set too
    """The reason that one prediction is counted under."""
    row = {c.name: None for c in STORE.scoring_columns}
    result = labelled_rows(STORE, labelled(STORE, [row], [about]), frozen)
    return next(reason for reason, count in result.counts if count)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
@given(data=st.data(), instants=st.lists(WHEN, min_size=1, max_size=6))
def test_the_features_of_an_appended_row_are_those_that_the_service_computed(contract, data, instants):
    asked = [data.draw(rows(contract)) for _ in instants]
    predictions = [{"as_of": at} for at in instants]
    result = labelled_rows(contract, labelled(contract, asked, predictions))
    joined = join(contract, table(contract, ["t0", "t1", "t2", "t3"]), result)
    assert joined.num_rows == 4 + result.rows.num_rows
    program = compile_features(contract).fit(encode_table(contract, joined), as_of_of(joined))
    together = program(encode_table(contract, joined), as_of_of(joined))
    place = {name: row for row, name in enumerate(joined[contract.key.name].to_pylist())}
    for number, (row, at) in enumerate(zip(asked, instants, strict=True)):
        if f"p{number}" in place:
            alone = program(encode_rows(contract, [row]), as_of_days(at))
            np.testing.assert_array_equal(together[place[f"p{number}"]], alone[0])


@given(predictions=st.lists(ABOUT, max_size=25), frozen=st.sets(st.sampled_from("abcd")))
def test_every_prediction_is_counted_once_and_only_eligible_ones_are_used(predictions, frozen):
    log = labelled(STORE, [{c.name: None for c in STORE.scoring_columns}] * len(predictions), predictions)
    result = labelled_rows(STORE, log, frozen)
    assert sum(count for _, count in result.counts) == len(predictions)
    assert dict(result.counts)[USED] == result.rows.num_rows
    ids = result.rows["custid"].to_pylist()
    treated = {
        row["customer_id"]
        for row in predictions
        if row["contacted"] and row["label_state"] == "final" and row["churned"] is not None
        if row["part"] == "train" and row["fingerprint"] == STORE.fingerprint
    }
    assert len(set(ids)) == len(ids)
    assert not set(ids) & (frozen | treated | {None})
    assert not result.gate & frozen
    assert set(result.contacted["customer_id"].to_pylist()) == treated - frozen - {None}


def test_the_last_final_prediction_of_a_customer_is_used():
    blank = {c.name: None for c in STORE.scoring_columns}
    predictions = [
        {"customer_id": "a", "churned": False},
        {"customer_id": "a", "churned": True, "as_of": dt.datetime(2024, 6, 1, 23, 59, 59)},
        {"customer_id": "a", "churned": None, "label_state": "open"},
    ]
    result = labelled_rows(STORE, labelled(STORE, [blank] * 3, predictions).take([2, 1, 0]))  # type: ignore[arg-type]
    assert result.rows["churned"].to_pylist() == [1]
    assert result.rows["row_as_of"].to_pylist() == [dt.date(2024, 6, 1)]
    assert result.rows["row_source"].to_pylist() == ["feedback"]


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({}, "used for training"),
        ({"fingerprint": "another"}, "under another contract"),
        ({"label_state": "early"}, "without a final label"),
        ({"churned": None}, "without a final label"),
        ({"customer_id": None}, "without a customer's id"),
        ({"part": "gate"}, "kept for the gate"),
        ({"customer_id": "h"}, "of customers in the frozen holdout"),
        ({"contacted": True}, "of customers who were contacted"),
        ({"contacted": False}, "used for training"),
    ],
)
def test_each_prediction_is_counted_under_its_reason(about, reason):
    assert one_row(about, {"h"}) == reason


def test_a_value_that_no_validated_row_has_is_left_out_and_counted():
    blank: dict[str, object] = {c.name: None for c in STORE.scoring_columns}
    odd = [{**blank, "city": "ATLANTIS"}, {**blank, "esent": 2.0**60}, {**blank, "esent": 1.5}, blank]
    result = labelled_rows(STORE, labelled(STORE, odd, [{}] * 4))
    assert dict(result.counts)["with a value that the table could not hold"] == 3
    assert result.rows["custid"].to_pylist() == ["p3"]


def test_customers_of_the_gate_stay_in_the_table_and_are_put_aside():
    blank = {c.name: None for c in STORE.scoring_columns}
    predictions = [{"customer_id": "t1", "part": "gate"}, {"customer_id": "t2"}]
    before = table(STORE, ["t0", "t1", "t2", "t3"])
    joined = join(STORE, before, labelled_rows(STORE, labelled(STORE, [blank] * 2, predictions)))
    assert joined["row_aside"].to_pylist() == [False, True, False, False, False]
    assert joined["custid"].to_pylist() == ["t0", "t1", "t2", "t3", "t2"]
    assert reported_rows(joined).tolist() == [0, 2, 3]
    assert table_rows(joined).equals(before.drop_columns(list(MARKS)))
    assert joined.schema.metadata[b"churn_source"] == b"a file; and 1 labelled predictions"


def test_no_labels_leave_the_table_as_it_was():
    before = table(STORE, ["t0", "t1"])
    joined = join(STORE, before, labelled_rows(STORE, labelled(STORE, [], [])))
    assert joined.equals(before)
    assert as_of_of(joined) == as_of_days("2014-01-20")


def test_where_each_row_has_its_own_date_ages_are_counted_from_it():
    import dataclasses

    contract = dataclasses.replace(STORE, time=dataclasses.replace(STORE.time, as_of="lastorder"))
    plain = table(STORE, ["t0", "t1"]).drop_columns(list(MARKS))
    days = as_of_of(mark_table(contract, plain))
    np.testing.assert_array_equal(days, encode_table(STORE, plain)["lastorder"])


def test_an_excluded_column_comes_back_from_the_log_and_its_faults_cost_a_cell():
    contract = with_excluded(STORE, ["favday", "esent"])
    row = {c.name: None for c in STORE.scoring_columns}
    sent = [{**row, "favday": "Monday", "esent": 3.0}, {**row, "favday": "Funday", "esent": 2.5}]
    about = [{"customer_id": name, "label_state": "final", "part": "train", "churned": True} for name in "ab"]
    kept = labelled_rows(contract, labelled(STORE, sent, about)).rows
    assert kept["favday"].to_pylist() == ["Monday", None]
    assert kept["esent"].to_pylist() == [3, None]
    assert labelled_rows(STORE, labelled(STORE, sent, about)).rows.num_rows == 1


def test_recent_rows_come_last_and_are_counted():
    row = {c.name: None for c in STORE.scoring_columns}
    about = [{"seq": seq, "customer_id": f"c{seq}", "churned": bool(seq % 2)} for seq in (5, 3, 9, 1, 7)]
    table = labelled(STORE, [row] * 5, about).append_column(WINDOW, pa.array([4, 0, None, 0, 4], pa.int64()))
    contract = dataclasses.replace(
        STORE, monitoring=Monitoring(label_floor=10), release=dataclasses.replace(STORE.release, recent_windows=1)
    )
    few = labelled_rows(contract, table)
    assert few.rows[STORE.key.name].to_pylist() == ["c1", "c3", "c5", "c7", "c9"]
    assert few.recent == 5  # fewer than the floor: all of them
    many = dataclasses.replace(contract, monitoring=Monitoring(label_floor=1))
    assert labelled_rows(many, table).recent == 3  # the last window, and what came after it


def test_what_is_set_apart_can_be_frozen():
    row = {c.name: None for c in STORE.scoring_columns}
    about: list[dict[str, Any]] = [
        {"customer_id": "a", "part": "gate", "churned": True},
        {"customer_id": "a", "part": "gate", "churned": False},
        {"customer_id": "b", "part": "train"},
        {"customer_id": "c", "part": "gate", "label_state": "open"},
        {"customer_id": "d", "part": "gate", "contacted": True},
        {"customer_id": None, "part": "gate"},
    ]
    rows = set_apart_rows(STORE, labelled(STORE, [row] * len(about), about))
    assert rows[STORE.key.name].to_pylist() == ["a"]
    assert rows["churned"].to_pylist() == [0]
    assert set(MARKS) <= set(rows.column_names)
