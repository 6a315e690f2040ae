"""The figures of issue 2 on the real table. Needs CHURN_SOURCE, which .ci/run sets where the table is."""

import os
from pathlib import Path

import pytest
from msgspec.structs import asdict

from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.scoring.bundle import load_bundle
from churn_assets.scoring.card import Provenance
from churn_assets.training.candidate import NAMES, train_candidate
from churn_assets.training.export import write_choice
from churn_assets.training.feature_table import as_of_of, feature_table
from churn_assets.training.select import choose_model
from churn_assets.training.split import read_split, split_table
from churn_assets_tests.strategies import STORE

SOURCE = os.environ.get("CHURN_SOURCE", "")

pytestmark = pytest.mark.skipif(
    not Path(SOURCE).is_file(), reason="the real table is not part of the repository; CHURN_SOURCE names it"
)


@pytest.fixture(scope="module")
def customers():
    repaired, _ = apply_repairs(read_table(SOURCE, STORE), STORE)
    return validate(STORE, repaired, source=SOURCE).customers


def trained(customers):
    splits = split_table(STORE, customers)
    features = feature_table(STORE, customers, splits)
    candidates = [train_candidate(name, STORE, features, splits) for name in NAMES]
    return choose_model(STORE, candidates, features, splits), candidates, splits


@pytest.fixture(scope="module")
def result(customers):
    return trained(customers)


def test_the_chosen_model_reaches_the_figures_the_table_allows(result):
    choice, _, _ = result
    assert choice.metrics["test_pr_auc"] >= 0.974
    assert choice.metrics["test_ece"] <= 0.010
    assert choice.metrics["oot_pr_auc"] >= 0.42
    assert choice.metrics["oot_pr_auc"] < choice.metrics["test_pr_auc"] - 0.3, "the honest figure is the lower one"


def test_a_second_run_gives_every_figure_again(customers, result):
    choice, _, _ = result
    again, _, _ = trained(customers)
    assert again.name == choice.name
    assert again.metrics == pytest.approx(choice.metrics, abs=5e-5)
    assert [asdict(row) for row in again.comparison] == [
        pytest.approx(asdict(row), abs=5e-5) for row in choice.comparison
    ]


def test_the_bundle_gives_the_scores_of_training_time(customers, result, tmp_path):
    choice, candidates, splits = result
    scorer = load_bundle(write_choice(STORE, choice, candidates, customers, tmp_path, Provenance()))
    test = read_split(splits, "random").test
    scored = scorer.score_table(customers.take(test), as_of_of(customers)).probability
    assert scored == pytest.approx(choice.test["random"][1], abs=1e-6)
