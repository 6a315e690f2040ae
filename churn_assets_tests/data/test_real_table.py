"""The figures the real table must give; needs CHURN_SOURCE."""

import os

import pyarrow.compute as pc
import pytest

from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate, validate_features_only
from churn_assets_tests.strategies import STORE

SOURCE = os.environ.get("CHURN_SOURCE", "")

pytestmark = pytest.mark.skipif(
    not SOURCE.endswith("storedata_total.xlsx"), reason="CHURN_SOURCE does not name storedata_total.xlsx"
)


@pytest.fixture(scope="module")
def raw():
    return read_table(SOURCE, STORE)


@pytest.fixture(scope="module")
def repaired(raw):
    return apply_repairs(raw, STORE)


@pytest.fixture(scope="module")
def validated(raw, repaired):
    return validate(STORE, repaired[0], raw=raw, source="storedata_total.xlsx")


def test_the_shifted_block_is_found_to_the_row(repaired):
    shift = repaired[1][0]
    assert shift.rows == 6219
    assert shift.details["first_row"] == 24_579
    assert shift.details["last_row"] == 30_800
    assert shift.details["other_rows_end_on"] == "2014-01-20"
    assert shift.details["gap_days"] == 0
    assert shift.details["repeated_ids_exactly_1462_days_apart"] == 5


def test_serial_zero_dates_and_numeric_ids_are_counted(repaired):
    zero, ids = repaired[1][1:]
    assert zero.by_column == {"created": 0, "firstorder": 17, "lastorder": 34}
    assert ids.rows == 6


def test_the_snapshot_and_the_rejected_rows(validated):
    report = validated.report
    assert report.as_of.isoformat() == "2014-01-20"
    assert report.rows_in == 30_801
    assert report.count("null", "custid") == 20
    assert (report.duplicate_ids, report.conflicting_ids) == (12, 5)
    assert report.count("conflicting_label") == 10
    assert report.count("duplicate_id") == 7
    assert report.rows_rejected == validated.rejected.num_rows == 37
    assert not report.over_limit
    counted = [(cause.reason, cause.rows) for cause in report.causes if cause.outcome == "counted"]
    assert counted == [("rule:created_before_first_order", 654)]
    assert pc.mean(validated.customers["churned"]).as_py() == pytest.approx(0.205, abs=0.001)


def test_it_can_be_scored_too(repaired):
    assert validate_features_only(STORE, repaired[0]).report.rows_rejected == 20
