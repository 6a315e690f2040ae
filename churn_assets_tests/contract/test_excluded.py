"""An excluded column: kept, logged and monitored, no input of the model, and none of its faults blocks."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from churn_assets.contract.check import with_excluded
from churn_assets.contract.limits import Quality
from churn_assets.contract.load import parse_contract
from churn_assets.data.profile import profile
from churn_assets.data.repairs.repairs import date_matrix
from churn_assets.data.validation.validate import validate, validate_features_only
from churn_assets.errors import AssetStale, RowsRejected
from churn_assets.features.compile import compile_features
from churn_assets.features.encode import encode_rows
from churn_assets.features.scalar import RowReader
from churn_assets.monitoring.data_quality import check_columns
from churn_assets.monitoring.drift import report as drift
from churn_assets.monitoring.profile import ColumnProfile, MonitoredModel, Profile, Reference
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.scoring.calibration import Identity
from churn_assets.scoring.online import CustomerScorer, InputWarning
from churn_assets.scoring.scorer import Bands, Scorer, Thresholds
from churn_assets.synthetic.generate import generate
from churn_assets.training.feature_table import feature_table, trained_contract, training_data
from churn_assets_tests.contract.small import SMALL
from churn_assets_tests.prediction_log import home
from churn_assets_tests.strategies import STORE

TEXT = SMALL.replace('name = "visits"\n', 'name = "visits"\nexcluded = true\n')
TEXT = TEXT.replace('name = "plan"\n', 'name = "plan"\nexcluded = true\n')
CONTRACT = parse_contract(TEXT + "\n[quality]\nmin_rows = 2\nmax_rejected_share = 0.9\n")
WHOLE = {"id": "a", "joined": "2026-01-01", "seen": "2026-02-01", "spend": 50.0, "member": True}
DAY = 20_500.0


def test_it_is_no_input_and_neither_is_what_reads_it():
    assert compile_features(CONTRACT).names == ("spend", "member", "age_days")
    assert CONTRACT.left_out == ("spend_per_visit",)
    assert [column.name for column in CONTRACT.logged_columns] == [
        "joined",
        "seen",
        "spend",
        "visits",
        "member",
        "plan",
    ]


@pytest.mark.parametrize("left_out", [(), ("visits",), ("visits", "plan")])
def test_a_table_may_lack_it_and_its_faults_are_counted(left_out):
    table = pa.table(
        {
            "id": ["1", "2", "3", "4"],
            "lost": ["yes", "no", "no", "yes"],
            "joined": ["2026-01-01"] * 4,
            "seen": ["2026-02-01"] * 4,
            "spend": ["1", "2", "3", "4"],
            "visits": ["1", "many", "", "-3"],
            "member": ["1", "0", "1", "0"],
            "plan": ["a", "z", "", "b"],
        }
    ).drop_columns(list(left_out))
    result = validate(CONTRACT, table)
    assert result.customers.num_rows == 4
    counted = {(cause.column, cause.reason, cause.rows) for cause in result.report.causes}
    faults = {("visits", "kind", 1), ("visits", "bounds", 1), ("plan", "choices", 1)}
    assert counted == {fault for fault in faults if fault[0] not in left_out}
    visits = [None] * 4 if "visits" in left_out else [1, None, None, None]
    assert result.customers["visits"].to_pylist() == visits
    assert result.customers["visits"].type == pa.int64()
    unlabelled = table.drop_columns(["lost"])
    assert validate_features_only(CONTRACT, unlabelled, as_of=date(2026, 3, 1)).customers.num_rows == 4


class _Zero:
    kind = "zero"

    def margin(self, matrix):
        return np.zeros(len(matrix))


@pytest.fixture(scope="module")
def small_customers():
    thresholds, bands = Thresholds({"profit": 0.5}, "profit"), Bands(0.3, 0.6)
    zero: Any = _Zero()  # the part of a model that scoring uses
    return CustomerScorer(Scorer(CONTRACT, compile_features(CONTRACT), zero, Identity(), thresholds, bands))


@pytest.mark.parametrize(
    ("sent", "warned"),
    [
        ({}, []),
        ({"visits": 3, "plan": "a"}, []),
        ({"visits": None, "plan": None}, []),
        ({"visits": -1}, [InputWarning("visits", "-1", "a whole number of at least 0")]),
        ({"visits": {"a": [1]}, "plan": ["a"]}, ["visits", "plan"]),
        ({"plan": "z"}, [InputWarning("plan", "'z'", "one of: a, b, c or null")]),
    ],
)
@pytest.mark.parametrize("key", [{}, {"id": "a"}])
def test_a_request_may_lack_it_and_a_fault_is_a_warning(small_customers, sent, warned, key):
    row = {name: value for name, value in WHOLE.items() if name != "id"} | key | sent
    alone, (among,) = small_customers.score(row, DAY), small_customers.score_many([row], DAY)
    assert alone == among
    assert len(alone.warnings) == len(warned)
    for warning, expected in zip(alone.warnings, warned, strict=True):
        assert expected in (warning, warning.column)
    assert RowReader(CONTRACT)(row) == RowReader(CONTRACT)({**row, "visits": 1})


def test_an_unknown_field_is_refused_all_the_same(small_customers):
    with pytest.raises(RowsRejected, match="column 'visitz': found an unknown field"):
        small_customers.score({**WHOLE, "visitz": 1}, DAY)
    with pytest.raises(RowsRejected, match="column 'visitz': found an unknown field"):
        encode_rows(CONTRACT, [{**WHOLE, "visits": 1, "visitz": 1}])


def test_the_log_takes_what_was_sent_and_keeps_what_fits(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(TEXT)
    of = home.settings(tmp_path / "home", CHURN_CONTRACT=str(path))
    contract = parse_contract(TEXT)
    features = {name: value for name, value in WHOLE.items() if name != "id"}
    sent = [{}, {"visits": 3, "plan": "a"}, {"visits": "many", "plan": 7}, {"visits": {"a": 1}, "plan": None}]
    rows = [home.prediction(f"p{i}", contract, features={**features, **extra}) for i, extra in enumerate(sent)]
    home.write(of, "one", *rows)
    ingest(of, contract)
    assert home.ask(of, "SELECT count(*) FROM quarantine") == [(0,)]
    assert home.ask(of, "SELECT x_visits, x_plan, x_spend FROM predictions ORDER BY prediction_id") == [
        (None, None, 50.0),
        (3.0, "a", 50.0),
        (None, "7", 50.0),
        (None, None, 50.0),
    ]


def test_its_faults_are_reported_and_block_nothing():
    usual = {c.name: ColumnProfile(c.kind, 100) for c in CONTRACT.logged_columns}
    now = {name: dataclasses.replace(column, missing=100) for name, column in usual.items()}
    nothing = pa.table({})
    reference = Reference("v", Profile(100, usual, nothing), {}, {})
    found = check_columns(Profile(100, now, nothing), reference, CONTRACT, CONTRACT.monitoring)
    blocks = {(finding.column, finding.check): finding.blocks for finding in found}
    assert blocks.pop(("visits", "all_missing")) is False
    assert blocks.pop(("plan", "all_missing")) is False
    assert blocks.pop(("joined", "all_missing")) is False  # silent
    assert set(blocks.values()) == {True}


def test_it_is_profiled_and_an_excluded_date_is_repaired_and_counts_for_the_snapshot():
    contract = with_excluded(STORE, ["lastorder", "favday"])
    assert contract.unread == ("favday",)  # a rule reads the other
    assert [column.name for column in contract.date_columns] == ["created", "firstorder", "lastorder"]
    contract = with_excluded(parse_contract(SMALL.replace("joined <= seen", "spend >= 0")), ["seen"])
    assert contract.unread == ("seen",)
    rows = 40
    cells = {"id": [str(i) for i in range(rows)], "lost": ["yes", "no"] * (rows // 2), "joined": ["2026-01-01"] * rows}
    cells |= {"seen": ["2026-02-01"] * rows, "spend": ["1"] * rows, "visits": ["1"] * rows}
    raw = pa.table({**cells, "member": ["1"] * rows, "plan": ["a"] * rows})
    contract = dataclasses.replace(contract, quality=Quality(min_rows=2))
    validated = validate(contract, raw)
    assert str(validated.report.as_of) == "2026-02-01"
    assert "seen" in [column.name for column in profile(contract, validated.customers).columns]
    without = validate(contract, raw.drop_columns(["seen"]))
    assert str(without.report.as_of) == "2026-01-01"


def test_what_was_made_for_other_inputs_is_stale(customers, splits):
    made = feature_table(STORE, customers, splits, left_out=["esent"])
    assert "emails_pace" not in made.column_names
    assert trained_contract(STORE, made).unread == ("esent",)
    assert "esent" not in training_data(STORE, made, splits).views["random"].program.names
    with pytest.raises(AssetStale, match="other model inputs"):
        training_data(with_excluded(STORE, ["esent", "favday"]), made, splits)


def test_the_repair_of_shifted_dates_reads_an_excluded_date_and_drift_watches_an_excluded_column():
    raw = generate(STORE, rows=50, seed=1)
    whole = date_matrix(raw, STORE)
    assert np.array_equal(date_matrix(raw, with_excluded(STORE, ["lastorder", "firstorder"])), whole, equal_nan=True)
    assert whole.shape == (50, 3)
    contract = with_excluded(STORE, ["esent"])
    model = MonitoredModel("v", contract.fingerprint, contract, contract.monitoring, None)
    assert drift.tested_columns(model) == drift.tested_columns(dataclasses.replace(model, contract=STORE))
