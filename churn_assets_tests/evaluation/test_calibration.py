"""Calibration error: small for calibrated probabilities, and how large it is by chance."""

import numpy as np
import pytest

from churn_assets.evaluation import metrics
from churn_assets.evaluation.metrics import calibration_bins, ece, ece_by_chance, ece_under


def test_calibrated_probabilities_have_a_small_calibration_error_and_halved_ones_a_large():
    generator = np.random.default_rng(0)
    probability = generator.random(50_000)
    churned = (generator.random(50_000) < probability).astype(int)
    assert ece(churned, probability) < 0.01
    assert ece(churned, probability / 2) > 0.2


def test_bins_hold_equal_numbers_of_rows_and_every_row():
    probability = np.random.default_rng(1).random(100)
    predicted, observed, count = calibration_bins(probability > 0.5, probability)
    assert sorted(set(count)) == [6, 7]
    assert count.sum() == 100
    assert (np.diff(predicted) > 0).all()
    assert np.sum(observed * count) == (probability > 0.5).sum()


def test_the_error_of_the_rows_as_they_are_is_that_of_the_sample_with_each_row_once():
    generator = np.random.default_rng(2)
    probability = generator.random(500)
    churned = (generator.random(500) < probability).astype(int)
    assert ece_under(churned, probability, np.ones((1, 500))) == pytest.approx([ece(churned, probability)])


def test_chance_alone_makes_an_error_that_shrinks_with_rows(monkeypatch):
    probability = np.random.default_rng(3).random(4000)
    few, many = (ece_by_chance(probability[:rows], 200, 0) for rows in (200, 4000))
    assert few.shape == (200,)
    assert 0 < many.mean() < few.mean() / 3
    monkeypatch.setattr(metrics, "_CELLS", 30_000)  # blocks of draws are the same draws
    assert ece_by_chance(probability, 200, 0).tolist() == many.tolist()
