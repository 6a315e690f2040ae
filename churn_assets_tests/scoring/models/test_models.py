"""Every kind of model gives one answer, however it is asked, and survives being saved."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.errors import BundleCorrupt, BundleError
from churn_assets.features.compile import FeatureSpec
from churn_assets.scoring.models import xgboost_c as xgboost_library
from churn_assets.scoring.models.base import read_arrays, write_model
from churn_assets.scoring.models.blend import MODELS, BlendModel, load_model
from churn_assets.scoring.models.boosted import FEW_ROWS, BoostedModel
from churn_assets.scoring.models.logistic import LogisticModel
from churn_assets.scoring.models.network import NetworkModel
from churn_assets.scoring.models.piecewise import PiecewiseEncoding, PiecewiseTables
from churn_assets_tests.scoring.tiny import (
    AS_OF,
    CONTRACT,
    KINDS,
    booster_bytes,
    customers,
    json_rows,
    model_of,
    scorer_of,
    trained_booster,
    training,
)

SCORERS = {kind: scorer_of(kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 60), cut=st.integers(0, 60))
def test_a_customer_scores_the_same_alone_in_a_batch_and_shuffled(kind, seed, rows, cut):
    table, scorer = customers(rows, seed), SCORERS[kind]
    together = scorer.score_table(table, AS_OF).probability
    order = np.random.default_rng(seed).permutation(rows)
    shuffled = scorer.score_table(table.take(order), AS_OF).probability
    np.testing.assert_allclose(shuffled, together[order], rtol=0, atol=1e-6)
    parts = [table.slice(0, cut), table.slice(min(cut, rows))]
    halves = np.concatenate([scorer.score_table(p, AS_OF).probability for p in parts if p.num_rows])
    np.testing.assert_allclose(halves, together, rtol=0, atol=1e-6)
    alone = [scorer.score_rows([row], AS_OF).probability[0] for row in json_rows(table)[:10]]
    np.testing.assert_allclose(alone, together[:10], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_and_chunks_do_not_change_a_score(kind):
    table, scorer = customers(40_000, 3), SCORERS[kind]
    one = scorer.score_table(table, AS_OF).probability
    with ThreadPoolExecutor(3) as pool:
        for scores in pool.map(lambda _: scorer.score_table(table, AS_OF), range(3)):
            np.testing.assert_array_equal(scores.probability, one)
    some = customers(40_000, 3).slice(33_000, 50)
    np.testing.assert_allclose(scorer.score_table(some, AS_OF).probability, one[33_000:33_050], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_gives_the_same_margins_bit_for_bit(kind, tmp_path):
    model, (_, matrix, _) = SCORERS[kind].model, training()
    model.save(tmp_path / "one")
    loaded = load_model(tmp_path / "one")
    assert type(loaded) is type(model)
    assert loaded.cost == model.cost > 0
    for rows in (0, 1, 3, 200):
        np.testing.assert_array_equal(loaded.margin(matrix[:rows]), model.margin(matrix[:rows]))
    loaded.save(tmp_path / "two")
    for file in (p for p in (tmp_path / "one").rglob("*") if p.is_file()):
        assert (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("kind", ["logistic", "network_bag"])
def test_arrays_as_version_0_1_wrote_them_are_read(kind, tmp_path):
    model, (_, matrix, _) = model_of(kind), training()
    model.save(tmp_path)
    with np.load(tmp_path / "weights.npz") as stored:
        arrays = dict(stored)
    features = len(arrays["encoding_names"])
    arrays["encoding_numbers"] = np.hstack([arrays["encoding_numbers"], np.ones((features, 2))])  # centre and scale
    arrays["encoding_flags"] = np.hstack([arrays["encoding_flags"], np.zeros((features, 1), dtype=bool)])  # linear
    if kind == "network_bag":
        for i in range(2):
            arrays |= {f"net{i}_embedding": np.zeros((9, 0)), f"net{i}_embedding_bias": np.zeros((features, 0))}
        old = {"nets": 2, "layers": [3, 3], "embedding_activation": "relu", "activation": "silu"}
        write_model(tmp_path, "network", old)
    np.savez(tmp_path / "weights.npz", allow_pickle=False, **arrays)
    np.testing.assert_array_equal(load_model(tmp_path).margin(matrix), model.margin(matrix))


def test_every_kind_of_model_is_in_the_battery():
    assert {SCORERS[kind].model.kind for kind in KINDS} == set(MODELS)


@pytest.mark.parametrize("rounds", [0, 1, 7])
@pytest.mark.parametrize("depth", [1, 4, 8])
def test_margins_are_those_of_xgboost(rounds, depth):
    import xgboost as xgb

    booster, matrix = trained_booster(3, depth)
    expected = booster.predict(xgb.DMatrix(matrix), output_margin=True, iteration_range=(0, rounds))
    model = BoostedModel([booster_bytes(3, depth)], [rounds])
    _, features, _ = training()
    np.testing.assert_array_equal(model.margin(features), expected.astype(np.float64))
    few = np.concatenate([model.margin(features[i : i + FEW_ROWS]) for i in range(0, len(features), FEW_ROWS)])
    np.testing.assert_array_equal(few, expected.astype(np.float64))


def test_leaf_masks_are_used_up_to_depth_six_and_left_alone_beyond():
    assert BoostedModel([booster_bytes(depth=6)]).leaf_masks is not None
    deep = BoostedModel([booster_bytes(depth=8)])
    widest = max(len(tree["left_children"]) for tree in _trees(deep))
    assert (deep.leaf_masks is None) == (widest > 127)


def _trees(model):
    import json

    return json.loads(model.boosters[0].as_json())["learner"]["gradient_booster"]["model"]["trees"]


def test_leaf_masks_that_disagree_with_the_library_are_not_used(monkeypatch):
    monkeypatch.setattr("churn_assets.scoring.models.leaf_masks.base_margin", lambda model: np.float32(3.0))
    assert BoostedModel([booster_bytes()]).leaf_masks is None


@pytest.mark.parametrize("broken", [b"", b"not a model", booster_bytes()[:200], booster_bytes()[:-40]])
def test_a_broken_booster_gives_an_error_of_one_line(broken):
    with pytest.raises(BundleCorrupt, match=r"^(booster|XGBoosterLoadModelFromBuffer): [^\n\[]+train it again$"):
        BoostedModel([broken])


def test_a_matrix_of_another_width_is_refused_by_the_library():
    with pytest.raises(BundleCorrupt, match="XGBoosterPredictFromDense"):
        BoostedModel([booster_bytes()]).margin(np.zeros((50, 3), dtype=np.float32))


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr(xgboost_library.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    with pytest.raises(BundleError, match="install xgboost"):
        xgboost_library.library.__wrapped__()


def test_one_booster_answers_many_threads_at_once():
    model, (_, matrix, _) = BoostedModel([booster_bytes()]), training()
    expected = model.margin(matrix)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda i: model.margin(matrix[i : i + 30]), range(0, 570, 10)))
    for i, part in enumerate(parts):
        np.testing.assert_array_equal(part, expected[10 * i : 10 * i + 30])


def test_a_logistic_model_is_its_design_times_its_weights():
    model, (_, matrix, _) = model_of("logistic"), training()
    expected = model.basis.transform(matrix) @ model.weights + model.intercept
    np.testing.assert_allclose(model.margin(matrix), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["network", "network_bag"])
def test_a_network_is_what_its_documented_layout_says(kind):
    model, (_, matrix, _) = model_of(kind), training()
    encoded = model.encoding.transform(matrix)
    expected = np.zeros(len(matrix))
    for layers in model.nets:
        x = encoded
        for i, (weight, bias) in enumerate(layers):
            x = x @ weight.T.astype(np.float64) + bias
            if i + 1 < len(layers):
                x = x / (1.0 + np.exp(-x))
        expected += x[:, 0] / len(model.nets)
    np.testing.assert_allclose(model.margin(matrix), expected, rtol=0, atol=1e-10)


_NUMBERS = st.lists(st.floats(-1e6, 1e6, width=32) | st.just(float("nan")), min_size=1, max_size=40)


@given(seen=_NUMBERS, asked=_NUMBERS, knots=st.integers(2, 9), seed=st.integers(0, 99))
def test_curves_are_the_encoding_times_the_weights_for_any_numbers(seen, asked, knots, seed):
    specs = [FeatureSpec("x", "number")]
    encoding = PiecewiseEncoding.fit(np.array(seen, dtype=np.float32)[:, None], specs, knots)
    weights = np.random.default_rng(seed).normal(size=(encoding.width, 3))
    matrix = np.array(asked, dtype=np.float32)[:, None]
    curves = PiecewiseTables(encoding, weights)
    expected = encoding.transform(matrix) @ weights
    np.testing.assert_allclose(curves(matrix)[:, 0], expected, rtol=0, atol=1e-6)
    model = LogisticModel(encoding, weights[:, 0], 0.5)
    np.testing.assert_allclose(model.margin(matrix), expected[:, 0] + 0.5, rtol=0, atol=1e-6)


def test_a_value_far_outside_the_training_range_moves_a_curve_no_further_than_the_largest_seen():
    model, (_, matrix, _) = model_of("logistic"), training()
    largest, absurd = matrix[:1].copy(), matrix[:1].copy()
    largest[0, 0], absurd[0, 0] = np.nanmax(matrix[:, 0]), 1e30
    np.testing.assert_allclose(model.margin(absurd), model.margin(largest), rtol=0, atol=1e-12)


def test_a_column_of_only_nulls_and_a_constant_can_be_encoded():
    specs = [FeatureSpec("null", "number"), FeatureSpec("one", "number")]
    seen = np.array([[np.nan, 1.0], [np.nan, 1.0]], dtype=np.float32)
    basis = PiecewiseEncoding.fit(seen, specs, 16)
    assert basis.width == 1
    model = LogisticModel(basis, np.array([2.0]), 0.5)
    asked = np.array([[np.nan, 7.0], [3.0, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(model.margin(asked), [2.5, 0.5])
    np.testing.assert_array_equal([model.margin(asked[:1])[0], model.margin(asked[1:])[0]], [2.5, 0.5])


@pytest.mark.parametrize(("members", "weights"), [(0, []), (2, [1.0]), (2, [0.7, 0.7]), (2, [1.5, -0.5])])
def test_a_blend_refuses_weights_that_do_not_make_a_mean(members, weights):
    with pytest.raises(ValueError, match="expected"):
        BlendModel([model_of("logistic")] * members, weights)


def test_an_unknown_kind_and_damaged_files_are_refused(tmp_path):
    write_model(tmp_path, "oracle", {})
    with pytest.raises(BundleCorrupt, match="kind is 'oracle', expected one of logistic, boosted, network, blend"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text("[]")
    with pytest.raises(BundleCorrupt, match="expected an object"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(BundleCorrupt, match="cannot be read"):
        load_model(tmp_path)
    write_model(tmp_path, "network", {"layers": [1]})
    with pytest.raises(BundleCorrupt, match=r"weights\.npz"):
        load_model(tmp_path)
    np.savez(tmp_path / "weights.npz", other=np.zeros(1))
    with pytest.raises(BundleCorrupt, match="is missing"):
        NetworkModel.load(tmp_path)
    write_model(tmp_path, "boosted", {"iterations": [0], "columns": None})
    with pytest.raises(BundleCorrupt, match=r"model\.ubj"):
        load_model(tmp_path)


def test_pickled_arrays_are_never_read(tmp_path):
    write_model(tmp_path, "network", {})
    np.savez(tmp_path / "weights.npz", allow_pickle=True, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BundleCorrupt, match="allow_pickle=False"):
        read_arrays(tmp_path)


def test_the_tiny_contract_speaks_of_every_kind_of_feature():
    program, matrix, _ = training()
    assert {spec.kind for spec in program.specs} == {"number", "category"}
    assert np.isnan(matrix).any()
    assert CONTRACT.name == "tiny"
