"""Real signals to real processes: how soon a run ends, and what Dagster and the operating system hold afterwards."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from churn_assets_tests.strategies import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork: a run is stopped by its console")

LIMIT_S = 3.0  # as docs/operations.md promises


def begin(home: Path, asset: str) -> subprocess.Popen[str]:
    """A run in a process of its own, with signals as in a terminal, whatever an earlier test left in this process."""
    return subprocess.Popen(
        [sys.executable, "-m", "churn_assets_tests.cli.run.stoppable", str(home), asset],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_reset_signals,
    )


def _reset_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert any(read.strip() == line for read in process.stdout), "it ended before"


def stop(process: subprocess.Popen[str], number: int) -> tuple[float, str]:
    """Seconds until the process has ended, and what it printed from then on."""
    begun = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    return time.monotonic() - begun, output


def statuses(home: Path) -> list[str]:
    with sqlite3.connect(home / "dagster" / "history" / "runs.db") as db:
        return [status for (status,) in db.execute("SELECT status FROM runs ORDER BY id")]


def left(home: Path) -> list[int]:
    """Processes that still work in this home, or were started by one that did."""
    time.sleep(0.2)
    return [p.pid for p in psutil.process_iter(["cmdline"]) if str(home) in " ".join(p.info["cmdline"] or [])]


@pytest.mark.parametrize(
    ("asset", "number"), [("deep", signal.SIGINT), ("outside", signal.SIGTERM)], ids=["in C code", "in a child process"]
)
def test_a_signal_ends_a_run_within_seconds_and_it_is_canceled(tmp_path, asset, number):
    process = begin(tmp_path, asset)
    wait_for(process, "at work")
    seconds, output = stop(process, number)
    assert process.returncode == 128 + number, output
    assert seconds < LIMIT_S
    assert output.startswith("stopped ")
    assert "Traceback" not in output
    assert statuses(tmp_path) == ["CANCELED"]
    assert left(tmp_path) == []


def test_a_signal_before_anything_is_done_ends_the_process_at_once(tmp_path):
    process = begin(tmp_path, "quick")
    wait_for(process, "importing")
    seconds, output = stop(process, signal.SIGINT)
    assert (process.returncode, output) == (130, "stopped before anything was done\n")
    assert seconds < LIMIT_S / 3
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_no_process_and_the_next_run_marks_it(tmp_path):
    process = begin(tmp_path, "deep")
    wait_for(process, "at work")
    seconds, _ = stop(process, signal.SIGKILL)
    assert seconds < LIMIT_S  # its child shares the pipe: both have ended
    assert left(tmp_path) == []
    assert statuses(tmp_path) == ["STARTED"]
    following = begin(tmp_path, "quick")
    output, _ = following.communicate(timeout=120)
    assert following.returncode == 0, output
    assert statuses(tmp_path) == ["CANCELED", "SUCCESS"]
