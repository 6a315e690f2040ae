"""What the headline figure rests on: twins, ties of scores, few churners."""

import numpy as np
import pytest

from churn_assets.reporting.model.collect import headline_caveats
from churn_assets.training.feature_table import View, training_data
from churn_assets.training.select import resolution, twin_share
from churn_assets.training.split import Split
from churn_assets_tests.strategies import STORE


@pytest.mark.parametrize("twins", [0, 7, 40])
def test_test_rows_that_equal_a_training_row_are_counted(features, splits, twins):
    view = training_data(STORE, features, splits).views["random"]
    matrix = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    matrix[160 : 160 + twins] = matrix[:twins]
    matrix[5], matrix[165] = np.nan, matrix[165] if twins < 6 else np.nan  # missing values are equal too
    split = Split(np.arange(120), np.arange(120, 160), np.arange(160, 200))
    assert twin_share(View(matrix, split, view.program)) == pytest.approx(twins / 40)


def test_scores_that_are_shared_are_counted():
    shared = resolution(np.array([0.9, 0.9, 0.9, 0.2, 0.1]))
    assert shared == {"test_distinct_scores": 3.0, "test_top_score_rows": 3.0}


def test_a_trained_model_tells_customers_apart(choice):
    rows = choice.metrics["test_rows"]
    assert choice.metrics["test_distinct_scores"] > 0.5 * rows
    assert choice.metrics["test_top_score_rows"] < 0.05 * rows


def test_few_churners_and_twins_are_caveats_of_the_headline():
    def titles(churners: int, twins: float) -> int:
        metrics = {"test_rows": 450.0, "test_churn_rate": churners / 450, "test_twin_share": twins}
        return sum(bool(text) for _, text in headline_caveats(metrics))

    assert [titles(60, 0.0), titles(4, 0.0), titles(60, 0.3), titles(9, 0.9), titles(10, 0.01)] == [0, 1, 1, 2, 0]
