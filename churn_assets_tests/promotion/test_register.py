"""From a chosen model to a champion pointer and aliases, with MLflow and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from churn_assets.errors import GateRefused
from churn_assets.mlflow_registry.connect import connect
from churn_assets.mlflow_registry.models import aliases
from churn_assets.mlflow_registry.tracking import prepare_experiment
from churn_assets.promotion.champion import history
from churn_assets.promotion.pointer import read_champion, require_champion
from churn_assets.promotion.register import promote
from churn_assets.promotion.registration_rules import Model
from churn_assets.scoring.bundle import write_bundle
from churn_assets.settings import Settings
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, customers, scorer_of

AWAY = ("http://127.0.0.1:9", None, "MLflow is away")


def place(home: Path) -> Settings:
    return Settings(root=home, home=home, contract_path=home / "tiny.toml")


def bundle(home: Path, kind: str, generated: bool = False) -> Path:
    return write_bundle(
        home / "bundles",
        scorer_of(kind),
        card={},
        golden=customers(32, seed=8),
        as_of=AS_OF,
        reference=customers(20, seed=9),
        provenance={"generated": generated},
    )


def model(path: Path, pr_auc: float = 0.9, generated: bool = False) -> Model:
    return Model(path.name, pr_auc, generated)


def test_the_first_becomes_champion_and_the_second_challenger(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run = connect(uri).create_run(prepare_experiment(uri, "churn/tiny", tmp_path / "artifacts")).info.run_id
    one, two = bundle(tmp_path, "logistic"), bundle(tmp_path, "boosted")
    first = promote(place(tmp_path), CONTRACT, model(one), one, (uri, run, None))
    second = promote(place(tmp_path), CONTRACT, model(two), two, (uri, run, None))
    again = promote(place(tmp_path), CONTRACT, model(one), one, (uri, run, None))
    assert (first.alias, first.registered_version, first.champion) == ("champion", 1, one.name)
    assert (second.alias, second.registered_version, second.champion) == ("challenger", 2, one.name)
    assert again == first
    assert aliases(connect(uri)) == {"champion": 1, "challenger": 2}
    pointed = require_champion(tmp_path)
    assert (pointed.version, pointed.registered_version, pointed.by) == (one.name, 1, "training")
    assert pointed.path(tmp_path) == one


def test_without_mlflow_the_model_is_champion_all_the_same(tmp_path):
    one = bundle(tmp_path, "logistic")
    promotion = promote(place(tmp_path), CONTRACT, model(one), one, AWAY)
    assert (promotion.alias, promotion.registered_version, promotion.missing) == ("champion", None, "MLflow is away")
    assert require_champion(tmp_path).registered_version is None


def test_the_same_champion_again_leaves_the_pointer_as_it_is(tmp_path):
    one = bundle(tmp_path, "logistic")
    promote(place(tmp_path), CONTRACT, model(one), one, AWAY)
    before = (tmp_path / "champion.json").read_bytes()
    promote(place(tmp_path), CONTRACT, model(one), one, AWAY)
    assert (tmp_path / "champion.json").read_bytes() == before


def test_a_model_of_real_customers_replaces_one_of_generated_customers(tmp_path):
    one, two = bundle(tmp_path, "logistic", generated=True), bundle(tmp_path, "boosted")
    promote(place(tmp_path), CONTRACT, model(one, generated=True), one, AWAY)
    promotion = promote(place(tmp_path), CONTRACT, model(two), two, AWAY)
    assert promotion.alias == "champion"
    assert require_champion(tmp_path).version == two.name


def test_every_first_champion_is_in_the_history_once(tmp_path):
    one, two = bundle(tmp_path, "logistic", generated=True), bundle(tmp_path, "boosted")
    for path, generated in ((one, True), (one, True), (two, False)):
        promote(place(tmp_path), CONTRACT, model(path, generated=generated), path, AWAY)
    told = [(move.kind, move.before, move.to.version, move.status, move.by) for move in history(place(tmp_path))]
    assert told == [
        ("first", None, one.name, "done", "training"),
        ("first", one.name, two.name, "done", "training"),
    ]


def test_a_refused_model_changes_nothing(tmp_path):
    one = bundle(tmp_path, "logistic")
    with pytest.raises(GateRefused):
        promote(place(tmp_path), CONTRACT, model(one, pr_auc=0.4), one, AWAY)
    assert read_champion(tmp_path) is None
