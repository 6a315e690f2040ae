"""Named repairs: what they change, what they count, and what they leave alone."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from churn_assets.contract.check import REPAIRS as DECLARED
from churn_assets.data.repairs.excel_1904 import find_shifted_block
from churn_assets.data.repairs.repairs import (
    REPAIRS,
    apply_repairs,
    date_matrix,
    excel_1904,
    excel_serial_zero,
    ids_as_text,
    undo_shift,
)
from churn_assets.data.validation.parse import as_text
from churn_assets.synthetic.generate import generate
from churn_assets_tests.strategies import STORE, TELECOM


def texts(table):
    return pa.table({name: as_text(table.column(name)) for name in table.column_names})


def with_block_shifted(table, first, end):
    for name in ("created", "firstorder", "lastorder"):
        days = np.asarray(table[name].cast(pa.int32()).cast(pa.float64()), dtype=float).copy()
        days[first:end] += 1462
        fixed = pa.array(days, from_pandas=True).cast(pa.int32()).cast(pa.date32())
        table = table.set_column(table.column_names.index(name), name, fixed)
    return table


def test_every_repair_a_contract_may_declare_exists():
    assert set(REPAIRS) == set(DECLARED)


@pytest.mark.parametrize("render", [texts, lambda table: table], ids=["strings", "dates"])
def test_a_shifted_block_comes_back_to_what_it_was(render):
    original = generate(STORE, 2000, 11)
    broken = render(with_block_shifted(original, 1500, 1900))
    repaired, (shift, zero, ids) = apply_repairs(broken, STORE)
    assert repaired.equals(render(original))
    assert shift.rows == 400
    assert shift.details["first_row"] == 1500
    assert shift.details["last_row"] == 1899
    assert shift.details["gap_days"] <= 31
    assert (zero.rows, ids.rows) == (0, 0)
    assert "\n" not in shift.message


def test_an_undamaged_table_passes_through_unchanged():
    table = generate(STORE, 2000, 12)
    repaired, reports = apply_repairs(table, STORE)
    assert repaired.equals(table)
    assert [report.rows for report in reports] == [0, 0, 0]


def test_a_contract_without_dates_has_nothing_to_shift():
    table = generate(TELECOM, 500, 1)
    everything = dataclasses.replace(TELECOM, source=dataclasses.replace(TELECOM.source, repairs=DECLARED))
    assert apply_repairs(table, everything)[0].equals(table)


@pytest.mark.parametrize(
    "cell", ["1/0/00", "1/0/1900", "0:00", "00:00", "00:00:00", "1899-12-30", "1899-12-31 00:00:00"]
)
def test_excels_serial_zero_becomes_missing(cell):
    table = pa.table({"created": ["2012-01-01", "2012-01-02"], "lastorder": [cell, "2013-05-05"]})
    repaired, report = excel_serial_zero(table, STORE)
    assert repaired["lastorder"].to_pylist() == [None, "2013-05-05"]
    assert report.by_column == {"created": 0, "lastorder": 1}
    assert report.details["spellings"] == cell


@pytest.mark.parametrize("cell", ["2000-01-01", "1/1/00", "10:30", "soon", "", None])
def test_what_is_not_serial_zero_stays(cell):
    table = pa.table({"created": pa.array([cell], pa.string())})
    repaired, report = excel_serial_zero(table, STORE)
    assert repaired["created"].to_pylist() == [cell]
    assert report.cells == 0


@pytest.mark.parametrize(
    ("cells", "fixed", "rows"),
    [
        (["A1", "B2", "278734.0"], ["A1", "B2", "278734"], 1),
        (["A1", "B2", "9.69E+10"], ["A1", "B2", "96900000000"], 1),
        (["A1", "B2", "99E568"], ["A1", "B2", "99E568"], 0),
        (["1.0", "2.0", None], ["1", "2", None], 2),
        ([1.0, 2.0, 30000000.0], ["1", "2", "30000000"], 0),
        ([10, 20, 30], ["10", "20", "30"], 0),
        (["007", "y", "x"], ["007", "y", "x"], 1),
    ],
)
def test_numeric_looking_ids_become_plain_text(cells, fixed, rows):
    repaired, report = ids_as_text(pa.table({"custid": cells}), STORE)
    assert repaired["custid"].to_pylist() == fixed
    assert report.rows == rows


def test_a_shift_is_undone_in_parts_like_in_the_whole_table():
    broken = with_block_shifted(generate(STORE, 3000, 13), 0, 900)
    whole, report = excel_1904(broken, STORE)
    block = find_shifted_block(date_matrix(broken, STORE))
    parts = [undo_shift(broken.slice(start, 700), STORE, block, start) for start in range(0, 3000, 700)]
    assert pa.concat_tables([table for table, _ in parts]).equals(whole)
    assert sum(part.rows for _, part in parts) == report.rows > 0
