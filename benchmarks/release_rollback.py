"""How long the way back takes: a canary whose challenger begins to fail.

    python -m benchmarks.release_rollback [rounds]

Each round has a home and a service of two workers of its own, with the settings that a service has by default. The
challenger answers one half of the customers. After good rows, four batches have 400 customers that it refuses; two
clients go on asking for a customer of the challenger, over a new connection each time, so that both workers answer. The
clock starts before the last bad batch is sent. It stops when `policy.json` is back at the champion, and at the last row
of the log that the challenger has answered. Ends with 1 if a request fails, or a way back takes 5 seconds.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np

from churn_assets.prediction_log.records import Prediction
from churn_assets.prediction_log.warehouse.read import LogCounts, segment_lines, segment_names
from churn_assets.release.policy import read_policy
from churn_assets_tests.serving.releases.bad_canary import BadCanary, until

LIMIT_S = 5.0
AFTER_S = 1.5  # for which the clients go on asking: three times as long as workers need to see the policy
CLIENTS = 2
DEFAULT = {"CHURN_POLL_S": "0.5"}  # the helper of the tests looks more often
DECODE = msgspec.json.Decoder(Prediction).decode


@dataclass(frozen=True)
class Round:
    """Seconds from the last bad request, and from the first one; answers of a row of the challenger meanwhile."""

    policy_s: float
    row_s: float
    whole_s: float
    answers: int
    fewest: int  # rows of the worker that answered fewer, once it had turned bad


class Client(threading.Thread):
    """Asks for one customer again and again, until `stop`; keeps what was not answered with 200."""

    def __init__(self, url: str, row: dict[str, object], stop: threading.Event) -> None:
        super().__init__()
        self._address, self._body, self._stop_asking = url.removeprefix("http://"), json.dumps(row), stop
        self.answers, self.failed = 0, []

    def run(self) -> None:
        """Ask, over a new connection each time."""
        while not self._stop_asking.is_set():
            connection = http.client.HTTPConnection(self._address, timeout=10)
            try:
                connection.request("POST", "/predict", self._body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
                self.answers += 1
                if response.status != 200:
                    self.failed.append(f"status {response.status}")
            except OSError as error:
                self.failed.append(repr(error))
            finally:
                connection.close()
            time.sleep(0.01)  # a steady rate, not the most that a worker can do


def answered_rows(predlog: Path) -> Iterator[tuple[str, Prediction]]:
    """(process id of the worker, row) of each answer in the log."""
    for name in segment_names(predlog):
        for line in segment_lines(predlog, name, LogCounts()) or ():
            if b'"kind":"prediction"' in line.json:
                yield name.split("-")[1], DECODE(line.json)


def measure(folder: Path) -> Round:
    canary, stop = BadCanary(folder), threading.Event()
    with canary.served(DEFAULT) as url:
        clients = [Client(url, canary.row_of_challenger, stop) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            time.sleep(0.5)  # so that the challenger is answering when it turns bad
            first, last = canary.turn_bad()
            until(lambda: read_policy(canary.home.path).kind == "champion", 60, look_s=0.002)
            back = time.time()
            time.sleep(AFTER_S)  # for rows that the challenger would still answer
        finally:
            stop.set()
            for client in clients:
                client.join()
    if failed := [failure for client in clients for failure in client.failed]:
        raise SystemExit(f"{len(failed)} requests failed, the first with {failed[0]}")
    row_at, workers = 0.0, Counter[str]()
    for worker, row in answered_rows(canary.home.path / "predlog"):
        at = datetime.fromisoformat(row.scored_at).timestamp()
        if row.model_version == canary.challenger:
            row_at = max(row_at, at)
        if at > back and row.customer_id == canary.row_of_challenger["id"]:
            workers[worker] += 1
    if len(workers) < 2:
        raise SystemExit(f"rows of {len(workers)} workers are in the log after the way back, expected 2")
    asked = sum(client.answers for client in clients)
    return Round(back - last, max(0.0, row_at - last), max(back, row_at) - first, asked, min(workers.values()))


def main(rounds: int = 10) -> str:
    """The figures, as lines; `SystemExit` if a request failed or the way back took too long."""
    measured = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            measured.append(measure(Path(folder)))
    lines = [
        f"{rounds} rounds, 2 workers, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; "
        f"{sum(own.answers for own in measured):,} single requests, 0 failed; each worker answered at least "
        f"{min(own.fewest for own in measured)} of them after the way back"
    ]
    figures = {
        "policy.json is back at the champion": [own.policy_s for own in measured],
        "the last row that the challenger answered": [own.row_s for own in measured],
        "the later of both, from the first bad request": [own.whole_s for own in measured],
    }
    for name, seconds in figures.items():
        lines.append(f"{name}: {np.median(seconds):.2f} s (median), {min(seconds):.2f} to {max(seconds):.2f} s")
    if max(own.whole_s for own in measured) >= LIMIT_S:
        raise SystemExit("\n".join([*lines, f"expected less than {LIMIT_S:g} s"]))
    return "\n".join(lines)


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
