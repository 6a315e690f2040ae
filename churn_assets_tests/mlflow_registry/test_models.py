"""Versions and aliases of the registered model."""

from __future__ import annotations

from pathlib import Path

import pytest

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Kind
from churn_assets.errors import TrackingUnavailable
from churn_assets.mlflow_registry.connect import connect
from churn_assets.mlflow_registry.models import MODEL_NAME, aliases, point, register, requirements, signature
from churn_assets.mlflow_registry.tracking import prepare_experiment

CONTRACTS = sorted((Path(__file__).resolve().parents[2] / "contracts").glob("*.toml"))
STORE = load_contract(CONTRACTS[0])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    experiment = prepare_experiment(uri, "churn/store", folder / "artifacts")
    bundle = folder / "bundle"
    bundle.mkdir()
    (bundle / "card.json").write_text("{}")
    return uri, connect(uri).create_run(experiment).info.run_id, bundle


def test_the_same_content_is_one_version_and_another_is_another(registry):
    uri, run, bundle = registry
    first = register(uri, run, STORE, bundle, "aaa", {"fingerprint": "f"})
    again = register(uri, run, STORE, bundle, "aaa", {"fingerprint": "f"})
    other = register(uri, run, STORE, bundle, "bbb", {"fingerprint": "f"})
    assert (first.version, first.created) == (1, True)
    assert (again.version, again.created) == (1, False)
    assert (other.version, other.created) == (2, True)
    tags = connect(uri).get_model_version(MODEL_NAME, "1").tags
    assert tags == {"bundle_version": "aaa", "contract": "store", "fingerprint": "f"}


def test_aliases_move_and_a_champion_is_no_challenger(registry):
    uri, run, bundle = registry
    one = register(uri, run, STORE, bundle, "aaa", {}).version
    two = register(uri, run, STORE, bundle, "bbb", {}).version
    point(uri, "champion", one)
    point(uri, "challenger", two)
    assert aliases(connect(uri)) == {"champion": one, "challenger": two}
    point(uri, "champion", two)
    assert aliases(connect(uri)) == {"champion": two}


def test_the_model_is_code_and_files_and_no_pickle(registry):
    uri, run, bundle = registry
    register(uri, run, STORE, bundle, "aaa", {})
    folder = bundle.parent / "artifacts" / "models"
    assert {p.name for p in folder.rglob("*") if p.is_file()} == {
        *("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "pyfunc.py", "card.json")
    }


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda p: p.stem)
def test_the_signature_is_the_contracts(path):
    contract = load_contract(path)
    found = {c.name: c for c in signature(contract).inputs.inputs}
    assert set(found) == {c.name for c in contract.scoring_columns}
    for column in contract.scoring_columns:
        assert found[column.name].required is not column.nullable
        expected = {Kind.NUMBER: "double", Kind.INTEGER: "double", Kind.BOOLEAN: "boolean"}.get(column.kind, "string")
        assert found[column.name].type.name == expected


def test_requirements_are_pinned_and_few():
    assert [line.split("==")[0] for line in requirements()] == ["numpy", "pyarrow", "xgboost", "churn-assets"]
    assert all(line.split("==")[1] for line in requirements())


def test_a_registry_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TrackingUnavailable):
        register("http://127.0.0.1:9", "run", STORE, tmp_path, "v", {})
    with pytest.raises(TrackingUnavailable):
        point("http://127.0.0.1:9", "champion", 1)
