"""What each feature adds to the log-odds: it adds up, and it is what Shapley's definition says."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.scoring.explain import BACKGROUND_ROWS, contributions, is_exact, reference
from churn_assets.scoring.models.boosted import MANY_ROWS, BoostedModel
from churn_assets_tests.scoring.tiny import KINDS, model_of, trained_booster, training

TOPICS = [(0, 4), (1, 3), (2,), (5, 6)]
FLOAT32 = 1e-5  # the boosted model's margins and values are float32
_, MATRIX, _ = training()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(data=st.data())
def test_base_value_and_contributions_add_up_to_the_log_odds(kind, data):
    """Also for values far outside the training range, missing ones, one row and none."""
    rows = data.draw(st.lists(st.integers(0, len(MATRIX) - 1), max_size=9))
    matrix = MATRIX[rows].copy()
    numbers = [0, 1, 4, 5, 6]
    for row in range(len(matrix)):
        column = data.draw(st.sampled_from(numbers))
        matrix[row, column] = data.draw(st.sampled_from([np.nan, 0.0, -1e6, 1e6]))
    model = model_of(kind)
    parts = contributions(model, matrix, reference(model, MATRIX), TOPICS)
    assert parts.values.shape == matrix.shape
    np.testing.assert_allclose(parts.base + parts.values.sum(axis=1), model.margin(matrix), atol=FLOAT32, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_customer_gets_the_same_alone_and_among_others(kind):
    model = model_of(kind)
    known = reference(model, MATRIX)
    many = contributions(model, MATRIX[:70], known, TOPICS).values
    for row in (0, 33, 69):
        alone = contributions(model, MATRIX[row : row + 1], known, TOPICS).values[0]
        np.testing.assert_allclose(alone, many[row], atol=1e-9)


def test_only_a_network_makes_it_an_estimate():
    assert {kind for kind in KINDS if is_exact(model_of(kind))} == {"logistic", "boosted", "boosted_bag"}


def test_trees_have_the_values_that_xgboost_itself_gives():
    import xgboost as xgb

    booster, matrix = trained_booster()
    expected = booster.predict(xgb.DMatrix(matrix), pred_contribs=True, iteration_range=(0, 20))
    model = model_of("boosted")
    parts = contributions(model, MATRIX, {}, TOPICS)
    np.testing.assert_allclose(parts.values, expected[:, :-1], atol=1e-6)
    assert parts.base == pytest.approx(float(expected[0, -1]), abs=1e-6)


@pytest.mark.parametrize(("depth", "trees"), [(1, 3), (4, 30), (9, 12)])
def test_tables_of_many_rows_have_the_values_of_the_library(depth, trees):
    import xgboost as xgb

    rng = np.random.default_rng(depth)
    matrix = np.round(rng.normal(size=(900, 6)), 1).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    churned = (np.nansum(matrix[:, :3], axis=1) + rng.normal(size=900) > 0.0).astype(float)
    options = {"objective": "binary:logistic", "max_depth": depth, "eta": 0.3, "min_child_weight": 0.5, "nthread": 1}
    bag = []
    for seed in (1, 2):
        data = xgb.DMatrix(matrix, churned)
        booster = xgb.train({**options, "subsample": 0.8, "seed": seed}, data, trees)
        bag.append(bytes(booster.save_raw("ubj")))
    model = BoostedModel(bag, [trees, max(1, trees - 2)])
    assert model.tree_shapley is not None
    many, base = model.contributions(matrix)
    parts = [model.contributions(matrix[start : start + MANY_ROWS - 1]) for start in range(0, 900, MANY_ROWS - 1)]
    np.testing.assert_allclose(many, np.concatenate([values for values, _ in parts]), atol=2e-5)
    assert base == pytest.approx(parts[0][1], abs=2e-5)
    np.testing.assert_allclose(base + many.sum(axis=1), model.margin(matrix), atol=2e-5)


def test_the_logistic_base_is_the_mean_of_training_and_contributions_average_to_nothing():
    model = model_of("logistic")
    parts = contributions(model, MATRIX, reference(model, MATRIX), TOPICS)
    assert parts.base == pytest.approx(float(model.margin(MATRIX).mean()))
    np.testing.assert_allclose(parts.values.mean(axis=0), 0.0, atol=1e-9)


def test_a_blend_has_the_weighted_sum_of_its_members():
    model = model_of("blend")
    known = reference(model, MATRIX)
    parts = [
        contributions(member, MATRIX[:20], of_member, TOPICS).values
        for member, of_member in zip(model.members, known["members"], strict=True)
    ]
    expected = sum(w * p for w, p in zip(model.weights, parts, strict=True))
    np.testing.assert_allclose(contributions(model, MATRIX[:20], known, TOPICS).values, expected)


def test_the_estimate_for_a_network_is_near_the_exact_value():
    """Against all subsets, over the same background customers."""
    model = model_of("network")
    known = reference(model, MATRIX)
    assert len(known["rows"]) == BACKGROUND_ROWS
    background = np.array([[np.nan if x is None else x for x in row] for row in known["rows"]], np.float32)
    rows = MATRIX[100:112]
    exact = np.array([_by_definition(model, row, background) for row in rows])
    single = [(j,) for j in range(rows.shape[1])]
    estimate = contributions(model, rows, known, single).values
    assert np.corrcoef(estimate.ravel(), exact.ravel())[0, 1] > 0.9995
    assert np.abs(estimate - exact).mean() < 0.025 * np.abs(exact).mean()


def _by_definition(model, row, background):
    """Shapley's formula over all subsets of features, features outside taken from the background."""
    k = len(row)
    subsets = [s for size in range(k + 1) for s in itertools.combinations(range(k), size)]
    mixed = np.repeat(background[None], len(subsets), axis=0)
    for i, subset in enumerate(subsets):
        mixed[i][:, list(subset)] = row[list(subset)]
    worth = model.margin(mixed.reshape(-1, k)).reshape(len(subsets), -1).mean(axis=1)
    value = dict(zip(subsets, worth, strict=True))
    out = np.zeros(k)
    for subset in subsets:
        weight = math.factorial(len(subset)) * math.factorial(k - len(subset) - 1) if len(subset) < k else 0
        for j in set(range(k)) - set(subset):
            out[j] += weight / math.factorial(k) * (value[tuple(sorted((*subset, j)))] - value[subset])
    return out


def test_a_model_that_cannot_be_explained_is_refused():
    class Odd:
        kind = "odd"

    with pytest.raises(TypeError, match="'odd' has no contributions"):
        contributions(Odd(), MATRIX, {}, TOPICS)  # type: ignore[arg-type]
