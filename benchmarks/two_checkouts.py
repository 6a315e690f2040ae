"""Two checkouts of this repository side by side: CPU a request of the service, CPU a row of batch scoring.

    python -m benchmarks.two_checkouts OTHER [rounds] [seconds a round]

Both services answer with the same bundle, the champion of CHURN_HOME (else one trained on 6,000 generated
customers), and each runs in its own checkout, by its own `.venv` if it has one. They are loaded in turns, a few
seconds each, and so are two processes that score the same file: whatever else the machine does meets both. CPU
time is counted, not wall time. The ratio of a round is this checkout's CPU divided by OTHER's; below 1 is less.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import OURS, ROW, Variant, home_with_champion, measure, running

HERE = Path(__file__).resolve().parent.parent
ROWS = 200_000
CLIENTS = (1, 16)

# Runs in either checkout: modules have moved between versions, these functions have not changed.
SCORE = """
import sys, time
from pathlib import Path
from churn_assets.scoring.bundle import load_bundle
try:
    from churn_assets.scoring.batch.score_file import score_file
except ImportError:
    from churn_assets.scoring.batch import score_file
scorer = load_bundle(Path(sys.argv[1]))
for line in sys.stdin:
    start = time.process_time()
    score_file(scorer, sys.argv[2], Path(sys.argv[3]), threads=1)
    print(time.process_time() - start, flush=True)
"""


@dataclass(frozen=True)
class Pair:
    """CPU seconds (or microseconds) of this checkout and of the other, round by round."""

    ours: Sequence[float]
    theirs: Sequence[float]

    def line(self, name: str, unit: str, scale: float = 1.0) -> str:
        """Medians, and the median and quartiles of the rounds' ratios."""
        ratios = sorted(ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        ours, theirs = (statistics.median(side) * scale for side in (self.ours, self.theirs))
        return (
            f"{name}: {ours:.1f} {unit}, other {theirs:.1f} {unit}, ratio {middle:.3f} "
            f"(quartiles {low:.3f} to {high:.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f} in {len(ratios)} rounds)"
        )


def python_of(checkout: Path) -> str:
    """The interpreter of a checkout's own environment, else this one."""
    own = checkout / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def environ_of(checkout: Path) -> dict[str, str]:
    """The environment in which a checkout's own package is imported."""
    return {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def champion_bundle() -> Path:
    """The bundle that both checkouts score with."""
    from churn_assets.promotion.pointer import require_champion
    from churn_assets.settings import Settings

    home = Settings.from_environ(os.environ).home
    return require_champion(home).path(home)


def compare_serving(checkouts: Sequence[Path], rounds: int, seconds: int, scratch: Path) -> list[str]:
    """CPU a request of both services, loaded in turns."""
    measured: dict[int, tuple[list[float], list[float]]] = {clients: ([], []) for clients in CLIENTS}
    with ExitStack() as stack:
        services = []
        for number, checkout in enumerate(checkouts):
            port, own = free_port(), scratch / str(number)
            own.mkdir()
            command = [python_of(checkout), "-m", "bentoml", "serve", OURS, "--port", str(port), "--host", "127.0.0.1"]
            environ = {"CHURN_PORT": str(port), "CHURN_HOME": str(own), "CHURN_BUNDLE": str(champion_bundle())}
            environ = {**environ_of(checkout), **environ}
            variant = Variant(str(checkout), command, environ, folder=checkout)
            services.append((port, own, stack.enter_context(running(variant, port, own))))
        for turn in range(-1, rounds):  # the first warms up
            for clients in CLIENTS:
                for side in (0, 1) if turn % 2 else (1, 0):
                    port, own, process = services[side]
                    url = f"http://127.0.0.1:{port}/predict"
                    figures = measure(url, ROW, clients, seconds if turn >= 0 else 1, process, own)
                    if figures.failed:
                        raise SystemExit(f"{checkouts[side]}: {figures.failed} requests failed, expected none")
                    if turn >= 0:
                        measured[clients][side].append(figures.cpu_us)
    return [Pair(*sides).line(f"/predict, {clients} clients", "us CPU") for clients, sides in measured.items()]


def compare_batch(checkouts: Sequence[Path], rounds: int, scratch: Path) -> str:
    """CPU of scoring one file, in turns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmarks.customers import raw_batches

    source = scratch / "customers.parquet"
    pq.write_table(pa.Table.from_batches(list(raw_batches(ROWS, seed=7))), source)
    measured: tuple[list[float], list[float]] = ([], [])
    with ExitStack() as stack:
        processes = []
        for number, checkout in enumerate(checkouts):
            command = [python_of(checkout), "-c", SCORE, champion_bundle(), source, scratch / f"{number}.parquet"]
            process = subprocess.Popen(
                command, stdin=-1, stdout=-1, text=True, env=environ_of(checkout), cwd=checkout, bufsize=1
            )
            processes.append(stack.enter_context(process))
        for turn in range(-1, rounds):
            for side in (0, 1) if turn % 2 else (1, 0):
                print("score", file=processes[side].stdin, flush=True)
                seconds = float(processes[side].stdout.readline())
                if turn >= 0:
                    measured[side].append(seconds)
        for process in processes:
            process.stdin.close()
    first, second = (pq.read_table(scratch / f"{number}.parquet") for number in (0, 1))
    shared = [name for name in first.column_names if name in second.column_names]  # versions have added columns
    same = "the same" if first.select(shared).equals(second.select(shared)) else "OTHER"
    line = Pair(*measured).line(f"score_file, {ROWS:,} rows", "us CPU a row", 1e6 / ROWS)
    return f"{line}; {same} scores"


def main(other: str, rounds: int = 15, seconds: int = 3) -> str:
    """Both comparisons, as lines."""
    checkouts = (HERE, Path(other).resolve())
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        home_with_champion(scratch)
        lines = compare_serving(checkouts, rounds, seconds, scratch)
        return "\n".join([*lines, compare_batch(checkouts, rounds, scratch)])


if __name__ == "__main__":
    print(json.dumps(sys.argv[1:]), file=sys.stderr)
    print(main(sys.argv[1], *map(int, sys.argv[2:])))
