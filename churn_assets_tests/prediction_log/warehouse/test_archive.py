"""Old segments become Parquet, too old ones go; readers see every row once throughout."""

from __future__ import annotations

import datetime as dt
import json

import pyarrow.parquet as pq
import pytest

from churn_assets.errors import LogUnavailable, LogUnreadable
from churn_assets.prediction_log.segment import DONE
from churn_assets.prediction_log.warehouse import archive
from churn_assets.prediction_log.warehouse.connection import FILE
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.prediction_log.warehouse.read import count, tail, verify
from churn_assets_tests.prediction_log.home import STORE, ask, feedback, prediction, rejections, settings, tables, write
from churn_assets_tests.prediction_log.rows import rows_of

DAY = dt.timedelta(days=1)
FIRST = dt.datetime(2026, 11, 1, 10, tzinfo=dt.UTC)


def ingested(of, name, *rows, at=FIRST, **how):
    write(of, name, *rows)
    return ingest(of, STORE, now=lambda: at, **how)


@pytest.fixture
def of(tmp_path):
    """Two segments of one day, the second damaged, and one of the next."""
    of = settings(tmp_path)
    ingested(of, "b", prediction("b-1"), feedback("f-1"))
    ingested(of, "a", prediction("a-1"), b"\xff broken\n", rejections(malformed=1), b"torn")
    ingested(of, "c", prediction("c-1"), at=FIRST + DAY)
    return of


def ids(of, **how):
    return [row.get("feedback_id") or row.get("prediction_id") for row in rows_of(of.predlog_dir, **how)]


def test_segments_of_a_day_that_ended_long_enough_ago_become_one_file(of):
    before = count(of.predlog_dir)
    assert ingest(of, STORE, now=lambda: FIRST + DAY + dt.timedelta(hours=13)).archived == 0
    assert ingest(of, STORE, now=lambda: FIRST + DAY + dt.timedelta(hours=14)).archived == 1
    assert sorted(path.name for path in of.predlog_dir.iterdir()) == [f"c{DONE}"]
    table = pq.read_table(of.archive_dir / "b.parquet")
    assert table.column_names == ["segment", "number", "kind", "id", "line"]
    rows = list(zip(*(table[name].to_pylist() for name in ("segment", "number", "kind", "id")), strict=True))
    assert rows == [
        ("b", 1, "prediction", "b-1"),
        ("b", 2, "feedback", "f-1"),
        ("a", 1, "prediction", "a-1"),
        ("a", 2, None, None),
        ("a", 3, "rejections", None),
        ("a", 4, "torn", None),
    ]
    assert json.loads(table["line"][0].as_py())["prediction_id"] == "b-1"
    assert count(of.predlog_dir, of.archive_dir) == before
    assert ids(of, archive=of.archive_dir) == ["b-1", "f-1", "a-1", None, "c-1"]
    assert verify(of.predlog_dir, ["a-1", "b-1", "c-1", "f-1"], of.archive_dir).kept
    assert not verify(of.predlog_dir, ["a-1"]).kept
    newest = tail(of.predlog_dir, 3, of.archive_dir)
    assert [line.own_id for line in newest] == ["a-1", None, "c-1"]


def test_segments_left_beside_their_archive_by_a_kill_are_read_once_and_deleted(of, monkeypatch):
    late = FIRST + 3 * DAY
    monkeypatch.setattr(archive.Path, "unlink", lambda path, **_: (_ for _ in ()).throw(OSError("killed")))  # type: ignore[attr-defined]
    with pytest.raises(LogUnavailable, match="killed"):
        ingest(of, STORE, now=lambda: late)
    monkeypatch.undo()
    assert len(list(of.predlog_dir.glob(f"*{DONE}"))) == 3
    assert ids(of, archive=of.archive_dir) == ["b-1", "f-1", "a-1", None, "c-1"]
    assert ingest(of, STORE, now=lambda: late).archived == 0
    assert list(of.predlog_dir.iterdir()) == []
    assert ids(of, archive=of.archive_dir) == ["b-1", "f-1", "a-1", None, "c-1"]


def test_a_segment_that_is_archived_while_a_reader_reads_is_not_missed(of):
    rows = rows_of(of.predlog_dir, of.archive_dir)
    first = next(rows)
    ingest(of, STORE, now=lambda: FIRST + 3 * DAY)
    assert [str(row.get("prediction_id")) for row in [first, *rows]] == ["a-1", "None", "b-1", "a-1", "c-1"]


def test_large_days_make_several_files(of, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 10)
    assert ingest(of, STORE, now=lambda: FIRST + 3 * DAY).archived == 3


@pytest.mark.parametrize("journal", ["kept", "lost"])
def test_segments_and_archives_make_the_same_warehouse_again(of, journal):
    ingest(of, STORE, now=lambda: FIRST + DAY + dt.timedelta(hours=20))
    before, last = tables(of), FIRST + 2 * DAY
    (of.warehouse_dir / FILE).unlink()
    if journal == "lost":
        (of.warehouse_dir / "segments.jsonl").unlink()
    assert ingest(of, STORE, now=lambda: last).restored == 3
    after = tables(of)
    if journal == "lost":  # the instants of ingest are lost with it, the order is not
        before["segments"], after["segments"] = [], []
    assert after == before
    assert ingest(of, STORE, now=lambda: last).restored == 0


def test_a_segment_without_a_file_is_reported_as_missing(of):
    (of.warehouse_dir / FILE).unlink()
    (of.predlog_dir / f"b{DONE}").unlink()
    done = ingest(of, STORE, now=lambda: FIRST + DAY)
    assert (done.restored, done.missing) == (3, 1)
    assert ask(of, "SELECT prediction_id, seq FROM predictions ORDER BY seq") == [("a-1", 3), ("c-1", 6)]
    assert ask(of, "SELECT name FROM segments WHERE expired") == [("b",)]


def test_expired_rows_leave_tables_and_archives_and_stay_away_after_a_rebuild(of, tmp_path):
    short = settings(tmp_path, CHURN_LOG_RETENTION_DAYS="3")
    ingest(of, STORE, now=lambda: FIRST + DAY + dt.timedelta(hours=14))
    assert ingest(short, STORE, now=lambda: FIRST + 3 * DAY).expired == 0
    done = ingest(short, STORE, now=lambda: FIRST + 3 * DAY + dt.timedelta(minutes=1))
    assert done.expired == 2
    assert list(of.archive_dir.iterdir()) == [of.archive_dir / "c.parquet"]
    assert ask(of, "SELECT prediction_id FROM predictions") == [("c-1",)]
    assert ask(of, "SELECT count(*) FROM feedback UNION ALL SELECT count(*) FROM quarantine") == [(0,), (0,)]
    before = tables(of)
    assert ingest(short, STORE, now=lambda: FIRST + 4 * DAY, rebuild=True).missing == 2
    assert tables(of) == before


def test_a_file_that_is_not_an_archive_is_an_error(of):
    of.archive_dir.mkdir()
    (of.archive_dir / "x.parquet").write_text("no parquet")
    with pytest.raises(LogUnreadable, match="not an archive of segments"):
        count(of.predlog_dir, of.archive_dir)
