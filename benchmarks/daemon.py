"""What the daemon costs when nothing is to be done, and how long a window waits for its decision.

    python -m benchmarks.daemon [idle seconds] [windows]

A home of CHURN_SOURCE (else generated customers), `churn ui --headless` and `churn serve` at their default settings.
Idle: CPU and proportional memory (PSS) of the whole process tree, from 90 s after the start. Latency: a window of
customers is sent after a random pause; from the last answer to the decision. The customers are drawn from the table
without replacement, so that no window drifts.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow.parquet as pq

from churn_assets.contract.load import load_contract
from churn_assets.monitoring.open_window import DECISION, WINDOW
from churn_assets.monitoring.windows import contract_folder
from churn_assets.settings import Settings

WARM_S, STEP_S, LONGEST_S = 90.0, 5.0, 600.0
ROWS = 500  # of a request
_CHURN = [sys.executable, "-m", "churn_assets.cli"]


@contextmanager
def running(environ: Mapping[str, str], log: Path, *command: str) -> Iterator[psutil.Process]:
    """`churn COMMAND` in a process group of its own, which ends with the block."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*_CHURN, *command], env=dict(environ), stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def cpu_s(root: psutil.Process) -> float:
    """Of the tree, with that of children that have ended."""
    return sum(sum(process.cpu_times()[:4]) for process in _tree(root))


def pss_mib(root: psutil.Process) -> float:
    """Proportional set size of the tree: shared pages count once."""
    return sum(process.memory_full_info().pss for process in _tree(root)) / 2**20


def _tree(root: psutil.Process) -> list[psutil.Process]:
    return [root, *root.children(recursive=True)]


def measure_idle(root: psutil.Process, seconds: float) -> str:
    time.sleep(WARM_S)  # imports and first ticks are not what an idle daemon costs
    start, before, sizes = time.monotonic(), cpu_s(root), []
    while time.monotonic() - start < seconds:
        sizes.append(pss_mib(root))
        time.sleep(STEP_S)  # between two samples of its memory
    share = (cpu_s(root) - before) / (time.monotonic() - start)
    return (
        f"idle for {seconds:.0f} s: {share:.1%} of a core; PSS {statistics.mean(sizes):.0f} MiB on average, "
        f"{max(sizes):.0f} at most, {len(_tree(root))} processes"
    )


def measure_latency(settings: Settings, url: str, windows: int) -> str:
    contract = load_contract(settings.contract_path)
    table = pq.read_table(settings.assets_dir / "validated_customers.parquet")
    as_of = table.schema.metadata[b"churn_as_of"].decode()
    names = [column.name for column in contract.scoring_columns]
    rows = [_plain(row) for row in table.select(names).to_pylist()]
    rng, size, taken = random.Random(0), contract.monitoring.window, []
    rng.shuffle(rows)
    if len(rows) < windows * size:
        raise SystemExit(f"{len(rows):,} customers, expected at least {windows * size:,}; measure fewer windows")
    decision = settings.assets_dir / DECISION
    with httpx.Client(base_url=url, timeout=60.0) as client:
        for number in range(windows):
            time.sleep(rng.uniform(0.0, 30.0))  # windows end at any moment between two ticks of a sensor
            for start in range(number * size, (number + 1) * size, ROWS):
                body = {"customers": rows[start : start + ROWS], "as_of": as_of[:10]}
                client.post("/predict_batch", json=body).raise_for_status()
            sent, begin = time.time(), time.monotonic()
            closed = contract_folder(settings, contract.fingerprint) / f"{number + 1:04d}" / WINDOW
            while not (closed.is_file() and decision.is_file() and _written(decision) > _written(closed)):
                if time.monotonic() - begin > LONGEST_S:
                    raise SystemExit(f"window {number + 1} has no decision after {LONGEST_S:.0f} s")
                time.sleep(0.2)  # the decision is a file: nothing tells that it is written
            taken.append(_written(decision) - sent)
    shown = ", ".join(f"{seconds:.0f}" for seconds in taken)
    load = os.getloadavg()[1]
    return f"last prediction to decision, {windows} windows of {size:,}: {shown} s (load {load:.1f})"


def _written(path: Path) -> float:
    return path.stat().st_mtime


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: cell.isoformat() if isinstance(cell, dt.date) else cell for name, cell in row.items()}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)  # between two attempts to reach a service that starts
    raise SystemExit("the service is not ready after 120 s")


def main(idle_s: float = 300.0, windows: int = 5) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as scratch:
        folder, port = Path(scratch), _free_port()
        environ = {**os.environ, "CHURN_HOME": str(folder / "home"), "CHURN_PORT": str(port)}
        settings, log = Settings.from_environ(environ), folder / "log"
        with log.open("ab") as out:
            subprocess.run([*_CHURN, "run"], env=environ, stdout=out, stderr=out, check=True)
        with running(environ, log, "ui", "--headless") as daemon:
            if idle_s:
                yield measure_idle(daemon, idle_s)
            if windows:
                with running(environ, log, "serve"):
                    _wait_until_ready(url := f"http://127.0.0.1:{port}")
                    yield measure_latency(settings, url, windows)


if __name__ == "__main__":
    for line in main(*map(float, sys.argv[1:2]), *map(int, sys.argv[2:3])):
        print(line, flush=True)
