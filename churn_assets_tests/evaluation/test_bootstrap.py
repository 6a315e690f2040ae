"""Bootstrap samples: stratified or not, bounded in memory, and paired where two scores are compared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.evaluation import bootstrap
from churn_assets.evaluation.bootstrap import (
    interval,
    intervals,
    paired_difference,
    samples,
    statistics_under,
    stratified_samples,
    wilson,
)
from churn_assets.evaluation.metrics import Ranking


def test_stratified_samples_keep_the_number_of_churners():
    churned = np.array([1] * 10 + [0] * 90)
    weights = np.array(list(stratified_samples(churned, 50, 0)))
    assert weights.shape == (50, 100)
    assert (weights[:, :10].sum(axis=1) == 10).all()
    assert (weights[:, 10:].sum(axis=1) == 90).all()


def test_samples_regardless_of_label_keep_the_number_of_rows():
    weights = samples(100, 50, 0)
    assert weights.shape == (50, 100)
    assert (weights.sum(axis=1) == 100).all()
    assert len(set(weights[:, :10].sum(axis=1))) > 1


def test_blocks_of_samples_are_stratified_and_as_spread_as_whole_ones(monkeypatch):
    churned = np.array([1] * 40 + [0] * 160)
    whole = np.array(list(stratified_samples(churned, 400, 0)))
    monkeypatch.setattr(bootstrap, "_CELLS", 7 * 200)
    blocks = np.array(list(stratified_samples(churned, 400, 0)))
    assert blocks.shape == (400, 200)
    assert (blocks[:, :40].sum(axis=1) == 40).all()
    assert (blocks[:, 40:].sum(axis=1) == 160).all()
    assert blocks.var() == pytest.approx(whole.var(), rel=0.05)


def test_rows_of_one_class_are_sampled_too():
    weights = np.array(list(stratified_samples(np.zeros(20, int), 5, 0)))
    assert (weights.sum(axis=1) == 20).all()


def test_statistics_are_of_the_same_samples():
    weights = samples(30, 200, 1)
    first, second = statistics_under(iter(weights), np.sum, lambda w: float(w[0]))
    assert (first == 30).all()
    assert second.tolist() == weights[:, 0].tolist()
    assert interval(second) == tuple(float(end) for end in intervals(second))
    low, high = intervals(weights)
    assert low.shape == high.shape == (30,)


def test_a_score_against_itself_is_even():
    generator = np.random.default_rng(2)
    churned, score = generator.integers(0, 2, 200), generator.random(200)
    ranking = Ranking(churned, score)
    difference = paired_difference(stratified_samples(churned, 100, 0), ranking.pr_auc, ranking.pr_auc)
    assert (difference.point, *difference.interval, difference.share_better) == (0, 0, 0, 0.5)


def test_a_better_score_is_better_in_most_draws_and_the_other_way_round():
    generator = np.random.default_rng(3)
    churned = generator.integers(0, 2, 2000)
    good, bad = (Ranking(churned, churned + generator.normal(0, spread, 2000)) for spread in (0.5, 2.0))
    weights = list(stratified_samples(churned, 200, 0))
    assert paired_difference(weights, good.pr_auc, bad.pr_auc).share_better == 1.0
    assert paired_difference(weights, bad.pr_auc, good.pr_auc).interval[1] < 0


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_share_lies_within_its_interval(hits, count):
    low, high = wilson(min(hits, count), count)
    assert 0.0 <= low <= min(hits, count) / count + 1e-12
    assert min(hits, count) / count - 1e-12 <= high <= 1.0
