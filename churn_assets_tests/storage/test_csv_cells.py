"""Cells of CSV files: no text is a formula, numbers and other texts stay as they are."""

from __future__ import annotations

import pyarrow as pa
import pytest

from churn_assets.defs.io_manager import write_table
from churn_assets.storage.csv_cells import neutral_table, neutral_text

CELLS = {
    "=cmd|' /C calc'!A0": "'=cmd|' /C calc'!A0",
    "+1+2": "'+1+2",
    "-2+3+cmd|' /C calc'!A0": "'-2+3+cmd|' /C calc'!A0",
    "-": "'-",
    "-5,5-x": "'-5,5-x",
    "@SUM(1)": "'@SUM(1)",
    "\t=1": "'\t=1",
    "\r=1": "'\r=1",
    "\n=1": "'\n=1",
    "\uff1d1+1": "'\uff1d1+1",
    "\uff20SUM(1)": "'\uff20SUM(1)",
    "\uff0b1+2": "'\uff0b1+2",
    "\uff0dA1": "'\uff0dA1",
    "\uff0d5": "\uff0d5",
    "-5": "-5",
    "+39333123": "+39333123",
    "-0,5": "-0,5",
    "a=b": "a=b",
    "line\n=1": "line\n=1",
    "'=1": "'=1",
    "": "",
}


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_text_that_begins_as_a_formula_gets_an_apostrophe(kind):
    table = pa.table({"text": pa.array([*CELLS, None]).cast(kind), "number": [-1.5] * (len(CELLS) + 1)})
    assert neutral_table(table)["text"].to_pylist() == [*CELLS.values(), None]
    assert neutral_table(table)["number"].equals(table["number"])
    assert list(map(neutral_text, CELLS)) == list(CELLS.values())
    assert [neutral_text(cell) for cell in (-1.5, None, True)] == [-1.5, None, True]


def test_lists_for_people_have_no_formula(tmp_path):
    path = write_table(pa.table({"customer_id": ["=1+1"], "score": [-0.5]}), tmp_path / "risk_list.csv")
    assert path.read_text() == '"customer_id","score"\n"\'=1+1",-0.5\n'
