"""One battery for all candidates, and the choice between them."""

import dataclasses

import numpy as np
import pytest

from churn_assets.errors import AssetStale, TrainingError
from churn_assets.evaluation.metrics import pr_auc
from churn_assets.features.compile import FeatureSpec
from churn_assets.scoring.bundle import load_bundle, read_card
from churn_assets.scoring.calibration import sigmoid
from churn_assets.scoring.card import Provenance
from churn_assets.training.candidate import NAMES, Candidate, judged_rows, train_candidate
from churn_assets.training.export import as_scorer, write_choice
from churn_assets.training.feature_table import STATE_KEY, as_of_of, feature_table, training_data
from churn_assets.training.select import choose_model, resolution_of
from churn_assets.training.split import read_split, split_table
from churn_assets_tests.strategies import STORE
from churn_assets_tests.trained import SMALL

every_candidate = pytest.mark.parametrize("name", NAMES)


def of(candidates, name):
    return next(c for c in candidates if c.name == name)


@every_candidate
def test_a_candidate_beats_the_base_rate_on_both_splits(candidates, features, splits, name):
    data = training_data(STORE, features, splits)
    for which, result in of(candidates, name).metrics.items():
        base = data.churned[judged_rows(which, data.views[which].split)].mean()
        assert result["pr_auc"] > base + 0.1, which


@every_candidate
def test_the_same_seed_gives_the_same_candidate(candidates, features, splits, name):
    again = train_candidate(name, STORE, features, splits, SMALL[name])
    for which, fitted in of(candidates, name).fitted.items():
        np.testing.assert_array_equal(again.fitted[which].out_of_fold, fitted.out_of_fold)


@every_candidate
def test_a_saved_candidate_is_the_same_candidate(candidates, features, splits, name, tmp_path):
    before = of(candidates, name)
    before.save(tmp_path / "kept")
    after = Candidate.load(tmp_path / "kept")
    assert (after.name, after.params, after.metrics) == (before.name, before.params, before.metrics)
    matrix = training_data(STORE, features, splits).views["random"].matrix[:200]
    np.testing.assert_array_equal(
        after.fitted["random"].model.margin(matrix), before.fitted["random"].model.margin(matrix)
    )


@every_candidate
def test_shuffled_labels_fall_to_the_base_rate(features, splits, name):
    shuffled = np.random.default_rng(0).permutation(features.column("churned").to_numpy())
    place = features.column_names.index("churned")
    broken = features.set_column(place, "churned", [shuffled])
    result = train_candidate(name, STORE, broken, splits, SMALL[name]).metrics["random"]["pr_auc"]
    assert result < shuffled.mean() + 0.1


@every_candidate
def test_an_unknown_parameter_is_an_error(features, splits, name):
    with pytest.raises(TrainingError, match=rf"candidate '{name}' has no parameter 'depht', expected one of "):
        train_candidate(name, STORE, features, splits, {"depht": 3})


def test_an_unknown_candidate_is_an_error(features, splits):
    with pytest.raises(TrainingError, match="no candidate 'forest', expected one of logistic, boosted, deep, network"):
        train_candidate("forest", STORE, features, splits)


@pytest.mark.parametrize(("c", "wide"), [(1e-3, False), (0.5, False), (1e4, False), (1e-3, True), (0.5, True)])
def test_the_ridge_is_that_of_scikit_learn(features, splits, c, wide, monkeypatch):
    from sklearn.linear_model import LogisticRegression

    from churn_assets.training.candidates import logistic

    data = training_data(STORE, features, splits)
    view = data.views["random"]
    rows = (view.matrix[:1500], data.churned[:1500])
    monkeypatch.setattr(logistic, "WIDE", 0 if wide else logistic.WIDE)
    model = logistic.fit(rows, rows, view.program.specs, logistic.Params(c=c), seed=1)
    columns = model.basis.transform(rows[0])
    expected = LogisticRegression(C=c, tol=1e-8, solver="newton-cholesky").fit(columns, rows[1])
    np.testing.assert_allclose(sigmoid(model.margin(rows[0])), expected.predict_proba(columns)[:, 1], atol=0.01)


@pytest.mark.parametrize(("numbers", "knots"), [(10, 17), (300, 5), (1600, 2)])
def test_the_curves_of_many_numbers_have_fewer_knots(numbers, knots):
    from churn_assets.training.candidates import logistic

    rng = np.random.default_rng(1)
    matrix, churned = rng.normal(size=(100, numbers)).astype(np.float32), (rng.random(100) < 0.5).astype(np.int8)
    specs = tuple(FeatureSpec(f"x{n}", "number") for n in range(numbers))
    model = logistic.fit((matrix, churned), (matrix, churned), specs, logistic.Params(), seed=1)
    assert {len(group.knots) for group in model.basis.groups} == {knots}


def test_the_network_scores_in_numpy_as_it_did_in_torch(features, splits):
    import torch

    from churn_assets.scoring.models.network import NetworkModel
    from churn_assets.training.candidates import network

    data = training_data(STORE, features, splits)
    view = data.views["random"]
    rows = (view.matrix[:500], data.churned[:500])
    kept = {}
    original = network._export

    def keep(net):
        kept["net"] = net
        return original(net)

    network._export = keep
    try:
        model = network.fit(rows, rows, view.program.specs, network.Params(epochs=2, width=16), seed=1)
    finally:
        network._export = original
    assert isinstance(model, NetworkModel)
    with torch.no_grad():
        inputs = torch.from_numpy(model.encoding.transform(rows[0]).astype(np.float32))
        expected = kept["net"](inputs).numpy()[:, 0]
    np.testing.assert_allclose(model.margin(rows[0]), expected, atol=1e-4)


def test_boosted_trees_are_monotone_as_the_contract_says(candidates, features, splits):
    view = training_data(STORE, features, splits).views["random"]
    falling = [i for i, spec in enumerate(view.program.specs) if spec.monotone == -1]
    assert falling
    model = of(candidates, "boosted").fitted["random"].model
    for column in falling:
        rows = np.repeat(view.matrix[:20], 30, axis=0)
        rows[:, column] = np.tile(np.linspace(0, 300, 30), 20)
        assert (np.diff(model.margin(rows).reshape(20, 30), axis=1) <= 1e-6).all()


def test_features_of_other_customers_or_splits_are_refused(customers, features, splits):
    """Made one by one, assets can be of different tables; a model of two of them would be a lie."""
    fewer = customers.slice(1)
    with pytest.raises(AssetStale, match="splits was made from other customers"):
        feature_table(STORE, fewer, splits)
    with pytest.raises(AssetStale, match="customer_features was made from another version of splits"):
        training_data(STORE, features, split_table(STORE, customers, seed=7))


def test_a_candidate_of_other_features_is_refused(customers, candidates):
    other = split_table(STORE, customers, seed=7)
    with pytest.raises(AssetStale, match="logistic_candidate was trained on other customer_features"):
        choose_model(STORE, candidates, feature_table(STORE, customers, other), other)


def test_features_of_a_split_use_its_training_rows_only(customers, splits):
    """Statistics come from training rows: changing the e-mails of test rows changes no other feature."""
    import pyarrow as pa

    test = read_split(splits, "random").test
    emails = customers.column("esent").to_numpy().copy()
    emails[test] = 999
    changed = customers.set_column(customers.column_names.index("esent"), "esent", pa.array(emails))
    before, after = feature_table(STORE, customers, splits), feature_table(STORE, changed, splits)
    assert '"random"' in before.schema.metadata[STATE_KEY].decode()
    others = np.setdiff1d(np.arange(customers.num_rows), test)
    assert before.column("emails_ratio").take(others) == after.column("emails_ratio").take(others)


def test_the_feature_table_gives_back_exactly_what_was_computed(customers, features, splits):
    from churn_assets.features.encode import encode_table

    for view in training_data(STORE, features, splits).views.values():
        expected = view.program(encode_table(STORE, customers), as_of_of(customers))
        np.testing.assert_array_equal(view.matrix, expected)


def test_the_choice_is_made_out_of_fold_and_reported_on_test(choice, features, splits):
    data = training_data(STORE, features, splits)
    view = data.views["random"]
    margin = choice.contender.fitted["random"].model.margin(view.matrix[view.split.test])
    expected = pr_auc(data.churned[view.split.test], margin)
    assert choice.metrics["test_pr_auc"] == pytest.approx(expected, abs=1e-3)
    assert choice.metrics["test_pr_auc_low"] < choice.metrics["test_pr_auc"] < choice.metrics["test_pr_auc_high"]
    assert {"validation_pr_auc", "test_ece", "oot_pr_auc", "oot_log_loss"} <= choice.metrics.keys()
    best = max(row.validation_pr_auc for row in choice.comparison)
    for row in choice.comparison:  # the column shows what the choice was made by
        assert row.behind_best == pytest.approx(best - row.validation_pr_auc)
    assert [row.candidate for row in choice.comparison][:4] == list(NAMES)
    blends = {row.candidate for row in choice.comparison[4:]}
    assert blends == {"logistic + boosted", "logistic + deep", "boosted + deep", "logistic + boosted + deep"}


def test_the_cheapest_of_tied_candidates_is_chosen(candidates, features, splits):
    """Three copies of one candidate tie with each other; the one that claims to be cheapest wins."""
    boosted = of(candidates, "boosted")

    class Priced:
        def __init__(self, model, cost):
            self.model, self.cost, self.kind = model, cost, model.kind
            self.margin, self.save = model.margin, model.save

    def priced(name, cost):
        fitted = {k: dataclasses.replace(f, model=Priced(f.model, cost)) for k, f in boosted.fitted.items()}
        return dataclasses.replace(boosted, name=name, fitted=fitted)

    chosen = choose_model(STORE, [priced("dear", 9.0), priced("cheap", 1.0), priced("fair", 5.0)], features, splits)
    assert chosen.name == "cheap"


def test_a_significantly_worse_candidate_is_not_chosen_even_if_cheap(candidates, features, splits):
    good = of(candidates, "boosted")
    blind = {
        k: dataclasses.replace(f, out_of_fold=np.zeros_like(f.out_of_fold), metrics={**f.metrics, "pr_auc": 0})
        for k, f in of(candidates, "logistic").fitted.items()
    }
    worse = dataclasses.replace(of(candidates, "logistic"), fitted=blind)
    chosen = choose_model(STORE, [worse, good], features, splits)
    assert chosen.name != "logistic"


class Rounded:
    """A model whose scores are rounded to whole log-odds."""

    def __init__(self, model):
        self.model, self.cost, self.kind, self.save = model, model.cost, model.kind, model.save

    def margin(self, matrix):
        return np.round(self.model.margin(matrix))


def rounded(candidate):
    fitted = {k: dataclasses.replace(f, model=Rounded(f.model)) for k, f in candidate.fitted.items()}
    return dataclasses.replace(candidate, name="rounded", fitted=fitted)


def test_a_candidate_with_few_scores_is_not_chosen_over_one_that_resolves(candidates, features, splits):
    """Out of fold they are equal; whole log-odds tie hundreds of customers on the list."""
    fine, coarse = of(candidates, "boosted"), rounded(of(candidates, "boosted"))
    chosen = choose_model(STORE, [coarse, fine], features, splits)
    assert chosen.name == "boosted"
    assert {row.candidate for row in chosen.comparison if row.coarse} == {"rounded"}
    alone = choose_model(STORE, [coarse], features, splits)
    assert (alone.name, [row.coarse for row in alone.comparison]) == ("rounded", [False])


def test_equal_customers_may_share_a_score(candidates, features, splits):
    view = training_data(STORE, features, splits).views["random"]
    model = of(candidates, "boosted").fitted["random"].model
    repeated = dataclasses.replace(view, matrix=view.matrix[np.arange(len(view.matrix)) // 4 * 4])
    assert resolution_of(model, view, 0.1) > 0.8
    assert resolution_of(model, repeated, 0.1) > 0.8
    coarse = rounded(of(candidates, "boosted")).fitted["random"].model
    assert resolution_of(coarse, view, 0.1) < 0.1


def test_no_candidate_is_an_error(features, splits):
    with pytest.raises(TrainingError, match=r"materialise at least one \*_candidate"):
        choose_model(STORE, [], features, splits)


def test_the_bundle_scores_as_training_did_and_equal_trainings_are_one_version(
    choice, candidates, customers, features, splits, tmp_path
):
    first = write_choice(STORE, choice, candidates, customers, tmp_path, Provenance(git_commit="a"))
    again = write_choice(
        STORE,
        choose_model(STORE, candidates, features, splits),
        candidates,
        customers,
        tmp_path,
        Provenance(git_commit="b"),
    )
    assert first == again
    test = read_split(splits, "random").test
    scored = load_bundle(first).score_table(customers.take(test), as_of_of(customers)).probability
    np.testing.assert_allclose(scored, choice.test["random"][1], atol=1e-6)
    assert read_card(first).metrics == pytest.approx(choice.metrics)
    bands = as_scorer(STORE, choice).bands
    assert bands.medium <= bands.high
