"""What a shadow costs those who are answered.

    python -m benchmarks.release_shadow [rounds] [requests a second] [first]

One service with one worker is asked at a steady rate over 16 connections, in turns of some seconds under the champion
alone, under a policy that shadows, and under one whose shadow process is stopped (SIGSTOP), with the order changed each
round; between two turns the policy is written or removed, as a release does it. The challenger is the champion with
another calibration, so that it costs as much. Ratios are of a side to alone, round by round. CPU is the worker's alone;
the process has a line of its own. "Idle" is the share of all cores that nobody used in a turn: without a free core the
shadow waits, by its priority, and so do the clients and whatever else runs. On a machine with other work `first` puts
clients and worker, and then the shadow, before it, by the system's real-time class (as root); the disk is shared then.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil

from benchmarks.customers import AS_OF, CONTRACT, typed
from benchmarks.serving import OURS, ROW, Variant, home_with_champion, running
from benchmarks.two_checkouts import free_port
from churn_assets.promotion.pointer import require_champion
from churn_assets.release.counts import ReleaseCounts, read_counts, seconds_of
from churn_assets.release.policy import CHALLENGER, CHAMPION, POLICY, Policy, PolicyArm, write_policy
from churn_assets.scoring.bundle import load_bundle, write_bundle
from churn_assets.scoring.calibration import Platt
from churn_assets.settings import Settings
from churn_assets.storage.sealed import bundle_hash

CONNECTIONS = 16
TURN_S = 8.0
QUEUE = 500  # rows, so that a process that is stopped fills it
ALONE, SHADOWED, STOPPED = SIDES = ("alone", "shadowed", "stopped")
SHADOW = "churn_assets.serving.shadow.process"


@dataclass(frozen=True)
class Turn:
    """Latencies in seconds; CPU seconds of the worker; the idle share of the machine."""

    taken: Sequence[float]
    worker_s: float
    idle: float

    def ms(self, percent: float) -> float:
        return float(np.percentile(self.taken, percent)) * 1e3

    @property
    def cpu_us(self) -> float:
        return self.worker_s / len(self.taken) * 1e6


def home_of(scratch: Path) -> tuple[Path, Policy]:
    """A copy of the champion's home with a challenger, and the policy that shadows it."""
    source = Settings.from_environ(os.environ).home
    champion, home = require_champion(source), scratch / "served"
    (home / "bundles").mkdir(parents=True)
    shutil.copytree(champion.path(source), home / champion.bundle)
    shutil.copy(source / "champion.json", home / "champion.json")
    scorer = load_bundle(champion.path(source))
    other = write_bundle(
        home / "bundles",
        dataclasses.replace(scorer, calibration=Platt(0.9, -0.1)),
        card={"metrics": {}, "as_of": str(AS_OF)},
        golden=typed(40, 8),
        as_of=str(AS_OF),
        reference=typed(50, 9),
        provenance={},
    )
    bundles = {CHALLENGER: (other, 0.0), CHAMPION: (champion.path(home), 1.0)}
    arms = tuple(
        PolicyArm(name, path.name, str(path.relative_to(home)), bundle_hash(path), weight)
        for name, (path, weight) in bundles.items()
    )
    return home, Policy("r000001", "shadow", arms, "5a17", "benchmark", "to measure", datetime.now(UTC))


class Clients:
    """Requests at a steady rate over kept connections."""

    def __init__(self, port: int, per_second: float) -> None:
        self._port, self._per_second = port, per_second
        body = json.dumps(ROW).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def ask(self, seconds: float) -> list[float]:
        taken: list[float] = []
        start = time.perf_counter() + 0.05
        number = iter(range(int(seconds * self._per_second)))

        async def one() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            for place in number:
                await asyncio.sleep(max(0.0, start + place / self._per_second - time.perf_counter()))
                sent = time.perf_counter()
                writer.write(self._request)
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    raise SystemExit(f"the answer is {head[:60]!r}, expected 200")
                size = next(
                    int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
                )
                await reader.readexactly(size)
                taken.append(time.perf_counter() - sent)
            writer.close()

        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
        return taken


def worker_of(service: psutil.Process, port: int) -> psutil.Process:
    """The process that answers: the one that has used the most CPU."""
    asyncio.run(Clients(port, 200.0).ask(1.0))
    return max(service.children(recursive=True), key=lambda child: sum(child.cpu_times()[:2]))


def turn(clients: Clients, worker: psutil.Process, seconds: float) -> Turn:
    before, idle = sum(worker.cpu_times()[:2]), psutil.cpu_times().idle
    start = time.perf_counter()
    taken = asyncio.run(clients.ask(seconds))
    passed = time.perf_counter() - start
    share = (psutil.cpu_times().idle - idle) / passed / (os.cpu_count() or 1)
    return Turn(taken, sum(worker.cpu_times()[:2]) - before, share)


def until(holds, what: str) -> None:
    end = time.monotonic() + 60
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not happen within 60 seconds")
        time.sleep(0.05)  # between two looks at the service's processes and files


def put_first(pid: int, priority: int) -> None:
    """Have every thread of a process run before those of the usual class."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(priority))


def quantile_us(counts: ReleaseCounts, arm: str, share: float) -> float:
    """A quantile of an arm's scoring times, in microseconds."""
    bins = sorted(counts.arms[arm].seconds.items())
    sums = np.cumsum([rows for _, rows in bins])
    return seconds_of(bins[int(np.searchsorted(sums, share * sums[-1]))][0]) * 1e6


class Service:
    """A service with one worker on a home, and its shadow."""

    def __init__(self, home: Path, policy: Policy, process: psutil.Process) -> None:
        self._home, self._policy, self._process = home, policy, process

    def shadows(self) -> list[psutil.Process]:
        """At most one, but while one ends."""
        return [child for child in self._process.children(recursive=True) if SHADOW in child.cmdline()]

    def answer_alone(self) -> None:
        (self._home / POLICY).unlink(missing_ok=True)
        until(lambda: not self.shadows(), "the end of the shadow")

    def start_shadow(self) -> psutil.Process:
        """The process, once it has loaded both models: then it writes counts, of nothing."""
        write_policy(self._home, self._policy)
        until(lambda: self.shadows(), "the start of the shadow")
        (own,) = self.shadows()
        folder = self._home / "releases" / self._policy.id
        until(lambda: any(folder.glob(f"shadow-{own.pid}-*.json")), "the load of both models")
        return own


def main(rounds: int = 12, per_second: float = 400.0, is_first: bool = False) -> str:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        home_with_champion(scratch)
        home, policy = home_of(scratch)
        port = free_port()
        command = [sys.executable, "-m", "bentoml", "serve", OURS, "--port", str(port), "--host", "127.0.0.1"]
        environ = {"CHURN_HOME": str(home), "CHURN_SHADOW_QUEUE": str(QUEUE)}
        turns: dict[str, list[Turn]] = {side: [] for side in SIDES}
        memory, shadow_s = 0, 0.0
        with running(Variant("shadowed", command, environ), port, scratch) as process:
            clients, service = Clients(port, per_second), Service(home, policy, process)
            worker = worker_of(process, port)
            for number in range(-1, rounds):  # the first warms up
                for side in SIDES if number % 2 else reversed(SIDES):
                    service.answer_alone()
                    own = service.start_shadow() if side != ALONE else None
                    used = sum(own.cpu_times()[:2]) if own else 0.0
                    if is_first:
                        for pid, priority in ((os.getpid(), 2), (worker.pid, 2), *([(own.pid, 1)] if own else [])):
                            put_first(pid, priority)
                    if side == STOPPED and own:
                        own.suspend()
                    time.sleep(1.0)  # what starting and ending a process costs is not what it costs to have one
                    measured = turn(clients, worker, TURN_S if number >= 0 else 2.0)
                    if side == STOPPED and own:
                        own.resume()
                    time.sleep(1.5)  # what is in the pipe is scored, and its counts are written
                    if number < 0:
                        continue
                    turns[side].append(measured)
                    if side == SHADOWED and own:
                        shadow_s += sum(own.cpu_times()[:2]) - used
                        memory = max(memory, own.memory_info().rss)
            service.answer_alone()
        counts = read_counts(home, policy.id)
    asked = sum(len(measured.taken) for measured in turns[SHADOWED])
    return "\n".join(_report(turns, counts, per_second, memory, shadow_s / asked))


def _report(
    turns: Mapping[str, Sequence[Turn]], counts: ReleaseCounts, per_second: float, memory: int, shadow_s: float
) -> list[str]:
    idle = ", ".join(f"{np.mean([t.idle for t in own]):.0%} {side}" for side, own in turns.items())
    lines = [
        f"{len(turns[ALONE])} rounds of 3 turns of {TURN_S:g} s, {per_second:g} requests/s, 1 worker, {os.cpu_count()} "
        f"cores, load average {os.getloadavg()[0]:.1f}, idle: {idle}; contract {CONTRACT.name}"
    ]
    for side in (SHADOWED, STOPPED):
        lines += [
            f"{side}, p50: {_compared(turns, side, lambda t: t.ms(50), 'ms')}",
            f"{side}, p99: {_compared(turns, side, lambda t: t.ms(99), 'ms')}",
            f"{side}, CPU of the worker a request: {_compared(turns, side, lambda t: t.cpu_us, 'us')}",
        ]
    together = {side: float(np.percentile(np.concatenate([t.taken for t in own]), 99)) for side, own in turns.items()}
    lines.append(
        "p99 of all requests of a side: "
        + ", ".join(f"{value * 1e3:.3g} ms {side}" for side, value in together.items())
        + f"; ratio {together[SHADOWED] / together[ALONE]:.3f} shadowed, "
        f"{together[STOPPED] / together[ALONE]:.3f} stopped"
    )
    pairs = counts.pairs
    return [
        *lines,
        f"the shadow process: {memory / 2**20:.0f} MB, {shadow_s * 1e6:.0f} us CPU a row; {pairs.rows:,} rows scored, "
        f"{pairs.dropped:,} dropped while it was stopped",
        f"scoring times there: champion p50 {quantile_us(counts, CHAMPION, 0.5):.0f} us, challenger "
        f"{quantile_us(counts, CHALLENGER, 0.5):.0f} us; p99 {quantile_us(counts, CHAMPION, 0.99):.0f} and "
        f"{quantile_us(counts, CHALLENGER, 0.99):.0f} us",
    ]


def _compared(turns: Mapping[str, Sequence[Turn]], side: str, figure: Callable[[Turn], float], unit: str) -> str:
    """Medians of a figure alone and of a side, and the rounds' ratios."""
    pairs = [(figure(own), figure(alone)) for own, alone in zip(turns[side], turns[ALONE], strict=True)]
    ratios = sorted(own / alone for own, alone in pairs)
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    ours, theirs = np.median(pairs, axis=0)
    return (
        f"{ours:.3g} {unit}, alone {theirs:.3g} {unit}, ratio {middle:.3f} (quartiles {low:.3f} to {high:.3f}, "
        f"{ratios[0]:.3f} to {ratios[-1]:.3f})"
    )


if __name__ == "__main__":
    defaults = ("12", "400")
    given = [text for text in sys.argv[1:] if text != "first"]
    rounds, per_second = (*given, *defaults[len(given) :])
    print(main(int(rounds), float(per_second), "first" in sys.argv))
