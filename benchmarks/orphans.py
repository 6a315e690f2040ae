"""Supervisors of a service killed at random moments: whether any process of theirs is left 5 s later.

    python -m benchmarks.orphans [kills] [seed] [first]

Kill number n is at the n-th of `kills` moments, evenly spread over 0 to 3 s after the start of the supervisor, in an
order drawn with the seed. `first` resumes there. Exits 1 if a process was left.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
from pathlib import Path

from churn_assets_tests.serving.client import home_with_champion
from churn_assets_tests.serving.orphans import PATIENCE_S, seconds_to_end

LATEST_S = 3.0


def main(kills: int = 100, seed: int = 1, first: int = 0) -> int:
    moments = [LATEST_S * number / max(1, kills - 1) for number in range(kills)]
    random.Random(seed).shuffle(moments)
    taken, left = [], []
    with tempfile.TemporaryDirectory() as folder:
        home = home_with_champion(Path(folder, "home"))
        for number, moment in enumerate(moments[first:], first):
            seconds = seconds_to_end(Path(folder), home, moment, after_worker=False)
            left += [moment] if seconds is None else []
            taken += [] if seconds is None else [seconds]
            print(f"{number}: killed at {moment:.2f} s, {seconds}", file=sys.stderr, flush=True)
    longest, middle = (max(taken), statistics.median(taken)) if taken else (0.0, 0.0)
    killed = f"{len(moments) - first} supervisors killed 0 to {LATEST_S:g} s after their start (seed {seed})"
    ended = f"the others ended in {middle:.1f} s (median), {longest:.1f} s at most"
    print(f"{killed}: {len(left)} left a process after {PATIENCE_S:g} s; {ended}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
