"""What is appended is on disk, whatever happens next."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.errors import LogUnavailable, RowsUncertain, SegmentLost
from churn_assets.prediction_log.segment import OPEN, READY, Segment, adopt_orphans
from churn_assets.prediction_log.warehouse.read import count, segment_names, tail, verify
from churn_assets_tests import disks
from churn_assets_tests.prediction_log.rows import line, rows_of


def suffixes(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


def test_appended_rows_can_be_read_while_the_segment_is_open(tmp_path):
    segment = Segment(tmp_path)
    segment.append(line(1) + line(2))
    assert [row["prediction_id"] for row in rows_of(tmp_path)] == ["w-1", "w-2"]
    assert suffixes(tmp_path) == [OPEN]
    segment.hand_over()
    assert suffixes(tmp_path) == [READY]
    assert count(tmp_path).rows == 2


def test_a_worker_without_rows_leaves_no_file(tmp_path):
    segment = Segment(tmp_path / "log")
    segment.hand_over_if_due()
    segment.hand_over()
    assert segment_names(tmp_path / "log") == []


def test_a_segment_is_handed_over_when_it_is_large_or_old(tmp_path):
    now = [0.0]
    segment = Segment(tmp_path, max_bytes=1 + len(line(2)), max_age_s=60, clock=lambda: now[0])
    segment.append(line(1))
    segment.hand_over_if_due()
    assert suffixes(tmp_path) == [OPEN]
    now[0] = 60.0
    segment.hand_over_if_due()
    assert suffixes(tmp_path) == [READY]
    segment.append(line(2))
    segment.append(line(3))
    assert suffixes(tmp_path) == [READY, READY]
    assert verify(tmp_path, ["w-1", "w-2", "w-3"]).kept


def test_two_workers_share_a_folder(tmp_path):
    first, second = Segment(tmp_path), Segment(tmp_path)
    for number in range(5):
        first.append(line(number, "first"))
        second.append(line(number, "second"))
    assert adopt_orphans(tmp_path) == 0, "a living worker's segment is no orphan"
    assert count(tmp_path).rows == 10


@given(cut=st.integers(0, 400), rows=st.integers(0, 3))
def test_a_torn_tail_is_cut_and_nothing_else(tmp_path_factory, cut, rows):
    folder = tmp_path_factory.mktemp("log")
    whole = b"".join(line(number) for number in range(rows))
    torn = line(99)[: min(cut, len(line(99)) - 1)]
    (folder / f"20260101T000000-1-aa{OPEN}").write_bytes(whole + torn)
    assert [row["prediction_id"] for row in rows_of(folder)] == [f"w-{n}" for n in range(rows)]
    assert adopt_orphans(folder) == 1
    assert suffixes(folder) == ([READY] if rows else [])
    assert count(folder).rows == rows
    assert count(folder).torn == 0
    assert b"".join(path.read_bytes() for path in folder.iterdir()) == whole


def test_a_line_longer_than_a_block_is_kept_whole(tmp_path):
    row = b'{"kind":"prediction","prediction_id":"long","features":"' + b"x" * 200_000 + b'"}\n'
    (tmp_path / f"a{OPEN}").write_bytes(row + b'{"torn":"' + b"y" * 150_000)
    adopt_orphans(tmp_path)
    assert (tmp_path / f"a{READY}").read_bytes() == row


WRITER = """
import sys
from pathlib import Path
from churn_assets.prediction_log.segment import Segment
from churn_assets_tests.prediction_log.rows import line, rows_of
segment = Segment(Path(sys.argv[1]), max_bytes=20_000)
for number in range(10**9):
    segment.append(line(number, sys.argv[2]))
    sys.stdout.write(f"{sys.argv[2]}-{number}\\n")
    sys.stdout.flush()
"""


def test_kill_9_loses_no_row_that_was_acknowledged(tmp_path):
    acknowledged: list[str] = []
    for round_ in range(4):
        adopt_orphans(tmp_path / "log")
        command = [sys.executable, "-c", WRITER, str(tmp_path / "log"), f"r{round_}"]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        first = writer.stdout.readline()
        time.sleep(0.05 * round_)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += [
            first.strip(),
            *(acknowledgement.strip() for acknowledgement in writer.stdout if acknowledgement.endswith("\n")),
        ]
        writer.stdout.close()
        writer.wait()
    adopt_orphans(tmp_path / "log")
    assert set(suffixes(tmp_path / "log")) == {READY}
    verdict = verify(tmp_path / "log", acknowledged)
    assert verdict.kept, str(verdict)


@pytest.fixture
def small_disk(tmp_path):
    with disks.small_disk(tmp_path / "disk", 256) as disk:
        yield disk


def test_a_full_disk_keeps_every_row_that_was_acknowledged_and_no_other(small_disk):
    segment = Segment(small_disk / "log")
    kept = []
    with pytest.raises(LogUnavailable, match="No space left"):  # noqa: PT012  # which row is the last is found here
        for number in range(10_000):
            segment.append(line(number))
            kept.append(f"w-{number}")
    assert [row["prediction_id"] for row in rows_of(small_disk / "log")] == kept
    assert count(small_disk / "log").torn == 0
    for path in (small_disk / "log").glob(f"*{READY}"):
        path.unlink()  # as the ingest does
    segment.append(line(10_000))
    assert verify(small_disk / "log", ["w-10000"]).kept
    segment.hand_over()


NOBODY = """
import sys
from pathlib import Path
from churn_assets.errors import LogUnavailable
from churn_assets.prediction_log.segment import Segment
from churn_assets_tests.prediction_log.rows import line, rows_of
segment = Segment(Path(sys.argv[1]), max_bytes=1)
try:
    segment.append(line(1))
except LogUnavailable as error:
    print("refused:", error)
else:
    print("written")
"""


def test_a_folder_without_write_access_is_refused_in_one_line(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    folder.chmod(0o555)
    if os.geteuid() == 0:  # root may write anywhere: a folder that is no folder does the same
        folder.rmdir()
        folder.write_text("")
    done = subprocess.run([sys.executable, "-c", NOBODY, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused:")
    assert "cannot be written" in done.stdout


def test_a_failed_sync_ends_the_file_and_the_next_row_begins_another(tmp_path, monkeypatch):
    segment = Segment(tmp_path)
    segment.append(line(1))
    real = os.fdatasync

    def fails(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("churn_assets.prediction_log.segment._sync_data", fails)
    with pytest.raises(LogUnavailable, match="Input/output error"):
        segment.append(line(2))
    monkeypatch.setattr("churn_assets.prediction_log.segment._sync_data", real)
    segment.append(line(3))
    assert [row["prediction_id"] for row in rows_of(tmp_path)] == ["w-1", "w-3"]
    assert suffixes(tmp_path) == [OPEN, READY]


def test_a_worker_that_cannot_write_at_all_leaves_nothing(tmp_path, monkeypatch):
    def fails(handle: int, data: bytes) -> None:
        os.write(handle, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("churn_assets.prediction_log.segment._write", fails)
    segment = Segment(tmp_path)
    with pytest.raises(LogUnavailable):
        segment.append(line(1))
    assert list(tmp_path.iterdir()) == []


def test_the_tail_is_the_newest_rows_oldest_first(tmp_path):
    segment = Segment(tmp_path, max_bytes=1)
    for number in range(6):
        segment.append(line(number))
    assert [line.own_id for line in tail(tmp_path, 3)] == ["w-3", "w-4", "w-5"]
    assert len(tail(tmp_path, 100)) == 6
    assert tail(tmp_path / "nowhere", 3) == []


def move_away(folder: Path) -> None:
    folder.rename(folder.with_name("gone"))


def replace(folder: Path) -> None:
    move_away(folder)
    folder.mkdir()


def delete_files(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize("deletion", [shutil.rmtree, move_away, replace, delete_files])
def test_what_is_written_beside_the_log_is_refused_and_the_next_row_is_in_the_log(tmp_path, deletion):
    folder = tmp_path / "log"
    segment = Segment(folder)
    segment.append(line(1) + line(2))
    segment.append(line(3))
    name = segment_names(folder)[0]
    deletion(folder)
    with pytest.raises(SegmentLost, match="deleted or moved away while the service ran, with 3 acknowledged") as caught:
        segment.append(line(4))
    assert (caught.value.segment, caught.value.rows) == (name, 3)
    segment.append(line(5))
    assert [row["prediction_id"] for row in rows_of(folder)] == ["w-5"]
    if (tmp_path / "gone").exists():
        assert [row["prediction_id"] for row in rows_of(tmp_path / "gone")] == ["w-1", "w-2", "w-3"]


@pytest.mark.parametrize("is_handed_over", [True, False])
def test_a_folder_that_is_replaced_between_two_segments_is_noticed_once(tmp_path, is_handed_over):
    folder, problems = tmp_path / "log", []
    segment = Segment(folder, report=problems.append)
    segment.append(line(1))
    if is_handed_over:
        segment.hand_over()
    shutil.rmtree(folder)
    segment.hand_over()
    assert len(problems) == (not is_handed_over)
    with pytest.raises(SegmentLost) as caught:
        segment.append(line(2))
    assert caught.value.rows == (not is_handed_over)
    segment.append(line(3))
    assert [row["prediction_id"] for row in rows_of(folder)] == ["w-3"]


def test_a_segment_that_cannot_be_handed_over_is_reported_and_taken_later(tmp_path):
    problems = []
    segment = Segment(tmp_path, report=problems.append)
    segment.append(line(1))
    obstacle = tmp_path / f"{segment_names(tmp_path)[0]}{READY}"
    obstacle.mkdir()
    segment.hand_over()
    assert len(problems) == 1
    assert "cannot be handed over (Is a directory)" in problems[0]
    assert "\n" not in problems[0]
    obstacle.rmdir()
    assert adopt_orphans(tmp_path) == 1
    assert verify(tmp_path, ["w-1"]).kept


def test_rows_that_cannot_be_cut_off_are_uncertain(tmp_path, monkeypatch):
    def fails(*_: int) -> None:
        raise OSError(5, "Input/output error")

    segment = Segment(tmp_path)
    segment.append(line(1))
    monkeypatch.setattr("churn_assets.prediction_log.segment._sync_data", fails)
    monkeypatch.setattr(os, "ftruncate", fails)
    with pytest.raises(RowsUncertain, match="Input/output error"):
        segment.append(line(2))


@pytest.mark.parametrize(
    "newest", ["29991231T235959999999-1-aa", "20200101T000000000000-1-aa", "lost+found", "29991399T"]
)
def test_a_later_segment_has_a_later_name_whatever_the_clock_says(tmp_path, newest):
    (tmp_path / f"{newest}{READY}").write_bytes(line(0))
    segment = Segment(tmp_path, max_bytes=1)
    for number in range(1, 4):
        segment.append(line(number))
    own = [name for name in segment_names(tmp_path) if name != newest]
    order = [row["prediction_id"] for row in rows_of(tmp_path) if row["prediction_id"] != "w-0"]
    assert order == ["w-1", "w-2", "w-3"]
    if newest.endswith("-aa"):
        assert all(name > newest for name in own)
