"""A run's process is known by the machine's own clock; Dagster's databases are made by one process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest

from churn_assets.defs.runs import process
from churn_assets.defs.runs.process import PROCESS, is_alive, launch_tags, own_tags, started_at
from churn_assets_tests.strategies import ROOT

DAY_S = 86_400.0
ME = os.getpid()


@pytest.fixture
def child():
    tags = launch_tags()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        yield running.pid, tags
        running.kill()


@pytest.mark.parametrize("step_s", [0.0, 3600.0, 400 * DAY_S, -3600.0], ids=["no step", "an hour", "a year", "back"])
def test_a_clock_that_is_set_ends_no_run(child, step_s):
    """After a step forward the event of a run is that much older than its process seems to be."""
    pid, tags = child
    at = time.time() - step_s
    assert is_alive(pid, tags, at)
    assert is_alive(ME, own_tags(), at)
    assert is_alive(pid, {}, at) == (step_s <= 0), "by the wall clock alone it is another process"


def test_another_process_of_the_same_id_is_not_the_runs(child):
    pid, tags = child
    boot, since = tags[PROCESS].split()
    later = float(since) - process._START_S - 5
    assert not is_alive(pid, {PROCESS: f"{boot} {later:.2f}"}, time.time())
    assert not is_alive(pid, {PROCESS: f"{boot} {float(since) + 60:.2f}"}, time.time())
    assert not is_alive(pid, {PROCESS: f"another-boot {since}"}, time.time()), "no process outlives a boot"


def test_a_process_that_ended_is_not_alive(child):
    pid, tags = child
    os.kill(pid, 9)
    while is_alive(pid, tags, time.time()):  # until it is a zombie
        time.sleep(0.01)
    assert started_at(2**22 + 5) is None
    assert not is_alive(2**22 + 5, tags, time.time())


def test_processes_that_start_at_once_make_one_set_of_databases(tmp_path):
    """As the daemon, its code server and the web page do, in whatever way they are started."""
    code = "import dagster; i = dagster.DagsterInstance.get(); i.get_runs(limit=1); i.dispose()"
    shutil.copyfile(ROOT / "dagster.yaml", tmp_path / "dagster.yaml")
    environ = {**os.environ, "DAGSTER_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    errors = [one.communicate()[1][-300:] for one in started]
    assert [(one.returncode, error) for one, error in zip(started, errors, strict=True)] == [(0, "")] * 3
    databases = sorted(path.name for path in tmp_path.rglob("*.db"))
    assert databases == ["index.db", "runs.db", "schedules.db"]
