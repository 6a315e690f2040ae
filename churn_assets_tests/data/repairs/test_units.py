"""Money, accounting, magnitudes, units and durations as people write them: each is read rightly or not at all."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Column, Kind
from churn_assets.data.repairs.numbers import from_comma, from_marks, marks_of
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.repairs.units import read_quantity, split_quantity
from churn_assets.data.validation.validate import validate_features_only
from churn_assets.errors import ContractError
from churn_assets_tests.data.contracts import small_contract

MONEY = [  # text, with a decimal point, with a decimal comma
    ("$1,234.50", 1234.5, None),
    ("1.234,50 €", None, 1234.5),
    ("INR 300", 300.0, 300.0),
    ("300 INR", 300.0, 300.0),
    ("Rs. 1,200", 1200.0, 1.2),
    ("R$ 1.234,50", None, 1234.5),
    ("CHF 1'234.50", 1234.5, None),
    ("1 234,5 kr", None, 1234.5),
    ("45 %", 45.0, 45.0),
    ("(1,200)", -1200.0, -1.2),
    ("($1,200.50)", -1200.5, None),
    ("$(1,200.50)", -1200.5, None),
    ("-$5", -5.0, -5.0),
    ("$-5", -5.0, -5.0),
    ("5-", -5.0, -5.0),
    ("\u22125", -5.0, -5.0),
    ("16.2K", 16200.0, None),
    ("16,2K", None, 16200.0),
    ("$3.5bn", 3.5e9, None),
    ("3 Mio.", 3e6, 3e6),
    ("0.07M", 70000.0, None),
    ("₹ 12,34,567.50", 1234567.5, None),  # groups of two are those of India alone
    ("1,23,456", 123456.0, None),
    ("1,23,45", None, None),
    ("123,45,678", None, None),
    ("((5))", None, None),
    ("--5", None, None),
    ("5 - 3", None, None),
    ("(555) 1234", None, None),
    ("K", None, None),
    ("$", None, None),
    ("3 GB", None, None),
    ("", None, None),
]


@pytest.mark.parametrize(("text", "point", "comma"), MONEY)
def test_money_and_accounting_in_either_style(text, point, comma):
    read = [None if number is None else float(number) for number in (from_marks(text), from_comma(text))]
    assert read == [point, comma]


def test_the_marks_of_a_number_are_known():
    assert [sorted(marks_of(text)) for text in ("$5", "5 EUR", "45%", "€45 %", "5", "x")] == [
        ["$"], ["EUR"], ["%"], ["%", "€"], [], [],
    ]  # fmt: skip


@given(st.floats(-1e9, 1e9), st.sampled_from(["{:,.2f}", "${:,.2f}", "{:,.2f} EUR"]))
def test_what_a_spreadsheet_writes_is_read_back(number, form):
    assert float(from_marks(form.format(number)) or "nan") == round(number, 2)


QUANTITIES = [
    ("12 months", "months", 12.0),
    ("1 year", "months", 12.0),
    ("2y 3m", "months", 27.0),
    ("2 years, 3 months", "months", 27.0),
    ("2 Jahre und 3 Monate", "months", 27.0),
    ("2 años y 3 meses", "months", 27.0),
    ("3 anni e 2 mesi", "months", 38.0),
    ("2 года", "months", 24.0),
    ("5m", "months", 5.0),
    ("45m", "minutes", 45.0),
    ("1h 30m", "minutes", 90.0),
    ("90 min", "hours", 1.5),
    ("01:30:00", "minutes", 90.0),
    ("1 day, 1:30:00", "hours", 25.5),
    ("2 days 00:00:30", "minutes", 2880.5),
    ("1:30", "minutes", 90.0),
    ("-1:30:00", "minutes", -90.0),
    ("P1Y2M", "months", 14.0),
    ("PT90S", "minutes", 1.5),
    ("3.5 GB", "GB", 3.5),
    ("3.5GB", "MB", 3500.0),
    ("512 MiB", "GiB", 0.5),
    ("100 Mbps", "Gbps", 0.1),
    ("5 kg", "kg", 5.0),
    ("10 calls", "calls", 10.0),
    ("1 call", "calls", 1.0),
    ("7", "months", 7.0),
    ("1,200 km", "km", 1200.0),
    ("12 months", "GB", None),
    ("5 GB", "calls", None),
    ("5 times", "minutes", None),  # a word that is the name of no unit
    ("1.200,5 km", "km", None),  # the other style of numbers
    ("12 Main St", "main", None),
    ("1-2 years", "years", None),
    ("months", "months", None),
    ("20s", "minutes", None),
    ("P", "months", None),
    ("25:75:00", "minutes", None),
]


@pytest.mark.parametrize(("text", "unit", "number"), QUANTITIES)
def test_a_number_with_a_unit_is_one_of_the_columns_unit_or_unreadable(text, unit, number):
    read = read_quantity(text, unit, from_marks)
    assert (None if read is None else float(read)) == number


def test_the_decimal_comma_of_a_table_holds_before_units_too():
    assert read_quantity("3,5 GB", "GB", from_comma) == "3.5"


@given(st.text(max_size=12) | st.from_regex(r"[-]?\d{1,3}[.,: ]?\d{0,3} ?[a-zA-Z%]{0,4}", fullmatch=True))
def test_no_text_makes_the_readers_fail(text):
    split_quantity(text)
    for read in (from_marks, from_comma, lambda cell: read_quantity(cell, "months", from_marks)):
        number = read(text)
        assert number is None or float(number) == float(number)


TEXT = small_contract("""
[source]
repairs = ["number_marks", "units"]

[[columns]]
name = "length"
kind = "number"
missing = ["-"]
nullable = true
convert_to = "months"

[[columns]]
name = "paid"
kind = "number"
""")


def test_the_repair_converts_and_counts_and_leaves_the_rest_to_the_validation():
    contract = parse_contract(TEXT)
    table = pa.table(
        {
            "id": list("abcdef"),
            "length": ["12 months", "1 year", "7", "3 GB", "-", None],
            "paid": ["$1,200", "(5)", "2", "1", "1", "1"],
        }
    )
    repaired, reports = apply_repairs(table, contract)
    assert repaired["length"].to_pylist() == ["12", "12.0", "7", "3 GB", "-", None]
    marks, units = reports
    assert (marks.cells, units.cells, units.by_column) == (2, 2, {"length": 2})
    assert units.message == "2 numbers with units were converted (length 2 to months)"
    checked = validate_features_only(contract, repaired)
    assert checked.customers["length"].to_pylist() == [12.0, 12.0, 7.0, None, None]
    assert checked.customers["paid"].to_pylist() == [1200.0, -5.0, 2.0, 1.0, 1.0]
    assert "found '3 GB'" in checked.rejected["detail"][0].as_py()


@pytest.mark.parametrize("kind", [pa.duration("s"), pa.duration("us"), pa.time32("s"), pa.string()])
def test_durations_of_parquet_and_of_workbooks_are_read_as_texts_are(kind):
    seconds = [5400, 600]
    days = [dt.timedelta(seconds=n) for n in seconds]
    cells = [dt.time(1, 30), dt.time(0, 10)] if pa.types.is_time(kind) else days
    array = pa.array([str(cell) for cell in cells]) if pa.types.is_string(kind) else pa.array(cells, kind)
    contract = parse_contract(TEXT.replace('"months"', '"minutes"'))
    repaired, _ = apply_repairs(pa.table({"id": ["a", "b"], "length": array, "paid": ["1", "1"]}), contract)
    assert [float(cell) for cell in repaired["length"].to_pylist()] == [90.0, 10.0]


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_a_negative_duration_is_negative(unit):
    contract = parse_contract(TEXT.replace('"months"', '"minutes"'))
    length = pa.array([dt.timedelta(minutes=-125), dt.timedelta(days=-2)], pa.duration(unit))
    repaired, _ = apply_repairs(pa.table({"id": ["a", "b"], "length": length, "paid": ["1", "1"]}), contract)
    assert [float(cell) for cell in repaired["length"].to_pylist()] == [-125.0, -2880.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((', "units"', ""), "needs the repair 'units'"),
        (('kind = "number"\nmissing', 'kind = "boolean"\nmissing'), "expected a number or an integer"),
        (('"months"\n', '"5"\n'), "expected a unit such as months, minutes, GB or calls"),
    ],
)
def test_a_contract_with_a_unit_that_cannot_be_is_one_line(change, message):
    with pytest.raises(ContractError, match=message) as caught:
        parse_contract(TEXT.replace(*change))
    assert "\n" not in str(caught.value)


def test_a_contract_without_units_keeps_its_fingerprint():
    plain = Column("length", Kind.NUMBER, nullable=True, missing=("-",))
    without = TEXT.replace('convert_to = "months"\n', "")
    assert plain in parse_contract(without).columns
    assert parse_contract(without).fingerprint != parse_contract(TEXT).fingerprint
    assert "convert_to" not in parse_contract(without).text
