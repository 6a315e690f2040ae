"""Random schedules of the decision loop with a kill between any two persisted steps, on the real ledger.

python -m benchmarks.loop_faults [schedules] [first seed]

Each schedule is a daemon, its runs and its people on a home of its own; every second one lets models in by a canary.
What must hold is checked after every act (churn_assets_tests/promotion/loop.py). Exits 1 and names the seeds if
anything did not hold.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from churn_assets_tests.promotion.loop import Loop


def main() -> None:
    schedules = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    kills = steps = requests = moves = 0
    broken: list[str] = []
    begun = time.process_time()
    for seed in range(first, first + schedules):
        with tempfile.TemporaryDirectory() as folder:
            loop = Loop(Path(folder), seed, "canary" if seed % 2 else "direct")
            try:
                loop.play()
            except Exception as error:  # whatever it is, the seed that shows it is the result
                broken.append(f"seed {seed}: {type(error).__name__}: {error}")
            kills, steps = kills + loop.kills, steps + loop.fate.steps
            requests, moves = requests + len(loop.ledger.requests()), moves + len(loop.ledger.moves())
    print(
        f"loop faults: {schedules:,} schedules, {steps:,} persisted steps, {kills:,} kills, {requests:,} attempts of "
        f"requests, {moves:,} moves of the champion: {len(broken)} schedules broken "
        f"({time.process_time() - begun:.0f} CPU s)"
    )
    for line in broken[:20]:
        print(line)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
