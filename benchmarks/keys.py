"""What an API key costs: `/predict` with a key beside `/predict` of a home that has none.

    python -m benchmarks.keys [rounds] [seconds a round]

Two services of this checkout answer with the same bundle, the champion of CHURN_HOME (else one trained on 6,000
generated customers), from homes of their own: one with 100 keys, whose clients send one of them, and one without. Each
client asks one, then the other, so that both work in the same seconds and whatever else the machine does meets both.
The ratio of a round is with a key divided by without.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.serving import OURS, ROW, Variant, cpu_seconds, home_with_champion, running
from benchmarks.two_checkouts import CLIENTS, Pair, champion_bundle, free_port
from churn_assets.access.keys import KeyStore

KEYS = 100


def start_service(folder: Path, keys: int, stack: ExitStack) -> tuple[int, bytes, psutil.Process]:
    """A service on a home with so many keys: its port, a request to it, and its process."""
    folder.mkdir()
    port, key = free_port(), ""
    for _ in range(keys):
        key = KeyStore(folder).create("benchmark", ["predict"], dt.timedelta(days=1), dt.datetime.now(dt.UTC))[1]
    command = [sys.executable, "-m", "bentoml", "serve", OURS, "--port", str(port), "--host", "127.0.0.1"]
    environ = {"CHURN_HOME": str(folder), "CHURN_BUNDLE": str(champion_bundle())}
    process = stack.enter_context(running(Variant(folder.name, command, environ, key=key), port, folder))
    body = json.dumps(ROW).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    return port, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body, process


async def ask_in_turns(
    ports: Sequence[int], requests: Sequence[bytes], until: float, taken: Sequence[list[float]]
) -> None:
    """One client: a connection to each service, one request to each in turns; seconds of each answer."""
    lines = [await asyncio.open_connection("127.0.0.1", port) for port in ports]
    side = 0
    while time.perf_counter() < until or side:
        reader, writer = lines[side]
        start = time.perf_counter()
        writer.write(requests[side])
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        taken[side].append(time.perf_counter() - start)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"the answer is {head.splitlines()[0]!r}, expected 200")
        side = 1 - side
    for _, writer in lines:
        writer.close()


async def one_round(ports: Sequence[int], requests: Sequence[bytes], clients: int, seconds: float) -> list[list[float]]:
    taken: list[list[float]] = [[], []]
    until = time.perf_counter() + seconds
    await asyncio.gather(*(ask_in_turns(ports, requests, until, taken) for _ in range(clients)))
    return taken


def main(rounds: int = 30, seconds: int = 2) -> str:
    lines = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home_with_champion(Path(folder))
        services = [start_service(Path(folder, name), keys, stack) for name, keys in (("keys", KEYS), ("open", 0))]
        ports, requests, processes = zip(*services, strict=True)
        asyncio.run(one_round(ports, requests, CLIENTS[-1], 2))  # warm
        for clients in CLIENTS:
            cpu: tuple[list[float], list[float]] = ([], [])
            p50: tuple[list[float], list[float]] = ([], [])
            for _ in range(rounds):
                before = [cpu_seconds(process) for process in processes]
                taken = asyncio.run(one_round(ports, requests, clients, seconds))
                for side, process in enumerate(processes):
                    used = (cpu_seconds(process) - before[side]) / len(taken[side])
                    cpu[side].append(used)
                    p50[side].append(statistics.median(taken[side]))
            lines.append(Pair(*cpu).line(f"/predict with a key, {clients} clients", "us CPU", 1e6))
            lines.append(Pair(*p50).line(f"/predict with a key, {clients} clients", "ms p50", 1e3))
    return "\n".join(lines)


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
