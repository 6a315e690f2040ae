"""What a shadow costs those who are answered.

    python -m benchmarks.release_shadow [rounds] [requests a second]

One service with one worker is asked at a steady rate over 16 connections, in turns of some seconds under the champion
alone and under a policy that shadows, with the order changed each round; between two turns the policy is written or
removed, as a release does it. The challenger is the champion with another calibration, so that it costs as much. Ratios
are of shadowed to alone, round by round. CPU is the worker's alone; the process has a line of its own. "Idle" is the
share of all cores that nobody used in a turn: without a free core the shadow waits, by its priority, and so do the
clients and whatever else runs.
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
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil

from benchmarks.customers import AS_OF, CONTRACT, typed
from benchmarks.serving import OURS, ROW, Variant, home_with_champion, running
from benchmarks.two_checkouts import free_port
from churn_assets.promotion.pointer import read_champion, require_champion
from churn_assets.release.counts import ReleaseCounts, read_counts, seconds_of
from churn_assets.release.policy import CHALLENGER, CHAMPION, POLICY, Policy, PolicyArm, write_policy
from churn_assets.scoring.bundle import load_bundle, write_bundle
from churn_assets.scoring.calibration import Platt
from churn_assets.settings import Settings
from churn_assets.storage.sealed import bundle_hash

CONNECTIONS = 16
TURN_S = 8.0
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


def shadows_of(service: psutil.Process) -> list[psutil.Process]:
    return [child for child in service.children(recursive=True) if SHADOW in child.cmdline()]


def worker_of(service: psutil.Process, port: int) -> psutil.Process:
    """The process that answers: the one that has used the most CPU."""
    asyncio.run(Clients(port, 200.0).ask(1.0))
    family = [child for child in service.children(recursive=True) if child not in shadows_of(service)]
    return max(family, key=lambda child: sum(child.cpu_times()[:2]))


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


def quantile_us(counts: ReleaseCounts, arm: str, share: float) -> float:
    """A quantile of an arm's scoring times, in microseconds."""
    bins = sorted(counts.arms[arm].seconds.items())
    sums = np.cumsum([rows for _, rows in bins])
    return seconds_of(bins[int(np.searchsorted(sums, share * sums[-1]))][0]) * 1e6


def main(rounds: int = 12, per_second: float = 400.0) -> str:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        home_with_champion(scratch)
        home, policy = home_of(scratch)
        assert read_champion(home) is not None
        port = free_port()
        command = [sys.executable, "-m", "bentoml", "serve", OURS, "--port", str(port), "--host", "127.0.0.1"]
        turns: dict[bool, list[Turn]] = {False: [], True: []}
        memory, shadow_s, asked = [], 0.0, 0
        with running(Variant("shadowed", command, {"CHURN_HOME": str(home)}), port, scratch) as service:
            worker, clients = worker_of(service, port), Clients(port, per_second)
            grown = worker.memory_info().rss
            for number in range(-1, rounds):  # the first warms up
                for is_shadowed in (False, True) if number % 2 else (True, False):
                    if is_shadowed:
                        write_policy(home, policy)
                        until(lambda: shadows_of(service), "the start of the shadow")
                        until(lambda: _is_ready(home, policy, shadows_of(service)[0].pid), "the load of both models")
                        own = shadows_of(service)[0]
                        used = sum(own.cpu_times()[:2])
                    else:
                        (home / POLICY).unlink(missing_ok=True)
                        until(lambda: not shadows_of(service), "the end of the shadow")
                        time.sleep(1.0)  # the worker frees what it had loaded
                    measured = turn(clients, worker, TURN_S if number >= 0 else 2.0)
                    if is_shadowed and number >= 0:
                        time.sleep(1.2)  # what is in the pipe is scored, and its counts are written
                        shadow_s += sum(own.cpu_times()[:2]) - used
                        memory.append(own.memory_info().rss)
                        asked += len(measured.taken)
                    if number >= 0:
                        turns[is_shadowed].append(measured)
            grown = worker.memory_info().rss - grown
        counts = read_counts(home, policy.id)
    return "\n".join(_report(turns, counts, per_second, max(memory), shadow_s / asked, grown))


def _is_ready(home: Path, policy: Policy, pid: int) -> bool:
    """It writes counts, of nothing, once it has loaded both models."""
    return any((home / "releases" / policy.id).glob(f"shadow-{pid}-*.json"))


def _report(
    turns: dict[bool, list[Turn]], counts: ReleaseCounts, per_second: float, memory: int, shadow_s: float, grown: int
) -> list[str]:
    alone, shadowed = turns[False], turns[True]
    lines = [
        f"{len(alone)} rounds of 2 turns of {TURN_S:g} s, {per_second:g} requests/s, 1 worker, {os.cpu_count()} cores, "
        f"load average {os.getloadavg()[0]:.1f}, idle {np.mean([t.idle for t in alone]):.0%} alone and "
        f"{np.mean([t.idle for t in shadowed]):.0%} shadowed; contract {CONTRACT.name}"
    ]
    for name, figure in (
        ("p50", lambda t: t.ms(50)),
        ("p95", lambda t: t.ms(95)),
        ("p99", lambda t: t.ms(99)),
        ("CPU of the worker a request, us", lambda t: t.cpu_us),
    ):
        ratios = sorted(figure(b) / figure(a) for a, b in zip(alone, shadowed, strict=True))
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        unit = "" if "us" in name else " ms"
        lines.append(
            f"{name}: {np.median([figure(t) for t in alone]):.3g}{unit} alone, "
            f"{np.median([figure(t) for t in shadowed]):.3g}{unit} shadowed, ratio {middle:.3f} "
            f"(quartiles {low:.3f} to {high:.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f})"
        )
    pooled = [float(np.percentile(np.concatenate([t.taken for t in side]), 99)) * 1e3 for side in (alone, shadowed)]
    pairs = counts.pairs
    lines += [
        f"p99 of all requests together: {pooled[0]:.3g} ms alone, {pooled[1]:.3g} ms shadowed, "
        f"ratio {pooled[1] / pooled[0]:.3f}",
        f"the shadow process: {memory / 2**20:.0f} MB, {shadow_s * 1e6:.0f} us CPU a row; {pairs.rows:,} rows scored, "
        f"{pairs.dropped:,} dropped; the worker grew by {grown / 2**20:.1f} MB in all",
        f"scoring times there: champion p50 {quantile_us(counts, CHAMPION, 0.5):.0f} us, challenger "
        f"{quantile_us(counts, CHALLENGER, 0.5):.0f} us; p99 {quantile_us(counts, CHAMPION, 0.99):.0f} and "
        f"{quantile_us(counts, CHALLENGER, 0.99):.0f} us",
    ]
    return lines


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(main(*map(int, arguments[:1]), *map(float, arguments[1:])))
