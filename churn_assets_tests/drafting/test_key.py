"""The customer's id of an unknown table: found wherever it is, refused or asked about where it repeats."""

import datetime as dt

import pyarrow as pa
import pytest

from churn_assets.contract.load import parse_contract
from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.drafting.draft import DraftOptions, draft_contract
from churn_assets.errors import DraftError, RepeatedCustomers, TooManyRejected
from churn_assets_tests.data import tables

TODAY = dt.date(2026, 1, 1)
ROWS = 800


def draft(path, **wishes):
    return draft_contract(path, DraftOptions("lost", "1", **wishes), today=TODAY)


def with_columns(tmp_path, before=None, **columns):
    """The file of a table of numbers, with `columns` at its end and those of `before` ahead."""
    return tables.to_csv(tmp_path / "t.csv", {**(before or {}), **tables.only_numbers(), **columns})


def questions(found):
    return " ".join(found.text.replace("\n#  ", "").split())


UNIQUE = [f"K{i:05d}" for i in range(ROWS)]
THRICE = [f"K{i // 3:05d}" for i in range(ROWS)]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("customer_id", UNIQUE),
        ("IDCliente", UNIQUE),
        ("kunde_nr", list(range(7000, 7000 + ROWS))),
        ("会員番号", UNIQUE),
        ("EmployeeNumber", [3 * i + 1 for i in range(ROWS)]),
        ("CID", UNIQUE),
        ("phonenumber", [f"555-{i:04d}" for i in range(ROWS)]),
    ],
)
def test_a_column_named_like_an_id_is_the_key_in_any_position(name, cells, tmp_path):
    found = draft(with_columns(tmp_path, **{name: cells}))
    assert found.contract.key.name == name
    assert found.report.rows_rejected == 0


def test_the_customers_id_comes_before_other_ids_and_two_such_are_a_question(tmp_path):
    others = {"id": list(range(ROWS)), "RowNumber": list(range(ROWS)), "email": [f"{i}@x.org" for i in range(ROWS)]}
    found = draft(with_columns(tmp_path, others, booking_id=UNIQUE, client_no=UNIQUE[::-1]))
    assert found.contract.key.name == "client_no"
    assert "--id" not in found.text
    found = draft(with_columns(tmp_path, others, client_no=UNIQUE[::-1], user_id=UNIQUE))
    assert "the customer's id is assumed to be 'client_no'; 'user_id' could be it, too." in questions(found)
    found = draft(with_columns(tmp_path, {"email": others["email"]}))
    assert "the customer's id is assumed to be 'email'. Is that right? If not: --id." in questions(found)


def test_the_only_column_with_another_text_in_every_row_is_the_key_and_is_asked_about(tmp_path):
    found = draft(with_columns(tmp_path, ref=[f"{i:03d}/A" for i in range(ROWS)]))
    assert found.contract.key.name == "ref"
    assert "every row has another 'ref', which is assumed to be the customer's id" in questions(found)


def test_a_row_number_alone_is_no_id(tmp_path):
    found = draft(with_columns(tmp_path, {"RowNumber": list(range(1, ROWS + 1))}))
    assert found.contract.source.repairs[0] == "rows_as_ids"
    assert "no column identifies the customer, so the id is the row number" in questions(found)


@pytest.mark.parametrize("name", ["customer_id", "id", "Kundennummer", "account_no", "client"])
def test_several_rows_a_customer_are_refused_with_what_to_do(name, tmp_path):
    path = with_columns(tmp_path, **{name: THRICE}, record=UNIQUE)
    with pytest.raises(DraftError) as caught:
        draft(path)
    assert f"'{name}' repeats: 267 customers in 800 rows; expected one row for each customer; keep one" in str(
        caught.value
    )


def test_another_unique_id_does_not_hide_that_the_customer_repeats(tmp_path):
    path = with_columns(tmp_path, customer_id=THRICE, invoice_id=UNIQUE, rownumber=list(range(ROWS)))
    with pytest.raises(DraftError, match="'customer_id' repeats"):
        draft(path)
    with pytest.raises(DraftError, match="'customer_id' repeats"):
        draft(path, key="rownumber")
    found = draft(path, key="invoice_id")
    assert found.contract.key.name == "invoice_id"
    assert "'customer_id' repeats (267 in 800 rows). If these are the customers, rows of one are in training" in (
        questions(found)
    )


def test_a_few_repeated_ids_and_equal_rows_are_asked_about_with_their_number(tmp_path):
    few = [*UNIQUE[:-10], *UNIQUE[:10]]
    found = draft(with_columns(tmp_path, customer_id=few))
    assert found.report.rows_rejected >= 10
    assert (
        "10 of 800 rows repeat a customer ('customer_id'), with other cells; the first of each is kept, and none"
        in (questions(found))
    )
    table = {**tables.only_numbers(), "customer_id": UNIQUE}
    twice = {name: [*cells, *cells[:300]] for name, cells in table.items()}
    found = draft(tables.to_csv(tmp_path / "twice.csv", twice))
    assert (found.report.rows_rejected, found.report.rows_valid) == (300, 800)
    assert "300 of 1,100 rows repeat a customer ('customer_id'), with equal cells" in questions(found)
    assert found.contract.quality.max_rejected_share > 300 / 1100


def test_ids_that_differ_only_by_blanks_a_point_or_an_exponent_are_the_same_customer(tmp_path):
    ids = [("{}.0", " {} ", "{:.4E}")[i % 3].format(7000 + i // 3) for i in range(ROWS)]
    with pytest.raises(DraftError, match="267 customers in 800 rows"):
        draft(with_columns(tmp_path, customer_id=ids))


def test_copies_of_rows_are_known_in_columns_of_every_type(tmp_path):
    ids = [f"K{i // 2}" for i in range(60)]
    cells = {
        "spend": pa.array([None if i // 2 % 5 == 0 else i // 2 / 4 for i in range(60)]),
        "seen": pa.array([dt.datetime(2024, 1, 1) + dt.timedelta(hours=i // 2) for i in range(60)]),
        "plan": pa.array(["a" if i // 2 % 3 else "b" for i in range(60)]).dictionary_encode(),
        "tags": pa.array([[i // 2] for i in range(60)]),
        "nothing": pa.nulls(60),
        "lost": pa.array([i // 2 % 2 for i in range(60)]),
    }
    pa.parquet.write_table(pa.table({"customer_id": ids, **cells}), tmp_path / "t.parquet")
    assert "30 of 60 rows repeat a customer ('customer_id'), with equal cells" in questions(
        draft(tmp_path / "t.parquet")
    )
    for name, column in cells.items():
        changed = pa.array([*column.to_pylist()[:-1], column.to_pylist()[0]], column.type)
        pa.parquet.write_table(pa.table({"customer_id": ids, **cells, name: changed}), tmp_path / "t.parquet")
        if name != "nothing":
            with pytest.raises(DraftError, match="30 customers in 60 rows"):
                draft(tmp_path / "t.parquet")


def panel(times=3):
    """The columns of 260 customers `times` times: the same label, plan and age, another month and bill."""
    customers, columns = range(260), dict[str, list[object]]()
    for name, cells in {
        "age": [18 + i * 37 % 61 for i in customers],
        "plan": ["ABC"[i * 7 % 3] for i in customers],
        "joined": [str(dt.date(2020, 1, 1) + dt.timedelta(days=i * 5 % 900)) for i in customers],
        "lost": [int(i * 13 % 29 < 9) for i in customers],
    }.items():
        columns[name] = cells * times
    columns["bill"] = [round(20 + i * 61 % 997 / 13, 2) for i in range(260 * times)]
    columns["month"] = [f"2024-{1 + i // 260:02}" for i in range(260 * times)]
    return columns


@pytest.mark.parametrize("name", ["rut", "Acct #", "Ügyfélszám", "phonenumber", "policy_number", "booking_id"])
def test_rows_of_one_customer_are_known_under_any_name_of_the_id(name, tmp_path):
    ids = [f"{i % 260 + 7000}-K" for i in range(780)]
    with pytest.raises(DraftError, match=rf"'{name}' repeats: 260 different in 780 rows, .*; keep one row of each"):
        draft(tables.to_csv(tmp_path / "t.csv", {name: ids, **panel()}))
    found = draft(tables.to_csv(tmp_path / "t.csv", {name: ids[:260], **panel(1)}))
    assert found.contract.key.name == name


def test_rows_of_one_customer_are_known_without_an_id(tmp_path):
    table = panel()
    table["bill"] = [round(20 + i % 260 * 61 % 997 / 13, 2) for i in range(780)]  # only the month differs
    with pytest.raises(DraftError, match=r"repeats?: 260 different in 780 rows"):
        draft(tables.to_csv(tmp_path / "t.csv", table))
    with pytest.raises(DraftError, match="'guest' repeats: 260 different in 780 rows"):
        draft(tables.to_csv(tmp_path / "t.csv", {"booking_id": range(780), "guest": table["bill"], **panel()}))


@pytest.mark.parametrize(
    "columns",
    [
        {"zip": [f"{10000 + i * 7 % 130}" for i in range(780)], "town": [f"town {i * 7 % 130}" for i in range(780)]},
        {"reason": [f"reason {i % 40}" if i * 13 % 29 < 9 else "" for i in range(780)]},
        {"reason_code": [str(1000 + i % 40 + 40 * (i * 13 % 29 < 9)) for i in range(780)]},
    ],
    ids=lambda columns: "+".join(columns),
)
def test_towns_and_reasons_that_repeat_are_no_customers(columns, tmp_path):
    table = panel(1) | {name: cells[:260] for name, cells in columns.items()}
    assert draft(tables.to_csv(tmp_path / "t.csv", table)).contract.key.name == "row_id"
    table = {name: cells[:780] for name, cells in {**tables.only_numbers(), **columns}.items()}
    assert draft(tables.to_csv(tmp_path / "t.csv", table)).contract.key.name == "row_id"


def test_ids_of_groups_that_repeat_are_no_customers(tmp_path):
    path = with_columns(tmp_path, agent_id=[i % 7 for i in range(ROWS)], house_number=[i % 90 for i in range(ROWS)])
    found = draft(path)
    assert found.contract.source.repairs[0] == "rows_as_ids"
    assert "is 'agent_id' (7 different in 800 rows), 'house_number' (90 different in 800 rows) the customer's id?" in (
        questions(found)
    )


def test_a_contract_by_hand_that_numbers_the_rows_of_repeated_customers_is_refused(tmp_path):
    draft_of_unique = draft(with_columns(tmp_path)).text
    contract = parse_contract(draft_of_unique, "mine")
    path = with_columns(tmp_path, customer_id=THRICE)
    table = read_table(path, contract)
    with pytest.raises(RepeatedCustomers, match="'customer_id' repeats: 267 customers in 800 rows"):
        validate(contract, table)
    with_key = draft(with_columns(tmp_path, customer_id=UNIQUE)).text
    by_customer = parse_contract(with_key, "mine")
    checked = validate(by_customer, apply_repairs(table, by_customer)[0])
    with pytest.raises(TooManyRejected, match="keep one row of each customer"):
        checked.report.stop_if_over_limit()


def test_in_a_sample_the_share_of_repeated_customers_is_that_of_the_whole_table(tmp_path):
    rows = 12_000
    table = pa.table({"spend": list(range(rows)), "lost": [i % 2 for i in range(rows)]})
    table = table.append_column("customer_id", pa.array([f"K{i % (rows // 3)}" for i in range(rows)]))
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(table, path)
    with pytest.raises(DraftError, match="'customer_id' repeats"):
        draft_contract(path, DraftOptions("lost", "1"), sample_rows=300, today=TODAY)
