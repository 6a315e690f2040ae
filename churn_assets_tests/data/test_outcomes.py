"""`churn feedback import`: strict, all or nothing, never twice."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.data.outcomes import import_file
from churn_assets.errors import ColumnMissing, EmptySource, RowsRejected, SourceNotFound, SourceUnreadable
from churn_assets.prediction_log.feedback import Imported
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets_tests.prediction_log.home import STORE, ask, settings
from churn_assets_tests.prediction_log.rows import rows_of

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
HEAD = "customer_id,churned,observed_at,contacted\n"


def imported(of, tmp_path, text) -> Imported:
    path = tmp_path / "outcomes.csv"
    path.write_text(text)
    return import_file(of, path, NOW)


def test_a_file_imported_twice_is_in_the_log_once(tmp_path):
    of = settings(tmp_path / "home")
    text = HEAD + "c1,true,2026-01-20,\nc2,0,2026-01-20T12:00:00+02:00,yes\nc2,no,2026-01-20T10:00:00Z,TRUE\n"
    assert imported(of, tmp_path, text) == Imported(2, 0, 1, unmatched=2, example="c1")
    assert imported(of, tmp_path, text) == Imported(0, 2, 1)  # still in a segment
    ingest(of, STORE)
    assert imported(of, tmp_path, text + "c3,1,2026-01-21,\n") == Imported(1, 2, 1, unmatched=1, example="c3")
    assert ingest(of, STORE).quarantined == 0
    assert ask(of, "SELECT customer_id, churned, contacted, observed_at::VARCHAR FROM feedback ORDER BY 1") == [
        ("c1", True, None, "2026-01-20 00:00:00"),
        ("c2", False, True, "2026-01-20 10:00:00"),
        ("c3", True, None, "2026-01-21 00:00:00"),
    ]


def test_parquet_keeps_its_types(tmp_path):
    of = settings(tmp_path / "home")
    table = pa.table(
        {"prediction_id": ["a", "b"], "customer_id": [None, 7], "churned": [True, False]}
        | {"observed_at": [dt.date(2026, 1, 20), dt.date(2026, 1, 21)]}
    )
    pq.write_table(table, tmp_path / "f.parquet")
    assert import_file(of, tmp_path / "f.parquet", NOW) == Imported(2, 0, 0, unmatched=2, example="a")
    rows = list(rows_of(of.predlog_dir))
    assert [(r["customer_id"], r["churned"], r["observed_at"]) for r in rows] == [
        (None, True, "2026-01-20T00:00:00+00:00"),
        ("7", False, "2026-01-21T00:00:00+00:00"),
    ]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (HEAD + "c1,true,2026-01-20,\nc2,maybe,2026-01-20,\n", RowsRejected, "row 1, column 'churned': found 'maybe'"),
        (HEAD + "c1,true,2031-01-20,\n", RowsRejected, "row 0, column 'observed_at'.*not in the future"),
        (HEAD + ",true,2026-01-20,\n", RowsRejected, "row 0, column 'prediction_id': found neither id"),
        (HEAD + "c1,true,2026-01-20,,5\n", SourceUnreadable, "Expected 4 columns, got 5"),
        ("customer_id,churned,observed_at,label\nc,1,2026-01-20,1\n", RowsRejected, "column 'label'.*unknown field"),
        (HEAD + f"{'x' * 201},true,2026-01-20,\n", RowsRejected, "expected a text of 1 to 200 printable characters"),
        (HEAD + "a\x9b2J,true,2026-01-20,\n", RowsRejected, r"column 'customer_id': found 'a\\x9b2J'"),
        (HEAD, EmptySource, "no rows"),
        ("customer_id,churned\nc1,1\n", ColumnMissing, "no column observed_at"),
        ("churned,observed_at\n1,2026-01-20\n", ColumnMissing, "prediction_id or customer_id"),
        (HEAD + '"c1,true\n', SourceUnreadable, "Expected 4 columns, got 2"),
    ],
)
def test_one_invalid_cell_and_nothing_of_the_file_is_imported(tmp_path, text, error, message):
    of = settings(tmp_path / "home")
    with pytest.raises(error, match=message) as caught:
        imported(of, tmp_path, text)
    assert "\n" not in str(caught.value)
    assert not of.predlog_dir.exists()


def test_a_missing_file_and_a_broken_parquet_file_are_errors(tmp_path):
    of = settings(tmp_path / "home")
    with pytest.raises(SourceNotFound, match="no file at"):
        import_file(of, tmp_path / "none.csv", NOW)
    (tmp_path / "x.parquet").write_text("no parquet")
    with pytest.raises(SourceUnreadable, match="Parquet"):
        import_file(of, tmp_path / "x.parquet", NOW)
