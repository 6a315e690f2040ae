"""Every violation of every row, in exactly one of two tables."""

import dataclasses
import datetime as dt
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contract.limits import Quality
from churn_assets.contract.model import Kind
from churn_assets.data.customers import CHURNED
from churn_assets.data.validation.parse import arrow_type
from churn_assets.data.validation.validate import validate, validate_features_only
from churn_assets.errors import ColumnAllNull, ColumnMissing, EmptySource, LabelError, TooFewRows, TooManyRejected
from churn_assets.features.encode import encode_table
from churn_assets.synthetic.generate import generate
from churn_assets_tests.data.violations import plant_dirt
from churn_assets_tests.strategies import CONTRACTS, STORE, TELECOM

EACH = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)


def texts(table):
    return plant_dirt(STORE, table, 0.0, 0)[0]


def with_cell(table, row, column, value):
    cells = table[column].to_pylist()
    cells[row] = value
    return table.set_column(table.column_names.index(column), column, pa.array(cells, pa.string()))


def generous(contract):
    return dataclasses.replace(contract, quality=Quality(max_rejected_share=1.0, min_rows=2))


@pytest.fixture(scope="module")
def store():
    return texts(generate(STORE, 400, 5))


@EACH
@settings(max_examples=15)
@given(st.integers(0, 2**16), st.integers(300, 900), st.floats(0.0, 0.4))
def test_every_planted_violation_is_found_and_nothing_else(contract, seed, rows, share):
    table, planted = plant_dirt(contract, generate(contract, rows, seed), share, seed)
    result = validate(generous(contract), table)
    expected = {}
    for item in planted:
        expected.setdefault(item.row, set()).add(item.reason)
    found = dict(zip(result.rejected["source_row"].to_pylist(), result.rejected["reasons"].to_pylist(), strict=True))
    assert expected.keys() == found.keys()
    for row, reasons in expected.items():
        # A planted null or bad cell may make a rule fail besides; the planted reason must be there.
        assert reasons <= set(found[row])


@EACH
@given(st.integers(0, 2**16), st.floats(0.0, 0.4))
@settings(max_examples=15)
def test_each_row_is_in_exactly_one_table_and_order_stays(contract, seed, share):
    table, _ = plant_dirt(contract, generate(contract, 300, seed), share, seed)
    result = validate_features_only(contract, table)
    both = np.concatenate([result.rows, result.rejected["source_row"].to_numpy()])
    assert sorted(both) == list(range(300))
    assert np.all(np.diff(result.rows) > 0)
    key = contract.key.name
    assert result.customers[key].to_pylist() == table[key].take(pa.array(result.rows)).to_pylist()
    assert result.rejected.drop_columns(["source_row", "reasons", "detail"]).equals(
        table.take(result.rejected["source_row"])
    )


@EACH
def test_the_typed_table_has_the_contracts_columns_and_its_origin(contract):
    table = validate(contract, generate(contract, 300, 1), source="people.csv").customers
    kinds = {column.name: column.kind for column in contract.kept_columns}
    assert table[CHURNED].type == pa.int8()
    assert {name: table[name].type for name in kinds} == {n: arrow_type(k) for n, k in kinds.items()}
    assert table.num_columns == len(kinds) + 1
    assert table.schema.metadata[b"churn_contract"].decode() == contract.fingerprint
    assert table.schema.metadata[b"churn_source"] == b"people.csv"
    dt.date.fromisoformat(table.schema.metadata[b"churn_as_of"].decode())
    assert set(encode_table(contract, table)) == set(kinds)


def test_every_kind_has_a_type_and_a_reader():
    from churn_assets.data.validation.parse import _READERS

    assert set(_READERS) == set(Kind)
    assert all(arrow_type(kind) for kind in Kind)


CELLS = [
    ("esent", "many", "kind", "esent: found 'many', expected a whole number from 0 to 2000"),
    ("esent", "1.5", "kind", "found '1.5'"),
    ("esent", None, "null", "found null"),
    ("esent", "-1", "bounds", "found '-1'"),
    ("avgorder", "inf", "infinite", "found 'inf', expected a finite number"),
    ("avgorder", "1e999", "infinite", "found '1e999'"),
    ("avgorder", "nan", "null", "found 'nan'"),
    ("created", "2013-02-30", "kind", "found '2013-02-30'"),
    ("created", "1999-12-31", "bounds", "at least 2000-01-01"),
    ("paperless", "maybe", "kind", "expected true or false"),
    ("favday", "Mon", "choices", "expected one of: Monday"),
    ("city", "", "null", "found ''"),
    ("custid", "  ", "null", "expected an id"),
    ("custid", "x" * 201, "kind", "expected an id (text or whole number) of at most 200 printable characters"),
    ("custid", "a\x1b[2J", "kind", "found 'a\\u001b[2J'"),
    ("retained", "2", "label", "retained: found '2', expected '0' (churned) or '1' (kept)"),
    ("retained", None, "null", "retained: found null"),
    ("firstorder", "2024-12-31", "rule:orders_in_sequence", "'firstorder <= lastorder' does not hold"),
]


@pytest.mark.parametrize(("column", "cell", "reason", "words"), CELLS)
def test_a_bad_cell_is_rejected_with_its_reason(store, column, cell, reason, words):
    table = with_cell(store, 7, column, cell)
    if reason.startswith("rule:"):
        table = with_cell(table, 7, "lastorder", "2013-01-01")
        table = with_cell(table, 7, "created", "2012-01-01")
    result = validate(STORE, table)
    (row,) = result.rejected.to_pylist()
    assert row["source_row"] == 7
    assert row["reasons"] == [reason]
    assert words in row["detail"]
    assert result.report.count(reason) == 1


@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [("esent", "12.0", 12), ("esent", "1e2", 100), ("paperless", "TRUE", True), ("retained", "1.0", 0)],
)
def test_another_spelling_of_the_same_value_is_the_same_value(store, column, cell, value):
    typed = validate(STORE, with_cell(store, 3, column, cell)).customers
    assert typed[CHURNED if column == "retained" else column][3].as_py() == value


def test_a_row_that_breaks_much_tells_all_of_it(store):
    table = with_cell(with_cell(with_cell(store, 5, "esent", "x"), 5, "city", "XX"), 5, "created", None)
    row = validate(STORE, table).rejected.to_pylist()[0]
    assert set(row["reasons"]) == {"kind", "choices", "null"}
    assert row["detail"].count(";") == 2


def test_of_repeated_customers_the_first_sound_row_is_kept(store):
    table = pa.concat_tables([store, store.slice(0, 3)])
    table = with_cell(table, 1, "city", "XX")
    result = validate(STORE, table)
    assert result.rejected["source_row"].to_pylist() == [1, 400, 402]
    assert result.rejected["reasons"].to_pylist() == [["choices", "duplicate_id"], ["duplicate_id"], ["duplicate_id"]]
    assert (result.report.duplicate_ids, result.report.conflicting_ids) == (3, 0)


def test_customers_who_churned_and_did_not_are_rejected_altogether(store):
    other = "0" if store["retained"][0].as_py() == "1" else "1"
    table = with_cell(pa.concat_tables([store, store.slice(0, 1)]), 400, "retained", other)
    result = validate(STORE, table)
    assert result.rejected["reasons"].to_pylist() == [["conflicting_label"]] * 2
    assert (result.report.duplicate_ids, result.report.conflicting_ids) == (1, 1)


def test_rejected_cells_are_shown_as_they_were_found(store):
    found = with_cell(store, 2, "lastorder", "00:00")
    repaired = with_cell(with_cell(store, 2, "lastorder", None), 2, "city", "XX")
    assert validate(STORE, repaired, raw=found).rejected["lastorder"].to_pylist() == ["00:00"]


def test_a_broken_warning_rule_is_counted_and_kept(store):
    table = with_cell(store, 2, "firstorder", "2001-01-01")
    report = validate(STORE, table).report
    assert report.rows_rejected == 0
    assert [(c.reason, c.rows, c.outcome) for c in report.causes] == [("rule:created_before_first_order", 1, "counted")]


def test_over_the_limit_the_error_has_the_most_frequent_cause(store):
    table = store
    for row in range(30):
        table = with_cell(table, row, "city", "X|Y")
    report = validate(STORE, table).report
    assert report.over_limit
    assert report.rejected_share == pytest.approx(30 / 400)
    (cause,) = report.causes
    assert (cause.reason, cause.column, cause.rows, cause.outcome) == ("choices", "city", 30, "rejected")
    assert cause.example.startswith("row 0, city: found 'X|Y'")
    with pytest.raises(
        TooManyRejected, match=r"30 of 400 rows \(7.5%\) break the contract; expected at most 5.0%; the most frequent"
    ) as e:
        report.stop_if_over_limit()
    assert "\n" not in str(e.value)


def test_the_snapshot_is_the_newest_date_that_keeps_the_contract(store):
    bounded = dataclasses.replace(
        STORE,
        columns=tuple(dataclasses.replace(c, high="2030-01-01") if c.kind is Kind.DATE else c for c in STORE.columns),
    )
    table = with_cell(store, 9, "lastorder", "2099-01-01")
    assert validate(bounded, table).report.as_of == validate(STORE, store).report.as_of
    assert validate(STORE, store, as_of=dt.date(2025, 5, 5)).report.as_of == dt.date(2025, 5, 5)
    fixed = dataclasses.replace(STORE, time=dataclasses.replace(STORE.time, as_of="2025-01-01"))
    assert validate(fixed, store).report.as_of == dt.date(2025, 1, 1)
    each = dataclasses.replace(STORE, time=dataclasses.replace(STORE.time, as_of="lastorder"))
    assert "each row has its own" in validate(each, store).report.as_of_origin
    assert "no dates" in validate(TELECOM, generate(TELECOM, 300, 1)).report.as_of_origin


def column_of(table, name, value):
    return table.set_column(table.column_names.index(name), name, pa.array([value] * table.num_rows, pa.string()))


WHOLE = {
    "no rows": (lambda t: t.slice(0, 0), EmptySource, "no rows"),
    "one row": (lambda t: t.slice(0, 1), TooFewRows, "1 rows; expected at least 200"),
    "no label column": (lambda t: t.drop_columns(["retained"]), ColumnMissing, "lacks column 'retained'"),
    "all one class": (lambda t: column_of(t, "retained", "1"), LabelError, "contains '1': 0 rows of '0'"),
    "a label of other words": (lambda t: column_of(t, "retained", "yes"), LabelError, "contains 'yes'"),
    "no label at all": (lambda t: column_of(t, "retained", None), LabelError, "contains nothing"),
    "a column of only nulls": (lambda t: column_of(t, "esent", None), ColumnAllNull, "'esent' is empty in all"),
    "a nullable column of only nulls": (lambda t: column_of(t, "lastorder", ""), ColumnAllNull, "'lastorder'"),
}


@pytest.mark.parametrize("case", WHOLE)
def test_a_table_that_cannot_be_used_is_one_clear_line(store, case):
    change, error, words = WHOLE[case]
    with pytest.raises(error, match=words) as caught:
        validate(STORE, change(store))
    assert "\n" not in str(caught.value)


def test_too_few_valid_rows_stop_a_table_within_the_limit(store):
    table = store.slice(0, 200)
    with pytest.raises(TooFewRows, match="199 valid rows of 200"):
        validate(STORE, with_cell(table, 0, "city", "XX"))


def test_rows_to_be_scored_need_no_label_and_count_from_where_they_start(store):
    table = with_cell(store.drop_columns(["retained"]), 4, "city", "XX")
    result = validate_features_only(STORE, table.slice(0, 10), first_row=1000)
    assert CHURNED not in result.customers.column_names
    assert result.rejected["source_row"].to_pylist() == [1004]
    assert result.rows.tolist() == [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009]
    with pytest.raises(EmptySource):
        validate_features_only(STORE, table.slice(0, 0))


def test_each_of_several_kept_values_is_kept_and_any_other_value_is_rejected(store):
    label = dataclasses.replace(STORE.label, churned_when="left", kept_when=("stayed", "joined"))
    contract = dataclasses.replace(generous(STORE), label=label)
    states = [("left ", "stayed", " joined", "moved")[i % 4] for i in range(store.num_rows)]
    table = store.set_column(store.column_names.index("retained"), "retained", pa.array(states))
    result = validate(contract, table)
    assert result.customers[CHURNED].to_pylist() == [1, 0, 0] * 100
    assert "'left' (churned) or 'stayed' or 'joined' (kept)" in result.rejected["detail"][0].as_py()
    assert set(generate(contract, 50, 1)["retained"].to_pylist()) == {"left", "stayed"}
    with pytest.raises(LabelError, match="0 rows of 'stayed' or 'joined'"):
        validate(contract, column_of(table, "retained", "left"))


def test_strings_and_arrow_types_validate_alike():
    table = generate(STORE, 500, 8)
    assert validate(STORE, table).customers.equals(validate(STORE, texts(table)).customers)


def test_two_hundred_thousand_rows_take_a_moment():
    table = generate(STORE, 200_000, 2)
    start = time.process_time()
    assert validate(STORE, table).report.rows_rejected == 0
    assert time.process_time() - start < 10.0  # about 0.7 s; a loop over rows takes minutes
