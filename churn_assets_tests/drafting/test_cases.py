"""The draft of each stored input that once went wrong."""

import re

import pytest

from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.errors import DraftError, TrainingError
from churn_assets.training.split import read_split, split_table
from churn_assets_tests.cases import BIGGER, CASES, INPUTS, SMALL, draft_of, needs_cases, tables_in

pytestmark = needs_cases


def draft(name):
    """The draft of a case, e.g. 'small/pt.csv' or 'inputs/plain.csv'."""
    return draft_of(CASES / name if name.startswith("inputs") else CASES / "tables" / name)


def questions(found):
    return " ".join(found.text.replace("\n#  ", "").split())


KEYS = {
    "small/id_third.csv": "customer_id",
    "small/lines.jsonl": "customer_id",
    "small/dictionary_first.xlsx": "customer_id",
    "inputs/ord_b.parquet": "customer_id",
    "inputs/dupid.csv": "customer_id",
    "small/repeated_rows.csv": "customer_id",
    "small/id_acronym.csv": "IDCliente",
    "small/id_phonenumber.csv": "phonenumber",
    "small/id_employeenumber.csv": "EmployeeNumber",
    "small/nested.json": "customerID",
    "small/pt.csv": "id_cliente",
    "small/gbk.csv": "客户编号",
    "small/shift_jis.csv": "顧客ID",
    "small/cp1251.csv": "ид_клиента",
}


@pytest.mark.parametrize(("name", "key"), KEYS.items())
def test_the_id_is_found_and_no_row_but_a_repeated_one_is_rejected(name, key):
    found = draft(name)
    assert found.contract.key.name == key
    # In dupid.csv the two rows of one customer have different labels, so both are rejected.
    repeated, rejected = {"inputs/dupid.csv": (1, 2), "small/repeated_rows.csv": (4, 4)}.get(name, (0, 0))
    assert found.report.rows_rejected == rejected
    assert (f"{repeated} of " in questions(found)) == (repeated > 0)


@pytest.mark.parametrize(("name", "customers"), [("small/panel.csv", "16"), ("bigger/panel_1800.csv", "600")])
def test_several_rows_a_customer_are_refused(name, customers):
    with pytest.raises(DraftError, match=f"'customer_id' repeats: {customers} customers in"):
        draft(name)


COHORTS = {
    "small/cohort_blank_in_name.csv": "Account length",
    "small/cohort_customer_age.csv": "Months_on_book",
    "small/cohort_since_promotion.csv": "YearsAtCompany",
    "small/gbk.csv": "入网日期",
    "small/shift_jis.csv": "入会日",
    "small/cp1251.csv": "дата_подключения",
    "small/pt.csv": "data_adesao",
    "small/nested.json": "customer.tenure",
    "bigger/three_states_3000.csv": "tenure",
    "inputs/head_spaces.csv": " joined",
}


@pytest.mark.parametrize(("name", "cohort"), COHORTS.items())
def test_the_cohort_is_that_of_joining(name, cohort):
    assert draft(name).contract.time.cohort == cohort


STATES = {
    "small/three_states.csv": ("Churned", ("Stayed", "Joined"), 0),
    "bigger/three_states_3000.csv": ("Churned", ("Stayed", "Joined"), 0),
    "small/label_trailing_blank.csv": ("Yes", ("No",), 0),
    "inputs/label_dirty.csv": ("yes", ("no",), 0),
    "inputs/label_10.csv": ("1", ("0",), 0),
    "inputs/label_null.csv": ("Yes", ("No",), 8),
}


@pytest.mark.parametrize(("name", "state"), STATES.items())
def test_the_states_of_the_label(name, state):
    found = draft(name)
    label = found.contract.label
    assert (label.churned_when, label.kept_values, found.report.rows_rejected) == state
    assert (" is kept: 'Stayed' (" in questions(found)) == (len(label.kept_values) > 1)
    assert ("8 rows have no label and are rejected" in questions(found)) == (state[2] > 0)


CHOICES = {
    "inputs/cat_dirty.csv": ("plan", ("basic", "plus", "pro"), ()),
    "inputs/nbsp.csv": ("plan", ("basic", "plus", "pro"), ()),
    "inputs/int_cat.csv": ("region_code", ("1", "2", "3", "4"), ()),
    "inputs/int_cat_float.csv": ("region_code", ("1", "2", "3", "4"), ()),
    "inputs/bool_mixed.csv": ("paperless", (), ()),
    "inputs/end9999.csv": ("contract_end", (), ("9999-12-31",)),
    "inputs/sentinel.csv": ("cancelled", (), ("9999-12-31",)),
}


@pytest.mark.parametrize(("name", "column"), CHOICES.items())
def test_spellings_are_folded_and_days_that_stand_for_none_are_missing(name, column):
    found = draft(name)
    drafted = found.contract.column(column[0])
    kind = {"bool_mixed": "boolean", "end9999": "date", "sentinel": "date"}.get(name[7:-4], "category")
    assert (drafted.kind, drafted.choices, drafted.missing) == (kind, *column[1:])
    assert found.report.rows_rejected == 0


def test_marks_in_a_category_are_missing_and_none_is_a_choice():
    plan = draft("small/nulls_in_category.csv").contract.column("plan")
    assert plan.choices == ("Basic", "None", "Plus", "Pro")
    assert plan.nullable


def test_an_empty_column_is_left_out_and_names_that_differ_by_case_are_refused():
    assert draft("inputs/all_null.csv").left_out == ("fax",)
    with pytest.raises(DraftError, match="'plan' and 'Plan' differ only by case"):
        draft("inputs/case_cols.csv")


@pytest.mark.parametrize("path", tables_in(INPUTS, SMALL, BIGGER), ids=lambda path: path.name)
def test_a_draft_that_can_be_used_trains_and_another_says_what_stops_a_run(path):
    try:
        found = draft_of(path)
    except DraftError:
        return  # tested above, and in `data.test_cases`
    repaired, _ = apply_repairs(read_table(path, found.contract), found.contract)
    customers = validate(found.contract, repaired).customers
    if not found.obstacle:
        assert read_split(split_table(found.contract, customers), "random") is not None
        return
    assert "customers churned, expected at least 20" in found.obstacle
    with pytest.raises(TrainingError, match=re.escape(found.obstacle)):
        split_table(found.contract, customers)
