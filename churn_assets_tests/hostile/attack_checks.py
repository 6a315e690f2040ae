"""The attacks of `benchmarks.attack`, a short time each, on a worker that may open 1,024 files.

Not collected by itself, because its bound on the p99 of other clients needs an idle machine:
`pytest churn_assets_tests/hostile/attack_checks.py`.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection

import psutil
import pytest

from churn_assets_tests.hostile.attacks import ATTACKS
from churn_assets_tests.serving.client import ASKED, ROOT, home_with_champion, served, wait_for

SECONDS = 2.0
MOST_RSS = 400 * 2**20
MOST_P99_S = 0.25


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacked")
    home = home_with_champion(folder / "home")

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))

    with served(folder, home, preexec_fn=limit_files) as (url, process):
        wait_for(f"{url}/readyz", process, folder / "log")
        yield url, process, folder / "log"


def watch(url: str, attacker: subprocess.Popen[bytes], worker: psutil.Process) -> tuple[list[float], int]:
    """Seconds of predictions of another client, each on a new connection, and the worker's largest RSS meanwhile."""
    taken, rss, body = [], 0, json.dumps(ASKED)
    while attacker.poll() is None:
        start = time.monotonic()
        connection = HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=10)
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        connection.close()
        taken.append(time.monotonic() - start)
        rss = max(rss, worker.memory_info().rss)
        time.sleep(0.01)  # between two requests of an ordinary client
    return taken, rss


@pytest.mark.parametrize("kind", ATTACKS)
def test_others_are_answered_in_time_and_memory_stays_bounded(attacked, kind):
    url, process, _ = attacked
    (worker,) = psutil.Process(process.pid).children()
    port = url.rpartition(":")[2]
    command = [sys.executable, "-m", "churn_assets_tests.hostile.attacks", port, kind, str(SECONDS)]
    attacker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    taken, rss = watch(url, attacker, worker)
    counts = json.loads(attacker.communicate()[0])
    assert counts["connected"] >= min(ATTACKS[kind][0], 8), counts
    assert len(taken) > 20
    late = sorted(taken)[int(len(taken) * 0.99)]
    assert late < MOST_P99_S, f"{late:.3f} s, {counts}"
    assert rss < MOST_RSS, f"{rss / 2**20:.0f} MiB"
    assert worker.is_running()


def test_after_all_of_that_a_sigterm_ends_the_service(attacked):
    url, process, log = attacked
    port = url.rpartition(":")[2]
    kinds = ("unread answers", "dripped bodies")
    command = [sys.executable, "-m", "churn_assets_tests.hostile.attacks", port]
    attackers = [subprocess.Popen([*command, kind, "20", "100"], cwd=ROOT, stdout=subprocess.DEVNULL) for kind in kinds]
    time.sleep(1.5)  # for them to begin
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert time.monotonic() - start < 30
    for attacker in attackers:
        attacker.kill()
        attacker.wait()
    assert "Traceback" not in log.read_text()
