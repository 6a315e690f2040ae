"""Group commit: who is answered is on disk, nobody waits for ever, and the queue has an end."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from churn_assets.errors import LogBusy, LogUnavailable, RowsUncertain, SegmentLost
from churn_assets.prediction_log.segment import OPEN, READY, Segment
from churn_assets.prediction_log.warehouse.read import count, verify
from churn_assets.prediction_log.writer import LogWriter
from churn_assets_tests.disks import disk_that_freezes
from churn_assets_tests.prediction_log.rows import line, rows_of


class HeldDisk(Segment):
    """A disk that answers when it is let go, or fails with `error`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.free = threading.Event()
        self.error: Exception | None = None
        self.groups: list[int] = []

    def append(self, data: bytes) -> None:
        assert self.free.wait(10)
        self.groups.append(data.count(b"\n"))
        if self.error is not None:
            raise self.error
        super().append(data)


def test_rows_that_come_together_share_a_sync(tmp_path):
    disk = HeldDisk(tmp_path)

    async def go() -> None:
        writer = LogWriter(disk)
        writer.start()
        futures = [writer.append(line(0))]
        await asyncio.sleep(0.01)  # the first is under way
        futures += [writer.append(line(number)) for number in range(1, 50)]
        assert not any(future.done() for future in futures)
        disk.free.set()
        await asyncio.gather(*futures)
        assert count(tmp_path).rows == 50
        await writer.close()

    asyncio.run(go())
    assert disk.groups == [1, 49]


def test_answered_rows_are_in_the_log_once(tmp_path):
    async def ask(writer: LogWriter, number: int) -> str:
        await asyncio.sleep(number % 7 / 1000)
        await writer.append(line(number))
        return f"w-{number}"

    async def go() -> list[str]:
        writer = LogWriter(Segment(tmp_path, max_bytes=5_000))
        writer.start()
        ids = await asyncio.gather(*(ask(writer, number) for number in range(200)))
        await writer.close()
        return ids

    assert verify(tmp_path, asyncio.run(go())).kept
    assert not list(tmp_path.glob(f"*{OPEN}"))


def test_closing_writes_accepted_rows_and_refuses_later_ones(tmp_path):
    async def go() -> None:
        writer = LogWriter(Segment(tmp_path))
        writer.start()
        futures = [writer.append(line(number)) for number in range(20)]
        await writer.close()
        assert all(future.done() and future.exception() is None for future in futures)
        with pytest.raises(LogUnavailable, match="is closed"):
            writer.append(line(21))
        await writer.close()

    asyncio.run(go())
    assert count(tmp_path).rows == 20


def test_the_queue_is_bounded(tmp_path):
    disk = HeldDisk(tmp_path)

    async def go() -> None:
        writer = LogWriter(disk, max_rows=10)
        writer.start()
        futures = [writer.append(line(number)) for number in range(10)]
        with pytest.raises(LogBusy, match="10 rows wait"):
            writer.append(line(11))
        disk.free.set()
        await asyncio.gather(*futures)
        await writer.append(line(12))
        await writer.close()

    asyncio.run(go())


@pytest.mark.parametrize("error", [LogUnavailable("no room"), ValueError("a mistake of ours")])
def test_every_waiting_row_gets_the_error_of_the_disk_and_the_next_is_tried(tmp_path, error):
    disk = HeldDisk(tmp_path)
    disk.free.set()

    async def go() -> None:
        writer = LogWriter(disk)
        writer.start()
        disk.error = error
        errors = await asyncio.gather(*(writer.append(line(n)) for n in range(3)), return_exceptions=True)
        assert all(isinstance(error, LogUnavailable) for error in errors)
        assert writer.failed
        disk.error = None
        await writer.append(line(4))
        assert writer.failed is None
        await writer.close()

    asyncio.run(go())


def test_a_hanging_disk_refuses_rows_until_it_answers(tmp_path):
    disk = HeldDisk(tmp_path)

    async def go() -> None:
        writer = LogWriter(disk, patience_s=0.05)
        writer.start()
        first = writer.append(line(1))
        await asyncio.sleep(0.01)
        second = writer.append(line(2))
        errors = await asyncio.gather(first, second, return_exceptions=True)
        assert all("has not answered" in str(error) for error in errors)
        with pytest.raises(LogUnavailable, match="has not answered"):
            writer.append(line(3))
        assert writer.waiting_rows == 1, "the one that is under way"
        disk.free.set()
        async with asyncio.timeout(10):
            while writer.failed is not None:
                await asyncio.sleep(0.01)
        await writer.append(line(4))
        await writer.close()

    asyncio.run(go())
    assert verify(tmp_path, ["w-1", "w-4"]).kept
    rows = {row["kind"]: row for row in rows_of(tmp_path)}
    assert rows["unacknowledged"]["ids"] == ["w-1"]  # the disk took it after its request was refused
    assert count(tmp_path).rows == 3


def test_a_cancelled_row_does_not_affect_others(tmp_path):
    async def go() -> None:
        writer = LogWriter(Segment(tmp_path))
        writer.start()
        gone, stays = writer.append(line(1)), writer.append(line(2))
        gone.cancel()
        await stays
        await writer.close()

    asyncio.run(go())
    assert count(tmp_path).rows == 2


def test_a_dead_workers_segment_is_handed_over_at_the_start(tmp_path):
    (tmp_path / f"20260101T000000-1-aa{OPEN}").write_bytes(line(1) + line(2)[:30])

    async def go() -> None:
        writer = LogWriter(Segment(tmp_path))
        writer.start()
        await writer.append(line(3))
        await writer.close()

    asyncio.run(go())
    assert [path.suffix for path in tmp_path.iterdir()] == [READY, READY]
    assert verify(tmp_path, ["w-1", "w-3"]).kept


def test_rows_that_are_gone_are_noted_in_the_log_with_the_next_row(tmp_path):
    folder = tmp_path / "log"

    async def go() -> None:
        writer = LogWriter(Segment(folder))
        writer.start()
        await writer.append(line(1) + line(2), 2)
        shutil.rmtree(folder)
        with pytest.raises(SegmentLost):
            await writer.append(line(3))
        assert "2 acknowledged rows" in writer.problem
        await writer.append(line(4))
        assert "2 acknowledged rows" in writer.problem, "it stays until the service is restarted"
        await writer.close()

    asyncio.run(go())
    rows = list(rows_of(folder))
    assert [(row["kind"], row.get("lost")) for row in rows] == [("lost_rows", 2), ("prediction", None)]


def test_a_note_waits_for_a_disk_that_takes_it(tmp_path):
    """Rows that may be in the log, and then a disk that takes nothing for a while."""
    disk = HeldDisk(tmp_path)
    disk.free.set()

    async def go() -> None:
        writer = LogWriter(disk)
        writer.start()
        for error in (RowsUncertain("cannot be cut off"), LogUnavailable("no room"), LogUnavailable("no room")):
            disk.error = error
            with pytest.raises(LogUnavailable):
                await writer.append(line(len(disk.groups)))
            await asyncio.sleep(0.02)  # a note alone is tried once, not again and again
        disk.error = None
        await writer.append(line(9))
        await writer.close()

    asyncio.run(go())
    assert [row.get("ids", row.get("prediction_id")) for row in rows_of(tmp_path)] == [["w-0"], "w-9"]
    assert len(disk.groups) <= 6


def test_a_real_disk_that_hangs_refuses_a_row_takes_it_later_and_the_log_says_so(tmp_path):
    async def go(freeze: Callable[[bool], None]) -> None:
        writer = LogWriter(Segment(tmp_path / "disk" / "log"), patience_s=0.2)
        writer.start()
        await writer.append(line(1))
        freeze(True)
        with pytest.raises(LogUnavailable, match=r"has not answered for 0\.2 seconds"):
            await writer.append(line(2))
        with pytest.raises(LogUnavailable):
            writer.append(line(3))
        freeze(False)
        async with asyncio.timeout(10):
            while writer.problem:
                await asyncio.sleep(0.01)
        await writer.append(line(4))
        await writer.close()

    with disk_that_freezes(tmp_path / "disk") as freeze:
        asyncio.run(go(freeze))
        rows = list(rows_of(tmp_path / "disk" / "log"))
    assert sorted(row["prediction_id"] for row in rows if row["kind"] == "prediction") == ["w-1", "w-2", "w-4"]
    assert [row["ids"] for row in rows if row["kind"] == "unacknowledged"] == [["w-2"]]
