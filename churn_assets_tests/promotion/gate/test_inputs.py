"""Which rows the two are compared on, at which day, and in which segments."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.limits import Monitoring
from churn_assets.promotion.gate.evidence import (
    CrossFitted,
    holdout_evidence,
    recent_evidence,
    recent_rows,
    segments_of,
)
from churn_assets.training.labelled_rows import WINDOW
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, customers, scorer_of

COLUMNS = [column.name for column in CONTRACT.scoring_columns]


def labelled(rows: pa.Table, **over: object) -> pa.Table:
    """`labelled_predictions` of these customers, all final and for the gate; `over` sets whole columns."""
    count = rows.num_rows
    start = dt.datetime(2014, 1, 20, 10, 30)
    columns: dict[str, object] = {
        "seq": list(range(count)),
        "prediction_id": [f"p{i}" for i in range(count)],
        "customer_id": rows["id"],
        "as_of": pa.array([start] * count, pa.timestamp("us")),
        "fingerprint": [CONTRACT.fingerprint] * count,
        "label_state": ["final"] * count,
        "part": ["gate"] * count,
        "churned": [i % 3 == 0 for i in range(count)],
        **over,
    }
    features = {f"x_{name}": rows[name] for name in COLUMNS}
    return pa.table({**columns, **features})


def floats(rows: pa.Table) -> pa.Table:
    """Numbers as the warehouse keeps them: doubles."""
    return rows.set_column(rows.schema.get_field_index("sent"), "sent", rows["sent"].cast(pa.float64()))


def test_the_last_prediction_of_each_customer_counts_the_newest_first():
    table = labelled(customers(6), customer_id=["a", "b", "a", None, None, "b"])
    found = recent_rows(CONTRACT, table)
    assert found["sent"].to_pylist() == [table["x_sent"][i].as_py() for i in (5, 4, 3, 2)]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("label_state", ["final", "open", "early", "late", "conflicting", "final"]),
        ("part", ["gate", "train", "train", "train", "train", "gate"]),
        ("fingerprint", [CONTRACT.fingerprint, *["0" * 64] * 4, CONTRACT.fingerprint]),
        ("churned", [True, None, None, None, None, False]),
    ],
)
def test_only_final_labels_of_this_contract_set_apart_for_the_gate_are_looked_at(column, values):
    assert recent_rows(CONTRACT, labelled(customers(6), **{column: values})).num_rows == 2


@pytest.mark.parametrize(
    ("starts", "floor", "recent"),
    [
        ([0, 0, 10, 10, 20, 30], 10, 6),  # fewer than the floor: all windows
        ([0] * 10 + [10] * 12 + [20] * 3 + [30] * 9, 10, 12),  # two windows
        ([0] * 10 + [10] * 12 + [20] * 3 + [30] * 4, 10, 19),  # the two newest have fewer than the floor
        ([0] * 10 + [10] * 12 + [20] * 3 + [None] * 2, 10, 17),  # rows after the last window, and two windows
        ([None] * 5, 10, 5),  # before the first window is closed
    ],
)
def test_recent_are_the_newest_windows_and_never_fewer_labels_than_the_floor(starts, floor, recent):
    contract = dataclasses.replace(CONTRACT, monitoring=Monitoring(label_floor=floor))
    windows = pa.array(starts, pa.int64())
    table = labelled(customers(len(starts))).append_column(WINDOW, windows)
    rows = recent_rows(contract, table)
    assert rows["sent"].to_pylist() == table["x_sent"].to_pylist()[::-1][:recent]


def test_each_row_is_scored_at_its_own_day_whatever_the_hour():
    rows = customers(4, seed=3)
    days = [dt.datetime(2014, 1, 20, 23, 59), dt.datetime(2014, 3, 1), dt.datetime(2015, 1, 1), dt.datetime(2014, 2, 2)]
    champion, challenger = scorer_of("boosted"), scorer_of("logistic")
    found = recent_evidence(CONTRACT, champion, challenger, labelled(floats(rows), as_of=days))
    expected = [champion.score_table(rows.slice(i, 1), days[i].date()).probability[0] for i in (3, 2, 1, 0)]
    assert found.champion == pytest.approx(expected)
    assert found.churned.tolist() == [1, 0, 0, 1]


def test_the_holdout_is_scored_at_the_day_of_each_row_or_at_its_snapshot():
    rows = customers(5).append_column("churned", pa.array([1, 0, 0, 1, 0], pa.int8()))
    one, two = scorer_of("boosted"), scorer_of("logistic")
    told = rows.replace_schema_metadata({b"churn_as_of": AS_OF.encode()})
    by_row = rows.append_column("row_as_of", pa.array([dt.date(2014, 1, 20)] * 5))
    snapshot, each = (holdout_evidence(CONTRACT, one, two, table) for table in (told, by_row))
    assert snapshot.challenger == pytest.approx(each.challenger)
    assert snapshot.champion == pytest.approx(one.score_table(rows, AS_OF).probability)


def test_without_labels_there_is_no_evidence():
    scorer = scorer_of("boosted")
    found = recent_evidence(CONTRACT, scorer, scorer, labelled(customers(3)).slice(0, 0))
    assert len(found.churned) == found.churners == found.fewest == 0


def test_rows_set_apart_and_cross_fitted_rows_are_one_evidence_of_recent_labels():
    champion, challenger = scorer_of("boosted"), scorer_of("logistic")
    learned = customers(6, seed=4).append_column("churned", pa.array([1, 0] * 3, pa.int8()))
    learned = learned.append_column("row_as_of", pa.array([dt.date(2014, 3, 1)] * 6))
    scores = np.linspace(0.1, 0.6, 6)
    found = recent_evidence(CONTRACT, champion, challenger, labelled(customers(4)), CrossFitted(learned, scores))
    assert found.cross_fitted.tolist() == [False] * 4 + [True] * 6
    assert found.challenger[4:].tolist() == scores.tolist()
    assert found.champion[4:] == pytest.approx(champion.score_table(learned, "2014-03-01").probability)
    assert len(found.rolling().churned) == 4
    assert all(len(mask) == 10 for mask in found.segments.values())


@given(seed=st.integers(0, 1000), count=st.integers(1, 60))
def test_the_segments_of_a_column_hold_every_row_once(seed, count):
    rows = customers(count, seed)
    segments = segments_of(CONTRACT, rows)
    for column in COLUMNS:
        mine = [mask for words, mask in segments.items() if words.startswith(f"{column}: ")]
        total = np.sum(mine, axis=0) if mine else np.zeros(count)
        constant = len({value for value in rows[column].to_pylist() if value is not None}) <= 1
        assert constant or (total == 1).all(), column


def test_segments_are_told_by_what_is_in_them():
    words = list(segments_of(CONTRACT, customers(400)))
    assert {"city: DEL", "city: missing", "paperless: true", "paperless: false"} <= set(words)
    assert sum(name.startswith("spent: ") and " to " in name for name in words) == 3
    assert any(name.startswith("created: 20") for name in words)
