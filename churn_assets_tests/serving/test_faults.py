"""One fault of each kind under load: every acknowledged row is in the log once, every refused one not, or marked.

`benchmarks/serving_faults.py` does the same a hundred times, at random.
"""

from __future__ import annotations

import random

import pytest

from churn_assets_tests.disks import small_disk
from churn_assets_tests.serving.client import home_with_champion
from churn_assets_tests.serving.faults import Trial
from churn_assets_tests.stepped_clock import SteppedClock


def test_faults_of_each_kind_lose_and_repeat_nothing(tmp_path):
    if not SteppedClock.is_available():
        pytest.skip("no compiler for a clock that can be set")
    with small_disk(tmp_path / "home", 64 * 1024) as home:
        home_with_champion(home)
        trial = Trial(tmp_path, home, random.Random(3), SteppedClock(tmp_path))
        trial.run(["clock", "moved", "full", "ingest", "worker", "clock", "service"])
        assert trial.check() == []
    assert set(trial.statuses) == {200, 503}
    assert len(trial.acknowledged) > 300
    assert len(trial.refused) >= 2, "the moved log and the full disk"
