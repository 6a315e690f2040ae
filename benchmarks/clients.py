"""Clients of `benchmarks.serving` where wrk is not installed: raw HTTP/1.1 over kept-alive sockets.

python -m benchmarks.clients URL BODY CLIENTS SECONDS -> [requests, per second, p50 ms, p99 ms, failed]
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit


async def ask(host: str, port: int, request: bytes, until: float, taken: list[float], failed: list[int]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    while time.perf_counter() < until:
        start = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        taken.append(time.perf_counter() - start)
        if not head.startswith(b"HTTP/1.1 200"):
            failed.append(1)
    writer.close()


async def main(url: str, body: str, clients: int, seconds: float) -> list[float]:
    where = urlsplit(url)
    content = body.encode()
    head = f"POST {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
    taken: list[float] = []
    failed: list[int] = []
    start = time.perf_counter()
    host, port = where.hostname or "", where.port or 80
    await asyncio.gather(*(ask(host, port, request, start + seconds, taken, failed) for _ in range(clients)))
    passed, taken = time.perf_counter() - start, sorted(taken)
    return [
        len(taken),
        len(taken) / passed,
        taken[len(taken) // 2] * 1e3,
        taken[len(taken) * 99 // 100] * 1e3,
        len(failed),
    ]


if __name__ == "__main__":
    try:
        import uvloop as loops
    except ImportError:
        loops = asyncio
    print(json.dumps(loops.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))))
