"""Group commit: all rows that wait share one sync of the disk."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from churn_assets.errors import ChurnError, LogBusy, LogUnavailable, RowsUncertain, SegmentLost
from churn_assets.prediction_log.records import LostRows, Unacknowledged, decode_head, encode_line
from churn_assets.prediction_log.segment import Segment, adopt_orphans

MAX_BYTES = 64 * 2**20
_IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class _Group:
    """What one sync puts on disk: notes of the log on itself, and lines with who waits for each."""

    notes: tuple[bytes, ...]
    lines: list[bytes]
    waiters: list[asyncio.Future[None]]
    rows: int


class LogWriter:
    """The log of one event loop. Rows that are appended during a sync share the next one.

    A thread writes and syncs; passing a group to it costs two context switches. `max_rows` bounds what may wait,
    `patience_s` how long: after it a hanging disk is treated as a full one. `observe(seconds, waiting
    rows)` is called after each group.
    """

    def __init__(
        self,
        segment: Segment,
        max_rows: int = 50_000,
        observe: Callable[[float, int], None] = lambda seconds, waiting: None,
        patience_s: float = 5.0,
    ) -> None:
        self._segment, self._observe = segment, observe
        self._max_rows, self._patience_s = max_rows, patience_s
        self._lines: list[bytes] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._rows = 0
        self.waiting_rows, self._waiting_bytes = 0, 0
        self._in_flight = self._scheduled = self._closed = self._hanging = False
        self._timer: asyncio.TimerHandle | None = None
        self.failed: str | None = None  # why the last group is not on disk
        self.lost: str | None = None  # which rows that were acknowledged are gone
        self._notes: list[bytes] = []  # of the log on itself, written with the next group; nobody waits for them
        self._noted = 0  # of them, how many the last group had
        self._groups: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="prediction-log", daemon=True)

    def start(self) -> None:
        """Start, from the event loop whose requests wait; segments of dead workers are handed over."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    @property
    def problem(self) -> str:
        """Why rows cannot be written now, or which of those that were are gone; "" if all is well."""
        return self.failed or self.lost or ""

    def append(self, lines: bytes, rows: int = 1) -> asyncio.Future[None]:
        """A future that is done when the lines are on disk, or has LogUnavailable as its exception. Raises LogBusy if
        too much is waiting, LogUnavailable after `close`."""
        if self._closed:
            raise LogUnavailable("the prediction log is closed, the service is stopping; ask another instance")
        if self._hanging:
            raise LogUnavailable(str(self.failed))
        if self.waiting_rows + rows > self._max_rows or self._waiting_bytes + len(lines) > MAX_BYTES:
            raise LogBusy(
                f"{self.waiting_rows:,} rows wait for the disk, expected at most {self._max_rows:,}; "
                "ask again in a second"
            )
        waiter = self._loop.create_future()
        self._lines.append(lines)
        self._waiters.append(waiter)
        self._rows += rows
        self.waiting_rows += rows
        self._waiting_bytes += len(lines)
        if not self._in_flight and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._launch)  # after all requests of this turn of the loop
        return waiter

    async def close(self) -> None:
        """Write the accepted rows, hand the segment over, stop."""
        if self._closed:
            return
        self._closed = True
        while self.waiting_rows or self._in_flight:
            await asyncio.sleep(0.002)
        self._groups.put(None)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def _launch(self) -> None:
        self._scheduled = False
        if not self._lines and len(self._notes) == self._noted:  # a note that failed waits for the next row
            return
        group = _Group(tuple(self._notes), self._lines, self._waiters, self._rows)
        self._lines, self._waiters, self._rows = [], [], 0
        self._in_flight, self._noted = True, len(self._notes)
        self._timer = self._loop.call_later(self._patience_s, self._time_out, group)
        self._groups.put(group)

    def _time_out(self, group: _Group) -> None:
        """The disk hangs: refuse all rows that wait. Those in flight may still be written, the others are not."""
        self._hanging = True
        self.failed = f"the disk has not answered for {self._patience_s:g} seconds; the service goes on when it does"
        error = LogUnavailable(self.failed)
        for waiter in (*group.waiters, *self._waiters):
            if not waiter.done():
                waiter.set_exception(error)
        self.waiting_rows -= self._rows
        self._waiting_bytes -= sum(map(len, self._lines))
        self._lines, self._waiters, self._rows = [], [], 0

    def _finish(self, group: _Group, error: ChurnError | None, seconds: float) -> None:
        self.waiting_rows -= group.rows
        self._waiting_bytes -= sum(map(len, group.lines))
        self.failed = None if error is None else str(error)
        self._in_flight = self._hanging = False
        if self._timer is not None:
            self._timer.cancel()
        self._note(group, error)
        for waiter in group.waiters:
            if waiter.done():  # cancelled by its client, or refused when the disk hung
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
        self._observe(seconds, self.waiting_rows)
        self._launch()

    def _note(self, group: _Group, error: ChurnError | None) -> None:
        """Note what the log must say of itself: the ids of rows that are, or may be, in it though their requests are
        refused, and rows that are not in it any more."""
        refused: Iterable[bytes] = ()
        if error is None:
            del self._notes[: self._noted]
            self._noted = 0
            pairs = zip(group.lines, group.waiters, strict=True)
            refused = [line for line, waiter in pairs if waiter.done() and not waiter.cancelled()]
        elif isinstance(error, RowsUncertain):
            refused = group.lines
        elif isinstance(error, SegmentLost):
            self.lost = str(error)
            self._notes.append(encode_line(LostRows(_now(), error.segment, error.rows)))
        heads = [decode_head(line) for line in b"".join(refused).splitlines()]
        ids = [head.own_id for head in heads if head is not None and head.own_id is not None]
        if ids:
            self._notes.append(encode_line(Unacknowledged(_now(), ids)))

    def _work(self) -> None:
        adopt_orphans(self._segment.folder)
        while True:
            try:
                group = self._groups.get(timeout=_IDLE_S)
            except queue.Empty:
                self._segment.hand_over_if_due()
                continue
            if group is None:
                break
            self._commit(group)
        self._segment.hand_over()

    def _commit(self, group: _Group) -> None:
        start, error = time.perf_counter(), None
        try:
            self._segment.append(b"".join((*group.notes, *group.lines)))
        except LogUnavailable as refusal:
            error = refusal
        except Exception as refusal:  # if the thread ended, every client would wait for ever
            error = LogUnavailable(f"the prediction log failed ({type(refusal).__name__}); see the service's log")
        with contextlib.suppress(RuntimeError):  # the loop has ended, no client waits
            self._loop.call_soon_threadsafe(self._finish, group, error, time.perf_counter() - start)
        self._segment.hand_over_if_due()


def _now() -> str:
    return datetime.now(UTC).isoformat()
