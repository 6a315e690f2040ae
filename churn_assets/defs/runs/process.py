"""Whether the process of a run still lives, whatever happens to the clock of the machine.

Process ids come again, and the instant at which a process began is told by the wall clock, which people and NTP set:
after a step forward every process seems to be younger than its run. So a run has a tag with the boot of the machine and
the seconds since then (Linux: CLOCK_BOOTTIME and `starttime` of proc(5)), which no setting of the clock changes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

PROCESS = "churn/process"  # tag: the boot, and since how many seconds the run may have a process
_START_S = 300.0  # from the launch of a run to its process; Dagster gives up before
_CLOCK_S = 60.0  # without a tag: by so much a clock that is set may not make a process another one
_START_TIME = 19  # field of /proc/PID/stat after the name, which may hold blanks


def launch_tags() -> Mapping[str, str]:
    """Tags of a run whose process is started from now on; none where the system does not tell."""
    return _tags(_uptime())


def own_tags() -> Mapping[str, str]:
    """Tags of a run that this process executes."""
    return _tags(started_at(os.getpid()))


def is_alive(pid: int, tags: Mapping[str, str], at: float) -> bool:
    """Whether process `pid` of now is the one of a run with these tags; without the tag, whether it is as old as `at`
    (seconds since 1970)."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        boot, _, since = tags.get(PROCESS, "").partition(" ")
        start = started_at(pid)
        if not since or start is None:
            return bool(process.create_time() <= at + _CLOCK_S)
        return boot == _boot() and -1.0 <= start - float(since) <= _START_S
    except psutil.NoSuchProcess:
        return False


def started_at(pid: int) -> float | None:
    """Seconds from the boot of the machine to the start of a process; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _tags(since: float | None) -> Mapping[str, str]:
    boot = _boot()
    return {PROCESS: f"{boot} {since:.2f}"} if boot and since is not None else {}


def _uptime() -> float | None:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return None if clock is None else time.clock_gettime(clock)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
