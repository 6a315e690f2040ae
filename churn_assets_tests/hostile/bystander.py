"""Another client of a service under attack, and the limits that must hold meanwhile."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from http.client import HTTPConnection

import psutil

from churn_assets_tests.hostile.sockets import address_of
from churn_assets_tests.serving.client import ASKED, ROOT

MOST_RSS = 400 * 2**20
MOST_P99_S = 0.25
MOST_STOP_S = 30


@dataclass(frozen=True)
class Watched:
    """Seconds of each prediction of the other client, ascending; the worker's largest RSS; counts of the attack."""

    taken: list[float]
    rss: int
    counts: dict[str, int]

    @property
    def p99_s(self) -> float:
        """The time that one of a hundred predictions took or more; of fewer than a hundred the longest."""
        return self.taken[int(len(self.taken) * 0.99)]

    @property
    def in_bounds(self) -> bool:
        """Whether memory and the other client's time were."""
        return self.p99_s < MOST_P99_S and self.rss < MOST_RSS


def limit_files() -> None:
    """`ulimit -n 1024`, for the process that calls it."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))


def begin_attack(url: str, kind: str, seconds: float, *connections: str) -> subprocess.Popen[bytes]:
    """An attack, by a process of its own."""
    command = [sys.executable, "-m", "churn_assets_tests.hostile.attacks", str(address_of(url)[1]), kind, str(seconds)]
    return subprocess.Popen([*command, *connections], cwd=ROOT, stdout=subprocess.PIPE)


def watch_attack(url: str, worker: psutil.Process, kind: str, seconds: float) -> Watched:
    """Ask for predictions, each on a new connection, for as long as an attack goes on."""
    attacker = begin_attack(url, kind, seconds)
    taken, rss, body = [], 0, json.dumps(ASKED)
    while attacker.poll() is None:
        start = time.monotonic()
        connection = HTTPConnection(*address_of(url), timeout=10)
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        connection.close()
        taken.append(time.monotonic() - start)
        rss = max(rss, worker.memory_info().rss)
        time.sleep(0.01)  # between two requests of an ordinary client
    return Watched(sorted(taken), rss, json.loads(attacker.communicate()[0]))
