"""The relay: follows the log and the reports of a home and sends what they have to the broker.

It keeps nothing but a report for people, `relay.json`. Whatever fails, the connection is given up and a new one reads
back from the broker how far the last committed transaction came.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from churn_assets.errors import BrokerUnavailable, HomeBusy, LogUnreadable, RelayFenced
from churn_assets.events.broker import Session, Stopped
from churn_assets.events.outbox import Backlog, Batch, Outbox
from churn_assets.events.positions import Positions
from churn_assets.events.reports import ReportSource
from churn_assets.events.status import WRITE_S, RelayStatus, write_relay_status
from churn_assets.settings import KafkaSettings, Settings
from churn_assets.storage.lock import file_lock

LOCK = ".relay.lock"
_POLL_S, _REPORTS_S = 0.25, 5.0
_SHARE = 0.05  # of a core, at most, for looking at an idle log
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0
_IDLE_S = 86_400.0  # the broker forgets the number of a transaction some days after it was committed
_MOST_FENCES, _FENCES_WITHIN = 5, timedelta(minutes=10)
_ROW_BYTES = 600.0  # until rows have been counted


@dataclass
class _Counts:
    """Since the start of the process."""

    produced: Counter[str] = field(default_factory=Counter)
    transactions: int = 0
    failed: int = 0
    connections: int = 0
    skipped: int = 0
    rows: int = 0
    size: int = 0


class Relay:
    """The relay of one home. `say` is called with a line for people: once for a problem, once for its end."""

    def __init__(
        self,
        settings: Settings,
        kafka: KafkaSettings,
        stop: threading.Event,
        say: Callable[[str], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings, self._kafka, self._stop, self._say, self._clock = settings, kafka, stop, say, clock
        self._outbox = Outbox(settings.predlog_dir, settings.archive_dir, kafka.predictions, say)
        self._reports = ReportSource(settings, kafka)
        self._counts = _Counts()
        self._since_at, self._problem = clock(), ""
        self._positions: Positions | None = None  # None: not known yet
        self._exposes_aborted = False
        self._status_due, self._reports_due, self._idle_since = 0.0, 0.0, time.monotonic()
        self._fences: list[datetime] = []
        self.status = RelayStatus(at=self._since_at, since_at=self._since_at)

    def run(self) -> None:
        """Relay until `stop` is set. Raises HomeBusy, SettingsError, BrokerRefused, RelayFenced."""

        def busy(holder: str) -> HomeBusy:
            return HomeBusy(
                f"{holder} relays the events of {self._settings.home} already, expected at most one relay a home; end "
                "that one, or name another home: --home"
            )

        with file_lock(self._settings.home / LOCK, busy=busy):
            wait_s = _FIRST_WAIT_S
            while not self._stop.is_set():
                before = self._counts.transactions
                try:
                    self._connect_and_follow()
                except Stopped:
                    break
                except RelayFenced as error:
                    self._count_fence(error)
                    self._wait(str(error), _LONGEST_WAIT_S / 3)
                except (BrokerUnavailable, LogUnreadable, OSError) as error:
                    self._counts.failed += isinstance(error, BrokerUnavailable)
                    wait_s = _FIRST_WAIT_S if self._counts.transactions > before + 1 else wait_s
                    self._wait(str(error), wait_s)
                    wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            self._write_status(self._problem or "it was stopped")

    def _connect_and_follow(self) -> None:
        session = Session(self._kafka, self._stop, self._say)
        try:
            self._counts.connections += 1
            self._positions = session.positions
            self._exposes_aborted |= session.exposes_aborted
            self._outbox.restart()
            self._reports.restart()
            self._recover()
            while not self._stop.is_set():
                self._step(session)
        finally:
            with suppress(Exception):  # a client that failed may fail again
                session.close()

    def _step(self, session: Session) -> None:
        """Send one batch, or wait a moment where there is none."""
        started = time.monotonic()
        batch = Batch()
        self._outbox.collect(session.positions, batch)
        if started >= self._reports_due:
            self._reports.collect(session.positions, batch)
            self._reports_due = started + _REPORTS_S
        took_s = time.monotonic() - started
        if batch.changes or batch.messages or started - self._idle_since > _IDLE_S:
            session.publish(batch.messages, batch.changes)
            self._idle_since = started
            counts = self._counts
            counts.produced.update(message.topic for message in batch.messages)
            counts.transactions += 1
            counts.skipped += batch.skipped
            counts.rows, counts.size = counts.rows + batch.rows, counts.size + batch.size
        self._write_status_if_due()
        if not batch.full:
            self._stop.wait(max(_POLL_S, took_s / _SHARE))

    def _wait(self, problem: str, wait_s: float) -> None:
        if not self._problem:
            self._say(problem)
        self._problem = problem
        end = time.monotonic() + wait_s
        while not self._stop.is_set() and time.monotonic() < end:
            self._write_status_if_due()
            self._stop.wait(min(_POLL_S, wait_s))

    def _recover(self) -> None:
        if self._problem:
            self._say("the broker takes events again")
            self._problem = ""

    def _count_fence(self, error: RelayFenced) -> None:
        now = self._clock()
        self._fences = [at for at in self._fences if now - at < _FENCES_WITHIN] + [now]
        if len(self._fences) >= _MOST_FENCES:
            raise error

    def _write_status_if_due(self) -> None:
        if time.monotonic() >= self._status_due:
            self._write_status(self._problem)
            self._status_due = time.monotonic() + WRITE_S

    def _write_status(self, problem: str) -> None:
        now, counts = self._clock(), self._counts
        backlog = Backlog()
        if self._positions is not None:
            with suppress(LogUnreadable, OSError):
                backlog = self._outbox.backlog(self._positions)
        row_bytes = counts.size / counts.rows if counts.rows else _ROW_BYTES
        since = backlog.oldest_at if self._positions is not None else self._since_at
        self.status = RelayStatus(
            at=now,
            since_at=self._since_at,
            problem=problem,
            lag_bytes=backlog.size,
            lag_rows=round(backlog.size / row_bytes),
            lag_s=max(0.0, (now - since).total_seconds()) if since else 0.0,
            produced=dict(counts.produced),
            transactions=counts.transactions,
            failed=counts.failed,
            connections=counts.connections,
            skipped=counts.skipped,
            lost_segments=self._outbox.lost_segments,
            exposes_aborted=self._exposes_aborted,
        )
        with suppress(OSError):  # a full disk: the log has its own errors
            write_relay_status(self._settings, self.status)
