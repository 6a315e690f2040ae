"""A worker's side of its process for explanations: one question at a time, a bounded queue, and a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

from churn_assets.serving.explanations.messages import LENGTH, READY, Answer, Question, decode_answer, encode

_MODULE = "churn_assets.serving.explanations.process"
_PACKAGES = Path(__file__).resolve().parents[3]  # the folder that this package lies in


class TooManyWaiting(Exception):
    """So many questions wait that another would not be answered in time."""


class ProcessStarting(Exception):
    """The process did not start within the time of this question; it goes on starting."""


class ExplanationProcess:
    """Starts the process at the first question, and again if it has died.

    `waiting` questions may wait; each is answered within `timeout_s` of its arrival, or its process is ended.
    """

    def __init__(self, timeout_s: float, waiting: int) -> None:
        self.timeout_s, self.waiting = timeout_s, waiting
        self._asked = 0
        self._turn = asyncio.Lock()
        self._start: asyncio.Task[asyncio.subprocess.Process] | None = None

    async def ask(self, question: Question) -> Answer:
        """The answer. Raises TooManyWaiting, ProcessStarting, TimeoutError, and EOFError if the process has died."""
        if self._asked > self.waiting:
            raise TooManyWaiting
        self._asked += 1
        try:
            async with asyncio.timeout(self.timeout_s), self._turn:
                return await self._exchange(await self._started(), question)
        except TimeoutError:
            if self._start is not None and not self._start.done():
                raise ProcessStarting from None
            raise
        finally:
            self._asked -= 1

    async def close(self) -> None:
        """End the process; a question that waits for it gets EOFError."""
        if self._start is not None:
            self._start.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await _end(await self._start)
            self._start = None

    async def _started(self) -> asyncio.subprocess.Process:
        if self._start is not None and self._start.done():
            failed = self._start.cancelled() or self._start.exception() is not None
            if failed or self._start.result().returncode is not None:
                self._start = None
        if self._start is None:
            self._start = asyncio.create_task(_spawn())
        return await asyncio.shield(self._start)

    async def _exchange(self, process: asyncio.subprocess.Process, question: Question) -> Answer:
        try:
            assert process.stdin is not None
            process.stdin.write(encode(question))
            await process.stdin.drain()
            return decode_answer(await _read(process))
        except BaseException as error:  # also at the time limit: its answer would be taken for that of the next
            self._start = None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            if isinstance(error, asyncio.IncompleteReadError | ConnectionError):
                raise EOFError("the process for explanations has died") from None
            raise


async def _spawn() -> asyncio.subprocess.Process:
    """A process that is ready."""
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        _MODULE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )
    try:
        if await _read(process) != READY:
            raise EOFError("the process for explanations has sent another first frame")
    except BaseException:
        await _end(process)
        raise
    return process


async def _read(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    length = int.from_bytes(await process.stdout.readexactly(LENGTH), "big")
    return await process.stdout.readexactly(length)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
