"""What an API key costs: `/predict` with a key beside `/predict` of a home that has none.

    python -m benchmarks.keys [rounds] [seconds a round]

Two services of this checkout answer with the same bundle, the champion of CHURN_HOME (else one trained on 6,000
generated customers), from homes of their own: one with 100 keys, whose clients send one of them, and one without. They
are loaded in turns, a few seconds each, and the first of a round alternates: whatever else the machine does meets both.
The ratio of a round is with a key divided by without.
"""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.serving import OURS, ROW, Variant, home_with_champion, measure, running
from benchmarks.two_checkouts import CLIENTS, Pair, champion_bundle, free_port
from churn_assets.access.keys import KeyStore

KEYS = 100


def variants(scratch: Path) -> list[tuple[int, Path, Variant]]:
    """(port, scratch folder, service) with a key and without."""
    made = []
    for name in ("with a key", "without"):
        port, own = free_port(), scratch / name.replace(" ", "_")
        own.mkdir()
        store, now, key = KeyStore(own), dt.datetime.now(dt.UTC), ""
        for _ in range(KEYS if name == "with a key" else 0):
            key = store.create("benchmark", ["predict"], dt.timedelta(days=1), now)[1]
        command = [sys.executable, "-m", "bentoml", "serve", OURS, "--port", str(port), "--host", "127.0.0.1"]
        environ = {"CHURN_HOME": str(own), "CHURN_BUNDLE": str(champion_bundle())}
        made.append((port, own, Variant(name, command, environ, key=key)))
    return made


def main(rounds: int = 15, seconds: int = 3) -> str:
    cpu: dict[int, tuple[list[float], list[float]]] = {clients: ([], []) for clients in CLIENTS}
    rate: dict[int, tuple[list[float], list[float]]] = {clients: ([], []) for clients in CLIENTS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scratch = Path(folder)
        home_with_champion(scratch)
        services = [(*made, stack.enter_context(running(made[2], made[0], made[1]))) for made in variants(scratch)]
        for turn in range(-1, rounds):  # the first warms up
            for clients in CLIENTS:
                for side in (0, 1) if turn % 2 else (1, 0):
                    port, own, variant, process = services[side]
                    url, duration = f"http://127.0.0.1:{port}/predict", seconds if turn >= 0 else 1
                    figures = measure(url, ROW, clients, duration, process, own, variant.key)
                    if figures.failed:
                        raise SystemExit(f"{variant.name}: {figures.failed} requests failed, expected none")
                    if turn >= 0:
                        cpu[clients][side].append(figures.cpu_us)
                        rate[clients][side].append(figures.per_second)
    lines = []
    for clients in CLIENTS:
        lines.append(Pair(*cpu[clients]).line(f"/predict with a key, {clients} clients", "us CPU"))
        lines.append(Pair(*rate[clients]).line(f"/predict with a key, {clients} clients", "requests/s"))
    return "\n".join(lines)


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
