"""A broker of events that is gone for a minute: `/predict` beside that of a service whose broker answers.

    python -m benchmarks.events_outage [seconds] [clients]

Two services of this checkout with the same bundle, each with a relay and a real broker (tansu, which
deploy/tools/install installs). One broker stands still (SIGSTOP) for the time; each client asks one service, then the
other, so that whatever else the machine does meets both. Then the broker goes on, and every prediction of both logs is
looked for in its topic.
"""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from benchmarks.keys import one_round, start_service
from benchmarks.serving import home_with_champion
from churn_assets.prediction_log.warehouse.read import read_lines
from churn_assets_tests.deploy.tools import PYTHON
from churn_assets_tests.events.kills import TOPIC, Broker, RelayProcess, lag_rows, tansu_binary, wait_until_sent

SLICE_S = 5
LIMIT_S = 180.0


def main(seconds: int = 60, clients: int = 4) -> str:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        home_with_champion(folder)
        names = ("gone", "there")
        services = [start_service(folder / side, 0, stack) for side in names]
        brokers = [_broker(folder / f"broker-{side}", stack) for side in names]
        relays = [
            RelayProcess(folder / side, broker.servers, folder / f"{side}.log")
            for side, broker in zip(names, brokers, strict=True)
        ]
        for relay in relays:
            stack.callback(relay.kill)
        ports, requests = [each[0] for each in services], [each[1] for each in services]
        asyncio.run(one_round(ports, requests, clients, 2 * SLICE_S))  # warm
        brokers[0].process.send_signal(signal.SIGSTOP)
        slices = [asyncio.run(one_round(ports, requests, clients, SLICE_S)) for _ in range(max(1, seconds // SLICE_S))]
        waiting = lag_rows(folder / "gone")
        brokers[0].process.send_signal(signal.SIGCONT)
        went_on, lines = time.monotonic(), [_latencies(slices)]
        for side, broker in zip(names, brokers, strict=True):
            ids = [line.own_id for line in read_lines(folder / side / "predlog")]
            topic = wait_until_sent(folder / side, len(ids), broker.servers, LIMIT_S)
            times = Counter(json.loads(record.value())["prediction_id"] for record in topic.committed)
            once = sum(times[own_id] == 1 for own_id in ids)
            lines.append(f"broker {side}: {once:,} of {len(ids):,} predictions are in {TOPIC} exactly once")
            if side == "gone":
                lines[-1] += f"; {waiting:,} waited, all were sent {time.monotonic() - went_on:.0f} s after it went on"
    return "\n".join(lines)


def _broker(folder: Path, stack: ExitStack) -> Broker:
    folder.mkdir()
    broker = Broker(tansu_binary(str(PYTHON)), folder)
    broker.start()
    stack.callback(broker.kill)
    return broker


def _latencies(slices: list[list[list[float]]]) -> str:
    def percentile(seconds: list[float], share: int) -> float:
        return statistics.quantiles(seconds, n=100)[share - 1] * 1e3

    parts = []
    for share in (50, 99):
        ratios = sorted(percentile(gone, share) / percentile(there, share) for gone, there in slices)
        whole = [percentile([taken for each in slices for taken in each[side]], share) for side in (0, 1)]
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} slices)"
        parts.append(f"p{share} {whole[0]:.2f} ms, with a broker that answers {whole[1]:.2f} ms, ratio {spread}")
    return f"/predict while the broker is gone for {len(slices) * SLICE_S} s: " + "; ".join(parts)


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
