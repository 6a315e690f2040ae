"""Folds that keep customers together and test rows out; figures that come from held-out rows."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.errors import TrainingError
from churn_assets.training.cross_validation import METRICS, cross_validate, make_folds
from churn_assets.training.split import read_split
from churn_assets_tests.strategies import STORE
from churn_assets_tests.trained import SMALL

PARAMS = {"logistic": {"knots": 6}, "boosted": {"rounds": 15, "threads": 1}}


@given(
    groups=st.integers(30, 200), folds=st.integers(2, 6), seed=st.integers(0, 99), rate=st.floats(0.2, 0.8)
)  # fmt: skip
def test_folds_divide_the_rows_once_with_customers_whole_and_classes_even(groups, folds, seed, rate):
    rng = np.random.default_rng(seed)
    label = (np.arange(groups) < max(2 * folds, round(groups * rate))).astype(int)
    if (label == 0).sum() < 2 * folds:
        label[-2 * folds :] = 0
    of_row = np.concatenate([np.arange(groups), rng.integers(0, groups, groups // 3)])
    rows = np.flatnonzero(rng.permutation(len(of_row)) >= 0)
    churned = label[of_row]
    result = make_folds(churned, of_row.astype(str), rows, folds, seed)
    assert sorted(np.concatenate([fold.held_out for fold in result]).tolist()) == rows.tolist()
    for fold in result:
        parts = [set(of_row[part].tolist()) for part in (fold.learn, fold.stop, fold.held_out)]
        assert sum(map(len, parts)) == groups  # nobody is in two parts
        assert all(0 < churned[part].mean() < 1 for part in (fold.learn, fold.stop, fold.held_out))
    churners = [len({g for g in of_row[fold.held_out].tolist() if label[g]}) for fold in result]
    assert max(churners) - min(churners) <= 1


@pytest.fixture(scope="module")
def result(customers, splits):
    return cross_validate(STORE, customers, splits, PARAMS, blend=list(PARAMS), folds=3)


def test_every_model_and_the_blend_has_every_metric_of_every_fold(result):
    assert list(result.folds) == ["logistic", "boosted", "logistic + boosted"]
    for row in result.summary:
        own = result.folds[row.model]
        assert all(len(own[m]) == 3 for m in METRICS)
        assert row.pr_auc_mean == pytest.approx(np.mean(own["pr_auc"]))
        assert row.pr_auc_deviation == pytest.approx(np.std(own["pr_auc"], ddof=1))
    mean, deviation = result.difference("boosted", "logistic")
    assert mean == pytest.approx(result.summary[1].pr_auc_mean - result.summary[0].pr_auc_mean)
    assert deviation > 0


def test_test_rows_do_not_affect_cross_validation(result, customers, splits):
    """Turning the label of every test row around changes nothing."""
    test = np.zeros(customers.num_rows, dtype=bool)
    test[read_split(splits, "random").test] = True
    label = pc.if_else(pa.array(test), pc.subtract(1, customers["churned"].cast(pa.int8())), customers["churned"])
    turned = customers.set_column(customers.column_names.index("churned"), "churned", label.cast(pa.int8()))
    again = cross_validate(STORE, turned, splits, PARAMS, blend=list(PARAMS), folds=3)
    assert again == result
    assert result.rows == int((~test).sum())


def test_shuffled_labels_fall_to_the_base_rate(customers, splits):
    label = np.random.default_rng(0).permutation(customers["churned"].to_numpy())
    shuffled = customers.set_column(customers.column_names.index("churned"), "churned", pa.array(label, pa.int8()))
    scores = cross_validate(STORE, shuffled, splits, {"logistic": {"knots": 4}}, folds=3).folds["logistic"]
    assert abs(np.mean(scores["roc_auc"]) - 0.5) < 0.06


def test_too_few_churners_for_the_folds_are_an_error():
    churned = np.array([1] * 9 + [0] * 50)
    with pytest.raises(TrainingError, match="9 churned customers for 5 folds, expected at least 2 a fold"):
        make_folds(churned, np.arange(59).astype(str), np.arange(59))
    with pytest.raises(TrainingError, match="for 1 folds"):
        make_folds(churned, np.arange(59).astype(str), np.arange(59), folds=1)


def test_an_unknown_recipe_is_refused(customers, splits):
    with pytest.raises(TrainingError, match="no candidate 'forest'"):
        cross_validate(STORE, customers, splits, {"forest": {}})
    assert set(SMALL) >= set(PARAMS)
