"""Policies that change under load, and customers under a growing share.

    python -m benchmarks.release_routing [changes] [clients] [seed] [ids]

A release of a service of two workers is moved every two seconds or so, by the same code as the commands
(`promotion.releases`): in turns a canary, its next step, an A/B, a shadow, an end or a way back, a promotion, while
clients ask for regular and for new customers, alone and in batches; then a worker is killed (-9) under load, and the
service is started again. Its log must have each row by the arm that the hash
of the customer has under the policy the row names, none by a policy two seconds after it was replaced, and no failed
request. Then so many ids go through the shares 5, 25, 50 and 100 %. Prints what was seen; exits with 1 if anything is
wrong.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from churn_assets.release.policy import share_of
from churn_assets_tests.serving.routing_trial import WEIGHTS, RoutingTrial


def lost(ids: int, salt: str) -> tuple[list[int], int]:
    """(customers of the challenger at each share, customers who had it at one share and not at the next)."""
    counts, taken_back = [0] * len(WEIGHTS), 0
    for number in range(ids):
        share = share_of(salt, str(number))
        has = [share < weight for weight in WEIGHTS]
        counts = [count + own for count, own in zip(counts, has, strict=True)]
        taken_back += has != sorted(has)
    return counts, taken_back


def main(changes: int = 50, clients: int = 16, seed: int = 1, ids: int = 1_000_000) -> str:
    """What was seen, as lines; `SystemExit` if anything is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        trial = RoutingTrial(Path(folder), clients, seed)
        trial.run(changes, 2.0, "worker")
        problems = trial.check()
    counts, taken_back = lost(ids, f"salt {seed}")
    shown = ", ".join(f"{count:,} at {weight:.0%}" for count, weight in zip(counts, WEIGHTS, strict=True))
    lines = [*trial.checked, f"{ids:,} ids: the challenger has {shown}; {taken_back} were taken back"]
    if problems or taken_back:
        raise SystemExit("\n".join([*lines, *problems[:20]]))
    return "\n".join(lines)


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
