"""A challenger that fails in every way a model can, and what is counted of it."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from churn_assets.release.counts import ArmCounts
from churn_assets.release.policy import CHALLENGER, CHAMPION
from churn_assets.scoring.online import CustomerScorer
from churn_assets.serving.shadow.messages import Assignment, ShadowedModel, encode
from churn_assets.serving.shadow.pairs import PairScorer
from churn_assets_tests.scoring.tiny import scorer_of
from churn_assets_tests.serving.client import ROOT
from churn_assets_tests.serving.shadow.rig import answered, home_with_shadow, lines_of, scorer_of_arm


class Failing:
    """A model that does what no model should."""

    kind: ClassVar[str] = "failing"
    cost = 1.0

    def __init__(self, margin: Callable[[Any], Any]) -> None:
        self.margin = margin

    def save(self, directory: Path) -> None:
        raise NotImplementedError


def missing(matrix):
    raise KeyError("nobody@example.com")


@pytest.mark.parametrize(
    ("margin", "name"),
    [
        (missing, "KeyError"),
        (lambda matrix: np.full(len(matrix), np.nan), "DataError"),
        (lambda matrix: 1 / 0, "ZeroD"),
    ],
)
def test_what_a_challenger_raises_is_its_error_and_the_champions_row_counts(tmp_path, margin, name):
    policy = home_with_shadow(tmp_path)
    records = answered(tmp_path, policy, 25)
    challenger = CustomerScorer(dataclasses.replace(scorer_of("logistic"), model=Failing(margin)))
    pairs = PairScorer(policy.id, scorer_of_arm(tmp_path, policy, CHAMPION), challenger)
    assert [pairs.score(record) for record in records] == [None] * 25
    assert pairs.error.startswith(name)
    assert "nobody" not in pairs.error, "a text may have a customer's values"
    assert pairs.counts.arms[CHALLENGER] == ArmCounts(errors=25)
    assert pairs.counts.arms[CHAMPION].rows == 25
    assert (pairs.counts.pairs.rows, pairs.differing, pairs.refused, pairs.scored) == (0, 0, 0, 0)


def test_a_champion_that_scores_otherwise_than_it_answered_is_found(tmp_path):
    policy = home_with_shadow(tmp_path)
    records = answered(tmp_path, policy, 20)
    wrong = [dataclasses.replace(scorer_of("network"), version=policy.champion.version)]
    pairs = PairScorer(policy.id, CustomerScorer(wrong[0]), scorer_of_arm(tmp_path, policy, CHALLENGER))
    assert all(pairs.score(record) for record in records)
    assert pairs.differing == 20


HANGS = """
import sys
from churn_assets.serving.shadow import pairs, process
process.ROW_S = 0.2
def hang(*row):
    while True:
        pass
pairs.PairScorer.score = hang
process.main()
"""


def test_a_row_that_takes_for_ever_ends_the_process(tmp_path):
    """By the kernel, so that it need not be Python that hangs; the worker then starts another."""
    policy = home_with_shadow(tmp_path)
    assert policy.challenger is not None
    champion, other = (ShadowedModel(str(tmp_path / a.bundle), a.sha256) for a in (policy.champion, policy.challenger))
    lines = encode(Assignment(policy.id, str(tmp_path), champion, other, 10**6, 20.0))
    lines += lines_of(answered(tmp_path, policy, 3))
    done = subprocess.run([sys.executable, "-c", HANGS], input=lines, capture_output=True, timeout=30, cwd=ROOT)
    assert done.returncode == -signal.SIGVTALRM, done.stderr.decode()
    assert done.stdout.startswith(b'{"ready":true,"handled":0')
