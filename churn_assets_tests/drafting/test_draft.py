"""From any table to a contract that trains: every awkward shape, and every way it cannot work."""

import contextlib
import datetime as dt
import re
import tomllib

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.edit import toml
from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Column, Kind, Role
from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.parse import read_date
from churn_assets.data.validation.validate import validate
from churn_assets.drafting.columns import guess_column
from churn_assets.drafting.dates import find_formats
from churn_assets.drafting.draft import DraftOptions, draft_contract, write_draft
from churn_assets.drafting.label import LabelDraft, draft_label
from churn_assets.drafting.sample import read_sample
from churn_assets.errors import (
    ChurnError,
    DraftError,
    DuplicateColumn,
    EmptySource,
    SourceNotFound,
    SourceUnreadable,
    TrainingError,
)
from churn_assets.synthetic.generate import generate
from churn_assets.synthetic.write import write_customers
from churn_assets.training.candidate import train_candidate
from churn_assets.training.feature_table import feature_table
from churn_assets.training.split import read_split, split_table
from churn_assets_tests.data import tables
from churn_assets_tests.strategies import STORE, TELECOM

TODAY = dt.date(2026, 1, 1)


def draft(path, label, churned, **wishes):
    return draft_contract(path, DraftOptions(label, churned, **wishes), today=TODAY)


def column(found, name):
    return found.contract.column(name)


def trained(found, path):
    """Validation metrics of a small boosted model: what `churn run` does with the draft, without Dagster."""
    repaired, _ = apply_repairs(read_table(path, found.contract), found.contract)
    checked = validate(found.contract, repaired)
    assert not checked.report.over_limit
    splits = split_table(found.contract, checked.customers)
    features = feature_table(found.contract, checked.customers, splits)
    made = train_candidate("boosted", found.contract, features, splits, {"rounds": 25, "patience": 10, "threads": 1})
    has_cohort = read_split(splits, "out_of_time") is not None
    assert has_cohort == ("out_of_time" in made.metrics)
    return made.metrics["random"]


SHAPES = [
    (tables.telecom, "Churn", "Yes"),
    (tables.bank, "Exited", "1"),
    (tables.three_date_formats, "left", "gone"),
    (tables.other_tongues, "gekündigt?", "Ja"),
    (tables.forty_columns, "churn", "1"),
    (tables.only_categories, "churned", "true"),
    (tables.only_numbers, "lost", "1"),
    (tables.shouted_labels, "Churn", "yes"),
]


@pytest.mark.parametrize(("make", "label", "churned"), SHAPES, ids=lambda v: getattr(v, "__name__", None))
@pytest.mark.parametrize("to_file", [tables.to_csv, tables.to_parquet], ids=["csv", "parquet"])
def test_every_shape_goes_from_file_to_trained_model_by_its_draft_alone(make, label, churned, to_file, tmp_path):
    path = to_file(tmp_path / ("table.csv" if to_file is tables.to_csv else "table.parquet"), make())
    found = draft(path, label, churned)
    assert found.report.rows_rejected == 0
    assert 0.0 < trained(found, path)["roc_auc"] <= 1.0
    assert {c.name for c in found.contract.columns} >= set(make())  # nothing is left unsaid
    assert generate(found.contract, 300, 1).num_rows == 300  # and the generator knows such customers, too


def test_the_telecom_shape_reads_as_a_person_would_read_it(tmp_path):
    found = draft(tables.to_csv(tmp_path / "t.csv", tables.telecom()), "Churn", "Yes")
    assert found.contract.key.name == "customerID"
    assert (found.contract.label.churned_when, found.contract.label.kept_when) == ("Yes", "No")
    assert found.contract.time.cohort == "tenure"
    assert column(found, "TotalCharges").kind is Kind.NUMBER
    assert column(found, "TotalCharges").nullable  # the blank strings
    assert column(found, "SeniorCitizen").kind is column(found, "Partner").kind is Kind.BOOLEAN
    assert column(found, "StreamingTV").choices == ("No", "No internet service", "Yes")
    assert (found.left_out, found.suspects) == ((), ())


def test_the_bank_shape_loses_its_echo_and_marks_its_leak(tmp_path):
    found = draft(tables.to_parquet(tmp_path / "b.parquet", tables.bank()), "Exited", "1")
    assert found.contract.key.name == "CustomerId"
    assert set(found.left_out) == {"RowNumber", "Surname", "Complain"}
    assert found.suspects == ("SatisfactionDrop",)
    assert "an echo of the label" in found.text
    assert column(found, "GeographyCode").choices == ("1", "2", "3")
    assert column(found, "CreditScore").kind is Kind.INTEGER


def test_dates_in_three_formats_become_days_and_the_future_one_does_not_set_the_snapshot(tmp_path):
    found = draft(tables.to_csv(tmp_path / "d.csv", tables.three_date_formats()), "left", "gone")
    assert set(column(found, "joined").formats) == {"%d.%m.%Y", "%d %b %Y"}
    assert found.contract.time.cohort == "joined"
    names = {f.name for f in found.contract.features}
    assert {"days_since_joined", "days_until_contract_end", "days_from_joined_to_last_order"} <= names
    newest = max(d for d in tables.three_date_formats()["last_order"] if d)
    assert found.contract.time.as_of >= newest
    assert found.contract.time.as_of < "2023-12-31"
    assert column(found, "last_order").nullable


@pytest.mark.parametrize(("churners", "rows"), [(19, 300), (281, 300), (20, 300)])
def test_a_draft_says_whether_a_run_of_its_table_can_train(tmp_path, churners, rows):
    table = tables.only_numbers(rows) | {"lost": [int(i < churners) for i in range(rows)]}
    path = tables.to_csv(tmp_path / "few.csv", table)
    found = draft(path, "lost", "1")
    assert ("It can be used as it is;" in found.text) == (not found.obstacle) == (churners == 20)
    if churners == 20:
        assert trained(found, path)
        return
    assert re.fullmatch(
        r"19 of 300 customers (churned|kept), expected at least 20 .*; use a table with .*", found.obstacle
    )
    assert found.obstacle in " ".join(found.text.replace("\n#  ", "").split())
    repaired, _ = apply_repairs(read_table(path, found.contract), found.contract)
    with pytest.raises(TrainingError, match=re.escape(found.obstacle)):
        split_table(found.contract, validate(found.contract, repaired).customers)


def test_names_that_are_no_words_are_quoted_in_expressions(tmp_path):
    found = draft(tables.to_csv(tmp_path / "o.csv", tables.other_tongues()), "gekündigt?", "Ja")
    assert found.contract.time.cohort == "Дата регистрации since"
    written = [f.expression for f in found.contract.features]
    assert 'days(as_of - column("dernière visite (date)"))' in written
    assert column(found, "都市").choices == ("São Paulo", "Zürich", "大阪", "東京")
    assert all(f.name.isascii() for f in found.contract.features)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-8-sig", "utf-16", "utf-8"])
def test_semicolons_decimal_commas_and_any_encoding_are_read(encoding, tmp_path):
    path = tables.to_csv(tmp_path / "k.csv", tables.decimal_commas(), ";", encoding)
    found = draft(path, "gekündigt", "ja")
    assert found.contract.source.delimiter == ";"
    assert "decimal_comma" in found.contract.source.repairs
    assert column(found, "Straße").choices == ("Äußere", "Öl", "Übersee")
    assert column(found, "Umsatz").high < 100_000
    assert column(found, "Anteil").high == 1.0
    assert found.contract.key.name == "Kundennummer"  # 000123 stays text
    assert trained(found, path)["roc_auc"] > 0.6


def test_an_odd_byte_far_into_the_file_is_read_in_a_wider_encoding(tmp_path):
    table = tables.only_numbers(60_000)
    table["note"] = ["plain words here"] * 59_999 + ["Zürich"]  # type: ignore[assignment]
    path = tables.to_csv(tmp_path / "late.csv", table, encoding="cp1252")
    assert path.stat().st_size > 1 << 20
    found = draft(path, "lost", "1")
    assert found.contract.source.encoding == "cp1252"


def test_a_table_without_ids_counts_its_rows(tmp_path):
    path = tables.to_csv(tmp_path / "c.csv", tables.only_categories())
    found = draft(path, "churned", "true")
    assert found.contract.source.repairs == ("rows_as_ids",)
    ids = read_table(path, found.contract).column(found.contract.key.name).to_pylist()
    assert ids[:2] == ["row-000000001", "row-000000002"]
    assert len(set(ids)) == len(ids)
    assert column(found, "region").missing == ("NA",)


def test_ids_that_are_numbers_stay_whole(tmp_path):
    table = {**tables.only_numbers(), "client_no": [float(10**9 + i) for i in range(800)]}
    path = tables.to_parquet(tmp_path / "i.parquet", table)  # type: ignore[arg-type]
    found = draft(path, "lost", "1")
    assert found.contract.key.name == "client_no"
    repaired, _ = apply_repairs(read_table(path, found.contract), found.contract)
    assert validate(found.contract, repaired).customers["client_no"][0].as_py() == "1000000000"


def test_the_draft_contains_its_questions_and_the_reasons_for_columns_left_out(tmp_path):
    found = draft(tables.to_csv(tmp_path / "f.csv", tables.forty_columns()), "churn", "1")
    assert set(found.left_out) == {"always", "never"}
    assert "# it is 'same' in every row" in found.text
    assert "# it is empty in every row" in found.text
    assert found.questions == found.text.count("\n# QUESTION: ") > 0
    assert "no out-of-time test" in found.text


def test_money_signs_and_labels_in_two_cases_are_understood(tmp_path):
    found = draft(tables.to_csv(tmp_path / "s.csv", tables.shouted_labels()), "Churn", "yes")
    assert "number_marks" in found.contract.source.repairs
    assert column(found, "price").kind is Kind.NUMBER
    assert found.contract.label_column.kind is Kind.BOOLEAN


def test_a_workbook_of_the_stores_shape_gets_its_dates_and_its_cohort(tmp_path):
    path = tmp_path / "store.xlsx"
    write_customers(STORE, 800, 3, path)
    found = draft(path, "retained", "0")
    assert found.contract.time.cohort == "created"
    assert {f.expression for f in found.contract.features} >= {"days(as_of - lastorder)", "days(firstorder - created)"}
    assert trained(found, path)["roc_auc"] > 0.6


def test_a_duckdb_table_is_drafted_like_any_other(tmp_path):
    path = tables.to_parquet(tmp_path / "t.parquet", tables.telecom())
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        connection.execute(f"CREATE TABLE people AS SELECT * FROM '{path}'")
    source = f"duckdb://{tmp_path / 't.duckdb'}?table=people"
    assert draft(source, "Churn", "Yes").contract.columns == draft(path, "Churn", "Yes").contract.columns


def test_a_large_table_is_sampled_evenly_and_the_draft_states_it(tmp_path):
    table = generate(TELECOM, 200_000, 5)
    path = tmp_path / "large.parquet"
    pa.parquet.write_table(table, path)
    heard = []
    found = draft_contract(path, DraftOptions("churn", "Yes"), sample_rows=20_000, progress=heard.append)
    assert (found.rows, found.sampled, heard[-1]) == (200_000, 20_000, 200_000)
    assert "a sample of 20,000 of 200,000 rows" in " ".join(found.text.split())
    whole = draft_contract(path, DraftOptions("churn", "Yes"))
    assert (whole.sampled, whole.contract.key.name) == (200_000, "customer_id")
    assert [c.kind for c in found.contract.columns] == [c.kind for c in whole.contract.columns]
    kept = table["churn"].to_pylist().count("No")
    for capacity in (found.contract.value.capacity, whole.contract.value.capacity):
        assert capacity == pytest.approx(kept / 10, rel=0.35)  # one digit


def test_the_sample_is_spread_over_the_file_and_its_labels_are_counted_over_all(tmp_path):
    path = tables.to_parquet(tmp_path / "s.parquet", {"n": list(range(50_000)), "y": [i % 10 for i in range(50_000)]})
    sample = read_sample(path, "y", sample_rows=5_000)
    places = np.asarray(sample.table["n"])
    assert len(places) == 5_000
    assert (np.diff(places) > 0).all()
    assert np.abs(np.quantile(places, [0.25, 0.5, 0.75]) / 50_000 - [0.25, 0.5, 0.75]).max() < 0.03
    assert set(sample.labels.values()) == {5_000}


def wrong(tmp_path, table, label="lost", churned="1", **wishes):
    path = tables.to_csv(tmp_path / "w.csv", table)
    with pytest.raises(ChurnError) as caught:
        draft(path, label, churned, **wishes)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_label_that_is_not_there_names_the_closest_columns(tmp_path):
    error = wrong(tmp_path, tables.telecom(), label="Chrun")
    assert isinstance(error, DraftError)
    assert "did you mean 'Churn'" in str(error)
    assert "--id" in str(wrong(tmp_path, tables.only_numbers(), key="customer"))
    assert "--cohort" in str(wrong(tmp_path, tables.only_numbers(), cohort="tenur"))


def test_a_churned_value_that_nobody_has_lists_the_values_there_are(tmp_path):
    error = str(wrong(tmp_path, tables.telecom(), label="Churn", churned="gone"))
    assert "no churner" in error
    assert "'No' (870 rows)" in error


def test_thirty_label_values_are_an_error_and_three_are_a_question(tmp_path):
    table = {**tables.only_numbers(), "lost": [i % 30 for i in range(800)]}
    assert "has 30 different values" in str(wrong(tmp_path, table))
    table["lost"] = [("stayed", "stayed", "stayed", "joined", "churned")[i % 5] for i in range(800)]
    found = draft(tables.to_csv(tmp_path / "three.csv", table), "lost", "churned")  # type: ignore[arg-type]
    assert found.contract.label.kept_when == ("stayed", "joined")
    assert found.report.rows_rejected == 0
    question = "every value other than 'churned' is kept: 'stayed' (480 rows) and 'joined' (160 rows). Is that right?"
    assert question in " ".join(found.text.replace("#", "").split())


OUTCOMES = {
    "dates": (
        lambda i: "" if i % 3 else f"2024-03-{i % 28 + 1:02}",
        "2024-03-01",
        "write|Yes where one has left and No",
    ),
    "dates of leaving": (lambda i: "" if i % 3 else f"{i % 28 + 1}.3.2024", "Yes", "which say when customers left"),
    "a mark or nothing": (lambda i: "" if i % 3 else "X", "X", "'X' in 100 rows and empty in 200; .*; if .* write No"),
    "the same everywhere": (lambda i: "X", "X", "every row of 'lost' is 'X'"),
}


@pytest.mark.parametrize(("outcome", "churned", "message"), OUTCOMES.values(), ids=OUTCOMES)
def test_a_column_that_says_who_left_in_another_way_is_an_error_with_what_to_do(tmp_path, outcome, churned, message):
    table = tables.only_numbers(300) | {"lost": [outcome(i) for i in range(300)]}
    assert re.search(message, str(wrong(tmp_path, table, churned=churned)))


def test_blanks_and_case_of_label_values_and_blanks_of_column_names_do_not_matter(tmp_path):
    states = ("Stayed", "stayed ", "Joined", " churned", "Churned")
    table = {**tables.only_numbers(), " lost ": [states[i % 5] for i in range(800)], "age ": list(range(800))}
    del table["lost"]
    path = tables.to_csv(tmp_path / "blanks.csv", table)  # type: ignore[arg-type]
    found = draft(path, "lost", "CHURNED ", key="age")
    assert (found.contract.label.column, found.contract.key.name) == (" lost ", "age ")
    assert (found.contract.label.churned_when, found.contract.label.kept_when) == ("churned", ("stayed", "joined"))
    assert (found.report.rows_in, found.report.rows_rejected) == (800, 0)
    assert "320 churned and 480 kept" in " ".join(found.text.replace("#", "").split())


def test_names_that_differ_only_by_case_are_an_error_with_both(tmp_path):
    table = {**tables.only_numbers(), "B": [f"x{i % 7}" for i in range(800)]}
    error = wrong(tmp_path, table)
    assert "the names 'b' and 'B' differ only by case" in str(error)
    assert "rename one of them in the table" in str(error)


def test_a_table_of_churners_only_is_an_error(tmp_path):
    table = {**tables.only_numbers(), "lost": [1] * 800}
    assert "every row of 'lost' is '1'" in str(wrong(tmp_path, table))
    assert "is empty in every row" in str(wrong(tmp_path, {**table, "lost": [None] * 800}))


def test_a_table_of_echoes_and_suspects_only_is_an_error_with_each_reason(tmp_path):
    rng, _, churned = tables.people(500)
    table = {
        "echo": [int(v) for v in churned],
        "churn_score": [float(v) for v in churned + 0.4 * rng.standard_normal(500)],
        "constant": ["x"] * 500,
        "lost": [int(v) for v in churned],
    }
    error = str(wrong(tmp_path, table))
    assert "no column besides 'lost' can be a model input" in error
    assert "'constant': it is 'x' in every row" in error
    assert "'churn_score': " in error


def test_a_column_twice_an_empty_file_and_no_file_are_one_line_each(tmp_path):
    path = tmp_path / "twice.csv"
    path.write_text("a,b,a,lost\n1,2,3,1\n")
    with pytest.raises(DuplicateColumn, match="column 'a' more than once"):
        draft(path, "lost", "1")
    path.write_text("")
    with pytest.raises(EmptySource):
        draft(path, "lost", "1")
    path.write_bytes(b"PK\x03\x04 no table \x00\x01")
    with pytest.raises(SourceUnreadable):
        draft(path, "lost", "1")
    with pytest.raises(SourceNotFound):
        draft(tmp_path / "none.csv", "lost", "1")
    (tmp_path / "bad.xlsx").write_bytes(b"no workbook")
    with pytest.raises(SourceUnreadable, match="not a workbook"):
        draft(tmp_path / "bad.xlsx", "lost", "1")


def test_a_file_without_a_header_is_known_by_its_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("K1,23.5,Yes\nK2,30.1,No\n")
    with pytest.raises(DraftError, match=r"its first row has '23.5', so it may have no header: write one above it;"):
        draft(tmp_path / "t.csv", "lost", "1")
    (tmp_path / "t.csv").write_text("id,plan,churn\nyes,23.5,lost\nno,30.1,lost\nno,30,lost\n")
    with pytest.raises(DraftError, match=r"has no column 'lost'.* it has: id, plan, churn"):  # a row is no header
        draft(tmp_path / "t.csv", "lost", "1")


def test_errors_of_wide_tables_and_long_cells_stay_short(tmp_path):
    wide = {f"column_{i:03}": [1, 2] for i in range(300)}
    error = str(wrong(tmp_path, wide, label="left"))
    assert "column_039 and 260 more; correct it" in error
    error = str(wrong(tmp_path, {"lost": ["x" * 5000, "y"] * 30}, churned="1"))
    assert len(error) < 300
    (tmp_path / "fixed.txt").write_text("id   spend  lost\n1    20     1\n2    30     0\n")
    with pytest.raises(
        DraftError, match=r"has none of the separators , ; tab \| \^ ~, save it with one of them; it has:"
    ):
        draft(tmp_path / "fixed.txt", "lost", "1")


def test_a_table_with_many_rows_a_customer_is_an_error_with_its_cause(tmp_path):
    table = {**tables.only_numbers(), "customer_id": [i // 20 for i in range(800)]}
    assert "expected one row for each customer" in str(wrong(tmp_path, table, key="customer_id"))


def test_the_label_cannot_be_the_id_and_a_text_no_cohort(tmp_path):
    assert "expected other columns for --id and --cohort" in str(wrong(tmp_path, tables.only_numbers(), key="lost"))
    assert "expected a date or a number" in str(
        wrong(tmp_path, tables.telecom(), label="Churn", churned="Yes", cohort="gender")
    )


def test_columns_named_like_the_platforms_own_are_left_out(tmp_path):
    table = {**tables.only_numbers(), "as_of": ["2024-01-01", "2024-01-02"] * 400, "churned": [3, 4] * 400}
    table |= {"customer_id": [1.5, 2.5] * 400}
    found = draft(tables.to_csv(tmp_path / "n.csv", table), "lost", "1")  # type: ignore[arg-type]
    assert set(found.left_out) == {"as_of", "churned", "customer_id"}


def test_an_existing_file_is_overwritten_only_with_force(tmp_path):
    found = draft(tables.to_csv(tmp_path / "t.csv", tables.only_numbers()), "lost", "1")
    out = tmp_path / "contracts" / "mine.toml"
    write_draft(found, out)
    with pytest.raises(DraftError, match="--force"):
        write_draft(found, out)
    write_draft(found, out, force=True)
    assert out.read_text(encoding="utf-8") == found.text
    assert [p.name for p in out.parent.iterdir()] == ["mine.toml"]


def test_a_number_that_may_mean_missing_and_a_count_that_may_be_a_code_are_questions():
    cells = pa.chunked_array([pa.array([float(i % 40) for i in range(400)] + [-999.0] * 20)])
    assert "does -999 (20 rows) mean missing" in " ".join(guess_column("visits", cells).questions)
    cells = pa.chunked_array([pa.array([i % 4 for i in range(400)])])
    assert "a count or a code" in " ".join(guess_column("products", cells).questions)


def test_zip_codes_keep_their_zeros_and_lists_are_left_out():
    cells = pa.chunked_array([pa.array(["01234", "99999", "00001"] * 50)])
    assert guess_column("zip", cells).column.choices == ("00001", "01234", "99999")
    assert "of type list" in guess_column("tags", pa.chunked_array([pa.array([[1], [2]])])).why


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m/%d/%Y", "%d-%b-%y", "%d.%m.%Y %H:%M", "%Y/%m/%d", "%B %d, %Y"])
@given(days=st.lists(st.dates(dt.date(1995, 1, 1), dt.date(2030, 1, 1)), min_size=1, max_size=30, unique=True))
def test_whatever_format_is_found_reads_the_dates_as_they_were_meant_or_asks(form, days):
    counts = {day.strftime(form): 1 for day in days}
    found = find_formats(counts)
    assert found.share == 1.0
    exact = found.formats == (form,)
    meant = {text: dt.datetime.strptime(text, form).date() for text in counts}
    column = Column("", Kind.DATE, formats=found.formats)
    assert exact or found.question or all(read_date(column, text) == day for text, day in meant.items())


@given(st.text())
def test_any_text_survives_being_written_as_toml(text):
    if any(0xD800 <= ord(sign) < 0xE000 for sign in text):
        return
    assert tomllib.loads(f"x = {toml(text)}")["x"] == text


@given(
    st.lists(
        st.sampled_from(
            ["", " ", "1", "2.5", "1,5", "$3", "yes", "no", "NA", "2020-01-02", "3.4.2021", "x", "é\n", "inf"]
        ),
        min_size=30,
        max_size=60,
    ),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda t: t.strip() and t != "left"),
)
def test_no_mixture_of_cells_makes_the_draft_crash(tmp_path_factory, cells, name):
    rows = len(cells)
    table = pa.table({name: cells, "steady": list(range(rows)), "left": [i % 2 for i in range(rows)]})
    path = tmp_path_factory.mktemp("mixture") / "m.parquet"
    pa.parquet.write_table(table, path)
    with contextlib.suppress(DraftError):  # a refusal is an answer, too; any other error is none
        found = draft(path, "left", "1")
        assert parse_contract(found.text).columns == found.contract.columns
        assert found.contract.label_column.role is Role.LABEL


def test_the_labels_rows_read_back_as_they_were_counted(tmp_path):
    sample = read_sample(tables.to_csv(tmp_path / "s.csv", tables.shouted_labels()), "Churn")
    label = draft_label("Churn", "yes", sample.labels)
    assert isinstance(label, LabelDraft)
    read = label.read(sample.table.column("Churn"))
    assert (int((read == 1).sum()), int((read == 0).sum())) == (label.churned_rows, label.kept_rows)
