"""Each option of the generator changes its own columns and rows, and nothing else."""

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.data.readers.formats import open_excel
from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.numbers import from_comma, from_marks
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.errors import DataError, ScenarioError
from churn_assets.synthetic import write
from churn_assets.synthetic.generate import generate, generate_batches, snapshot_of
from churn_assets.synthetic.scenario import Scenario, play, read_scenario
from churn_assets.synthetic.write import write_customers
from churn_assets_tests.data.contracts import with_columns
from churn_assets_tests.strategies import STORE, TELECOM

ROWS, SEED = 2_000, 3
PLAIN = generate(TELECOM, ROWS, SEED)
NUMBERS = ("monthly_charges", "total_charges", "login_frequency", "support_tickets", "tenure_months")


def effect_on_all(truth):
    """The true average effect of the offer on the churn rate, over all customers in `truth` (negative: it helps)."""
    tables = pa.concat_tables(truth)
    return float(pc.mean(tables["churned_treated"]).as_py() - pc.mean(tables["churned_untreated"]).as_py())


def after(scenario, contract=TELECOM, rows=ROWS, batch_rows=65_536):
    today = snapshot_of(contract)
    happened = list(
        play(contract, generate_batches(contract, rows, SEED, today, batch_rows), rows, SEED, today, scenario)
    )
    return pa.concat_tables([h.customers for h in happened]), happened


def changed(table, plain=PLAIN):
    """Columns that differ from the plain table, with the rows in which they do."""
    found = {}
    for name in plain.column_names:
        one, two = table[name].to_pylist(), plain[name].to_pylist()
        rows = [i for i, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        if rows:
            found[name] = rows
    return found


@settings(max_examples=25)
@given(
    name=st.sampled_from(NUMBERS),
    start=st.floats(0, 1),
    amount=st.integers(-50, 50).filter(bool),
    batch_rows=st.sampled_from([65_536, 777]),
)
def test_drift_moves_that_column_by_that_amount_from_that_time_on(name, start, amount, batch_rows):
    table, _ = after(read_scenario(TELECOM, [f"{name}{amount:+d}@{start:.6f}"]), batch_rows=batch_rows)
    first = round(float(f"{start:.6f}") * ROWS)
    known = [i for i in range(first, ROWS) if PLAIN[name][i].is_valid]
    assert changed(table) == ({name: known} if known else {})
    difference = pc.subtract(table[name], PLAIN[name]).slice(first).drop_null().to_numpy()
    np.testing.assert_allclose(difference, amount, atol=1e-9)


@given(name=st.sampled_from(NUMBERS[:3]), factor=st.floats(0.1, 10))
@settings(max_examples=15)
def test_a_factor_multiplies_from_one_row_to_another(name, factor):
    table, _ = after(read_scenario(TELECOM, [f"{name}*{factor!r}@500..0.5"]))
    inside = PLAIN[name].slice(500, 500).drop_null().to_numpy()
    np.testing.assert_allclose(table[name].slice(500, 500).drop_null().to_numpy(), inside * factor)
    assert set(changed(table)) <= {name}
    assert all(500 <= row < 1000 for rows in changed(table).values() for row in rows)


def test_a_share_of_a_category_moves_to_one_choice():
    table, _ = after(read_scenario(TELECOM, ["payment_method=credit card:0.4@50%"]))
    moved = changed(table)
    assert list(moved) == ["payment_method"]
    assert min(moved["payment_method"]) >= 1000
    others = sum(v != "credit card" for v in PLAIN["payment_method"].to_pylist()[1000:])
    assert abs(len(moved["payment_method"]) / others - 0.4) < 0.06


def test_dates_move_by_days():
    plain = generate(STORE, 500, SEED)
    table, _ = after(read_scenario(STORE, ["lastorder+30@0"]), STORE, 500)
    apart = pc.subtract(table["lastorder"].cast(pa.int32()), plain["lastorder"].cast(pa.int32()))
    assert set(apart.drop_null().to_pylist()) == {30}


@pytest.mark.parametrize("text", ["monthly_charges+0", "monthly_charges*1@0.3", "internet_service=dsl:0@0.5"])
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_no_drift_gives_the_same_bytes_as_none(text, suffix, tmp_path):
    write_customers(TELECOM, ROWS, SEED, tmp_path / f"plain{suffix}")
    write_customers(TELECOM, ROWS, SEED, tmp_path / f"none{suffix}", read_scenario(TELECOM, [text]))
    assert (tmp_path / f"plain{suffix}").read_bytes() == (tmp_path / f"none{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".xlsx"])
def test_the_same_seed_gives_the_same_file_and_another_another(suffix, tmp_path):
    scenario = read_scenario(STORE, ["avgorder*1.1@0.5"], ["swap:eopenrate,eclickrate@0.7", "duplicate:0.1"])
    files = [tmp_path / f"{n}{suffix}" for n in "abc"]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        write_customers(STORE, 400, seed, file, scenario)
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".xlsx"])
def test_every_format_reads_back_as_the_same_customers(suffix, tmp_path):
    path = tmp_path / f"store{suffix}"
    assert write_customers(STORE, 400, SEED, path).rows == 400
    repaired, _ = apply_repairs(read_table(path, STORE), STORE)
    checked = validate(STORE, repaired)
    assert checked.report.rows_rejected == 0
    plain = validate(STORE, generate(STORE, 400, SEED)).customers
    assert checked.customers.equals(plain)


def test_faults_do_what_breaks_in_pipelines():
    faults = ["zero:login_frequency@0.5", "unit:monthly_charges*100@0.5", "missing:support_tickets:0.5@0.5"]
    faults.append("swap:contract_type,payment_method@0.9")
    table, _ = after(read_scenario(TELECOM, (), faults))
    assert set(table["login_frequency"].to_pylist()[1000:]) == {0.0}
    np.testing.assert_allclose(
        table["monthly_charges"].to_numpy()[1000:], PLAIN["monthly_charges"].to_numpy()[1000:] * 100
    )
    assert abs(table["support_tickets"].slice(1000).null_count / 1000 - 0.5) < 0.06
    assert table["contract_type"].to_pylist()[1800:] == PLAIN["payment_method"].to_pylist()[1800:]
    assert table.slice(0, 1000).equals(PLAIN.slice(0, 1000))


def test_duplicates_repeat_rows_whole_and_in_place():
    table, _ = after(read_scenario(TELECOM, (), ["duplicate:0.1@0.5"]))
    ids = table["customer_id"].to_pylist()
    repeated = [i for i in range(1, len(ids)) if ids[i] == ids[i - 1]]
    assert len(ids) == ROWS + len(repeated)
    assert abs(len(repeated) / 1000 - 0.1) < 0.03
    assert all(table.slice(i, 1).equals(table.slice(i - 1, 1)) for i in repeated[:20])
    assert validate(TELECOM, table).report.count("duplicate_id") == len(repeated)


def test_an_option_draws_the_same_whatever_other_options_are_set():
    alone, _ = after(read_scenario(TELECOM, ["payment_method=credit card:0.4"]))
    together, _ = after(
        read_scenario(TELECOM, ["monthly_charges*2", "payment_method=credit card:0.4"], offer=(0.5, 0.3, 0.0))
    )
    assert alone["payment_method"].equals(together["payment_method"])


def churn_rates(table):
    churned = np.array(table["churn"].to_pylist()) == "Yes"
    treated = table["treated"].to_numpy() == 1
    return churned[treated].mean() - churned[~treated].mean(), churned, treated


def test_the_effect_of_an_offer_at_random_is_recovered_by_comparing():
    rows = 40_000
    table, happened = after(read_scenario(TELECOM, offer=(0.5, 0.4, 0.0)), rows=rows)
    truth = [h.truth for h in happened]
    difference, churned, treated = churn_rates(table)
    error = np.sqrt(churned[treated].var() / treated.sum() + churned[~treated].var() / (~treated).sum())
    assert abs(difference - effect_on_all(truth)) < 3.5 * error
    base = pc.mean(pa.concat_tables(truth)["churned_untreated"]).as_py()
    assert abs(effect_on_all(truth) + 0.4 * base) < 0.005  # what was asked for


def test_an_offer_targeted_at_churners_looks_harmful_although_it_helps():
    table, happened = after(read_scenario(TELECOM, offer=(0.2, 0.4, 0.6)), rows=20_000)
    difference, *_ = churn_rates(table)
    assert effect_on_all([h.truth for h in happened]) < -0.05 < 0 < difference


def test_what_is_seen_is_the_outcome_of_what_was_done():
    table, happened = after(read_scenario(TELECOM, offer=(0.3, 0.5, 0.2)))
    truth = pa.concat_tables([h.truth for h in happened])
    treated, one, zero = (truth[n].to_numpy() for n in ("treated", "churned_treated", "churned_untreated"))
    seen = np.array(table["churn"].to_pylist()) == "Yes"
    np.testing.assert_array_equal(seen, np.where(treated == 1, one, zero) == 1)
    assert (one <= zero).all()
    np.testing.assert_array_equal(zero == 1, np.array(PLAIN["churn"].to_pylist()) == "Yes")


def test_a_label_is_empty_until_it_is_known_and_its_day_is_in_the_labels():
    table, happened = after(read_scenario(TELECOM, label_delay_days=10, over_days=40))
    labels = pa.concat_tables([h.labels for h in happened])
    today = snapshot_of(TELECOM)
    assert labels["churn"].equals(PLAIN["churn"])
    seen, known = table["seen_on"].to_pylist(), labels["known_on"].to_pylist()
    assert (min(seen), max(seen)) == (today - dt.timedelta(days=39), today)
    assert seen == sorted(seen)
    for label, seen_on, known_on in zip(table["churn"].to_pylist(), seen, known, strict=True):
        assert known_on - seen_on == dt.timedelta(days=10)
        assert (label is not None) == (known_on <= today)


WRONG = [
    (["monthly_charge*2"], (), "did you mean 'monthly_charges'"),
    (["monthly_charges^2"], (), "expected monthly_charges*FACTOR"),
    (["tenure_months+0.5"], (), "expected a whole number for kind 'integer'"),
    (["contract_type=weekly:0.2"], (), "'weekly' is not a value of 'contract_type'; expected one of: month-to-month"),
    (["contract_type=one year:1.2"], (), "is not a share"),
    (["monthly_charges*2@1.5"], (), "is not a time"),
    (["monthly_charges*x"], (), "is not a number"),
    ((), ["burn:monthly_charges"], "unknown 'burn'"),
    ((), ["zero:contract_type"], "expected zero:NUMBER_COLUMN"),
    ((), ["swap:monthly_charges,contract_type"], "expected two columns of one kind"),
]


@pytest.mark.parametrize(("drifts", "faults", "words"), WRONG)
def test_an_option_that_cannot_be_used_is_an_error_of_one_line(drifts, faults, words):
    with pytest.raises(ScenarioError) as caught:
        read_scenario(TELECOM, drifts, faults)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_impossible_offers_delays_names_and_files_are_errors(tmp_path):
    for arguments in ({"offer": (1.5, 0.3, 0.0)}, {"label_delay_days": -1}, {"over_days": 0, "label_delay_days": 1}):
        with pytest.raises(ScenarioError):
            read_scenario(TELECOM, **arguments)
    from churn_assets.contract.load import parse_contract

    taken = parse_contract(with_columns(["treated"], {}))
    with pytest.raises(ScenarioError, match="a column 'treated'; expected none"):
        read_scenario(taken, offer=(0.5, 0.3, 0.0))
    for path, more in (("a.json", {}), ("a.csv", {"truth": Path("t.csv")}), ("a.csv", {"labels": Path("l.csv")})):
        with pytest.raises(ScenarioError):
            write_customers(TELECOM, 10, 1, tmp_path / path, **more)  # type: ignore[arg-type]
    with pytest.raises(ScenarioError, match="at least 1 row"):
        write_customers(TELECOM, 0, 1, tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_sheet_that_is_too_long_is_an_error_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MAX_ROWS", 100)
    with pytest.raises(DataError, match=r"write \.parquet or \.csv"):
        write_customers(TELECOM, 200, 1, tmp_path / "a.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_a_workbook_keeps_blanks_signs_and_dates_in_their_columns(tmp_path):
    table = pa.table(
        {"a & b": [None, " <x> ", "é"], "d": [dt.date(2024, 2, 29), None, dt.date(1999, 1, 1)], "n": [1.5, None, 2.0]}
    )
    sink = write.WorkbookWriter(tmp_path / "w.xlsx", table.schema)
    sink.write(table)
    sink.close()
    read = pa.Table.from_batches(open_excel(tmp_path / "w.xlsx", "data", (), 1000)[1]).to_pydict()
    assert read == {"a & b": [None, " <x> ", "é"], "d": ["2024-02-29", None, "1999-01-01"], "n": ["1.5", None, "2"]}


def test_progress_is_reported_and_parquet_has_a_row_group_a_chunk(tmp_path):
    heard = []
    write_customers(TELECOM, 140_000, 1, tmp_path / "p.parquet", Scenario(), progress=heard.append)
    assert heard == [65_536, 131_072, 140_000]
    assert pq.ParquetFile(tmp_path / "p.parquet").num_row_groups == 3


@pytest.mark.parametrize(
    ("text", "comma", "marks"),
    [
        ("1.234,5", "1234.5", None),
        ("12,5", "12.5", None),
        ("1.234", "1234", "1.234"),
        ("0.123", None, "0.123"),
        ("$1,234.50", None, "1234.50"),
        ("45 %", "45", "45"),
        ("EUR 12", "12", "12"),
        ("-3,0 €", "-3.0", None),
        ("1 234", "1234", "1234"),
        ("twelve", None, None),
        ("", None, None),
    ],
)
def test_numbers_as_people_write_them(text, comma, marks):
    assert (from_comma(text), from_marks(text)) == (comma, marks)
