"""RankCurves: the same as scikit-learn's, ties taken together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from churn_assets.evaluation.metrics import RankCurves, evenly_spaced, lift


@given(generator=st.integers(0, 2**31 - 1).map(np.random.default_rng), levels=st.sampled_from([4, 1000]))
def test_curves_agree_with_scikit_learn_ties_included(generator, levels):
    churned = np.append([0, 1], generator.integers(0, 2, 198))
    score = generator.integers(0, levels, 200) / levels
    curves = RankCurves.of(churned, score)
    precision, recall, thresholds = reference.precision_recall_curve(churned, score)
    assert curves.threshold[::-1].tolist() == thresholds.tolist()
    assert curves.precision[::-1] == pytest.approx(precision[:-1])
    assert curves.recall[::-1] == pytest.approx(recall[:-1])
    false_positive, true_positive, _ = reference.roc_curve(churned, score, drop_intermediate=False)
    assert curves.false_positive_rate == pytest.approx(false_positive[1:])
    assert curves.recall == pytest.approx(true_positive[1:])
    assert curves.listed == pytest.approx([(score >= cut).mean() for cut in curves.threshold])


def test_points_of_a_drawn_curve_hold_both_ends_and_are_few():
    values = np.linspace(0, 1, 10_000) ** 3
    positions = evenly_spaced(values, 50)
    assert (positions[0], positions[-1]) == (0, 9999)
    assert len(positions) <= 51
    assert np.diff(values[positions]).max() < 0.03


def test_lift_of_a_perfect_list_is_one_over_the_churn_rate():
    churned = np.array([1] * 10 + [0] * 90)
    score = np.linspace(1, 0, 100)
    point, drawn = lift(churned, score, 0.1, np.ones((3, 100)))
    assert point == pytest.approx(10.0)
    assert drawn == pytest.approx([10.0] * 3)
    assert lift(churned, -score, 0.1, np.ones((1, 100)))[0] == 0.0
