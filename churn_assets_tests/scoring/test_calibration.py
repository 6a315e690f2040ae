"""Calibrations are monotone, stay within 0..1 and survive JSON."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.errors import BundleCorrupt
from churn_assets.scoring.calibration import Beta, Identity, Platt, calibration_from_json, sigmoid
from churn_assets_tests.scoring.tiny import CALIBRATIONS

MARGINS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30).map(sorted).map(np.array)


@pytest.mark.parametrize("calibration", CALIBRATIONS.values(), ids=CALIBRATIONS)
@given(margin=MARGINS)
def test_probabilities_rise_with_the_margin_and_stay_between_zero_and_one(calibration, margin):
    probability = calibration.apply(margin)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (np.diff(probability) >= -1e-12).all()


@pytest.mark.parametrize("calibration", CALIBRATIONS.values(), ids=CALIBRATIONS)
@given(margin=MARGINS)
def test_a_calibration_read_back_from_json_is_the_same(calibration, margin):
    again = calibration_from_json(json.loads(json.dumps(msgspec.to_builtins(calibration))))
    assert again == calibration
    np.testing.assert_array_equal(again.apply(margin), calibration.apply(margin))


@given(margin=MARGINS)
def test_platt_and_beta_with_neutral_parameters_change_nothing(margin):
    plain = Identity().apply(margin)
    np.testing.assert_allclose(Platt(1.0, 0.0).apply(margin), plain, rtol=0, atol=1e-15)
    np.testing.assert_allclose(Beta(1.0, 1.0, 0.0).apply(margin), plain, rtol=0, atol=1e-12)


def test_no_margin_overflows():
    np.testing.assert_array_equal(sigmoid(np.array([-np.inf, -1e9, 0.0, 1e9, np.inf])) > 0.4, [0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"kind": "spline"},
        {"kind": "platt", "a": 1.0},
        {"kind": "platt", "a": 1.0, "b": 0.0, "c": 0.0},
        {"kind": "isotonic", "margins": [], "probabilities": [], "between": "linear"},
        {"kind": "isotonic", "margins": [0.0], "probabilities": [0.1, 0.2], "between": "linear"},
        {"kind": "isotonic", "margins": [0.0], "probabilities": [0.1], "between": "cubic"},
    ],
    ids=str,
)
def test_anything_else_is_refused(stored):
    with pytest.raises(BundleCorrupt, match=r"^calibration\.json: "):
        calibration_from_json(stored)
