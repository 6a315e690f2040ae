"""A worker's side of its shadow process: started with a policy that shadows, fed with answered rows, ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from churn_assets.errors import one_line
from churn_assets.release.counts import ReleaseCounts, write_counts, writer_name
from churn_assets.release.policy import CHALLENGER, CHAMPION, Policy
from churn_assets.serving.shadow.messages import Assignment, Progress, ShadowedModel, decode_progress, encode
from churn_assets.settings import ServingSettings

NICENESS = 10  # of 19: after /predict, and still some of a busy machine
MAX_BYTES = 16 * 2**20  # of rows that wait for the process
PIPE_BYTES = 2**19  # of rows that were handed on, and that the process has not taken from the pipe
TICK_S, IDLE_S = 0.1, 0.25  # between two looks with and without a policy that shadows
COUNTS_S = 1.0  # between two writes of what was dropped
FIRST_DELAY_S, LAST_DELAY_S = 1.0, 30.0  # before a process that has died is started again: twice as long each time
STEADY_S = 60.0  # after which a process that dies is started as the first one
START_S = 60.0  # that a process has to load both models
SILENT_S = 2.0  # without progress while rows wait: something is wrong
END_S = 2.0  # that a process has to write what it has read, once the policy has ended
_MODULE = "churn_assets.serving.shadow.process"
_PACKAGES = Path(__file__).resolve().parents[3]  # the folder that this package lies in


class ShadowMetrics(Protocol):
    """What is counted for /metrics."""

    def shadowed(self, status: str, rows: int) -> None:
        """Count rows that a shadow was given, by what became of them: ok, refused, error or dropped."""

    def shadow_loaded(self, version: str, seconds: float, memory: int) -> None:
        """Record what the load of a challenger took, and the bytes it needs; 0 once its process has ended."""


class Shadow:
    """What a worker gives to its shadow process.

    `wanted` is the policy in force if it shadows, else None; it is asked again and again. `report` is called with a
    problem for the service's log. `offer` takes rows while there is such a policy; at most
    `settings.shadow_queue` of them wait for the process, further ones are dropped and counted. `judges`: the process
    looks at the guardrails too.
    """

    def __init__(
        self,
        settings: ServingSettings,
        wanted: Callable[[], Policy | None],
        metrics: ShadowMetrics,
        report: Callable[[str], None],
        *,
        judges: bool = False,
    ) -> None:
        self._judges = judges
        self._settings, self._wanted, self._metrics, self._report = settings, wanted, metrics, report
        self._home = settings.home
        self._policy: Policy | None = None
        self._process: _Process | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._queue: deque[tuple[bytes, int]] = deque()
        self._rows = self._bytes = 0
        self._counts, self._writer, self._is_changed = ReleaseCounts(), "", False
        self._delay_s, self._start_at, self._write_at = FIRST_DELAY_S, 0.0, 0.0
        self._reported = ""
        self._loaded = ""  # the challenger that the process has in memory
        self.problem = ""

    @property
    def pid(self) -> int | None:
        """Of the process, None if there is none."""
        return None if self._process is None else self._process.pid

    @property
    def is_scoring(self) -> bool:
        """Whether the process has loaded both models."""
        return self._process is not None and self._process.is_ready

    @property
    def is_judging(self) -> bool:
        """Whether the process looks at the guardrails: it is to, and it is not stuck."""
        process = self._process
        if not self._judges or process is None or not process.is_ready:
            return False
        return process.silent_s(time.monotonic()) <= SILENT_S

    @property
    def queued_rows(self) -> int:
        """Rows that wait to be handed to the process."""
        return self._rows

    @property
    def held_bytes(self) -> int:
        """Bytes of rows in this process: those that wait, and those that the pipe has not taken."""
        return self._bytes + (0 if self._process is None else self._process.buffered)

    def offer(self, lines: bytes) -> None:
        """Lines of the log that were answered and are on disk. It returns at once, whatever the process does."""
        if self._policy is None or not lines:
            return
        rows = lines.count(b"\n")
        if self._rows + rows > self._settings.shadow_queue or self._bytes + len(lines) > MAX_BYTES:
            self._drop(rows)
            return
        self._queue.append((lines, rows))
        self._rows += rows
        self._bytes += len(lines)

    async def run(self) -> None:
        """Keep the process as the policy says, until this is cancelled."""
        while True:
            try:
                await self._step()
            except Exception as error:  # of a home that cannot be written, or of too many processes
                self._set_problem(f"the shadow fails: {type(error).__name__}: {one_line(error, 200)}")
                self._start_at = time.monotonic() + LAST_DELAY_S
            await asyncio.sleep(IDLE_S if self._policy is None else TICK_S)

    async def close(self) -> None:
        """End the process once it has written what it was given."""
        await self._follow(None)
        await asyncio.gather(*self._ending)

    async def _step(self) -> None:
        policy = self._wanted()
        if policy is not None and not self._settings.log:
            self._set_problem(f"policy {policy.id} shadows nothing: the prediction log is off (CHURN_LOG)")
            policy = None
        elif policy is None:
            self._set_problem("")
        if policy != self._policy:
            await self._follow(policy)
        if self._policy is None:
            return
        process, now = self._process, time.monotonic()
        if process is not None and process.has_ended:
            self._process = None
            self._set_unloaded()
            self._account(process, now)
        elif process is None and now >= self._start_at:
            self._process = await _Process.spawn(self._assignment(self._policy))
        elif process is not None:
            self._feed(process, now)
        if self._is_changed and now >= self._write_at:
            self._write_at = now + COUNTS_S
            await self._write_counts()

    async def _follow(self, policy: Policy | None) -> None:
        """Another policy: its rows and its counts are its own."""
        process, self._process = self._process, None
        self._set_unloaded()
        if process is not None:
            self._hand_over(process, everything=True)
            task = asyncio.create_task(self._end(process))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        self._drop(self._rows)
        self._queue.clear()
        self._rows = self._bytes = 0
        if self._is_changed:
            await self._write_counts()
        self._policy, self._counts, self._writer = policy, ReleaseCounts(), writer_name("queue")
        self._delay_s, self._start_at = FIRST_DELAY_S, 0.0

    def _feed(self, process: _Process, now: float) -> None:
        """Hand rows to a process that is ready, and see how it fares."""
        if not process.is_ready:
            if now - process.started_at > START_S:
                process.kill()
            return
        self._set_loaded(process.progress)
        self._count(process)
        self._hand_over(process)
        if (silent_s := process.silent_s(now)) > SILENT_S:
            self._set_problem(f"the shadow process has not gone on for {silent_s:.0f} seconds; its rows are dropped")
        else:
            self._set_problem(process.progress.problem)

    def _hand_over(self, process: _Process, everything: bool = False) -> None:
        while self._queue and process.is_ready and (everything or process.has_room):
            lines, rows = self._queue.popleft()
            self._rows -= rows
            self._bytes -= len(lines)
            process.write(lines, rows)

    def _account(self, process: _Process, now: float) -> None:
        """A process has ended by itself: the row that it was at is an error of the challenger, the rows behind are
        dropped. One that had no row, as it could not start, says nothing of how the challenger scores: it is a problem
        of the service alone."""
        self._count(process)
        if lost := process.sent - process.progress.handled:
            self._counts.arm(CHALLENGER).errors += 1
            self._metrics.shadowed("error", 1)
            self._drop(lost - 1)
            self._is_changed = True
        if now - process.started_at > STEADY_S:
            self._delay_s = FIRST_DELAY_S
        reason = process.exit_reason if process.is_ready else process.progress.problem or process.exit_reason
        self._set_problem(f"the shadow process has ended ({reason}); it starts again in {self._delay_s:g} seconds")
        self._start_at, self._delay_s = now + self._delay_s, min(2.0 * self._delay_s, LAST_DELAY_S)

    def _count(self, process: _Process) -> None:
        for status, rows in process.take_new():
            self._metrics.shadowed(status, rows)

    def _set_loaded(self, progress: Progress) -> None:
        if not self._loaded and self._policy is not None and self._policy.challenger is not None:
            self._loaded = self._policy.challenger.version
            self._metrics.shadow_loaded(self._loaded, progress.load_seconds, progress.memory)

    def _set_unloaded(self) -> None:
        if self._loaded:
            self._metrics.shadow_loaded(self._loaded, 0.0, 0)
            self._loaded = ""

    def _drop(self, rows: int) -> None:
        if rows:
            self._counts.pairs.dropped += rows
            self._is_changed = True
            self._metrics.shadowed("dropped", rows)

    async def _write_counts(self) -> None:
        if self._policy is not None:
            self._is_changed = False
            copy = msgspec.convert(msgspec.to_builtins(self._counts), ReleaseCounts)
            try:
                await asyncio.to_thread(write_counts, self._home, self._policy.id, self._writer, copy)
            except OSError as error:
                self._is_changed = True
                self._set_problem(f"counts of the shadow are not written: {one_line(error, 200)}")

    def _assignment(self, policy: Policy) -> Assignment:
        arms = {arm.name: ShadowedModel(str(self._home / arm.bundle), arm.sha256) for arm in policy.arms}
        own = self._settings
        return Assignment(
            policy.id,
            str(self._home),
            arms[CHAMPION],
            arms[CHALLENGER],
            own.log_segment_bytes,
            own.log_segment_s,
            own.instance,
            self._judges,
            own.level,
        )

    def _set_problem(self, problem: str) -> None:
        """Say each kind of problem once; how many rows it is about is no other problem."""
        self.problem = problem
        kind = "".join(c for c in problem if not c.isdigit())
        if kind and kind != self._reported:
            self._report(problem)
        self._reported = kind

    async def _end(self, process: _Process) -> None:
        await process.end(END_S)
        self._count(process)
        if lost := process.sent - process.progress.handled:
            self._metrics.shadowed("dropped", lost)


class _Process:
    """A process that runs: what it was `sent`, in rows, and its last `progress`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self.started_at = self._heard_at = time.monotonic()
        self.progress, self._counted = Progress(ready=False), Progress()
        self.sent = 0
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def spawn(cls, assignment: Assignment) -> _Process:
        """One that loads its models."""
        paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _MODULE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        )
        with contextlib.suppress(OSError):  # from here, so that the imports of the process have it too
            os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        started = cls(process)
        started._stdin.write(encode(assignment))
        return started

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, and all that it said was read."""
        return self._process.returncode is not None and self._reading.done()

    @property
    def is_ready(self) -> bool:
        """Whether both models are loaded."""
        return self.progress.ready

    @property
    def exit_reason(self) -> str:
        """How it has ended."""
        code = self._process.returncode
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"

    @property
    def buffered(self) -> int:
        """Bytes that were written and that the pipe has not taken."""
        return int(self._stdin.transport.get_write_buffer_size())

    @property
    def has_room(self) -> bool:
        """Whether the pipe takes rows, or will soon."""
        return not self._stdin.transport.is_closing() and self.buffered < PIPE_BYTES

    def silent_s(self, now: float) -> float:
        """For how long it has said nothing though it was sent rows."""
        return now - self._heard_at if self.sent > self.progress.handled else 0.0

    def write(self, lines: bytes, rows: int) -> None:
        """Send rows; where the pipe is full they wait in this process."""
        if self.sent == self.progress.handled:
            self._heard_at = time.monotonic()  # from now on it has something to say
        self._stdin.write(lines)
        self.sent += rows

    def take_new(self) -> list[tuple[str, int]]:
        """Rows by what became of them since the last call."""
        before, self._counted = self._counted, self.progress
        names = (("ok", "scored"), ("refused", "refused"), ("error", "errors"))
        rows = [(status, getattr(self._counted, name) - getattr(before, name)) for status, name in names]
        return [(status, more) for status, more in rows if more]

    async def end(self, seconds: float) -> None:
        """Have it write what it was sent, and end; kill it after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                self._stdin.close()
                await self._process.wait()
        self.kill()
        await self._process.wait()
        await asyncio.gather(self._reading, return_exceptions=True)

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _read(self) -> None:
        """Take what it says until it ends."""
        while line := await self._stdout.readline():
            self.progress, self._heard_at = decode_progress(line), time.monotonic()
