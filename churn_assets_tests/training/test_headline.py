"""What the headline figure rests on: twins, ties of scores, few churners."""

import numpy as np
import pytest

from benchmarks.audit_tables import contract_of, one_honest_column, table_of
from churn_assets.data.validation.validate import validate
from churn_assets.reporting.model.collect import headline_caveats
from churn_assets.training.candidate import train_candidate
from churn_assets.training.feature_table import View, feature_table, training_data
from churn_assets.training.select import choose_model, resolution, twin_share
from churn_assets.training.split import Split, read_splits, split_table
from churn_assets_tests.strategies import STORE


@pytest.mark.parametrize("twins", [0, 7, 40])
def test_test_rows_that_equal_a_training_row_are_counted(features, splits, twins):
    view = training_data(STORE, features, splits).views["random"]
    matrix = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    matrix[160 : 160 + twins] = matrix[:twins]
    matrix[5], matrix[165] = np.nan, matrix[165] if twins < 6 else np.nan  # missing values are equal too
    split = Split(np.arange(120), np.arange(120, 160), np.arange(160, 200))
    assert twin_share(View(matrix, split, view.program)) == pytest.approx(twins / 40)


def test_a_table_with_a_third_of_its_rows_twice_has_a_caveat():
    """The share is that of test customers whose cells stand in a training customer's row too."""
    churned, cells = one_honest_column(1000, 3)
    copied = np.where(np.arange(1000) < 700, np.arange(1000), np.arange(1000) - 700)  # 300 equal the first 300
    twice = {name: values[copied] for name, values in cells.items()}
    contract = contract_of(twice)
    customers = validate(contract, table_of(churned[copied], twice)).customers
    splits = split_table(contract, customers)
    features = feature_table(contract, customers, splits)
    choice = choose_model(contract, [train_candidate("logistic", contract, features, splits)], features, splits)
    split = read_splits(splits)["random"]
    known = set(copied[split.learn].tolist())
    share = np.mean([row in known for row in copied[split.test].tolist()])
    assert choice.metrics["test_twin_share"] == pytest.approx(share)
    assert 0.3 < share < 0.7
    (caveat,) = [text for _, text in headline_caveats(choice.metrics) if text]
    assert caveat.startswith(f"{share:.0%} of the test customers equal a training customer in every feature.")


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
