"""A steady load with an ingest, an ad-hoc reader and hot swaps going on: nothing may fail, memory must stay flat.

python -m benchmarks.serving_soak [seconds] [requests a second] [swaps]

The ingest is the asset's, every two seconds; the reader asks the published copy meanwhile, as `churn log query`
does. Exits 1 if a request failed, an id is missing or memory grew by
more than a tenth after warm-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb
import httpx
import psutil

from churn_assets.errors import LogError, NothingIngested
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.settings import Settings
from churn_assets_tests.serving.client import ASKED, SCORER, home_with_champion, make_bundle, promote, served, wait_for
from churn_assets_tests.strategies import ROOT

KINDS = ("logistic", "network", "boosted", "blend")


async def steady(url: str, seconds: float, per_second: float) -> tuple[list[str], list[int]]:
    """Answered ids, and the statuses of what was not answered (0: no answer at all)."""
    ids: list[str] = []
    failed: list[int] = []
    async with httpx.AsyncClient(timeout=10, limits=httpx.Limits(max_connections=64)) as client:

        async def one() -> None:
            try:
                response = await client.post(url, json=ASKED)
            except httpx.TransportError:
                failed.append(0)
                return
            if response.status_code == 200:
                ids.append(response.json()["prediction_id"])
            else:
                failed.append(response.status_code)

        tasks, start = set(), time.perf_counter()
        for number in range(int(seconds * per_second)):
            await asyncio.sleep(max(0.0, start + number / per_second - time.perf_counter()))
            task = asyncio.create_task(one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    return ids, failed


def settings_of(home: Path) -> Settings:
    return Settings.from_environ({"CHURN_HOME": str(home)}, ROOT)


def beside(home: Path, stop: threading.Event, swaps: int, every_s: float, errors: list[str]) -> None:
    """Ingest, read and swap until told to stop."""
    of = settings_of(home)
    bundles = [make_bundle(home, kind) for kind in KINDS]
    done, due = 0, time.monotonic() + every_s
    while not stop.wait(2.0):
        try:
            ingest(of, SCORER.contract)
            with contextlib.suppress(NothingIngested), open_published(of) as reader:
                reader.execute("SELECT count(*), avg(score) FROM predictions").fetchall()
        except (duckdb.Error, LogError) as error:
            errors.append(str(error))
        if done < swaps and time.monotonic() >= due:
            promote(home, bundles[done % len(bundles)])
            done, due = done + 1, due + every_s


def memory_mb(server: psutil.Process) -> float:
    return sum(one.memory_info().rss for one in server.children(recursive=True)) / 2**20


def main(seconds: int = 600, per_second: int = 200, swaps: int = 10) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        home, errors, stop, sizes = home_with_champion(folder / "home"), [], threading.Event(), []
        with served(folder, home, workers=2, environ={"CHURN_LOG_SEGMENT_S": "5"}) as (url, process):
            wait_for(f"{url}/readyz", process, folder / "log")
            server = psutil.Process(process.pid)
            others = threading.Thread(target=beside, args=(home, stop, swaps, seconds / (swaps + 1), errors))
            watch = threading.Thread(
                target=lambda: [sizes.append(memory_mb(server)) for _ in iter(lambda: stop.wait(1), True)]
            )
            others.start()
            watch.start()
            began = dt.datetime.now(dt.UTC)
            ids, failed = asyncio.run(steady(f"{url}/predict", seconds, per_second))
            took = (dt.datetime.now(dt.UTC) - began).total_seconds()
            text = httpx.get(f"{url}/metrics").text
            stop.set()
            others.join()
            watch.join()
        ingest(settings_of(home), SCORER.contract)
        with open_published(settings_of(home)) as connection:
            stored = {row[0] for row in connection.execute("SELECT prediction_id FROM predictions").fetchall()}
    missing = len(set(ids) - stored)
    swapped = [line for line in text.splitlines() if line.startswith("churn_model_swaps_total")]
    warm, last = max(sizes[len(sizes) // 4 : len(sizes) // 2]), max(sizes[-len(sizes) // 4 :])
    print(
        f"{len(ids):,} answered in {took:.0f} s ({len(ids) / took:.0f}/s), {len(failed)} failed {sorted(set(failed))}, "
        f"{len(errors)} lock errors, {missing} ids missing after ingest, {swapped}, memory {warm:.0f} -> {last:.0f} MB"
    )
    for error in errors[:3]:
        print(json.dumps(error))
    return int(bool(failed or missing or errors) or last > 1.1 * warm)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(*map(int, sys.argv[1:])))
