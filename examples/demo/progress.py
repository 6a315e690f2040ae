"""What the demo prints: a line for each event, and every few seconds what it is waiting for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

SILENCE_S = 8.0  # a line at least every ten seconds, with room for a busy machine


class Progress:
    """Prints lines with the seconds since the start; a thread prints what is waited for when nothing else is."""

    def __init__(self, stream: TextIO, silence_s: float = SILENCE_S) -> None:
        self._stream, self._silence_s = stream, silence_s
        self._begun = self._printed_at = time.monotonic()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._remind, name="demo-progress", daemon=True)
        self._waiting: tuple[str, float] | None = None
        self._detail = ""

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def line(self, text: str) -> None:
        """Print one event."""
        with self._lock:
            self._print(text)

    def detail(self, text: str) -> None:
        """How far the thing that is waited for has come; shown with the next reminder."""
        self._detail = text

    @contextmanager
    def waiting(self, for_what: str) -> Iterator[None]:
        """Remind of `for_what` for as long as the block runs."""
        before, self._waiting = self._waiting, (for_what, time.monotonic())
        self._detail = ""
        try:
            yield
        finally:
            self._waiting, self._detail = before, ""

    def _remind(self) -> None:
        while not self._stop.wait(0.5):
            waiting = self._waiting
            if waiting is None or time.monotonic() - self._printed_at < self._silence_s:
                continue
            for_what, since = waiting
            detail = f"; {self._detail}" if self._detail else ""
            with self._lock:
                self._print(f"  waiting for {for_what} ({time.monotonic() - since:.0f} s so far){detail}")

    def _print(self, text: str) -> None:
        self._printed_at = time.monotonic()
        print(f"{self._printed_at - self._begun:5.0f} s  {text}", file=self._stream, flush=True)
