"""Metrics: the same as scikit-learn's, and intervals that mean what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from churn_assets.evaluation.metrics import (
    Ranking,
    at_threshold,
    bootstrap_weights,
    brier,
    ece,
    log_loss,
    paired_difference,
    pr_auc,
    roc_auc,
    summary,
)

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
    assert brier(churned, score) == pytest.approx(reference.brier_score_loss(churned, score))


@given(generator=cases, threshold=st.floats(0, 1))
def test_the_confusion_counts_every_row_once(generator, threshold):
    churned, score = drawn(generator)
    found = at_threshold(churned, score, threshold)
    counts = [v for k, v in found.items() if k.endswith(("positives", "negatives"))]
    assert sum(counts) == len(score)
    assert found["f1"] == pytest.approx(reference.f1_score(churned, score >= threshold, zero_division=0.0))


def test_calibrated_probabilities_have_a_small_calibration_error_and_halved_ones_a_large():
    generator = np.random.default_rng(0)
    probability = generator.random(50_000)
    churned = (generator.random(50_000) < probability).astype(int)
    assert ece(churned, probability) < 0.01
    assert ece(churned, probability / 2) > 0.2


def test_a_95_percent_interval_covers_the_truth_about_95_times_in_100():
    """Of 200 samples of a known process, the interval of the Brier score misses the truth about 10 times."""
    generator = np.random.default_rng(1)
    probability = generator.random(400)
    truth = np.mean(probability * (1 - probability))
    hits = 0
    for _ in range(200):
        churned = (generator.random(400) < probability).astype(int)
        found = summary(churned, probability, 0.5, bootstrap_weights(churned, 200, 0))
        hits += found["brier_low"] <= truth <= found["brier_high"]  # type: ignore[assignment]
    assert 180 <= hits <= 200


def test_bootstrap_weights_keep_the_number_of_churners():
    churned = np.array([1] * 10 + [0] * 90)
    weights = bootstrap_weights(churned, 50, 0)
    assert (weights[:, :10].sum(axis=1) == 10).all()
    assert (weights[:, 10:].sum(axis=1) == 90).all()


def test_a_score_against_itself_is_even():
    churned, score = drawn(np.random.default_rng(2))
    found = paired_difference(churned, score, score, bootstrap_weights(churned, 100, 0))
    assert (found.point, found.low, found.high, found.share_better) == (0, 0, 0, 0.5)


def test_a_better_score_is_better_in_most_draws_and_the_other_way_round():
    generator = np.random.default_rng(3)
    churned = generator.integers(0, 2, 2000)
    good, bad = churned + generator.normal(0, 0.5, 2000), churned + generator.normal(0, 2.0, 2000)
    weights = bootstrap_weights(churned, 200, 0)
    assert paired_difference(churned, good, bad, weights).share_better == 1.0
    assert paired_difference(churned, bad, good, weights).high < 0
