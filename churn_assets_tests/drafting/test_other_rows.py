"""Rows that are no customers: the draft is that of the table without them, and a run rejects each of them."""

import csv
import datetime as dt

import pytest

from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate, validate_features_only
from churn_assets.drafting.draft import DraftOptions, draft_contract

ROWS = 90
TODAY = dt.date(2026, 1, 1)
HEADER = ["customer_id", "joined", "plan", "bill", "calls", "left"]
CUSTOMERS = [
    [
        f"K{i:03}",
        str(dt.date(2023, 1, 1) + dt.timedelta(days=5 * i)),
        ("Basic", "Plus", "Pro")[i % 3],
        f"{20 + 7 * i % 41}.50",
        str(i * 5 % 11),
        "Yes" if i % 3 == 1 else "No",
    ]
    for i in range(ROWS)
]
BILL, CALLS = (sum(float(row[at]) for row in CUSTOMERS) for at in (3, 4))

# name: (rows below the header, rows in the middle, rows at the end, what the question says)
OTHERS = {
    "units": ([["", "date", "", "EUR", "count", ""]], [], [], "describes the columns ('date', 'EUR', 'count')"),
    "units with marks": ([["-", "-", "-", "EUR", "-", "-"]], [], [], "describes the columns ('EUR')"),
    "symbols": ([["", "", "", "€", "#", "Yes/No"]], [], [], "describes the columns ('€', '#')"),
    "types": ([["varchar(9)", "date", "string", "float64", "int64", "bool"]], [], [], "('date', 'float64', 'int64')"),
    "questions and ids of a survey": (
        [["Who?", "Since when?", "Which plan?", "Pay?", "Calls in the last 3 months?", "Left?"], list("abcdef")],
        [],
        [],
        "2 rows below the header describe the columns",
    ),
    "a line": ([["---"] * 6], [], [], "describes the columns ('---')"),
    "headers of exports put together": ([], [HEADER, HEADER], [], "2 rows repeat the header"),
    "the header twice, and units": ([HEADER, ["", "", "", "EUR", "n", ""]], [], [], "1 row repeats the header"),
    "a header with blanks": ([], [[f" {name} " for name in HEADER]], [], "1 row repeats the header"),
    "a total": ([], [], [["Total", "", "", f"{BILL}", f"{CALLS:.0f}", ""]], "is a total ('Total')"),
    "a total that counts those who left": ([], [], [["Gesamt", "", "", "9", "9", "30"]], "is a total ('Gesamt')"),
    "a total with the share that left": ([], [], [["", "", "Итого", "9", "9", "33.3%"]], "is a total ('Итого')"),
    "subtotals": ([], [["Subtotal", "", "", "900", "90", ""]], [["Grand total:", "", "", "9", "9", ""]], "are totals"),
    "a mean": ([], [], [["Average", "", "", f"{BILL / ROWS:.2f}", f"{CALLS / ROWS:.2f}", ""]], "is a mean or the like"),
    "a sum without a word": ([], [], [["", "", "", f"{BILL}", f"{CALLS:.0f}", ""]], "is the sum of the others"),
    "notes": ([], [], [["Source: CRM", *[""] * 5], ["Printed 2025-01-02", *[""] * 5]], "2 rows are notes"),
    "numbers of pages": (
        [],
        [["Page 1 of 3", *[""] * 5], ["Page 2 of 3", *[""] * 5]],
        [["", "", "Page 3 of 3", "", "", ""]],
        "3 rows are notes ('Page 1 of 3')",
    ),
}  # fmt: skip


def drafted(tmp_path, rows, name="t.csv"):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return path, draft_contract(path, DraftOptions("left", "Yes"), today=TODAY)


def settings_of(text):
    """A draft without its comments, and without the two limits that follow the number of rows."""
    counted = ("#", "max_rejected_share", "min_rows")
    return [line for line in text.splitlines() if line and not line.startswith(counted)]


@pytest.mark.parametrize("case", OTHERS)
def test_a_draft_does_not_follow_rows_that_are_no_customers_and_a_run_rejects_them(tmp_path, case):
    below, middle, end, words = OTHERS[case]
    rows = [*below, *CUSTOMERS[:40], *middle, *CUSTOMERS[40:], *end]
    path, found = drafted(tmp_path, rows)
    _, plain = drafted(tmp_path, CUSTOMERS, "plain/t.csv")
    assert words in found.text.replace("\n#  ", "")
    assert settings_of(found.text) == settings_of(plain.text)
    assert found.report.rows_rejected == len(rows) - ROWS
    table, _ = apply_repairs(read_table(path, found.contract), found.contract)
    kept = set(validate(found.contract, table).customers["customer_id"].to_pylist())
    assert kept == {row[0] for row in CUSTOMERS}


@pytest.mark.parametrize("case", ["units", "types", "headers of exports put together"])
def test_such_a_row_gets_no_score(tmp_path, case):
    below, middle, _, _ = OTHERS[case]
    path, found = drafted(tmp_path, [*below, *CUSTOMERS[:40], *middle, *CUSTOMERS[40:]])
    checked = validate_features_only(found.contract, read_table(path, found.contract))
    assert checked.customers.num_rows == ROWS


# Rows that look odd and are customers.
CUSTOMERS_TOO = {
    "a first customer with a mark of its own": [["K900", "2023-05-05", "Plus", "?", "k.A.", "No"], *CUSTOMERS],
    "a plan called Total": [*CUSTOMERS, ["K900", "2023-05-05", "Total", "20.50", "3", "No"]],
    "a last customer with little known": [*CUSTOMERS, ["K900", "", "", "", "", "No"]],
    "a customer named like a column": [["customer_id", "2023-05-05", "Plus", "20.50", "3", "No"], *CUSTOMERS],
    "no label": [*CUSTOMERS, ["K900", "2023-05-05", "Plus", "20.50", "3", ""]],
}


@pytest.mark.parametrize("case", CUSTOMERS_TOO)
def test_an_odd_customer_is_one(tmp_path, case):
    _, found = drafted(tmp_path, CUSTOMERS_TOO[case])
    text = found.text.replace("\n#  ", "")
    assert "sets no range" not in text
    assert "set no range" not in text


def test_a_label_that_is_a_state_and_a_number_is_kept(tmp_path):
    rows = [[*row[:5], "2" if row[5] == "Yes" else str(i % 2)] for i, row in enumerate(CUSTOMERS)]
    rows[5][2] = "Total"
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    found = draft_contract(path, DraftOptions("left", "2"), today=TODAY)
    assert found.contract.label.kept_values == ("0", "1")
    assert found.report.rows_rejected == 0
