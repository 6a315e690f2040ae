"""Killing the supervisor of a service at a chosen moment, and what is left of the service after that."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import psutil

from churn_assets_tests.serving.client import ROOT, SERVICE, free_port

PATIENCE_S = 5.0


def processes_of(mark: str) -> list[psutil.Process]:
    """The living processes that have `mark` in their environment; BentoML gives each a session of its own."""
    living = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if mark in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
    return living


def seconds_to_end(folder: Path, home: Path, moment_s: float, after_worker: bool) -> float | None:
    """Start a service, kill its supervisor `moment_s` after its start (or after its first worker's), and wait: the
    seconds until none of its processes is left, None if that takes longer than `PATIENCE_S`."""
    mark = f"ORPHANS_{uuid4().hex}"
    environ = {
        mark: "1",
        "CHURN_HOME": str(home),
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    (folder / "bentoml").mkdir(exist_ok=True)
    with (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "bentoml", "serve", SERVICE, "--port", str(free_port())]
        supervisor = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environ}, stdout=log, stderr=log, start_new_session=True
        )
    end = time.monotonic() + 60
    while after_worker and not psutil.Process(supervisor.pid).children() and time.monotonic() < end:
        time.sleep(0.02)  # until its worker is there
    time.sleep(moment_s)
    supervisor.kill()
    supervisor.wait(10)
    killed = time.monotonic()
    while left := processes_of(mark):
        if time.monotonic() - killed > PATIENCE_S:
            for process in left:
                process.kill()
            return None
        time.sleep(0.2)  # to look at all processes costs some CPU
    return time.monotonic() - killed
