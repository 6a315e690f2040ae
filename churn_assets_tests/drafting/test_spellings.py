"""Spellings of one thing: labels, booleans, choices, missing values and days that stand for none."""

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.contract.model import Kind
from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.parse import choice_of, parse_column
from churn_assets.data.validation.validate import validate
from churn_assets.drafting.columns import guess_column, truth_of
from churn_assets.drafting.draft import DraftOptions, draft_contract
from churn_assets.errors import DraftError
from churn_assets_tests.data import tables

TODAY = dt.date(2026, 1, 1)
ROWS = 800


def guess(name, *cells):
    return guess_column(name, pa.chunked_array([pa.array(list(cells))]))


def draft(tmp_path, churned="1", **columns):
    path = tables.to_csv(tmp_path / "t.csv", {**tables.only_numbers(), **columns})
    return draft_contract(path, DraftOptions("lost", churned), today=TODAY), path


def questions(found):
    return " ".join(found.text.replace("\n#  ", "").split())


def cells(*values):
    return [values[i % len(values)] for i in range(ROWS)]


@pytest.mark.parametrize(
    ("values", "churned", "kept", "question"),
    [
        (("Yes", "No ", "yes", " NO", "no"), "Yes", ("no",), ""),
        (("1", "0", "yes", "No", "TRUE"), "1", ("0", "No"), "1, yes, TRUE are read as churned, 0, No as kept"),
        (("1.0", "0.0"), "1", ("0",), ""),
        (("gone", "stayed", "paused"), "gone", ("stayed", "paused"), "every value other than 'gone' is kept"),
        (("gone", "stayed", "unknown"), "gone", ("stayed",), "266 rows have no label (empty, or 'unknown')"),
        (("gone", "stayed", None), "gone", ("stayed",), "266 rows have no label and are rejected"),
        (("gone", "none"), "gone", ("none",), ""),
    ],
)
def test_states_of_the_label_are_counted_as_they_are_read(values, churned, kept, question, tmp_path):
    found, _ = draft(tmp_path, churned, lost=cells(*values))
    assert set(found.contract.label.kept_values) <= set(kept)
    assert question in questions(found)
    unknown = sum(v in (None, "unknown") for v in cells(*values))
    assert found.report.rows_rejected == unknown
    folded = [str(v).strip().lower() for v in cells(*values)]
    left = sum(v == churned.lower() or (truth_of(v) is True and truth_of(churned) is True) for v in folded)
    assert f"{left:,} churned and {ROWS - unknown - left:,} kept" in questions(found)


def test_a_label_of_one_state_in_several_words_is_an_error(tmp_path):
    with pytest.raises(DraftError, match="every row of 'lost' is '1'"):
        draft(tmp_path, "1", lost=cells("1", "1.0"))


def test_truths_in_several_words_are_one_boolean_and_asked_about():
    mixed = guess("paperless", *cells("0", "False", "no", "1", "TRUE", "yes"))
    assert mixed.column.kind is Kind.BOOLEAN
    assert any("are read as yes" in question for question in mixed.questions)
    read = parse_column(mixed.column, pa.array(["no", "0", "False", "FALSE", "Yes", "1", "true"]))
    assert read.values.to_pylist() == [False] * 4 + [True] * 3
    assert guess("paperless", *cells("Yes", "yes", "NO", "no")).questions == ()
    assert guess("x", *cells("yes", "ja")).column.kind is Kind.CATEGORY


@pytest.mark.parametrize("to_file", [tables.to_csv, tables.to_parquet])
def test_spellings_of_a_category_are_one_choice_in_every_file(to_file, tmp_path):
    spelled = cells("plus", "plus", "PLUS", "Plus ", "pro", "\u00a0pro", "basic  two", "Basic two")
    found, _ = draft(tmp_path, plan=spelled)
    assert found.contract.column("plan").choices == ("basic two", "plus", "pro")
    assert "differ by case, width or '.0' are one choice" in questions(found)
    path = to_file(tmp_path / "other", {**tables.only_numbers(), "plan": cells("PRO ", "plus", "Plus", "BASIC TWO")})
    path = path.rename(path.with_suffix(".csv" if to_file is tables.to_csv else ".parquet"))
    repaired, _ = apply_repairs(read_table(path, found.contract), found.contract)
    customers = validate(found.contract, repaired).customers
    assert customers["plan"].to_pylist() == cells("pro", "plus", "plus", "basic two")


def test_choices_that_differ_only_by_case_are_told_apart_by_their_own_spelling():
    choices = ("Plus", "plus", "pro")
    assert [choice_of(text, choices) for text in ("Plus", "plus", "PLUS", "PRO")] == ["Plus", "plus", "PLUS", "pro"]


def test_whole_floats_of_a_code_are_the_same_choice_from_csv_and_parquet(tmp_path):
    drafts = []
    for values, file in ((cells("1.0", "2.0", ""), "c.csv"), (cells(1.0, 2.0, None), "p.parquet")):
        table = {**tables.only_numbers(), "region_code": values}
        path = tmp_path / file
        (tables.to_csv if file.endswith("csv") else tables.to_parquet)(path, table)
        found = draft_contract(path, DraftOptions("lost", "1"), today=TODAY)
        drafts.append(found.contract.column("region_code"))
    assert drafts[0] == drafts[1]
    assert drafts[0].choices == ("1", "2")
    for column in drafts:
        assert parse_column(column, pa.array(["2.0", "1", None])).values.to_pylist() == ["2", "1", None]


def test_marks_are_missing_everywhere_and_words_are_choices_of_a_category():
    marks = ("\\N", "<NA>", "-", "#DIV/0!", "n.a.", "N/A", "(null)", "?")
    found = guess("plan", *cells(*marks, "None", "Unknown", *("basic", "pro", "plus") * 3))
    assert found.column.choices == ("None", "Unknown", "basic", "plus", "pro")
    assert found.column.missing == tuple(sorted(marks))
    assert any("'None', 'Unknown' is a choice beside missing cells" in question for question in found.questions)
    assert guess("plan", *cells("None", "basic")).questions == ()
    number = guess("visits", *cells(*(str(i) for i in range(30)), "None", "-"))
    assert (number.column.kind, number.column.missing) == (Kind.INTEGER, ("-", "None"))


@pytest.mark.parametrize("mark", ["9999-12-31", "2999-12-31", "0001-01-01", "1900-01-01", "2099-12-31"])
@pytest.mark.parametrize("typed", [False, True])
def test_a_day_that_stands_for_none_is_missing_and_asked_about(mark, typed, tmp_path):
    days = [str(dt.date(2023, 1, 1) + dt.timedelta(days=i)) for i in range(ROWS)]
    ends = [mark if i % 3 == 0 else day for i, day in enumerate(days)]
    table = pa.table({**tables.only_numbers(), "joined": days, "ended": ends})
    if typed:
        index = table.column_names.index("ended")
        table = table.set_column(index, "ended", table["ended"].cast(pa.date32()))
    pq.write_table(table, tmp_path / "t.parquet")
    found = draft_contract(tmp_path / "t.parquet", DraftOptions("lost", "1"), today=TODAY)
    column = found.contract.column("ended")
    assert (column.kind, column.missing, column.nullable) == (Kind.DATE, (mark,), True)
    assert f"'{mark}' (267 rows) is read as missing; is that right?" in questions(found)
    assert found.contract.time.as_of in ("latest", *days)
    assert parse_column(column, table["ended"]).values.null_count == 267


def test_days_near_the_others_are_days():
    found = guess("born", *(str(dt.date(1899 + i % 40, 1, 1)) for i in range(ROWS)))
    assert (found.column.kind, found.column.missing) == (Kind.DATE, ())
