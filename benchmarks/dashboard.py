"""How long a page of the dashboard takes on a home with a million logged predictions.

    python -m benchmarks.dashboard [predictions] [rounds]

The home is that of churn_assets_tests/fixtures, its log repeated to so many predictions over 60 days: each has a
request of its own, nine in ten are of a new customer, and a tenth has feedback. Each page is asked in this process, as
HTML: at first for a new copy of the log (a new dashboard, nothing kept), then again. The times are wall clock, median
and largest of the rounds.
"""

from __future__ import annotations

import datetime as dt
import statistics
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import httpx

from churn_assets.contract.load import load_contract
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


def took_ms(client: httpx.Client, path: str) -> float:
    """Milliseconds until the page is there."""
    start = time.perf_counter()
    response = client.get(path)
    assert response.status_code == 200, response.text
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    predictions, rounds = (int(text) for text in (*sys.argv[1:], *("1000000", "5")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        settings = home_with(Path(folder), predictions)
        first: dict[str, list[float]] = {}
        again: dict[str, list[float]] = {}
        for number in range(rounds):
            for path, (page, _) in PATHS.items():
                visitor = visit(settings, NOW + dt.timedelta(seconds=number))
                visitor.client.get("/livez")
                first.setdefault(path, []).append(took_ms(visitor.client, page))
                again.setdefault(path, []).append(took_ms(visitor.client, page))
    for path in PATHS:
        times = (f"{statistics.median(t[path]):.0f} ms (largest {max(t[path]):.0f})" for t in (first, again))
        print("{}: first {}, again {}".format(path, *times))


if __name__ == "__main__":
    main()
