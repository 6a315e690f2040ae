"""How long a page of the dashboard takes on a home with a million logged predictions.

    python -m benchmarks.dashboard [predictions] [rounds]

The home is that of churn_assets_tests/fixtures, its log repeated to so many predictions over 60 days: each has a
request of its own, nine in ten are of a new customer, and a tenth has feedback. Each page is asked in this process, as
HTML: at first for a new copy of the log (a new dashboard, nothing kept), then again, then in another dashboard whose
follower has prepared the pages for the copy. Times are milliseconds, the median of the rounds; CPU is that of all
threads, which another job on the machine does not lengthen.
"""

from __future__ import annotations

import datetime as dt
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import duckdb
import httpx

from churn_assets.contract.load import load_contract
from churn_assets.dashboard.follower import LogFollower
from churn_assets.prediction_log.schema import migrate
from churn_assets.settings import Settings
from churn_assets_tests.dashboard.browser import NOW, visit
from churn_assets_tests.dashboard.test_pages import PATHS
from churn_assets_tests.test_home_0_1 import unpack

DAYS = 60
OWN = {  # what differs from one repeat to the next
    "seq": "seq + i * 10000000",
    "prediction_id": "prediction_id || '-' || i",
    "request_id": "prediction_id || '-' || i",
    "customer_id": "CASE WHEN i % 10 = 0 THEN customer_id ELSE customer_id || '-' || i END",
    "latency_us": "latency_us * (0.5 + hash(seq, i) % 1000 / 1000)",
    "scored_at": "scored_at - to_minutes(CAST(i * {step} AS BIGINT)) - to_seconds(seq % 3600)",
}


def home_with(folder: Path, predictions: int) -> Settings:
    """The home with a log of so many predictions."""
    settings = unpack(folder)
    published, copy = settings.warehouse_dir / "published.duckdb", settings.warehouse_dir / "copy.duckdb"
    copy.write_bytes(published.read_bytes())
    with duckdb.connect(str(copy)) as log:
        migrate(log, load_contract(settings.contract_path))
        (rows,) = log.execute("SELECT count(*) FROM predictions").fetchall()[0]
        repeats = max(1, predictions // rows)
        names = [name for name, *_ in log.execute("DESCRIBE predictions").fetchall()]
        step = DAYS * 24 * 60 / repeats
        columns = ", ".join(
            f"{OWN[name].format(step=step)} AS {name}" if name in OWN else f'"{name}"' for name in names
        )
        log.execute(f"INSERT INTO predictions SELECT {columns} FROM predictions, range(1, {repeats}) r(i)")
        log.execute(
            "INSERT INTO feedback (feedback_id, seq, request_id, prediction_id, churned, observed_at, received_at, "
            "segment) SELECT 'f-' || prediction_id, seq, request_id, prediction_id, decision, scored_at, scored_at, "
            "segment FROM predictions WHERE seq % 10 = 0"
        )
        (total,) = log.execute("SELECT count(*) FROM predictions").fetchall()[0]
        log.execute("CHECKPOINT")
    copy.replace(published)
    print(f"{total:,} predictions in a copy of {published.stat().st_size / 1e6:.0f} MB")
    return settings


@dataclass(frozen=True)
class Took:
    """Milliseconds until a page was there: on the clock, and of CPU."""

    wall: float
    cpu: float


def took(client: httpx.Client, path: str) -> Took:
    """How long a page takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    response = client.get(path)
    assert response.status_code == 200, response.text
    return Took(1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu))


def shown(times: list[Took]) -> str:
    """The medians."""
    wall, cpu = (statistics.median(getattr(one, name) for one in times) for name in ("wall", "cpu"))
    return f"{wall:.0f} ms (CPU {cpu:.0f})"


def main() -> None:
    predictions, rounds = (int(text) for text in (*sys.argv[1:], *("1000000", "5")[len(sys.argv) - 1 :]))
    paths = {**{path: page for path, (page, _) in PATHS.items()}, "/monitoring, 30 days": "/monitoring?days=30"}
    times: dict[tuple[str, str], list[Took]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        settings = home_with(Path(folder), predictions)
        visit(settings).client.get("/try")  # imports are no part of a page
        for number in range(rounds):
            now = NOW + dt.timedelta(seconds=number)
            for path, page in paths.items():
                client = visit(settings, now).client
                client.get("/livez")
                times[path, "first"].append(took(client, page))
                times[path, "again"].append(took(client, page))
            followed = visit(settings, now)
            follower = LogFollower(followed.dashboard.sources)
            wall, cpu = time.perf_counter(), time.process_time()
            follower.step(followed.dashboard.sources.log.asked_s)
            prepared = Took(1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu))
            times["all pages", "prepared"].append(prepared)
            for path, page in paths.items():
                times[path, "followed"].append(took(followed.client, page))
    for path in paths:
        print(
            path, ", ".join(f"{name} {shown(times[path, name])}" for name in ("first", "again", "followed")), sep=": "
        )
    print(f"a follower prepares the pages for a new copy in {shown(times['all pages', 'prepared'])}")


if __name__ == "__main__":
    main()
