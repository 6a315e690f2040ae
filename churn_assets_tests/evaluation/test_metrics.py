"""Metrics: the same as scikit-learn's, and intervals that mean what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from churn_assets.evaluation.bootstrap import stratified_samples
from churn_assets.evaluation.metrics import Ranking, at_threshold, log_loss, losses, pr_auc, roc_auc, summary

cases = st.integers(0, 2**31 - 1).map(np.random.default_rng)


def drawn(generator, rows=200, levels=None):
    churned = np.append([0, 1], generator.integers(0, 2, rows - 2))
    score = generator.random(rows) if levels is None else generator.integers(0, levels, rows) / levels
    return churned, score


@given(generator=cases, levels=st.sampled_from([None, 3, 20]))
def test_rank_metrics_agree_with_scikit_learn_ties_included(generator, levels):
    churned, score = drawn(generator, levels=levels)
    assert pr_auc(churned, score) == pytest.approx(reference.average_precision_score(churned, score), abs=1e-12)
    assert roc_auc(churned, score) == pytest.approx(reference.roc_auc_score(churned, score), abs=1e-12)


@given(generator=cases)
def test_weighted_rank_metrics_agree_with_scikit_learn(generator):
    churned, score = drawn(generator, levels=10)
    weights = generator.integers(1, 4, len(score)).astype(float)
    ranking = Ranking(churned, score)
    expected = reference.average_precision_score(churned, score, sample_weight=weights)
    assert ranking.pr_auc(weights) == pytest.approx(expected, abs=1e-12)
    expected = reference.roc_auc_score(churned, score, sample_weight=weights)
    assert ranking.roc_auc(weights) == pytest.approx(expected, abs=1e-12)


@given(generator=cases)
def test_losses_agree_with_scikit_learn(generator):
    churned, score = drawn(generator)
    assert log_loss(churned, score) == pytest.approx(reference.log_loss(churned, score))


@given(generator=cases, threshold=st.floats(0, 1))
def test_the_confusion_counts_every_row_once(generator, threshold):
    churned, score = drawn(generator)
    metrics = at_threshold(churned, score, threshold)
    counts = [v for k, v in metrics.items() if k.endswith(("positives", "negatives"))]
    assert sum(counts) == len(score)
    assert metrics["f1"] == pytest.approx(reference.f1_score(churned, score >= threshold, zero_division=0.0))


def test_a_95_percent_interval_covers_the_truth_about_95_times_in_100():
    """Of 200 samples of a known process, the interval of the Brier score misses the truth about 10 times."""
    generator = np.random.default_rng(1)
    probability = generator.random(400)
    truth = np.mean(probability * (1 - probability))
    hits = 0
    for _ in range(200):
        churned = (generator.random(400) < probability).astype(int)
        metrics = summary(churned, probability, 0.5, stratified_samples(churned, 200, 0))
        hits += metrics["brier_low"] <= truth <= metrics["brier_high"]  # type: ignore[assignment]
    assert 180 <= hits <= 200


def test_pr_auc_without_churners_is_nan():
    assert np.isnan(pr_auc(np.zeros(5, int), np.arange(5.0)))


@given(generator=cases)
def test_losses_of_expected_labels_are_the_mean_over_labels(generator):
    churned, score = drawn(generator)
    expected = score * losses(np.ones(200), score) + (1 - score) * losses(np.zeros(200), score)
    assert losses(score, score) == pytest.approx(expected)
    assert losses(churned, score).tolist() == np.where(churned == 1, -np.log(score), -np.log1p(-score)).tolist()
