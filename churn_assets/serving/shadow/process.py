"""The process that shadows beside a worker: `python -m churn_assets.serving.shadow.process`.

In the worker a second model would take the interpreter from those who wait for an answer. A process of lower priority
takes only what /predict leaves, and a challenger that hangs, fills the memory or crashes takes nobody with it. It reads
rows from its standard input and appends what the challenger says of them to the prediction log, as a segment of its
own, once a second: a sync of the disk is what answers wait for too. It also looks at the guardrails of the release:
some milliseconds of Python, for which nobody waits here.

It ends with the end of its input, once all that it has read is written; and at once when its worker is killed, by the
kernel, so that one that is stopped or hangs ends as well. Those of its rows that are not written by then are not in the
log, and no answer is missing.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec
import psutil

from churn_assets.errors import BundleMismatch, ChurnError, LogUnavailable, one_line
from churn_assets.prediction_log.records import Prediction, encode_line
from churn_assets.prediction_log.segment import Segment
from churn_assets.promotion.rollout.guard import LOOK_S, ReleaseGuard
from churn_assets.release.counts import write_counts, writer_name
from churn_assets.scoring.bundle import load_bundle
from churn_assets.scoring.online import CustomerScorer
from churn_assets.serving.shadow.messages import Assignment, Progress, ShadowedModel, decode_assignment, encode
from churn_assets.serving.shadow.pairs import PairScorer
from churn_assets.settings import Settings
from churn_assets.storage.sealed import bundle_hash
from churn_assets.structured_log import log_event, make_logger

WRITE_S = 1.0  # between two writes of rows and counts
BLOCK = 2**18  # bytes that are read at once
ROW_S = 10.0  # of processor time for one row; a challenger that takes more hangs, and the kernel ends the process
_PR_SET_PDEATHSIG = 1  # of Linux
_DECODER = msgspec.json.Decoder(Prediction)


class ShadowProcess:
    """Scores the lines that it is given by both models, and writes rows, counts and progress from time to time."""

    def __init__(self, assignment: Assignment, progress: BinaryIO) -> None:
        home = Path(assignment.home)
        self._policy, self._home, self._progress = assignment.policy, home, progress
        champion = _load(assignment.champion)  # with the libraries, which are not the challenger's cost
        process, start = psutil.Process(), time.perf_counter()
        memory = process.memory_info().rss
        self._pairs = PairScorer(assignment.policy, champion, _load(assignment.challenger))
        self._load_seconds = time.perf_counter() - start
        self._memory = max(0, process.memory_info().rss - memory)
        settings = Settings.from_environ({**os.environ, "CHURN_HOME": str(home)})
        bounds = assignment.segment_bytes, assignment.segment_s
        self._segment = Segment(settings.segments_dir, *bounds, instance=assignment.instance)
        self._writer = writer_name("shadow")
        self._lines: list[bytes] = []
        self._handled = self._unlogged = 0
        self._log_problem = self._counts_problem = ""
        self._sent = Progress(handled=-1)
        self._next = time.monotonic() + WRITE_S
        self._logger = make_logger(assignment.level)
        self._guard = (
            ReleaseGuard(settings, partial(log_event, self._logger), every_s=0.75 * LOOK_S)
            if assignment.judges
            else None
        )
        self._look_at = time.monotonic() + LOOK_S

    def handle(self, lines: list[bytes]) -> None:
        """Score complete lines of the log; what is no prediction is left out."""
        for line in lines:
            try:
                record = _DECODER.decode(line)
            except msgspec.DecodeError:
                record = None
            if record is not None:
                signal.setitimer(signal.ITIMER_VIRTUAL, ROW_S)
                if (row := self._pairs.score(record)) is not None:
                    self._lines.append(encode_line(row))
            self._handled += 1
            self.write_if_due()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)

    def write_if_due(self) -> float:
        """Write if the time has come; the seconds until it comes."""
        left = self._next - time.monotonic()
        if left <= 0.0:
            self.write()
            self._look_if_due()
            self._next, left = time.monotonic() + WRITE_S, WRITE_S
        return left

    def _look_if_due(self) -> None:
        """Judge the release, with what was just written."""
        if self._guard is None or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        try:
            self._guard.check()
        except Exception:  # an unexpected error must not end the process: that would count as one of the challenger
            self._logger.exception("a check of the release failed")

    def write(self) -> None:
        """Write the rows to the log, then the counts and the progress. What the disk does not take is not logged."""
        lines, self._lines = self._lines, []
        if lines:
            try:
                self._segment.append(b"".join(lines))
                self._log_problem = ""
            except LogUnavailable as error:
                self._unlogged += len(lines)
                self._log_problem = f"rows of the shadow are not logged: {error}"
        self._segment.hand_over_if_due()
        progress = self._now()
        if progress == self._sent:
            return
        try:
            write_counts(self._home, self._policy, self._writer, self._pairs.counts)
            self._counts_problem = ""
        except OSError as error:
            self._counts_problem = f"counts of the shadow are not written: {one_line(error, 200)}"
        self._sent = self._now()
        self._progress.write(encode(self._sent))
        self._progress.flush()

    def close(self) -> None:
        """Write the rest, and hand the segment over."""
        self.write()
        self._segment.hand_over()

    def _now(self) -> Progress:
        pairs = self._pairs
        problem = self._log_problem or self._counts_problem
        if not problem and pairs.errors:
            problem = f"the challenger cannot score {pairs.errors:,} rows, the last one by {pairs.error}"
        if not problem and pairs.differing:
            problem = f"the champion scores {pairs.differing:,} rows otherwise than they were answered"
        rows = self._handled, pairs.scored, pairs.refused, pairs.errors, self._unlogged, pairs.differing
        return Progress(True, *rows, problem, self._load_seconds, self._memory)


def _load(model: ShadowedModel) -> CustomerScorer:
    """Raises BundleError for a bundle that is damaged, or not the policy's."""
    path = Path(model.bundle)
    scorer = load_bundle(path)
    if (own := bundle_hash(path)) != model.sha256:
        raise BundleMismatch(
            f"{path}: the sha256 of its manifest is {own[:12]}..., expected {model.sha256[:12]}... as the policy has "
            "it; take the bundle from its source again"
        )
    return CustomerScorer(scorer)


def serve(rows: int, progress: BinaryIO) -> None:
    """Shadow until the rows of this file descriptor end. Raises ChurnError for a bundle that cannot be loaded."""
    rest = b""
    while b"\n" not in rest:
        block = os.read(rows, BLOCK)
        if not block:
            return
        rest += block
    first, _, rest = rest.partition(b"\n")
    shadow = ShadowProcess(decode_assignment(first), progress)
    shadow.write()  # that it is ready
    while True:
        *lines, rest = rest.split(b"\n")
        shadow.handle(lines)
        if select.select([rows], [], [], max(0.0, shadow.write_if_due()))[0]:
            block = os.read(rows, BLOCK)
            if not block:
                break
            rest += block
    shadow.close()


def end_with_parent() -> None:
    """Have the kernel kill this process when the worker dies, where it can; elsewhere the input ends."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    """Serve on the standard streams; what libraries print goes to the standard error."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # they come to the whole group; the worker ends this process
        signal.signal(ignored, signal.SIG_IGN)
    end_with_parent()
    with os.fdopen(os.dup(1), "wb") as progress:
        os.dup2(2, 1)
        try:
            serve(0, progress)
        except BrokenPipeError:  # the worker has died
            os._exit(1)
        except ChurnError as error:
            progress.write(encode(Progress(ready=False, problem=one_line(error, 500))))
            return 1
    return 0


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr)
    sys.exit(main())
