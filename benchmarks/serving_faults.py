"""kill -9 of a worker or of the whole service under load, again and again; then every answered id is looked for.

python -m benchmarks.serving_faults [rounds] [seed]

Two workers, eight clients without pause. Each round kills a random worker or everything at a random moment.
At the end `churn log verify` must find each acknowledged id exactly once. Exits 1 if it does not.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from churn_assets.prediction_log.segment import adopt_orphans
from churn_assets.prediction_log.warehouse.read import count
from churn_assets_tests.serving.client import ASKED, home_with_champion, served, wait_for
from churn_assets_tests.serving.load import Load


def family(server: subprocess.Popen[bytes]) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """(all processes of the service, its living workers)."""
    process = psutil.Process(server.pid)
    everybody = [process, *process.children(recursive=True)]
    living = [one for one in everybody[1:] if one.status() != psutil.STATUS_ZOMBIE]
    return everybody, [one for one in living if "_bentoml_impl.worker" in " ".join(one.cmdline())]


def until_dead(folder: Path, home: Path, rng: random.Random, rounds: int) -> tuple[int, list[str], dict[int, int]]:
    """One life of the service: workers are killed, then everything; (kills, ids, statuses)."""
    with served(folder, home, workers=2) as (url, server):
        wait_for(f"{url}/readyz", server, folder / "log")
        kills = 0
        with Load(f"{url}/predict", ASKED, clients=8) as load:
            while kills < rounds:
                time.sleep(rng.uniform(0.05, 1.0))  # the kill comes at a random moment
                everybody, workers = family(server)
                kills += 1
                if len(workers) > 1 and rng.random() < 0.5:
                    rng.choice(workers).kill()
                    continue
                for one in everybody:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.send_signal(signal.SIGKILL)
                break
            else:
                server.terminate()
            server.wait(30)
            time.sleep(0.1)  # the system frees the port
    return kills, load.acknowledged, load.statuses


def main(rounds: int = 100, seed: int = 0) -> int:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        home = home_with_champion(folder / "home")
        done, lives, ids, statuses = 0, 0, [], {}
        while done < rounds:
            kills, acknowledged, answered = until_dead(folder, home, rng, rounds - done)
            done, lives, ids = done + kills, lives + 1, ids + acknowledged
            statuses = {status: statuses.get(status, 0) + times for status, times in answered.items()} | {
                status: times for status, times in statuses.items() if status not in answered
            }
            print(f"{done} kills, {lives} lives, {len(ids):,} acknowledged", file=sys.stderr, flush=True)
        torn = count(home / "predlog").torn
        adopted = adopt_orphans(home / "predlog")
        (folder / "ids").write_text("\n".join(ids))
        command = [sys.executable, "-c", "from churn_assets.cli.main import main; main()", "log", "verify"]
        verdict = subprocess.run(
            [*command, "--ids", str(folder / "ids"), "--home", str(home)], capture_output=True, text=True, check=False
        )
        print(
            f"{done} kills in {lives} lives of the service; statuses {statuses}; {torn} torn tails, {adopted} adopted"
        )
        print(verdict.stdout + verdict.stderr, end="")
        return verdict.returncode


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(*map(int, sys.argv[1:])))
