"""Which label a prediction has, whatever was reported, and what is reported of those without one."""

from __future__ import annotations

import datetime as dt
import hashlib
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.monitoring.performance.labels import (
    CENSUS,
    GATE_SHARE,
    STATES,
    LabelCounts,
    ReportCounts,
    count_labels,
    label_schema,
    labelled,
)
from churn_assets_tests.monitoring.log import AS_OF, DAY, MATURE, NOW, log, replace_feedback
from churn_assets_tests.scoring.tiny import CONTRACT

LOST, KEPT = True, False
BEFORE = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)  # the days are not over

# What is reported of one prediction, when it is looked at, its state, its label.
RULES = {
    "churned within the days": ([(LOST, AS_OF + 5 * DAY)], NOW, "final", True),
    "churned on the first day": ([(LOST, AS_OF)], NOW, "final", True),
    "churned on the last day": ([(LOST, MATURE)], NOW, "final", True),
    "churned on the last day, reported by its date": ([(LOST, dt.datetime(2026, 2, 9))], NOW, "final", True),
    "churned on the first day, reported by its date": ([(LOST, dt.datetime(2026, 1, 10))], NOW, "final", True),
    "kept at the end": ([(KEPT, MATURE)], NOW, "final", False),
    "kept on the last day, reported by its date": ([(KEPT, dt.datetime(2026, 2, 9))], NOW, "final", False),
    "kept long after the end": ([(KEPT, MATURE + 60 * DAY)], NOW, "final", False),
    "churned, but the days are not over": ([(LOST, AS_OF + 5 * DAY)], BEFORE, "open", None),
    "kept, reported too soon": ([(KEPT, AS_OF + 5 * DAY)], NOW, "early", None),
    "kept, reported too soon and read soon": ([(KEPT, AS_OF + 5 * DAY)], BEFORE, "early", None),
    "kept, reported on the last day but one": ([(KEPT, MATURE - DAY)], NOW, "early", None),
    "churned before the prediction": ([(LOST, AS_OF - 5 * DAY)], NOW, "early", None),
    "churned after the days": ([(LOST, MATURE + DAY)], NOW, "late", None),
    "kept too soon, then churned too late": ([(KEPT, AS_OF + DAY), (LOST, MATURE + DAY)], NOW, "late", None),
    "kept at the end, churned later": ([(KEPT, MATURE + DAY), (LOST, MATURE + 9 * DAY)], NOW, "final", False),
    "kept too soon, then churned within": ([(KEPT, AS_OF + DAY), (LOST, AS_OF + 9 * DAY)], NOW, "final", True),
    "churned within, kept at the end": ([(LOST, AS_OF + DAY), (KEPT, MATURE + DAY)], NOW, "conflicting", None),
    "the same twice": ([(LOST, AS_OF + DAY), (LOST, AS_OF + 2 * DAY)], NOW, "final", True),
}


def by_prediction(reports):
    return [{"prediction_id": "p1", "churned": churned, "observed_at": at} for churned, at in reports]


@pytest.mark.parametrize(("reports", "now", "state", "churned"), RULES.values(), ids=RULES)
def test_a_label_follows_its_rule(reports, now, state, churned):
    (row,) = labelled(log([{}], by_prediction(reports)), CONTRACT, now).to_pylist()
    assert (row["label_state"], row["churned"]) == (state, churned)
    assert row["matures_at"] == MATURE


MOMENTS = st.integers(-3, 45).map(lambda days: AS_OF + days * DAY)
REPORTS = st.lists(st.tuples(st.booleans(), MOMENTS, st.sampled_from([None, False, True])), min_size=1, max_size=6)


@cache
def one_prediction():
    return log([{}])


@settings(max_examples=40, deadline=None)
@given(reports=REPORTS, data=st.data(), looked_after_days=st.integers(0, 60))
def test_the_order_in_which_reports_arrive_changes_nothing(reports, data, looked_after_days):
    now = (AS_OF + looked_after_days * DAY).replace(tzinfo=dt.UTC)
    rows = [{"customer_id": "c1", "churned": c, "observed_at": at, "contacted": k} for c, at, k in reports]
    again, connection = data.draw(st.permutations(rows)), one_prediction()
    replace_feedback(connection, rows)
    one = labelled(connection, CONTRACT, now).to_pylist()
    replace_feedback(connection, again)
    two = labelled(connection, CONTRACT, now).to_pylist()
    assert one == two
    for row in one:
        assert row["label_state"] in STATES
        assert (row["churned"] is None) == (row["label_state"] != "final")


def test_a_report_on_a_customer_speaks_of_every_prediction_made_before_it():
    rows = [{"customer_id": "c", "as_of": AS_OF + days * DAY} for days in (0, 20, 60)]
    reports = [{"customer_id": "c", "churned": True, "observed_at": AS_OF + 40 * DAY}]
    result = labelled(log(rows, reports), CONTRACT, NOW).to_pylist()
    assert [(row["prediction_id"], row["label_state"]) for row in result] == [("p1", "late"), ("p2", "final")]


def test_a_report_on_a_prediction_speaks_of_no_other():
    rows = [{"customer_id": "c"}, {"customer_id": "c"}]
    result = labelled(log(rows, [{"prediction_id": "p2"}]), CONTRACT, NOW).to_pylist()
    assert [row["prediction_id"] for row in result] == ["p2"]


def test_reports_that_fit_nothing_are_counted_by_reason_and_reported():
    reports: list[dict[str, Any]] = [
        {"prediction_id": "unknown"},
        {"customer_id": "unknown"},
        {"customer_id": "c1", "observed_at": AS_OF - DAY},
        {"prediction_id": "p1", "customer_id": "another"},
        {"prediction_id": "p1", "customer_id": "c1"},
    ]
    counts = count_labels(log([{}], reports), CONTRACT, NOW)
    assert counts.feedback == ReportCounts(
        reports=5, unknown_prediction=1, of_another_customer=1, unknown_customer=1, before_any_prediction=1
    )
    assert counts.states["final"] == 1
    assert "4 of 5 reports fit no prediction" in counts.message


def test_predictions_nobody_reports_on_are_open_and_then_unlabelled():
    rows = [{"as_of": AS_OF}, {"as_of": AS_OF + 100 * DAY}, {"as_of": AS_OF + 130 * DAY}]
    counts = count_labels(log(rows, [{"customer_id": "c2", "observed_at": AS_OF + 101 * DAY}]), CONTRACT, _at(120))
    assert counts.states == dict.fromkeys(STATES, 0) | {"open": 2, "unlabelled": 1}
    assert counts.waiting.predictions == 2
    assert counts.waiting.first_matures_at == (AS_OF + 130 * DAY).isoformat()
    assert counts.waiting.last_matures_at == (AS_OF + 160 * DAY).isoformat()
    assert [row.predictions for row in counts.waiting.by_month] == [1, 1]
    assert "2 are still open and mature from 2026-05-20 to 2026-06-19" in counts.message


def _at(days: int) -> dt.datetime:
    return (AS_OF + days * DAY).replace(tzinfo=dt.UTC)


def test_the_states_are_of_all_predictions_and_agree_with_the_table():
    rows = [{"as_of": AS_OF + n % 50 * DAY} for n in range(200)]
    reports = [
        {"customer_id": f"c{n}", "churned": n % 3 == 0, "observed_at": AS_OF + n % 90 * DAY, "contacted": n % 5 == 0}
        for n in range(1, 180)
    ]
    connection = log(rows, reports)
    counts, table = count_labels(connection, CONTRACT, _at(60)), labelled(connection, CONTRACT, _at(60))
    assert sum(counts.states.values()) == counts.predictions == 200
    result = table["label_state"].to_pylist()
    for state in ("final", "early", "late", "conflicting"):
        assert result.count(state) == counts.states[state]
    assert table["churned"].to_pylist().count(True) == counts.churned
    assert counts.contacted == table["contacted"].to_pylist().count(True)
    assert table["seq"].to_pylist() == sorted(table["seq"].to_pylist())


@pytest.mark.parametrize(
    ("contacts", "contacted"),
    [([None], None), ([False], False), ([False, True], True), ([None, False], False), ([None, True], True)],
)
def test_a_customer_is_treated_if_any_report_says_so(contacts, contacted):
    reports = [{"prediction_id": "p1", "contacted": value} for value in contacts]
    assert labelled(log([{}], reports), CONTRACT, NOW)["contacted"].to_pylist() == [contacted]


def part_of(customer_id: str) -> str:
    """The rule of docs/labels.md, in Python."""
    share = int(hashlib.sha256(customer_id.encode()).hexdigest()[:8], 16) / 16**8
    return "gate" if share < GATE_SHARE else "train"


def test_a_customer_is_in_one_part_for_ever_by_the_hash_of_the_id():
    rows = [{"customer_id": f"Kunde {n} ü"} for n in range(500)] + [{"customer_id": None}]
    reports = [{"prediction_id": f"p{n}"} for n in range(1, 502)]
    table = labelled(log(rows, reports), CONTRACT, NOW)
    wanted = [part_of(row["customer_id"] or row["prediction_id"]) for row in table.to_pylist()]
    assert table["part"].to_pylist() == wanted
    assert wanted.count("gate") / len(wanted) == pytest.approx(GATE_SHARE, abs=0.06)
    assert part_of("c1") == "train"
    assert part_of("c4") == "gate"


def test_the_table_has_the_raw_features_and_the_contract():
    rows = [{"x_sent": 3.0, "x_city": "BOM", "x_paperless": True, "x_created": dt.date(2025, 1, 1), "x_spent": None}]
    table = labelled(log(rows, [{"prediction_id": "p1"}]), CONTRACT, NOW)
    assert table.schema.equals(label_schema(CONTRACT), check_metadata=True)
    assert table.schema.metadata[b"churn_contract"].decode() == CONTRACT.fingerprint
    (row,) = table.to_pylist()
    assert {name: row[name] for name in rows[0]} == rows[0]


def test_a_column_the_log_does_not_have_yet_is_missing_not_an_error():
    connection = log([{}], [{"prediction_id": "p1"}])
    connection.execute("ALTER TABLE predictions DROP COLUMN x_spent")
    assert labelled(connection, CONTRACT, NOW)["x_spent"].to_pylist() == [None]


def test_a_log_without_rows_has_no_labels_and_says_so():
    counts = count_labels(log(), CONTRACT, NOW)
    assert counts == LabelCounts()
    assert counts.message.startswith("no predictions yet")
    assert labelled(log(), CONTRACT, NOW).schema.equals(label_schema(CONTRACT))


def test_now_must_know_its_zone():
    with pytest.raises(ValueError, match="time zone"):
        count_labels(log(), CONTRACT, dt.datetime(2026, 1, 1))


def others_kept(at, count=CENSUS):
    return [{"customer_id": f"k{n}", "churned": False, "observed_at": at} for n in range(count)]


@pytest.mark.parametrize("every", [7, 30, 90])
def test_a_census_does_not_move_the_share_of_churners(every):
    customers, days = 3000, 270
    random = np.random.default_rng(every)
    asked = random.integers(0, 60, customers)
    left = asked + random.exponential(130.0, customers)  # days from the first day
    at = [AS_OF + int(day) * DAY for day in asked]
    counted = range(every, days, every)
    reports = [
        {"customer_id": f"c{n}", "churned": bool(left[n - 1] <= day), "observed_at": AS_OF + day * DAY}
        for n in range(1, customers + 1)
        for day in counted
        if day > asked[n - 1] and left[n - 1] > day - every
    ]
    table = labelled(log([{"as_of": day} for day in at], reports), CONTRACT, _at(days)).to_pandas()
    final = table[table.label_state == "final"]
    assert len(final) > 0.97 * customers
    truth = np.mean(left - asked <= 30)
    assert final.churned.astype(float).mean() == pytest.approx(truth, abs=0.02)
    assert final.censored.any()


def test_a_churner_of_a_census_waits_for_those_whom_the_next_one_counts():
    lost = {"customer_id": "c1", "churned": True, "observed_at": AS_OF + 10 * DAY}
    reports = [lost, *others_kept(AS_OF + 10 * DAY)]
    (row,) = labelled(log([{}], reports), CONTRACT, NOW).to_pylist()
    assert row["label_state"] == "open"
    (row,) = labelled(log([{}], [*reports, *others_kept(AS_OF + 40 * DAY)]), CONTRACT, NOW).to_pylist()
    assert (row["label_state"], row["churned"]) == ("final", True)


def test_few_who_are_kept_are_no_census():
    lost = {"customer_id": "c1", "churned": True, "observed_at": AS_OF + 40 * DAY}
    states = [
        labelled(log([{}], [lost, *others_kept(AS_OF + 40 * DAY, count)]), CONTRACT, NOW).to_pylist()[0]["label_state"]
        for count in (CENSUS - 1, CENSUS)
    ]
    assert states == ["late", "final"]


def test_a_prediction_matures_by_the_horizon_of_the_contract_that_scored_it():
    kept = {"churned": False, "observed_at": AS_OF + 35 * DAY}
    reports = [{"prediction_id": "p1", **kept}, {"prediction_id": "p2", **kept}]
    connection = log([{}, {"fingerprint": "older"}], reports)
    rows = labelled(connection, CONTRACT, NOW, {"older": 60}).to_pylist()
    assert [row["label_state"] for row in rows] == ["final", "early"]
    assert rows[1]["matures_at"] == AS_OF + 60 * DAY
    counts = count_labels(connection, CONTRACT, NOW, {"older": 60})
    assert (counts.states["final"], counts.states["early"]) == (1, 1)
    assert count_labels(connection, CONTRACT, _at(45), {"older": 60}).waiting.predictions == 1


@pytest.mark.parametrize(
    ("events", "reported", "contacted", "control"),
    [
        ([("offered", 3)], None, True, False),
        ([("contacted", 30)], False, True, False),
        ([("saved", 3)], None, True, False),
        ([("control", 0)], None, False, True),
        ([("control", 1), ("contacted", 9)], None, True, False),
        ([("contacted", 31), ("control", -1)], None, None, False),
        ([("control", 1)], True, True, False),
        ([], False, False, False),
    ],
)
def test_contacts_within_the_days_of_a_prediction_set_its_label_apart(events, reported, contacted, control):
    connection = log([{}], [{"customer_id": "c1", "contacted": reported}])
    for number, (event, day) in enumerate(events):
        row = [f"k{number}", number, "c1", event, AS_OF + day * DAY, None, AS_OF, "s"]
        connection.execute("INSERT INTO contacts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    (row,) = labelled(connection, CONTRACT, NOW).to_pylist()
    assert (row["contacted"], row["control"]) == (contacted, control)
