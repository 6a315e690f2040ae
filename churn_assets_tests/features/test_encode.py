"""Rows as JSON has them: what is let in, and what is told about the rest."""

import copy
import datetime as dt
import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Kind
from churn_assets.errors import RowsRejected, Violation
from churn_assets.features.encode import days_since_epoch, encode_rows, encode_table, expectation
from churn_assets_tests.contract.small import SMALL
from churn_assets_tests.strategies import CONTRACTS, STORE, rows, tables, typed_table

SMALL_CONTRACT = parse_contract(SMALL, "small.toml")
ROW = {
    "id": "17", "joined": "2013-01-20", "seen": None, "spend": 50.5, "visits": 3, "member": True, "plan": "b",
}  # fmt: skip

GOOD = {
    "a whole number for a number": ("spend", 5, 5.0),
    "a bound below": ("spend", 0, 0.0),
    "a bound above": ("spend", 100.0, 100.0),
    "a negative zero": ("spend", -0.0, 0.0),
    "a whole float for an integer": ("visits", 3.0, 3.0),
    "true": ("member", True, 1.0),
    "0 for false": ("member", 0, 0.0),
    "a bound of a date": ("joined", "2000-01-01", 10957.0),
    "an instant for a date": ("joined", "2013-01-20T23:59:59+02:00", 15725.0),
    "a date object": ("joined", dt.date(2013, 1, 20), 15725.0),
    "an instant object": ("joined", dt.datetime(2013, 1, 20, 5), 15725.0),
    "a leap day": ("joined", "2012-02-29", 15399.0),
    "null where it may be": ("spend", None, np.nan),
    "no choice": ("plan", None, -1),
    "a choice": ("plan", "c", 2),
    "no key": ("id", None, None),
}


@pytest.mark.parametrize(("column", "value", "coded"), GOOD.values(), ids=GOOD)
def test_a_valid_cell_is_accepted(column, value, coded):
    values = encode_rows(SMALL_CONTRACT, [{**ROW, column: value}])[column]
    assert values.shape == (1,)
    if values.dtype == object:
        assert values[0] == coded
    else:
        np.testing.assert_array_equal(values[0], coded)


_MISSING = object()
NUMBER = "a finite number from 0 to 100 or null"
WHOLE = "a whole number of at least 0"
DATE = "a date such as 2014-01-20 of at least 2000-01-01"
CHOICE = "one of: a, b, c or null"
ID = "an id (text or whole number) of at most 200 printable characters"

BAD = {
    "not a number": ("spend", float("nan"), "nan", NUMBER),
    "infinite": ("spend", float("inf"), "inf", NUMBER),
    "minus infinite": ("spend", float("-inf"), "-inf", NUMBER),
    "1e400": ("spend", json.loads("1e400"), "inf", NUMBER),
    "a whole number beyond floats": ("spend", 10**400, "1" + "0" * 56 + "...", NUMBER),
    "a whole number beyond printing": ("visits", 10**5000, "a very long number", WHOLE),
    "a truth for a number": ("spend", True, "true", NUMBER),
    "a text for a number": ("spend", "50.5", "'50.5'", NUMBER),
    "a list for a number": ("spend", [5], "[5]", NUMBER),
    "an object for a number": ("spend", {"a": 1}, "{'a': 1}", NUMBER),
    "below its bound": ("spend", -0.001, "-0.001", NUMBER),
    "above its bound": ("spend", 100.001, "100.001", NUMBER),
    "half a visit": ("visits", 2.5, "2.5", WHOLE),
    "a negative visit": ("visits", -1, "-1", WHOLE),
    "a truth for a whole number": ("visits", True, "true", WHOLE),
    "infinite visits": ("visits", float("inf"), "inf", WHOLE),
    "null where it may not be": ("visits", None, "null", WHOLE),
    "a text for a truth": ("member", "true", "'true'", "true or false"),
    "2 for a truth": ("member", 2, "2", "true or false"),
    "a half truth": ("member", 0.5, "0.5", "true or false"),
    "no truth": ("member", None, "null", "true or false"),
    "a day that is none": ("joined", "2013-02-30", "'2013-02-30'", DATE),
    "a date in another order": ("joined", "20/01/2013", "'20/01/2013'", DATE),
    "no date": ("joined", "", "''", DATE),
    "a number for a date": ("joined", 41294, "41294", DATE),
    "before its bound": ("joined", "1999-12-31", "'1999-12-31'", DATE),
    "an unknown choice": ("plan", "d", "'d'", CHOICE),
    "a choice in capitals": ("plan", "A", "'A'", CHOICE),
    "a choice with a space": ("plan", "a ", "'a '", CHOICE),
    "a number for a choice": ("plan", 1, "1", CHOICE),
    "an empty id": ("id", " ", "' '", ID),
    "a number with a fraction for an id": ("id", 1.5, "1.5", ID),
    "a long id": ("id", "x" * 201, "'" + "x" * 56 + "...", ID),
    "an id that clears the terminal": ("id", "a\x1b[2J", "'a\\x1b[2J'", ID),
    "an id that is shown as another": ("id", "a\u202eb", "'a\\u202eb'", ID),
    "a very long day": ("joined", "2014-01-20T00:00:00." + "0" * 60, "'2014-01-20T00:00:00." + "0" * 36 + "...", DATE),
    "lines for a choice": ("plan", "a\nb", "'a\\nb'", CHOICE),
    "half a character for a choice": ("plan", "\ud800", "'\\ud800'", CHOICE),
    "a very long choice": ("plan", "x" * 1000, "'" + "x" * 56 + "...", CHOICE),
    "a missing field": ("visits", _MISSING, "no such field", WHOLE),
    "a missing field that may be null": ("spend", _MISSING, "no such field", NUMBER),
    "an unknown field": ("visit", 3, "an unknown field", "only the contract's columns"),
    "the label": ("lost", "yes", "an unknown field", "only the contract's columns"),
    "an ignored column": ("note", "hello", "an unknown field", "only the contract's columns"),
}


@pytest.mark.parametrize(("column", "value", "found", "expected"), BAD.values(), ids=BAD)
def test_an_invalid_cell_is_reported_with_row_column_value_and_expectation(column, value, found, expected):
    bad = {**ROW, column: value}
    if value is _MISSING:
        del bad[column]
    with pytest.raises(RowsRejected) as caught:
        encode_rows(SMALL_CONTRACT, [ROW, bad])
    assert caught.value.violations == (Violation(1, column, found, expected),)
    assert str(caught.value) == f"row 1, column '{column}': found {found}, expected {expected}"
    assert "\n" not in str(caught.value)


def test_every_kind_has_an_invalid_cell():
    kinds = {SMALL_CONTRACT.by_name[column].kind for column, *_ in BAD.values() if column in SMALL_CONTRACT.by_name}
    assert kinds == set(Kind)


def test_every_violation_of_every_row_is_reported_at_once():
    with pytest.raises(RowsRejected) as caught:
        encode_rows(SMALL_CONTRACT, [{}, ROW, {**ROW, "plan": "z", "b": 1, "a": 1}])
    reported = [(v.row, v.column) for v in caught.value.violations]
    missing = [(0, c.name) for c in SMALL_CONTRACT.scoring_columns]
    assert reported == [*missing, (2, "a"), (2, "b"), (2, "plan")]
    assert str(caught.value).endswith("(and 8 more)")


def test_the_error_can_be_pickled():
    with pytest.raises(RowsRejected) as caught:
        encode_rows(SMALL_CONTRACT, [{}])
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.violations == caught.value.violations
    assert str(again) == str(caught.value)
    assert str(copy.copy(caught.value)) == str(caught.value)


def test_no_rows_give_empty_columns():
    columns = encode_rows(SMALL_CONTRACT, [])
    assert {name: values.shape for name, values in columns.items()} == {
        c.name: (0,) for c in (SMALL_CONTRACT.key, *SMALL_CONTRACT.scoring_columns)
    }


@pytest.mark.parametrize("contract", [*CONTRACTS, SMALL_CONTRACT], ids=lambda c: c.name)
@given(data=st.data())
def test_rows_and_a_table_give_the_same_columns(contract, data):
    """JSON rows and the validated table of the same customers become the same columns."""
    many = data.draw(tables(contract, min_size=0))
    by_rows, table = encode_rows(contract, many), typed_table(contract, many)
    for columns in (
        encode_table(contract, table),
        encode_table(contract, pa.concat_tables([table.slice(0, 3), table.slice(3)])),
        encode_table(contract, table.combine_chunks().to_batches()[0]) if many else by_rows,
    ):
        assert list(columns) == list(by_rows)
        for name, values in columns.items():
            assert values.dtype == by_rows[name].dtype
            np.testing.assert_array_equal(values, by_rows[name])


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
@given(data=st.data())
def test_a_row_survives_json(contract, data):
    row = data.draw(rows(contract))
    again = json.loads(json.dumps(row, allow_nan=False))
    before, after = encode_rows(contract, [row]), encode_rows(contract, [again])
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


@given(row=st.dictionaries(st.sampled_from([c.name for c in STORE.columns]) | st.text(max_size=5), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)))  # fmt: skip
def test_any_json_object_is_refused_with_violations(row):
    with pytest.raises(RowsRejected) as caught:
        encode_rows(STORE, [row])
    assert caught.value.violations


# -- typed tables ------------------------------------------------------------------------------------


def test_a_category_outside_the_choices_is_refused_row_by_row():
    table = typed_table(SMALL_CONTRACT, [ROW, {**ROW, "plan": "z"}, {**ROW, "plan": None}, {**ROW, "plan": "y"}])
    with pytest.raises(RowsRejected) as caught:
        encode_table(SMALL_CONTRACT, table)
    assert caught.value.violations == (Violation(1, "plan", "'z'", CHOICE), Violation(3, "plan", "'y'", CHOICE))


def test_the_label_and_missing_columns_are_left_out():
    table = (
        typed_table(SMALL_CONTRACT, [ROW]).drop_columns(["spend"]).append_column("churned", pa.array([1], pa.int8()))
    )
    columns = encode_table(SMALL_CONTRACT, table)
    assert set(columns) == {"id", "joined", "seen", "visits", "member", "plan"}


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int8(), pa.string()), pa.large_string()], ids=str)
def test_a_category_may_be_stored_in_other_ways(kind):
    table = typed_table(SMALL_CONTRACT, [ROW, {**ROW, "plan": None}])
    at = table.schema.get_field_index("plan")
    stored = table.set_column(at, "plan", table["plan"].combine_chunks().cast(kind))
    np.testing.assert_array_equal(encode_table(SMALL_CONTRACT, stored)["plan"], [1, -1])


def test_days_are_counted_from_1970():
    assert days_since_epoch(dt.date(1970, 1, 1)) == 0
    assert days_since_epoch(dt.datetime(1969, 12, 31, 23, 59)) == -1
    assert days_since_epoch(dt.date(2014, 1, 20)) == 16090


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
def test_every_column_describes_its_bounds(contract):
    for column in contract.kept_columns:
        text = expectation(column)
        assert text.endswith(" or null") == column.nullable
        for bound in (column.low, column.high):
            assert bound is None or (f"{bound:g}" if isinstance(bound, float) else bound) in text
