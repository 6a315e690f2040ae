"""Whatever dies between any two steps: one champion, no request lost or doubled, nothing unfinished shown.

`python -m benchmarks.loop_faults` plays thousands of these schedules.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from churn_assets.promotion.pointer import Champion, read_champion
from churn_assets.storage.sealed import verify
from churn_assets_tests.promotion.homes import history, home_with, moves, place
from churn_assets_tests.promotion.loop import Loop

SCHEDULES, GROUPS = 96, 8


@pytest.mark.parametrize("rollout", ["direct", "canary"])
@pytest.mark.parametrize("group", range(GROUPS // 2))
def test_a_loop_that_is_killed_anywhere_comes_to_its_end_with_one_champion(tmp_path, group, rollout):
    kills = requests = moved = 0
    ends = Counter()
    for seed in range(group, SCHEDULES // 2, GROUPS // 2):
        loop = Loop(tmp_path / str(seed), seed, rollout)
        loop.play()
        kills, requests = kills + loop.kills, requests + len(loop.asked)
        moved, ends = moved + len(loop.ledger.moves()), ends + loop.ends
    assert min(kills, requests, moved) >= SCHEDULES // GROUPS // 2  # the schedules did something
    if rollout == "canary":
        assert ends["promoted"] + ends["rolled_back"] + ends["inconclusive"] > 1


_MOVER = """
import itertools, sys
from datetime import UTC, datetime
from pathlib import Path
from churn_assets.promotion.champion import ChampionMoves
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import Champion, ChampionPointer
home, versions = Path(sys.argv[1]), sys.argv[2:]
ledger, pointer = Ledger(home / "ledger.db"), ChampionPointer(home)
moves = ChampionMoves(home / "bundles", ledger, pointer, lambda: datetime.now(UTC))
for version in itertools.cycle(versions):
    champion = Champion(version, f"bundles/{version}", "f" * 64, None, datetime.now(UTC), "me", "a turn")
    moves.move(champion, "rollback", "me", "a turn")
    print("moved", flush=True)
"""


def test_a_mover_killed_at_any_moment_leaves_one_whole_champion_and_a_true_history(tmp_path):
    settings, versions = home_with(tmp_path, 2)
    start = Champion(versions[0], f"bundles/{versions[0]}", "f" * 64, None, datetime.now(UTC), "me", "first")
    moves(settings).move(start, "first", "me", "first")
    rng, left = random.Random(5), 0
    for _ in range(12):
        mover = subprocess.Popen([sys.executable, "-c", _MOVER, str(tmp_path), *versions], stdout=subprocess.PIPE)
        assert mover.stdout.readline() == b"moved\n"  # however slow the disk is
        time.sleep(rng.uniform(0.005, 0.08))
        os.kill(mover.pid, signal.SIGKILL)
        mover.wait()
        mover.stdout.close()
        champion = read_champion(tmp_path)
        assert champion is not None
        verify(champion.path(tmp_path))
        left += moves(place(tmp_path)).recover() is not None
        done = [move for move in history(settings) if move.status == "done"]
        assert done[-1].to == champion
        assert [move for move in history(settings) if move.status == "intended"] == []
        assert all(after.before == before.to.version for before, after in pairwise(done))
    assert len(done) > 12  # the first, and at least one a life
