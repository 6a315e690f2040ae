"""A file is scored as its rows are, whatever its format and however it is cut."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from churn_assets.contract.load import parse_contract
from churn_assets.errors import ColumnMissing, EmptySource, SettingsError
from churn_assets.scoring.batch import BatchSummary, score_file
from churn_assets.scoring.call_list import call_list, calls_of
from churn_assets.scoring.prices import prices
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, TEXT, customers, scorer_of

SCORER = dataclasses.replace(scorer_of("boosted"), version="abc")
ROWS = 900


@pytest.fixture(scope="module")
def table():
    return customers(ROWS, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("batch")
    pq.write_table(table, folder / "in.parquet")
    pa_csv.write_csv(table, folder / "in.csv")
    _write_workbook(folder / "in.xlsx", table)
    return folder


def _with_value(**changed):
    value = dataclasses.replace(CONTRACT.value, **changed)
    return dataclasses.replace(SCORER, contract=dataclasses.replace(CONTRACT, value=value))


def _write_workbook(path, table):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(table.column_names)
    for row in table.to_pylist():
        book.active.append(list(row.values()))
    book.save(path)


def _read(path):
    return pq.read_table(path) if path.suffix == ".parquet" else pa_csv.read_csv(path)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("source", ["in.parquet", "in.csv", "in.xlsx"])
def test_a_file_scores_as_its_table_does(folder, table, tmp_path, source, suffix):
    seen = []
    summary = score_file(
        SCORER, folder / source, tmp_path / f"out.{suffix}", batch_rows=200, progress=lambda *at: seen.append(at)
    )
    expected = SCORER.score_table(table, AS_OF).probability
    scored = _read(summary.out)
    assert scored["customer_id"].to_pylist() == table["id"].to_pylist()
    np.testing.assert_allclose(scored["churn_probability"].to_numpy(), expected, rtol=0, atol=1e-12)
    assert scored["source_row"].to_pylist() == list(range(ROWS))
    assert (summary.rows, summary.rows_scored, summary.rows_rejected) == (ROWS, ROWS, 0)
    assert (summary.as_of, summary.as_of_source) == (dt.date(2014, 1, 20), "newest date of the file")
    assert seen[-1] == (ROWS, ROWS)
    assert summary.rejected is None
    calls = call_list(SCORER, table["id"], expected, AS_OF).slice(0, CONTRACT.value.capacity)
    assert _read(summary.calls)["customer_id"].to_pylist() == calls["customer_id"].to_pylist()
    assert _read(summary.calls)["rank"].to_pylist() == list(range(1, 11))
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"out.calls.{suffix}", f"out.{suffix}"]


@pytest.mark.parametrize("batch_rows", [1, 7, 450, 100_000])
@pytest.mark.parametrize("threads", [1, 4])
def test_neither_batches_nor_threads_change_what_is_written(folder, tmp_path, batch_rows, threads):
    if batch_rows == 1:
        small = tmp_path / "small.parquet"
        pq.write_table(pq.read_table(folder / "in.parquet").slice(0, 25), small)
    source = small if batch_rows == 1 else folder / "in.parquet"
    one = score_file(SCORER, source, tmp_path / "one.parquet", AS_OF, threads=1)
    cut = score_file(SCORER, source, tmp_path / "cut.parquet", AS_OF, batch_rows=batch_rows, threads=threads)
    whole, parts = pq.read_table(one.out), pq.read_table(cut.out)
    assert (
        parts.drop_columns("churn_probability")
        .drop_columns("expected_value")
        .equals(whole.drop_columns("churn_probability").drop_columns("expected_value"))
    )
    np.testing.assert_allclose(parts["churn_probability"], whole["churn_probability"], rtol=0, atol=1e-9)
    assert pq.read_table(cut.calls)["customer_id"].equals(pq.read_table(one.calls)["customer_id"])


def test_ids_in_csv_are_no_formulas_and_parquet_keeps_them(table, tmp_path):
    rows = table.slice(0, 20).to_pylist()
    rows = [{**row, "id": "=1+" + row["id"]} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / "in.parquet")
    written = [score_file(SCORER, tmp_path / "in.parquet", tmp_path / f"out.{s}", AS_OF) for s in ("csv", "parquet")]
    ids = [_read(summary.out)["customer_id"].to_pylist() for summary in written]
    assert ids == [[f"'{row['id']}" for row in rows], [row["id"] for row in rows]]
    assert all(key.startswith("'=1+") for key in _read(written[0].calls)["customer_id"].to_pylist())


def test_rows_that_break_the_contract_are_written_with_their_reasons(table, tmp_path):
    broken = table.to_pylist()
    broken[3]["sent"], broken[250]["city"], broken[251]["id"] = -5, "PARIS", None
    broken[700]["lastorder"] = broken[700]["created"] - dt.timedelta(days=9)
    broken[701]["id"] = broken[702]["id"]
    pq.write_table(pa.Table.from_pylist(broken, table.schema), tmp_path / "in.parquet")
    summary = score_file(SCORER, tmp_path / "in.parquet", tmp_path / "out.csv", AS_OF, batch_rows=100)
    assert (summary.rows_scored, summary.rows_rejected) == (ROWS - 4, 4)
    rejected = pq.read_table(summary.rejected)
    assert rejected["source_row"].to_pylist() == [3, 250, 251, 700]
    assert [list(map(str, r)) for r in rejected["reasons"].to_pylist()] == [
        ["bounds"],
        ["choices"],
        ["null"],
        ["rule:created_before_last_order"],
    ]
    assert rejected["city"].to_pylist()[1] == "PARIS"
    rows = _read(summary.out)["source_row"].to_pylist()
    assert rows == [i for i in range(ROWS) if i not in (3, 250, 251, 700)]
    assert sum(summary.reasons.values()) == 4
    assert "4 rejected" in str(summary)
    assert "reasons of rejection: bounds 1" in str(summary)
    again = score_file(SCORER, _good(table, tmp_path), tmp_path / "out.csv", AS_OF)
    assert again.rejected is None
    assert not (tmp_path / "out.rejected.parquet").exists()  # it would tell of another file's rows


def _good(table, folder):
    pq.write_table(table, folder / "good.parquet")
    return folder / "good.parquet"


def test_a_day_given_wins_over_the_contracts(folder, table, tmp_path):
    for as_of in ("2014-03-01", dt.date(2014, 3, 1)):
        summary = score_file(SCORER, folder / "in.parquet", tmp_path / "out.parquet", as_of)
        assert (summary.as_of, summary.as_of_source) == (dt.date(2014, 3, 1), "given by the caller")
        expected = SCORER.score_table(table, "2014-03-01").probability
        np.testing.assert_array_equal(pq.read_table(summary.out)["churn_probability"], expected)
        assert set(pq.read_table(summary.out)["as_of"].to_pylist()) == {dt.date(2014, 3, 1)}


@pytest.mark.parametrize(("rule", "source"), [("created", "each row's own 'created'"), ("2014-02-02", "fixed")])
def test_the_contract_may_fix_the_day_or_take_each_rows_own(folder, table, tmp_path, rule, source):
    contract = parse_contract(TEXT.replace('as_of = "latest"', f'as_of = "{rule}"'), "tiny.toml")
    scorer = dataclasses.replace(SCORER, contract=contract)
    summary = score_file(scorer, folder / "in.parquet", tmp_path / "out.parquet")
    assert source in summary.as_of_source
    as_of = rule
    if rule == "created":
        assert summary.as_of is None
        as_of = np.array(table["created"].cast(pa.int32()), dtype=np.float64)
    expected = scorer.score_table(table, as_of).probability
    np.testing.assert_array_equal(pq.read_table(summary.out)["churn_probability"], expected)


def test_a_block_in_excels_other_date_system_is_undone_across_batches(tmp_path):
    contract = parse_contract(
        TEXT.replace('format = "auto"', 'format = "auto"\nrepairs = ["excel_1904", "ids_as_text"]'), "tiny.toml"
    )
    scorer = dataclasses.replace(SCORER, contract=contract)
    table = customers(3000, 12).sort_by("created")
    days = {name: table[name].cast(pa.int32()).to_pylist() for name in ("created", "lastorder")}
    shifted = table
    for name, own in days.items():
        moved = [day + 1462 if day is not None and row >= 2200 else day for row, day in enumerate(own)]
        index = table.column_names.index(name)
        shifted = shifted.set_column(index, name, pa.array(moved, pa.int32()).cast(pa.date32()))
    pq.write_table(shifted, tmp_path / "in.parquet")
    summary = score_file(scorer, tmp_path / "in.parquet", tmp_path / "out.parquet", batch_rows=500)
    assert summary.as_of == dt.date(2014, 1, 20)
    assert summary.repairs["excel_1904"] > 1000
    expected = scorer.score_table(table, AS_OF).probability
    np.testing.assert_array_equal(pq.read_table(summary.out)["churn_probability"], expected)


def test_errors_leave_no_files(folder, table, tmp_path):
    source = folder / "in.parquet"
    for out, message in (
        (tmp_path / "out.xlsx", r"ends in '\.xlsx', expected one of: \.parquet, \.csv"),
        (source, "is the file to be scored"),
        (tmp_path, "ends in|is a folder"),
    ):
        with pytest.raises(SettingsError, match=message):
            score_file(SCORER, source, out)
    with pytest.raises(SettingsError, match="as_of is 'yesterday', expected a day such as"):
        score_file(SCORER, source, tmp_path / "out.csv", "yesterday")
    pq.write_table(table.drop_columns("sent"), tmp_path / "in.parquet")
    with pytest.raises(ColumnMissing, match="sent"):
        score_file(SCORER, tmp_path / "in.parquet", tmp_path / "out.csv")
    pq.write_table(table.slice(0, 0), tmp_path / "in.parquet")
    with pytest.raises(EmptySource):
        score_file(SCORER, tmp_path / "in.parquet", tmp_path / "out.csv")
    pq.write_table(table, tmp_path / "out.rejected.parquet")
    with pytest.raises(SettingsError, match="is the file to be scored"):
        score_file(SCORER, tmp_path / "out.rejected.parquet", tmp_path / "out.csv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.parquet", "out.rejected.parquet"]


def test_an_interrupted_run_leaves_what_was_there(folder, tmp_path):
    out = tmp_path / "out.parquet"
    score_file(SCORER, folder / "in.parquet", out)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def interrupt(done, total):
        if done >= 400:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_file(SCORER, folder / "in.parquet", out, "2015-01-01", batch_rows=200, progress=interrupt)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_file_in_which_every_row_is_broken_has_no_scores_and_no_calls(table, tmp_path):
    wrong = table.slice(0, 50)
    wrong = wrong.set_column(wrong.column_names.index("sent"), "sent", pa.array([-1] * 50))
    pq.write_table(wrong, tmp_path / "in.parquet")
    summary = score_file(SCORER, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert isinstance(summary, BatchSummary)
    assert (summary.rows_scored, summary.rows_rejected, summary.calls) == (0, 50, None)
    assert pq.read_table(summary.out).num_rows == 0


@pytest.mark.parametrize("source", ["labelled.parquet", "labelled.csv", "labelled.xlsx"])
@pytest.mark.parametrize("batch_rows", [64, 100_000])
def test_customers_marked_as_churned_are_scored_and_on_no_list(table, tmp_path, source, batch_rows):
    gone = np.random.default_rng(3).random(ROWS) < 0.3
    labelled = table.append_column("kept", pa.array(np.where(gone, 0, 1)))
    if source.endswith("parquet"):
        pq.write_table(labelled, tmp_path / source)
    elif source.endswith("csv"):
        pa_csv.write_csv(labelled, tmp_path / source)
    else:
        _write_workbook(tmp_path / source, labelled)
    summary = score_file(
        SCORER, tmp_path / source, tmp_path / "out.parquet", AS_OF, batch_rows=batch_rows, sheet=tmp_path / "calls.csv"
    )
    assert (summary.rows_scored, summary.left) == (ROWS, gone.sum())
    assert f"marked as churned in 'kept': {gone.sum():,}, scored and on no call list" in str(summary)
    assert (summary.money.customers, summary.money.left) == (ROWS - gone.sum(), gone.sum())
    assert f"{summary.money.contacts:,} of {ROWS - gone.sum():,} customers who have not left" in str(summary)
    churned = set(table["id"].filter(pa.array(gone)).to_pylist())
    calls = pq.read_table(summary.calls)["customer_id"].to_pylist()
    assert len(calls) == CONTRACT.value.capacity
    assert churned.isdisjoint(calls)
    assert pa_csv.read_csv(tmp_path / "calls.csv")["customer"].to_pylist() == calls


@pytest.mark.parametrize("batch_rows", [50, 5000])
def test_a_customer_with_several_rows_is_called_once(table, tmp_path, batch_rows):
    pq.write_table(pa.concat_tables([table, table.slice(0, 300)]), tmp_path / "in.parquet")
    pq.write_table(table, tmp_path / "once.parquet")
    twice, once = (
        score_file(SCORER, tmp_path / name, tmp_path / f"out_{name}", AS_OF, batch_rows=batch_rows)
        for name in ("in.parquet", "once.parquet")
    )
    assert twice.rows_scored == ROWS + 300
    calls = [pq.read_table(summary.calls)["customer_id"].to_pylist() for summary in (twice, once)]
    assert calls[0] == calls[1]


@pytest.mark.parametrize(("longest", "is_cut"), [(3, True), (10_000, False)])
def test_without_a_capacity_a_list_that_ends_by_its_length_says_so(folder, tmp_path, monkeypatch, longest, is_cut):
    monkeypatch.setattr("churn_assets.scoring.batch.CALLS_WITHOUT_CAPACITY", longest)
    scorer = _with_value(capacity=None)
    summary = score_file(scorer, folder / "in.parquet", tmp_path / "o.parquet", AS_OF, batch_rows=50)
    assert summary.money.is_cut is is_cut
    assert ("the longest list without a capacity" in str(summary)) is is_cut
    assert (summary.money.contacts == 3) is is_cut


def test_a_call_list_alone_is_written_without_scores_and_its_notes_beside_it(folder, table, tmp_path):
    scorer = _with_value(value="spent * 10", control_share=0.4)
    summary = score_file(scorer, folder / "in.parquet", None, AS_OF, batch_rows=50, sheet=tmp_path / "calls.csv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["calls.csv", "calls.notes.txt"]
    assert (summary.out, summary.calls, summary.sheet) == (None, None, tmp_path / "calls.csv")
    assert summary.rows_scored == ROWS
    assert "the file has no column 'kept': customers who have left already cannot be told apart" in str(summary)
    worth = prices(scorer.contract, table, AS_OF)
    whole = calls_of(call_list(scorer, table["id"], scorer.score_table(table, AS_OF).probability, AS_OF, worth))
    sheet = pa_csv.read_csv(tmp_path / "calls.csv")
    assert sheet["customer"].to_pylist() == whole["customer_id"].to_pylist()
    assert [cell != "" for cell in sheet["control group"].to_pylist()] == whole["control"].to_pylist()
    assert summary.money.contacts == sum(whole["contact"].to_pylist())
    with pytest.raises(SettingsError, match="nothing to write"):
        score_file(scorer, folder / "in.parquet", None, AS_OF)
    with pytest.raises(SettingsError, match="would be overwritten"):
        score_file(scorer, tmp_path / "calls.csv", None, AS_OF, sheet=tmp_path / "calls.csv")
