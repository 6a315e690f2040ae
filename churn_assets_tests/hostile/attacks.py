"""Attacks on a service, each by many connections of one process.

    python -m churn_assets_tests.hostile.attacks PORT KIND SECONDS [connections]

Prints how many connections were made and how many of them the service has closed. Stands in for any client that the
service must survive: slow, greedy, or sending as much as it is let.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable

HEAD = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"
PAUSE_S = 0.25

Parts = AsyncIterator[bytes]


async def _drip(first: bytes, byte: bytes) -> Parts:
    yield first
    while True:
        await asyncio.sleep(PAUSE_S)
        yield byte


async def _silence() -> Parts:
    while True:
        await asyncio.sleep(PAUSE_S)
        yield b""


async def _repeat(part: bytes) -> Parts:
    while True:
        yield part


async def _long_head() -> Parts:
    yield b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: "
    for _ in range(60):
        yield b"y" * 2**20


async def _held_body() -> Parts:
    yield HEAD % (b"/predict_batch", 16_000_000)
    for _ in range(15):
        yield b" " * 2**20
    while True:
        await asyncio.sleep(PAUSE_S)
        yield b" "


async def _bodies(path: bytes, body: bytes) -> Parts:
    while True:
        yield HEAD % (path, len(body)) + body
        await asyncio.sleep(PAUSE_S)


def _long_as_of() -> bytes:
    return b'{"as_of": "2014-01-20T00:00:00.%b"}' % (b"0" * 1_000_000)


def _many_values() -> bytes:
    return b'{"customers": [%b{}]}' % (b"{}," * 5_000_000)


_BATCH: list[bytes] = []  # 2,000 customers as the service's document has one: an answer of a megabyte

# kind: (connections, whether answers are read, what a connection sends)
ATTACKS: dict[str, tuple[int, bool, Callable[[], Parts]]] = {
    "idle connections": (2000, True, _silence),
    "slow heads": (300, True, lambda: _drip(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"y")),
    "long heads": (4, True, _long_head),
    "dripped bodies": (300, True, lambda: _drip(HEAD % (b"/predict", 500), b" ")),
    "held bodies": (60, True, _held_body),
    "unread answers": (200, False, lambda: _repeat(GET % b"/docs.json")),
    "unread files": (100, False, lambda: _repeat(GET % b"/static_content/swagger-ui-bundle.js")),
    "unread batches": (20, False, lambda: _bodies(b"/predict_batch", _BATCH[0])),
    "long as_of": (8, True, lambda: _bodies(b"/predict", _long_as_of())),
    "long as_of of batches": (4, True, lambda: _bodies(b"/predict_batch", b'{"customers": [{}], ' + _long_as_of()[1:])),
    "many values": (2, True, lambda: _bodies(b"/predict_batch", _many_values())),
    "not http": (16, True, lambda: _repeat(b"\x16\x03\x01\x02\x00\x01")),
    "pipelined": (16, True, lambda: _repeat(GET % b"/livez" * 3000)),
}


async def _connection(
    port: int, is_reader: bool, parts: Callable[[], Parts], until: float, counts: Counter[str]
) -> None:
    """Connect, send, and connect again once the service has closed, until the end."""
    while time.monotonic() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
        except OSError:
            counts["not let in"] += 1
            await asyncio.sleep(PAUSE_S)
            continue
        counts["connected"] += 1
        readers = [asyncio.create_task(_read(reader))] if is_reader else []
        try:
            async for part in parts():
                if part:
                    writer.write(part)
                    await writer.drain()
                if time.monotonic() > until or any(task.done() for task in readers):
                    break
        except OSError:
            counts["closed"] += 1
        else:
            counts["closed"] += time.monotonic() <= until
        for task in readers:
            task.cancel()
        writer.transport.abort()
        await asyncio.sleep(PAUSE_S / 5)


async def _read(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(2**16):
            pass
    except OSError:
        pass


def _batch(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/docs.json", timeout=10) as answer:
        schemas = json.load(answer)["components"]["schemas"]
    customer = schemas["CustomerBatch"]["properties"]["customers"]["items"]["example"]
    return json.dumps({"customers": [customer] * 2000}).encode()


async def attack(port: int, kind: str, seconds: float, connections: int = 0) -> dict[str, int]:
    """Attack for so long; counts of connections."""
    usual, is_reader, parts = ATTACKS[kind]
    _BATCH[:] = [await asyncio.to_thread(_batch, port)]
    counts: Counter[str] = Counter()
    until = time.monotonic() + seconds
    tasks = [
        asyncio.create_task(_connection(port, is_reader, parts, until, counts)) for _ in range(connections or usual)
    ]
    await asyncio.wait(tasks, timeout=seconds + 1)  # who cannot send any more waits for ever
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return dict(counts)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
    more = [int(text) for text in sys.argv[4:]]
    print(json.dumps(asyncio.run(attack(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), *more))))
