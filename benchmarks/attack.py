"""A service under attack: memory, what other clients wait, and whether SIGTERM ends it.

    python -m benchmarks.attack [seconds of each attack] [kind...]

One worker with `ulimit -n 1024` on a home with a small model; the attackers are a process of their own
(churn_assets_tests/hostile/attacks.py). Beside each attack another client asks for a prediction on a new connection,
again and again. Exits 1 if a worker took 400 MB or more, the p99 of that client was 250 ms or more, or a stop under
attack took 30 s or more.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from churn_assets_tests.hostile.attack_checks import MOST_P99_S, MOST_RSS, watch
from churn_assets_tests.hostile.attacks import ATTACKS
from churn_assets_tests.serving.client import home_with_champion, served, wait_for

COMMAND = [sys.executable, "-m", "churn_assets_tests.hostile.attacks"]


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))


def main(seconds: float = 20, *kinds: str) -> int:
    held = True
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with served(folder, home_with_champion(folder / "home"), preexec_fn=limit_files) as (url, process):
            wait_for(f"{url}/readyz", process, folder / "log")
            (worker,) = psutil.Process(process.pid).children()
            port = url.rpartition(":")[2]
            print(f"before: {worker.memory_info().rss / 2**20:.0f} MiB", flush=True)
            for kind in kinds or ATTACKS:
                attacker = subprocess.Popen([*COMMAND, port, kind, str(seconds)], stdout=subprocess.PIPE)
                taken, rss = watch(url, attacker, worker)
                counts = json.loads(attacker.communicate()[0])
                late = sorted(taken)[int(len(taken) * 0.99)]
                held &= late < MOST_P99_S and rss < MOST_RSS
                p50 = statistics.median(taken)
                others = f"others p50 {p50 * 1e3:.0f} ms, p99 {late * 1e3:.0f} ms of {len(taken):,} requests"
                print(f"{kind}: {others}, at most {rss / 2**20:.0f} MiB; {counts}", flush=True)
            attackers = [subprocess.Popen([*COMMAND, port, kind, "40"], stdout=subprocess.DEVNULL) for kind in ATTACKS]
            time.sleep(3)  # for them to begin
            start = time.monotonic()
            process.terminate()
            process.wait(60)
            stop = time.monotonic() - start
            for attacker in attackers:
                attacker.kill()
            print(f"SIGTERM under all of them at once: ended in {stop:.1f} s")
    return 0 if held and stop < 30 else 1


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:2]), *sys.argv[2:]))
