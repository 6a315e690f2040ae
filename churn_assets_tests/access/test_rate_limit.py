"""The rate of a key: never more than rate x time + burst, over all processes, whatever is killed."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time

from hypothesis import given
from hypothesis import strategies as st

from churn_assets.access.rate_limit import FILE, RateLimit, RateLimiter

_WORKER = """
import sys, time
from pathlib import Path
from churn_assets.access.rate_limit import RateLimit, RateLimiter
limiter = RateLimiter(Path(sys.argv[1]), RateLimit(200.0, 50))
while True:
    if limiter.admit(3).admitted:
        sys.stdout.write(f"{time.monotonic()!r}\\n")
        sys.stdout.flush()
"""


@given(
    per_s=st.floats(0.5, 100.0), burst=st.integers(1, 20), steps=st.lists(st.floats(0.0, 0.5), min_size=1, max_size=120)
)
def test_no_stretch_of_time_admits_more_than_rate_and_burst(tmp_path_factory, per_s, burst, steps):
    now = [100.0]
    limiter = RateLimiter(tmp_path_factory.mktemp("home"), RateLimit(per_s, burst), lambda: now[0])
    admitted = []
    for step in steps:
        now[0] += step
        admission = limiter.admit(0)
        if admission.admitted:
            admitted.append(now[0])
        else:
            now[0] += 1e-6
    limiter.close()
    for first, start in enumerate(admitted):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= per_s * (admitted[last] - start) + burst + 1e-6


def test_what_is_left_and_when_there_is_more_is_what_happens(tmp_path):
    now = [5.0]
    limiter = RateLimiter(tmp_path, RateLimit(2.0, 3), lambda: now[0])
    assert [(a.admitted, a.remaining) for a in (limiter.admit(1) for _ in range(4))] == [
        (True, 2),
        (True, 1),
        (True, 0),
        (False, 0),
    ]
    assert limiter.admit(2).admitted  # another key has its own
    refused = limiter.admit(1)
    now[0] += refused.reset_s
    assert limiter.admit(1).admitted


def test_a_number_from_before_the_last_start_of_the_host_locks_nobody_out(tmp_path):
    (tmp_path / FILE).write_bytes(struct.pack("<d", 1e9))
    limiter = RateLimiter(tmp_path, RateLimit(2.0, 3), lambda: 5.0)
    assert limiter.admit(0).admitted


def test_four_processes_of_which_some_are_killed_share_one_limit(tmp_path):
    def start():
        command = [sys.executable, "-c", _WORKER, str(tmp_path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})

    workers = [start() for _ in range(4)]
    time.sleep(1.0)
    for worker in workers[:2]:
        worker.send_signal(signal.SIGKILL)
    workers += [start()]
    time.sleep(0.8)
    for worker in workers:
        worker.kill()
    lines = [line for worker in workers for line in worker.communicate()[0].splitlines(keepends=True)]
    instants = sorted(float(line) for line in lines if line.endswith("\n"))
    assert len(instants) > 60
    seen = instants[-1] - instants[0]
    assert len(instants) <= 200.0 * seen + 50 + 5  # one instant a process may be written late
    assert not limiter_is_stuck(tmp_path)


def limiter_is_stuck(home) -> bool:
    time.sleep(0.3)
    return not RateLimiter(home, RateLimit(200.0, 50)).admit(3).admitted
