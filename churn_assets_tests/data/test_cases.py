"""The values of each stored input that once went wrong."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Kind, Role, Source
from churn_assets.data.outcomes import import_file
from churn_assets.data.readers.read import read_table, reading_contract
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate, validate_features_only
from churn_assets.errors import ColumnMissing, DraftError
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets_tests.cases import INPUTS, SMALL, draft_of, needs_cases, tables_in
from churn_assets_tests.prediction_log.home import prediction, settings, write
from churn_assets_tests.strategies import ROOT

NOW = dt.datetime(2026, 11, 26, tzinfo=dt.UTC)
TELECOM = load_contract(ROOT / "contracts" / "telecom.toml")
pytestmark = needs_cases


def valid(contract, path):
    """The validated rows of a file."""
    repaired, _ = apply_repairs(read_table(path, contract), contract)
    return validate(contract, repaired).customers


def days_of(path):
    return valid(draft_of(path).contract, path)["joined"].to_pylist() if path.is_file() else []


PLAIN_DAYS = ["dates_epoch.csv", "dates_serial.csv", "y2.csv", "utf16.csv", "sep_line.csv", "dates_mixed.csv"]
PLAIN_DAYS += [f"x_{name}.xlsx" for name in ("1904", "blank", "dt", "emptycol", "general", "idnum", "plain", "title")]


@pytest.mark.parametrize("name", PLAIN_DAYS)
def test_the_same_days_however_the_file_writes_them(name):
    assert days_of(INPUTS / name) == days_of(INPUTS / "plain.csv")


def test_instants_of_another_zone_are_their_utc_days():
    later = [day + dt.timedelta(days=1) for day in days_of(INPUTS / "plain.csv")]
    assert days_of(INPUTS / "tz_dates.csv") == later  # half past eleven in the evening, five hours behind


def test_day_and_month_in_both_orders_are_asked_about():
    found = draft_of(INPUTS / "dates_dm_md.csv")
    assert found.contract.column("joined").role is Role.IGNORE
    assert "# day and month stand in both orders" in found.text
    assert "# QUESTION: can that be repaired in the table?" in found.text


DATES = {
    "joined_epoch": ("epoch_seconds",),
    "signup_serial": ("excel_serial",),
    "join_month": ("%Y%m",),
    "start_b": ("%b-%Y",),
    "start_ym": ("%Y-%m",),
    "start_utc": (),
    "start_cn": ("%Y年%m月%d日",),
    "joined": ("%Y%m%d",),
}


def test_one_day_in_eight_spellings():
    path = SMALL / "dates.csv"
    contract = draft_of(path).contract
    customers = valid(contract, path)
    assert {name: contract.column(name).formats for name in DATES} == DATES
    joined = customers["joined"]
    for name in ("joined_epoch", "signup_serial", "start_utc", "start_cn"):
        assert customers[name].equals(joined), name
    for name in ("join_month", "start_b", "start_ym"):
        assert customers[name].equals(pc.floor_temporal(joined, unit="month").cast(pa.date32())), name


def test_units_money_and_durations_are_numbers():
    path = SMALL / "units.csv"
    contract = draft_of(path).contract
    customers = valid(contract, path)
    first = {name: customers[name][0].as_py() for name in ("balance", "length", "usage", "views", "call_time")}
    assert first == {"balance": -1476.93, "length": 10.0, "usage": 16.2, "views": 16200.0, "call_time": 0.0}
    assert {c.name: c.convert_to for c in contract.columns if c.convert_to} == {
        "length": "months", "usage": "GB", "call_time": "minutes",
    }  # fmt: skip


def test_thousands_blanks_infinities_and_long_ids():
    thousand = draft_of(INPUTS / "thousand.csv").contract
    assert valid(thousand, INPUTS / "thousand.csv")["spend"][0].as_py() == 8744
    blank = draft_of(INPUTS / "spend_blank.csv")
    assert (blank.contract.column("spend").nullable, blank.report.rows_rejected) == (True, 0)
    infinite = draft_of(INPUTS / "inf.csv")
    assert (infinite.report.rows_rejected, "is infinite; such rows are rejected" in infinite.text) == (1, True)
    long = draft_of(INPUTS / "longid.csv").contract
    assert valid(long, INPUTS / "longid.csv")["customer_id"][0].as_py() == "12345678901234567890"
    zeros = draft_of(INPUTS / "zero_ids.csv").contract
    assert valid(zeros, INPUTS / "zero_ids.csv")["customer_id"][0].as_py() == "000000"


def test_a_row_of_totals_is_no_customer():
    found = draft_of(INPUTS / "totals.csv")
    assert found.report.rows_rejected == 1
    assert not any(column.nullable for column in found.contract.columns)
    assert found.contract.column("spend").high == draft_of(INPUTS / "plain.csv").contract.column("spend").high


def test_dates_in_the_future_do_not_set_the_snapshot():
    found = draft_of(INPUTS / "future.csv")
    assert found.contract.time.as_of == "2025-08-10"
    assert "'contract_end' lies after the other dates" in found.text


@pytest.mark.parametrize("name", ["int_cat", "int_cat_float"])
def test_whole_codes_are_the_same_choices(name):
    assert draft_of(INPUTS / f"{name}.csv").contract.column("region_code").choices == ("1", "2", "3", "4")


def test_codes_are_the_same_from_csv_and_parquet():
    tables = [
        read_table(INPUTS / f"regcode_float.{suffix}", reading_contract(Source())) for suffix in ("csv", "parquet")
    ]
    contract = draft_of(INPUTS / "int_cat.csv").contract
    csv, parquet = (validate_features_only(contract, table) for table in tables)
    assert csv.customers.equals(parquet.customers)
    assert csv.rejected["reasons"].to_pylist() == parquet.rejected["reasons"].to_pylist() == [["null"], ["bounds"]]
    assert set(csv.customers["region_code"].to_pylist()) == {"1", "2", "3", "4"}


SCORED = {"ord_a.csv": 48, "ord_b.parquet": 48, "ord_c.csv": None, "float_ids.csv": None, "padded_ids.csv": None}


@pytest.mark.parametrize("name", SCORED)
def test_columns_in_any_order_and_ids_of_any_spelling_are_scored(name):
    checked = validate_features_only(TELECOM, read_table(INPUTS / name, TELECOM, label_required=False))
    ids = checked.customers["customer_id"].to_pylist()
    assert len(ids) == len(set(ids)) == (SCORED[name] or len(ids)) > 0
    assert all(own_id == own_id.strip() and not own_id.endswith(".0") for own_id in ids)


def test_the_same_customers_in_another_order_of_columns_are_the_same():
    a, b = (validate_features_only(TELECOM, read_table(INPUTS / name, TELECOM, label_required=False)).customers
            for name in ("ord_a.csv", "ord_b.parquet"))  # fmt: skip
    assert a.equals(b)


def test_a_renamed_column_and_an_unknown_choice_are_named():
    with pytest.raises(ColumnMissing, match="lacks column 'monthly_charges'; 'monthly_charge' looks like"):
        read_table(INPUTS / "renamed.csv", TELECOM, label_required=False)
    checked = validate_features_only(TELECOM, read_table(INPUTS / "umlaut.csv", TELECOM, label_required=False))
    assert checked.customers["customer_id"].to_pylist() == ["Zoë-2"]
    assert "found 'crédit', expected one of" in checked.rejected["detail"][0].as_py()


MEETINGS = [("float_ids.csv", "float_feedback.csv"), ("padded_ids.csv", "padded_feedback.csv")]


@pytest.mark.parametrize(("customers", "outcomes"), MEETINGS)
@pytest.mark.parametrize("ingested", [False, True])
def test_outcomes_meet_their_predictions(tmp_path, customers, outcomes, ingested):
    of = settings(tmp_path / "home")
    table = read_table(INPUTS / customers, TELECOM, label_required=False)
    ids = validate_features_only(TELECOM, table).customers["customer_id"].to_pylist()
    write(of, "a", *(prediction(f"p{number}", TELECOM, customer_id=own_id) for number, own_id in enumerate(ids)))
    if ingested:
        ingest(of, TELECOM)
    done = import_file(of, INPUTS / outcomes, NOW)
    assert (done.added > 0, done.unmatched) == (True, 0)


def test_a_header_with_blanks_zeros_and_two_outcomes_of_a_customer(tmp_path):
    of = settings(tmp_path / "home")
    assert import_file(of, INPUTS / "fb_header.csv", NOW).added == 1
    zeros = import_file(of, INPUTS / "zero_feedback.csv", NOW)
    assert (zeros.unmatched, zeros.example) == (zeros.added, "000000")
    assert import_file(of, INPUTS / "conflict_fb.csv", NOW).conflicting == 1


NO_LABEL = {
    *("conflict_fb.csv", "fb_header.csv", "float_feedback.csv", "float_ids.csv", "ord_a.csv", "ord_c.csv"),
    *(
        "padded_feedback.csv",
        "padded_ids.csv",
        "regcode_float.csv",
        "regcode_float.parquet",
        "renamed.csv",
        "umlaut.csv",
    ),
    "zero_feedback.csv",
}
ELSEWHERE = {"case_cols.csv", "panel.csv", "repeated_rows.csv"}  # refused or asked about, in `drafting.test_cases`


@pytest.mark.parametrize("name", sorted(NO_LABEL))
def test_a_file_without_the_label_is_refused_in_one_line(name):
    with pytest.raises(DraftError, match=r"has no column 'churn' \(--label\);.* it has: .*; correct it") as caught:
        draft_of(INPUTS / name)
    assert "\n" not in str(caught.value)


DRAFTED = [path for path in tables_in(INPUTS, SMALL) if path.name not in NO_LABEL | ELSEWHERE]


@pytest.mark.parametrize("path", DRAFTED, ids=lambda path: path.name)
def test_every_other_input_gives_a_draft_that_reads_it(path):
    found = draft_of(path)
    assert valid(found.contract, path).num_rows >= 40
    assert all(c.kind is not Kind.TEXT or c.role in (Role.LABEL, Role.IGNORE) for c in found.contract.columns)
