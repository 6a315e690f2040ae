"""The call list for people: the calls alone, rounded, in CSV and workbook alike, and no cell is a formula."""

import dataclasses
import datetime as dt

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from churn_assets.contract.load import parse_contract
from churn_assets.errors import SettingsError
from churn_assets.scoring.call_list import call_list, calls_of, with_reasons
from churn_assets.scoring.call_sheet import call_sheet, notes_path, write_call_sheet
from churn_assets.scoring.explain import Explainer
from churn_assets.scoring.list_money import list_money
from churn_assets.scoring.prices import prices
from churn_assets.scoring.scorer import Discount
from churn_assets_tests.scoring.tiny import AS_OF, TEXT, customers, model_of, scorer_of, training

SHOWN = TEXT
for NAME in ("lastorder", "spent", "paperless"):
    SHOWN = SHOWN.replace(f'name = "{NAME}"', f'name = "{NAME}"\nshow = true')
SHOWN = SHOWN.replace("capacity = 10", "capacity = 10\ncontrol_share = 0.3").replace(
    "monthly_value = 25.0\nmonths = 12", 'value = "spent * 12"\nmonthly_value = 77'
)
CONTRACT = parse_contract(SHOWN, "shown.toml")
TABLE = customers(300, seed=6)


def _sheet(table=TABLE):
    scorer = dataclasses.replace(scorer_of(), contract=CONTRACT, discount=Discount(0.8, 0.7, 0.9, "out_of_time"))
    probability = np.random.default_rng(1).random(table.num_rows)
    listed = call_list(scorer, table["id"], probability, AS_OF, prices(CONTRACT, table, AS_OF))
    calls = calls_of(with_reasons(listed, []))
    place = {key: row for row, key in enumerate(table["id"].to_pylist())}
    called = table.take(pa.array([place[key] for key in calls["customer_id"].to_pylist()], pa.int64()))
    money = list_money(calls, CONTRACT.value, scorer.discount, table.num_rows, 12)
    return calls, called, money, call_sheet(calls, called, CONTRACT, money)


CALLS, CALLED, MONEY, SHEET = _sheet()


def test_the_sheet_has_the_calls_alone_with_the_columns_to_show():
    assert SHEET.header == (
        "rank", "customer", "churn probability", "value at risk", "expected profit", "risk band", "lastorder", "spent",
        "paperless", "reason 1", "reason 2", "reason 3", "control group",
    )  # fmt: skip
    assert len(SHEET.rows) == CALLS.num_rows == MONEY.contacts + MONEY.control
    assert MONEY.contacts == 10
    assert MONEY.control > 0
    for row, call, customer in zip(SHEET.rows, CALLS.to_pylist(), CALLED.to_pylist(), strict=True):
        cells = dict(zip(SHEET.header, row, strict=True))
        assert cells["customer"] == call["customer_id"] == customer["id"]
        assert cells["churn probability"] == pytest.approx(call["churn_probability"], abs=0.011)
        assert cells["value at risk"] == pytest.approx(call["churn_probability"] * call["customer_value"], abs=0.51)
        assert cells["lastorder"] == customer["lastorder"]
        assert cells["paperless"] == ("yes" if customer["paperless"] else "no")
        assert (cells["control group"] == "yes, do not contact") is call["control"]
        assert (cells["expected profit"] is None) is call["control"]
        if not call["control"]:
            assert cells["expected profit"] == round(call["expected_value"])


def test_the_notes_say_what_the_figures_rest_on():
    text = " ".join(SHEET.notes)
    for part in (
        "as of 2014-01-20", "Contact 10 of 300 customers", "12 marked as churned are left out", "95 % interval",
        "counts 80% of the churners", "'spent * 12'", "15% of contacted churners", "control group",
        "why the model's score is high",
    ):  # fmt: skip
        assert part in text, part


def test_csv_and_workbook_hold_the_same_list(tmp_path):
    written = write_call_sheet(SHEET, tmp_path / "calls.csv")
    assert written == (tmp_path / "calls.csv", notes_path(tmp_path / "calls.csv"))
    assert (tmp_path / "calls.notes.txt").read_text().splitlines() == list(SHEET.notes)
    rows = pa_csv.read_csv(tmp_path / "calls.csv").to_pylist()
    assert write_call_sheet(SHEET, tmp_path / "calls.xlsx") == (tmp_path / "calls.xlsx",)
    book = openpyxl.load_workbook(tmp_path / "calls.xlsx")
    page, notes = book["Calls"], book["Notes"]
    assert [cell.value for cell in page[1]] == list(SHEET.header) == list(rows[0])
    assert [row[0].value for row in notes.iter_rows()] == list(SHEET.notes)
    for cells, row, text in zip(page.iter_rows(min_row=2), SHEET.rows, rows, strict=True):
        assert [c.value.date() if isinstance(c.value, dt.datetime) else c.value for c in cells] == row
        assert cells[2].number_format == "0%"
        assert text["churn probability"] == f"{row[2]:.0%}"
        assert text["value at risk"] == row[3]
        assert text["expected profit"] == row[4]
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["calls.csv", "calls.notes.txt", "calls.xlsx"]


HOSTILE = ["=1+1", "+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\n=1", "\uff1d1", "plain \x07 bell"]


def test_no_cell_and_no_header_is_a_formula(tmp_path):
    sheet = dataclasses.replace(SHEET, header=("=name", "churn probability"), rows=[[text, 0.5] for text in HOSTILE])
    write_call_sheet(sheet, tmp_path / "calls.csv")
    table = pa_csv.read_csv(tmp_path / "calls.csv", parse_options=pa_csv.ParseOptions(newlines_in_values=True))
    assert table.column_names[0] == "'=name"
    assert [text[:1] == "'" for text in table["'=name"].to_pylist()] == [True] * 6 + [False]
    write_call_sheet(sheet, tmp_path / "calls.xlsx")
    page = openpyxl.load_workbook(tmp_path / "calls.xlsx")["Calls"]
    cells = [row[0] for row in page.iter_rows()]
    assert {cell.data_type for cell in cells} == {"s"}
    assert [cell.value[:1] == "'" for cell in cells] == [True] * 7 + [False]


def test_an_empty_list_is_a_header_and_its_notes(tmp_path):
    *_, sheet = _sheet(TABLE.slice(0, 0))
    assert sheet.rows == []
    for name in ("calls.csv", "calls.xlsx"):
        write_call_sheet(sheet, tmp_path / name)
    assert (tmp_path / "calls.csv").read_text("utf-8-sig").startswith("rank,customer,churn probability,")
    assert any(note.startswith("Under the contract's values no contact") for note in sheet.notes)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for place, message in ((tmp_path / "calls.pdf", "ends in '.pdf'"), (tmp_path / "file" / "x.csv", "cannot be")):
        with pytest.raises(SettingsError, match=message):
            write_call_sheet(SHEET, place)


def test_reasons_are_on_the_sheet():
    program, matrix, _ = training()
    from churn_assets.scoring.explain import background

    model = model_of("logistic")
    scorer = dataclasses.replace(scorer_of(), background=background(model, program.specs, matrix))
    table = TABLE.slice(0, 20)
    listed = call_list(scorer, table["id"], np.linspace(0.4, 0.9, 20)[::-1].copy(), AS_OF)
    listed = with_reasons(listed, Explainer(scorer).explain_table(table, AS_OF))
    calls = calls_of(listed)
    money = list_money(calls, CONTRACT.value, Discount(), 20)
    sheet = call_sheet(calls, table.slice(0, calls.num_rows), scorer.contract, money)
    first = sheet.header.index("reason 1")
    assert [row[first] for row in sheet.rows] == calls["reason_1"].to_pylist()
