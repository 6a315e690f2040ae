"""How long a page of the dashboard takes on a home with a million logged predictions.

    python -m benchmarks.dashboard [predictions] [rounds] [folder]

The home is that of churn_assets_tests/fixtures, its log repeated to so many predictions over the last 60 days: each has
a request of its own, nine in ten are of a new customer, and a tenth has feedback. With a `folder` it is kept there.

Each page with each of its choices is asked in this process, as HTML: by a new dashboard that keeps nothing yet, then
for a new copy of the log (what a visitor waits for whose choice the follower has not prepared), with the slowest of its
questions to the log, then again. Then `churn dashboard` is started as a process of its own, and Chromium opens the
first page: at once, and when the follower has prepared the pages. Times are wall clock, median and largest of the
rounds; CPU is of the process of the dashboard.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import duckdb
import httpx
import psutil

from churn_assets.contract.load import load_contract
from churn_assets.prediction_log.schema import migrate
from churn_assets.prediction_log.warehouse.published import PublishedLog
from churn_assets.settings import Settings
from churn_assets_tests.dashboard.browser import visit
from churn_assets_tests.dashboard.in_browser.chromium import CHROMIUM, OPTIONS
from churn_assets_tests.dashboard.reports import write_figures
from churn_assets_tests.dashboard.test_pages import PATHS
from churn_assets_tests.serving.client import free_port
from churn_assets_tests.test_home_0_1 import CHAMPION, WAITING, environ, unpack

T = TypeVar("T")

_USABLE_MS = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
DAYS = 60
OWN = {  # what differs from one repeat to the next
    "seq": "seq + i * 10000000",
    "prediction_id": "prediction_id || '-' || i",
    "request_id": "prediction_id || '-' || i",
    "customer_id": "CASE WHEN i % 10 = 0 THEN customer_id ELSE customer_id || '-' || i END",
    "latency_us": "latency_us * (0.5 + hash(seq, i) % 1000 / 1000)",
    "scored_at": "scored_at - to_minutes(CAST(i * {step} AS BIGINT)) - to_seconds(seq % 3600)",
}
CHOICES = (
    "/calls?capacity=100&budget=500",
    "/calls?column=favday&level=Monday&planned=1",
    "/calls?band=low&reason=no+order",
    "/monitoring?days=1",
    "/monitoring?days=30",
    "/monitoring?window=1",
    "/monitoring?every=1",
    f"/monitoring?version={CHAMPION}&days=30",
    "/monitoring?segment=favday%3DMonday&days=30",
    f"/monitoring?version={CHAMPION}&segment=favday%3DMonday&days=30",
    "/try?sample=high",
    f"/models/{WAITING}",
)


def home_with(folder: Path, predictions: int) -> Settings:
    """The home with a log of so many predictions, the newest of them a minute old."""
    settings = unpack(folder)
    for version in (CHAMPION, WAITING):
        write_figures(settings, version)
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
        log.execute(
            "UPDATE predictions SET scored_at = scored_at + ($now - (SELECT max(scored_at) FROM predictions))",
            {"now": dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(minutes=1)},
        )
        (total,) = log.execute("SELECT count(*) FROM predictions").fetchall()[0]
        log.execute("CHECKPOINT")
    copy.replace(published)
    print(f"{total:,} predictions in a copy of {published.stat().st_size / 1e6:.0f} MB")
    return settings


class TimedLog(PublishedLog):
    """The log of a home, with the time that each question takes."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.slowest = (0.0, 0.0)  # wall clock and CPU, ms

    def ask(self, key: Hashable, question: Callable[[duckdb.DuckDBPyConnection], T]) -> T | None:
        def timed(connection: duckdb.DuckDBPyConnection) -> T:
            start, cpu = time.perf_counter(), time.process_time()
            answer = question(connection)
            took = 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - cpu)
            self.slowest = max(self.slowest, took)
            return answer

        return super().ask(key, timed)


@dataclass
class Times:
    """Milliseconds of a page, a round each: of a new dashboard, wall clock and CPU for a new copy of the log, its
    slowest question, and again."""

    cold: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    question: list[float] = field(default_factory=list)
    question_cpu: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        slowest = f"its slowest question {_of(self.question)}, {statistics.median(self.question_cpu):.0f} CPU"
        return (
            f"new copy {_of(self.first)}, {statistics.median(self.cpu):.0f} CPU; {slowest}; again {_of(self.again)}; "
            f"new dashboard {_of(self.cold)}"
        )


def _of(times: list[float]) -> str:
    return f"{statistics.median(times):.0f} ms (largest {max(times):.0f})"


def ask(client: httpx.Client, path: str) -> tuple[float, float]:
    """Milliseconds until the page is there, wall clock and CPU."""
    start, cpu = time.perf_counter(), time.process_time()
    response = client.get(path)
    assert response.status_code == 200, response.text
    return 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - cpu)


def measure_pages(settings: Settings, rounds: int) -> dict[str, Times]:
    """Each page with each of its choices."""
    measured: dict[str, Times] = {}
    for path in (*(page for page, _ in PATHS.values()), *CHOICES):
        times = measured[path] = Times()
        for _ in range(rounds):
            visitor = visit(settings, dt.datetime.now(dt.UTC))
            visitor.client.get("/livez")
            times.cold.append(ask(visitor.client, path)[0])
            log = visitor.dashboard.sources.log = TimedLog(settings)
            first, cpu = ask(visitor.client, path)
            times.first.append(first)
            times.cpu.append(cpu)
            times.question.append(log.slowest[0])
            times.question_cpu.append(log.slowest[1])
            times.again.append(ask(visitor.client, path)[0])
    return measured


@contextlib.contextmanager
def started(settings: Settings) -> Iterator[tuple[str, psutil.Process]]:
    """`churn dashboard` on a free port, once it listens."""
    port = free_port()
    command = [sys.executable, "-m", "churn_assets.cli", "dashboard", "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, **environ(settings.home.parent)}, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{url}/livez")
                break
            time.sleep(0.01)  # between two attempts to reach a server that starts
        yield url, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def measure_first_page(settings: Settings, rounds: int) -> None:
    """The first page in Chromium: until it can be read and its scripts have run, and until its curve is drawn."""
    from playwright.sync_api import sync_playwright

    names = ("at once after the start", "once the follower has prepared the pages")
    usable: dict[str, list[float]] = {name: [] for name in names}
    drawn: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        for _ in range(rounds):
            with started(settings) as (url, process):
                for name in names:
                    if name == names[1]:
                        time.sleep(15)  # for the follower to prepare the pages, of which no page says that it has
                    context, before = browser.new_context(), cpu_s(process)
                    page = context.new_page()
                    page.goto(url)
                    page.wait_for_function("() => document.querySelector('.series[data-ready]') !== null")
                    usable[name].append(page.evaluate(_USABLE_MS))
                    drawn[name].append(page.evaluate("performance.now()"))
                    cpu[name].append(1000 * (cpu_s(process) - before))
                    context.close()
        browser.close()
    for name in names:
        print(
            f"/ in Chromium, {name}: usable after {_of(usable[name])}, curve drawn after {_of(drawn[name])}, "
            f"{statistics.median(cpu[name]):.0f} ms CPU"
        )


def main() -> None:
    texts = (*sys.argv[1:], *("1000000", "5", "")[len(sys.argv) - 1 :])
    predictions, rounds = int(texts[0]), int(texts[1])
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(texts[2] or temporary)
        if (folder / "home").is_dir():
            settings = Settings.from_environ({**os.environ, **environ(folder)})
        else:
            folder.mkdir(exist_ok=True)
            settings = home_with(folder, predictions)
        for path, times in measure_pages(settings, rounds).items():
            print(f"{path}: {times}", flush=True)
        if CHROMIUM is not None:
            measure_first_page(settings, rounds)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
