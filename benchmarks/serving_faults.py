"""Faults of the service under load, again and again; then every answered id is looked for.

python -m benchmarks.serving_faults [rounds] [seed]

Two workers, eight clients without pause. At a random moment each round has one of: kill -9 of a worker, kill -9 of
everything, a full disk, a log that is moved away, a step of the clock by up to 8 hours, an ingest that is killed. At
the end each acknowledged id must be in the log and in the warehouse exactly once, and no refused request without a
mark. Exits 1 if not. Needs root for its small disk, and a C compiler for its clock.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path

from churn_assets.prediction_log.warehouse.read import count, read_losses
from churn_assets_tests.disks import small_disk
from churn_assets_tests.serving.client import home_with_champion
from churn_assets_tests.serving.faults import FAULTS, Trial, home_settings
from churn_assets_tests.stepped_clock import SteppedClock

WEIGHTS = (2, 1, 1, 1, 2, 1)  # a start of the service takes five seconds
MEGABYTES = 1024


def main(rounds: int = 100, seed: int = 0) -> int:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch, small_disk(Path(scratch) / "home", MEGABYTES * 1024) as home:
        home_with_champion(home)
        trial = Trial(Path(scratch), home, rng, SteppedClock(Path(scratch)))
        trial.run(rng.choices(FAULTS, WEIGHTS, k=rounds))
        problems = trial.check()
        print(
            f"{rounds} rounds, seed {seed}, {trial.lives} lives: {dict(trial.faults)}; statuses {dict(trial.statuses)}"
        )
        noted = sum(loss.rows for loss in read_losses(home_settings(home)))
        kinds = count(home / "predlog", home / "warehouse" / "archive").kinds
        print(
            f"{len(trial.acknowledged):,} acknowledged, {len(trial.refused):,} refused; rows of the log: {dict(kinds)}"
        )
        print(f"{noted:,} acknowledged rows were in segments that were moved away, noted, and put back at the end")
        print("; ".join(problems) or "every acknowledged id is there exactly once, no refused request without a mark")
        return int(bool(problems))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(*map(int, sys.argv[1:])))
