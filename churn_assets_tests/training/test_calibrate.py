"""Calibration: recovers what bent the scores, and stays away where nothing is bent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.evaluation.metrics import ece, log_loss, pr_auc
from churn_assets.scoring.calibration import Identity, sigmoid
from churn_assets.training.calibrate import choose_calibration, fit_beta, fit_isotonic, fit_platt, refit


def sample(seed, rows=6000):
    generator = np.random.default_rng(seed)
    margin = generator.normal(-1.5, 2.0, rows)
    return (generator.random(rows) < sigmoid(margin)).astype(int), margin


def test_calibrated_scores_are_not_changed():
    kept = [choose_calibration(*sample(seed)).calibration.kind for seed in range(8)]
    assert kept.count("identity") >= 7


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (0.3, 0.0), (1.0, 2.0), (2.0, -1.5)])
def test_miscalibrated_scores_are_calibrated(scale, shift):
    churned, margin = sample(0)
    distorted = scale * margin + shift
    choice = choose_calibration(churned, distorted)
    assert choice.calibration.kind != "identity"
    fresh_churned, fresh = sample(1)
    straightened = choice.calibration.apply(scale * fresh + shift)
    assert log_loss(fresh_churned, straightened) < log_loss(fresh_churned, sigmoid(scale * fresh + shift))
    assert ece(fresh_churned, straightened) < 0.03


@given(seed=st.integers(0, 10_000))
def test_no_calibration_reverses_the_ranking(seed):
    churned, margin = sample(seed, rows=300)
    ordered = np.sort(margin)
    for fit in (fit_platt, fit_beta, fit_isotonic):
        probability = fit(churned, margin).apply(ordered)
        assert (np.diff(probability) >= -1e-12).all()
        assert ((probability >= 0) & (probability <= 1)).all()


def test_isotonic_is_not_chosen_if_its_ties_lower_pr_auc():
    for seed in range(5):
        churned, margin = sample(seed, rows=800)
        choice = choose_calibration(churned, np.sign(margin) * np.abs(margin) ** 1.5)
        if choice.calibration.kind == "isotonic":
            tried = choice.trials.tried
            assert tried["isotonic"].pr_auc >= tried["identity"].pr_auc


def test_refitting_keeps_the_kind():
    churned, margin = sample(0)
    assert isinstance(refit(Identity(), churned, margin), Identity)
    again = refit(fit_beta(churned, margin), *sample(1))
    assert again.kind == "beta"
    assert pr_auc(churned, again.apply(margin)) == pytest.approx(pr_auc(churned, margin))
