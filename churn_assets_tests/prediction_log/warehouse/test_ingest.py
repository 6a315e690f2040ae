"""The ingest: each row once, what is wrong in quarantine, nothing without a reason."""

from __future__ import annotations

import dataclasses
import datetime as dt
import errno
import fcntl
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Kind
from churn_assets.errors import LogUnavailable, LogUnreadable, NothingIngested, WarehouseCorrupt, WarehouseLocked
from churn_assets.prediction_log.records import LostRows, Row, encode_line
from churn_assets.prediction_log.segment import DONE, OPEN
from churn_assets.prediction_log.warehouse.connection import FILE, PUBLISHED, open_published
from churn_assets.prediction_log.warehouse.ingest import ingest, pending
from churn_assets.prediction_log.warehouse.parse import Checker
from churn_assets.prediction_log.warehouse.read import read_losses
from churn_assets.prediction_log.warehouse.rebuild import JOURNAL
from churn_assets_tests.data.days import DAYS
from churn_assets_tests.disks import fill, small_disk
from churn_assets_tests.prediction_log.home import (
    AT,
    STORE,
    ask,
    features,
    feedback,
    prediction,
    rejections,
    settings,
    tables,
    variant,
    write,
)
from churn_assets_tests.storage.no_files import NO_FILES, within
from churn_assets_tests.strategies import ROOT


def test_rows_of_every_kind_arrive_typed_and_in_order(tmp_path):
    of = settings(tmp_path)
    write(of, "a", prediction("a-1"), feedback("f-1"), prediction("a-2", customer_id=None, score=1.0))
    write(of, "b", rejections({"esent": 12}, malformed=2, too_large=1), prediction("b-1"))
    report = ingest(of, STORE)
    assert (report.segments, report.predictions, report.feedback, report.rejections) == (2, 3, 1, 1)
    assert ask(of, "SELECT prediction_id, seq, segment, x_esent, year(x_created) FROM predictions ORDER BY seq") == [
        ("a-1", 1, "a", 3.0, 2014),
        ("a-2", 3, "a", 3.0, 2014),
        ("b-1", 5, "b", 3.0, 2014),
    ]
    assert ask(of, "SELECT cause, requests, seq FROM rejections") == [("malformed", 2, 4), ("too_large", 1, 4)]
    assert ask(of, "SELECT cause, rows, seq FROM rejected_rows") == [("esent", 12, 4)]
    assert ask(of, "SELECT feedback_id, churned, contacted, observed_at::VARCHAR FROM feedback") == [
        ("f-1", True, None, "2026-11-21 10:00:00.5")
    ]
    assert ingest(of, STORE).segments == 0


def test_a_home_without_a_log_is_left_as_it_is(tmp_path):
    of = settings(tmp_path)
    assert ingest(of, STORE).segments == 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NothingIngested, match="churn log ingest"), open_published(of):
        pass


@pytest.mark.parametrize(
    "record",
    [prediction("p"), feedback("f"), rejections(malformed=2), LostRows(AT, "x", 2)],
    ids=lambda row: type(row).__name__,
)
def test_each_record_that_is_written_is_read_strictly(tmp_path, record):
    check = Checker(tmp_path / "contracts", tmp_path / "bundles", STORE)
    assert isinstance(record, Row)
    line = encode_line(record)
    row = check(line)
    assert type(row).__name__ == type(record).__name__
    assert json.loads(msgspec.json.encode(row)) == json.loads(line)
    assert json.loads(check.canonical(line, 7))["line"] == 7


BAD = [
    (b"{half\n", "not JSON"),
    (b"\xff\xfe\n", "not JSON"),
    (b"[]\n", "wrong type"),
    (b'{"kind":"other"}\n', "wrong type"),
    (encode_line(prediction("x", score=1.5)), "wrong type"),
    (encode_line(prediction("x", score="0.5")), "wrong type"),
    (encode_line(prediction("", score=0.5)), "wrong type"),
    (encode_line(prediction("x", prediction_id=None)), "wrong type"),
    (encode_line(prediction("x", fingerprint="f" * 64)), "unknown contract ffffffffffff"),
    (encode_line(prediction("x", fingerprint="../../x")), "unknown contract"),
    (encode_line(prediction("x", features={**features(), "esent": "three"})), r"wrong type: .*\$.esent"),
    (encode_line(prediction("x", features={})), "wrong type"),
    (encode_line(prediction("x", features={**features(), "created": "yesterday"})), "created is not an ISO 8601 date"),
    (encode_line(prediction("x", features={**features(), "created": "infinity"})), "created is not an ISO 8601 date"),
    (encode_line(prediction("x", scored_at="yesterday")), "scored_at is not an ISO 8601 instant"),
    (encode_line(prediction("x", scored_at="infinity")), "scored_at is not an ISO 8601 instant"),
    (encode_line(prediction("x", as_of="2000-01-01 (BC)")), "as_of is not an ISO 8601 instant"),
    (encode_line(prediction("x")).replace(b'{"kind"', b'{"without a type":"\xff","kind"', 1), "not JSON: 'utf-8'"),
    (encode_line(feedback("x", prediction_id=None)), "prediction_id and customer_id are null"),
    (encode_line(rejections(malformed=-1)), "wrong type"),
    (b'{"kind":"feedback","feedback_id":"' + b"x" * 2**20 + b'"}\n', "longer than"),
    (encode_line(prediction("good")), "duplicate: prediction_id good is in the log already"),
    (encode_line(prediction("older")), "duplicate: prediction_id older is in the log already"),
]


def test_invalid_lines_go_to_quarantine_with_their_reason_and_the_others_are_ingested(tmp_path):
    of = settings(tmp_path)
    write(of, "a", prediction("older"))
    write(of, "b", prediction("good"), *(line for line, _ in BAD), prediction("last"), b'{"kind":"pred')
    report = ingest(of, STORE)
    assert (report.predictions, report.quarantined, report.torn) == (3, len(BAD), 1)
    quarantined = ask(of, "SELECT line, reason, text FROM quarantine ORDER BY line")
    for number, ((line, reason), (at, stored, text)) in enumerate(zip(BAD, quarantined, strict=True), 2):
        assert at == number
        assert re.search(reason, stored), stored
        assert text == line.rstrip(b"\n")[:4096].decode(errors="backslashreplace")
    assert ask(of, "SELECT prediction_id, seq FROM predictions ORDER BY seq") == [
        ("older", 1), ("good", 2), ("last", 3 + len(BAD)),
    ]  # fmt: skip
    assert ask(of, "SELECT rows, quarantined, torn FROM segments WHERE name = 'b'") == [(2, len(BAD), 1)]


@pytest.mark.parametrize(
    ("spelled", "day"), [("2014-01-20T23:30:00-05:00", 21), ("20140120", 20), ("2014-01-20 01:00:00", 20)]
)
def test_rare_spellings_of_days_and_booleans_are_read_as_the_service_reads_them(tmp_path, spelled, day):
    of = settings(tmp_path)
    cells = {**features(), "created": spelled, "paperless": 1, "firstorder": None, "added_later": [1]}
    write(of, "a", prediction("p", features=cells, scored_at="2026-11-21T10:00:00"))
    assert ingest(of, STORE).quarantined == 0
    query = "SELECT day(x_created), x_paperless, x_firstorder, scored_at FROM predictions"
    assert ask(of, query) == [(day, True, None, dt.datetime(2026, 11, 21, 10))]


def test_order_holds_over_what_duckdb_reads_in_parallel(tmp_path):
    of = settings(tmp_path)
    line = encode_line(prediction("XXXXXX"))
    write(of, "a", *(line.replace(b'"XXXXXX"', b'"%06d"' % number) for number in range(30_000)))
    ingest(of, STORE)
    assert ask(of, "SELECT count(*) FROM predictions WHERE seq <> prediction_id::INTEGER + 1") == [(0,)]


def test_segments_of_dead_workers_are_adopted_and_open_ones_left(tmp_path):
    of = settings(tmp_path)
    write(of, "a", prediction("a"), b'{"torn', suffix=OPEN)
    alive = write(of, "b", prediction("b"), suffix=OPEN)
    with alive.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        report = ingest(of, STORE)
    assert (report.adopted, report.predictions) == (1, 1)
    assert alive.exists()
    assert sorted(path.name for path in of.predlog_dir.iterdir()) == [f"a{DONE}", f"b{OPEN}"]


@pytest.mark.parametrize("make", [Path.mkdir, *NO_FILES.values()], ids=["a folder", *NO_FILES])
def test_an_unreadable_segment_is_reported_after_all_others_are_ingested(tmp_path, make):
    of = settings(tmp_path)
    write(of, "b", prediction("b"))
    make(of.predlog_dir / "a.ready")
    with within(), pytest.raises(LogUnreadable, match=r"1 segments cannot be read.*a\.ready"):
        ingest(of, STORE)
    assert ask(of, "SELECT prediction_id FROM predictions") == [("b",)]
    assert [path.name for path in pending(of.predlog_dir)] == ["a.ready"]


# -- the contract grows ------------------------------------------------------------------------------


def bundle(of, contract) -> None:
    folder = of.bundles_dir / ("1" * 16)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contract.toml").write_text(contract.text)


def test_a_column_of_another_kind_is_kept_beside_and_comes_back(tmp_path):
    of = settings(tmp_path)
    whole = 'name = "esent"\nkind = "integer"\nlow = 0\nhigh = 2000'
    other = parse_contract(STORE.text.replace(whole, 'name = "esent"\nkind = "boolean"'), "other")
    assert other.column("esent").kind is Kind.BOOLEAN
    write(of, "a", prediction("a"))
    ingest(of, STORE)
    write(of, "b", prediction("b", other), prediction("c"))
    report = ingest(of, other)
    assert report.migrations == ["x_esent was DOUBLE, now x_esent__double", "x_esent BOOLEAN added"]
    query = "SELECT prediction_id, x_esent, {} FROM predictions ORDER BY seq"
    assert ask(of, query.format("x_esent__double")) == [("a", None, 3.0), ("b", True, None), ("c", None, 3.0)]
    write(of, "d", prediction("d", other))
    assert ingest(of, STORE).migrations == [
        "x_esent was BOOLEAN, now x_esent__boolean",
        "x_esent__double is x_esent again",
    ]
    expected = [("a", 3.0, None), ("b", None, True), ("c", 3.0, None), ("d", None, True)]
    assert ask(of, query.format("x_esent__boolean")) == expected


def test_a_removed_column_stays_and_a_new_one_is_null_in_older_rows(tmp_path):
    of = settings(tmp_path)
    fewer = dataclasses.replace(STORE, columns=tuple(c for c in STORE.columns if c.name != "city"), text="")
    write(of, "a", prediction("a", fewer))
    ingest(of, fewer)
    write(of, "b", prediction("b"))
    assert ingest(of, STORE).migrations == ["x_city VARCHAR added"]
    write(of, "c", prediction("c", fewer))
    assert ingest(of, fewer).migrations == []
    assert ask(of, "SELECT x_city IS NULL FROM predictions ORDER BY seq") == [(True,), (False,), (True,)]


def test_a_contract_is_read_from_the_bundle_and_kept_after_its_deletion(tmp_path):
    of = settings(tmp_path)
    other = parse_contract(STORE.text.replace("horizon_days = 90", "horizon_days = 30"), "other")
    bundle(of, other)
    write(of, "a", prediction("a", other, model_version="1" * 16))
    assert ingest(of, STORE).quarantined == 0
    (of.bundles_dir / ("1" * 16) / "contract.toml").unlink()
    write(of, "b", prediction("b", other, model_version="1" * 16))
    assert ingest(of, STORE).quarantined == 0


def test_a_warehouse_of_a_newer_version_is_left_alone(tmp_path):
    import duckdb

    of = settings(tmp_path)
    write(of, "a", prediction("a"))
    ingest(of, STORE)
    with duckdb.connect(str(of.warehouse_dir / FILE)) as connection:
        connection.execute("INSERT INTO schema_version VALUES (99)")
    with pytest.raises(WarehouseCorrupt, match="version 99"):
        ingest(of, STORE)


# -- locks and damage --------------------------------------------------------------------------------

HOLD = "import duckdb,sys; c=duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def test_a_locked_warehouse_is_one_line_that_names_the_process_and_nothing_is_lost(tmp_path):
    of = settings(tmp_path)
    write(of, "a", prediction("a"))
    ingest(of, STORE)
    write(of, "b", prediction("b"))
    command = [sys.executable, "-c", HOLD, str(of.warehouse_dir / FILE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WarehouseLocked, match=f"process {holder.pid}") as caught:
            ingest(of, STORE, patience_s=0.1)
        assert "\n" not in str(caught.value)
        assert ask(of, "SELECT count(*) FROM predictions") == [(1,)]
        holder.communicate("")
    assert ingest(of, STORE).predictions == 1


def test_a_second_ingest_waits_for_the_first_and_names_it_if_that_takes_too_long(tmp_path):
    of = settings(tmp_path)
    write(of, "a", prediction("a"))
    of.warehouse_dir.mkdir()
    with (of.warehouse_dir / ".ingest.lock").open("w+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(str(os.getpid()))
        lock.flush()
        with pytest.raises(WarehouseLocked, match=f"process {os.getpid()}"):
            ingest(of, STORE, patience_s=0.05)
        release = threading.Timer(0.2, lambda: fcntl.flock(lock, fcntl.LOCK_UN))
        release.start()
        assert ingest(of, STORE, patience_s=30).predictions == 1
        release.join()


@pytest.mark.parametrize("damage", ["garbage", "cut", "flipped"])
def test_a_damaged_warehouse_names_the_rebuild_which_restores_the_same(tmp_path, damage):
    of = settings(tmp_path)
    write(of, "b", *(prediction(f"b-{n}") for n in range(50)), b"broken\n")
    ingest(of, STORE)
    write(of, "a", prediction("a"), feedback("f"), rejections(malformed=1), b"torn")
    ingest(of, STORE)
    before, path = tables(of), of.warehouse_dir / FILE
    whole = path.read_bytes()
    zeros = whole[:4096] + b"\x00" * 200_000
    path.write_bytes({"garbage": b"no database", "cut": whole[:5000], "flipped": zeros}[damage])
    write(of, "c", prediction("c"))
    with pytest.raises(WarehouseCorrupt, match=r"churn log ingest --rebuild") as caught:
        ingest(of, STORE)
    assert "\n" not in str(caught.value)
    (of.predlog_dir / "c.ready").unlink()
    report = ingest(of, STORE, rebuild=True)
    assert (report.restored, report.missing) == (2, 0)
    assert tables(of) == before


def test_a_damaged_published_copy_is_an_error(tmp_path):
    of = settings(tmp_path)
    of.warehouse_dir.mkdir(parents=True)
    (of.warehouse_dir / PUBLISHED).write_text("no database")
    with pytest.raises(WarehouseCorrupt, match="cannot be opened"), open_published(of):
        pass


@pytest.mark.parametrize("spelled", ["infinity", "-infinity", "2000-01-01 (BC)", "epoch"])
def test_an_instant_that_only_duckdb_knows_is_refused_in_a_segment_without_other_faults(tmp_path, spelled):
    of = settings(tmp_path)
    write(of, "a", prediction("good"), prediction("x", as_of=spelled))
    ingest(of, STORE)
    assert ask(of, "SELECT prediction_id FROM predictions WHERE as_of < '0001-01-01' OR NOT isfinite(as_of)") == []


def test_a_published_copy_open_for_writing_is_an_error_and_the_ingest_goes_on(tmp_path):
    of = settings(tmp_path)
    write(of, "a", prediction("p"))
    ingest(of, STORE)
    published = of.warehouse_dir / PUBLISHED
    assert published.stat().st_mode & 0o222 == 0
    published.chmod(0o644)
    hold = f"import duckdb; c = duckdb.connect({str(published)!r}); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        holder.stdout.readline()
        with pytest.raises(WarehouseLocked, match=r"open for writing in process \d+, .*-readonly"), open_published(of):
            pass
        write(of, "b", prediction("q"))
        ingest(of, STORE)
        assert ask(of, "SELECT count(*) FROM predictions") == [(2,)]
        holder.communicate("\n")


def test_a_reader_of_the_published_copy_goes_on_while_it_is_replaced(tmp_path):
    of = settings(tmp_path)
    write(of, "a", prediction("a"))
    ingest(of, STORE)
    with open_published(of) as reader:
        write(of, "b", prediction("b"))
        assert ingest(of, STORE).published
        assert reader.execute("SELECT count(*) FROM predictions").fetchall() == [(1,)]
    assert ask(of, "SELECT count(*) FROM predictions") == [(2,)]


@pytest.mark.parametrize("hours", [-6, 6])
def test_what_is_published_does_not_depend_on_the_clock(tmp_path, hours):
    """A clock that is set back makes the newer file the older one; one that was wrong once does the opposite."""
    of = settings(tmp_path)
    write(of, "a", prediction("a"))
    ingest(of, STORE)
    published = of.warehouse_dir / PUBLISHED
    stepped = published.stat().st_mtime + 3600 * hours
    os.utime(published, (stepped, stepped))
    assert not ingest(of, STORE).published
    write(of, "b", prediction("b"))
    assert ingest(of, STORE).published
    assert ask(of, "SELECT count(*) FROM predictions") == [(2,)]


def test_a_contract_in_memory_only_is_not_kept(tmp_path):
    of = settings(tmp_path)
    other = variant(esent=Kind.NUMBER)
    write(of, "a", prediction("a", other))
    assert ingest(of, other).predictions == 1
    assert not (of.warehouse_dir / "contracts").exists()


def test_a_full_disk_is_an_error_and_the_next_ingest_completes(tmp_path, monkeypatch):
    of = settings(tmp_path)
    write(of, "a", prediction("a"))

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr("churn_assets.prediction_log.warehouse.connection.shutil.copyfile", full)
    with pytest.raises(LogUnavailable, match=r"No space left on device.*ingest again"):
        ingest(of, STORE)
    monkeypatch.undo()
    assert ingest(of, STORE).published
    assert ask(of, "SELECT count(*) FROM predictions") == [(1,)]


FULL = """
import json, resource, sys
from pathlib import Path
from churn_assets.errors import LogError
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets_tests.prediction_log.home import STORE, ask, prediction, settings, write

results = []
for limit in (0, 1, 5_000, 13_000, 100_000, 300_000, 600_000, 1_000_000):
    of = settings(Path(sys.argv[1]) / str(limit))
    write(of, "a", *(prediction(f"a-{number}") for number in range(3000)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    error = ""
    try:
        ingest(of, STORE)
    except LogError as raised:
        error = f"{type(raised).__name__}: {raised}"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ingest(of, STORE)
    results.append([error, ask(of, "SELECT count(*), count(DISTINCT prediction_id) FROM predictions")[0]])
json.dump(results, sys.stdout)
"""


def test_a_disk_that_is_full_at_any_moment_keeps_its_cause_and_the_next_ingest_completes(tmp_path):
    """The system's limit on the size of a file stands for the disk: a write fails in the middle of a file."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    errors, counts = zip(*json.loads(done.stdout), strict=True)
    assert [count for count in counts if count != [3000, 3000]] == []
    assert errors[0]
    for error in filter(None, errors):
        assert error.startswith("LogUnavailable: "), error
        assert "free the disk" in error
        assert "--rebuild" not in error


@pytest.mark.parametrize("size", [0, 5, 100, 4096, 12_000])
def test_a_warehouse_whose_maker_was_killed_is_made_again(tmp_path, size):
    of = settings(tmp_path)
    write(of, "a", prediction("a"))
    ingest(of, STORE)
    file = of.warehouse_dir / FILE
    os.truncate(file, size)
    (of.warehouse_dir / JOURNAL).unlink()  # it is written after the first commit
    file.with_name(f"{FILE}.wal").write_bytes(b"of the database that was never there")
    assert ingest(of, STORE).published
    assert ask(of, "SELECT count(*) FROM predictions") == [(1,)]


def test_losses_are_read_with_whether_they_were_restored(tmp_path):
    of = settings(tmp_path)
    assert read_losses(of) == []
    write(of, "a", prediction("a"), LostRows(AT, "x", 12), LostRows(AT, "y", 3), LostRows(AT, "", 0))
    assert ingest(of, STORE).rows == 1
    write(of, "x", prediction("b"))
    ingest(of, STORE)
    ingest(of, STORE, rebuild=True)
    assert [(loss.segment, loss.rows, loss.restored) for loss in read_losses(of)] == [
        ("", 0, False),
        ("x", 12, True),
        ("y", 3, False),
    ]


def test_what_a_killed_ingest_left_is_removed(tmp_path):
    of = settings(tmp_path)
    write(of, "a", prediction("a"))
    ingest(of, STORE)
    left = [".scratch-1a2b", "tmp1234abcd", f"{FILE}.tmp"]
    for name in left:
        (of.warehouse_dir / name).mkdir()
        (of.warehouse_dir / name / "part.jsonl").write_bytes(b"x")
    ingest(of, STORE)
    assert not [path for path in of.warehouse_dir.iterdir() if path.name in left]
    assert ask(of, "SELECT count(*) FROM predictions") == [(1,)]


@pytest.mark.parametrize(("text", "day"), DAYS.items())
def test_an_instant_is_the_same_day_in_every_column_and_as_of(tmp_path, text, day):
    of = settings(tmp_path)
    dates = [column.name for column in STORE.logged_columns if column.kind is Kind.DATE]
    write(of, "a", prediction("a", as_of=day, features=features() | dict.fromkeys(dates, text)))
    assert ingest(of, STORE).quarantined == 0
    columns = ", ".join(f"x_{name} = as_of::DATE" for name in dates)
    assert ask(of, f"SELECT {columns} FROM predictions") == [(True,) * len(dates)]


def test_an_ingest_on_a_real_full_disk_keeps_its_cause_and_the_next_one_completes(tmp_path):
    with small_disk(tmp_path / "home", 6 * 1024) as home:
        of = settings(home)
        write(of, "a", *(prediction(f"a-{number}") for number in range(300)))
        for room in (0, 50_000):
            filler = fill(home)
            os.truncate(filler, filler.stat().st_size - room)
            with pytest.raises(LogUnavailable, match=r"No space left.*free the disk") as caught:
                ingest(of, STORE)
            assert "--rebuild" not in str(caught.value)
            filler.unlink()
        assert ingest(of, STORE).published
        assert ask(of, "SELECT count(*), count(DISTINCT prediction_id) FROM predictions") == [(300, 300)]
