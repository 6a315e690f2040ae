"""A service under attack: memory, what other clients wait, and whether SIGTERM ends it.

    python -m benchmarks.attack [seconds of each attack] [kind...]

One worker with `ulimit -n 1024` on a home with a small model; the attackers are a process of their own
(churn_assets_tests/hostile/attacks.py). Beside each attack another client asks for a prediction on a new connection,
again and again. Exits 1 if a worker took 400 MB or more, the p99 of that client was 250 ms or more, or a stop under
attack took 30 s or more.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from churn_assets_tests.hostile.attacks import ATTACKS
from churn_assets_tests.hostile.bystander import MOST_STOP_S, begin_attack, limit_files, watch_attack
from churn_assets_tests.hostile.sockets import stop_s
from churn_assets_tests.serving.client import home_with_champion, served, wait_for


def main(seconds: float = 20, *kinds: str) -> int:
    held = True
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with served(folder, home_with_champion(folder / "home"), preexec_fn=limit_files) as (url, process):
            wait_for(f"{url}/readyz", process, folder / "log")
            (worker,) = psutil.Process(process.pid).children()
            print(f"before: {worker.memory_info().rss / 2**20:.0f} MiB", flush=True)
            for kind in kinds or ATTACKS:
                watched = watch_attack(url, worker, kind, seconds)
                held &= watched.in_bounds
                p50 = statistics.median(watched.taken)
                others = f"others p50 {p50 * 1e3:.0f} ms, p99 {watched.p99_s * 1e3:.0f} ms of {len(watched.taken):,}"
                print(f"{kind}: {others}, at most {watched.rss / 2**20:.0f} MiB; {watched.counts}", flush=True)
            attackers = [begin_attack(url, kind, 40) for kind in ATTACKS]
            time.sleep(3)  # for them to begin
            stop = stop_s(process)
            for attacker in attackers:
                attacker.kill()
                attacker.communicate()
            traces = (folder / "log").read_text().count("Traceback")
            print(f"SIGTERM under all of them at once: ended in {stop:.1f} s, {traces} traces in the log")
    return 0 if held and stop < MOST_STOP_S and not traces else 1


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:2]), *sys.argv[2:]))
