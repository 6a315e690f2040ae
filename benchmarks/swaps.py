"""Memory of a worker whose champion changes again and again, while clients ask.

    python -m benchmarks.swaps [swaps] [every]

Bundles of small models, one of each kind, become champion in turns; the worker takes each of them, and has unloaded the
one before when the next comes. Prints the worker's resident memory every so many swaps.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from churn_assets.serving.routing.watcher import UNUSED_S
from churn_assets_tests.scoring.tiny import KINDS
from churn_assets_tests.serving.client import ASKED, home_with_champion, make_bundle, promote, served, wait_for


def resident_mib(swaps: int, every: int) -> list[float]:
    """MiB before, after every so many swaps, and at the end."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        home = home_with_champion(folder / "home")
        bundles = [make_bundle(home, kind) for kind in KINDS]
        with served(folder, home, environ={"CHURN_POLL_S": "0.05"}) as (url, process):
            wait_for(f"{url}/readyz", process, folder / "log")
            (worker,) = psutil.Process(process.pid).children()
            sizes = []
            with httpx.Client(base_url=url) as client:
                for number in range(swaps + 1):
                    if number % every == 0 or number == swaps:
                        sizes.append(worker.memory_info().rss / 2**20)
                    bundle = bundles[number % len(bundles)]
                    promote(home, bundle)
                    deadline = time.monotonic() + 20
                    while client.post("/predict", json=ASKED).json()["model_version"] != bundle.name:
                        if time.monotonic() > deadline:
                            raise SystemExit(f"swap {number} was not taken within 20 s")
                    time.sleep(UNUSED_S + 0.3)  # that a model out of use is kept
    return sizes


def main(swaps: int = 80, every: int = 10) -> str:
    sizes = resident_mib(swaps, every)
    shown = ", ".join(f"{size:.0f}" for size in sizes)
    return f"{swaps} swaps: {shown} MiB, one figure every {every}"


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
