"""Versions, tags and aliases of the registered model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract, Kind
from churn_assets.errors import TrackingUnavailable
from churn_assets.mlflow_registry.connect import connect
from churn_assets.mlflow_registry.registry import MODEL_NAME, MlflowRegistry, aliases, requirements, signature
from churn_assets.mlflow_registry.tracking import prepare_experiment
from churn_assets_tests.scoring.tiny import AS_OF, customers, json_rows
from churn_assets_tests.serving.client import SCORER, ask, home_with_champion

CONTRACTS = sorted((Path(__file__).resolve().parents[2] / "contracts").glob("*.toml"))
STORE = load_contract(CONTRACTS[0])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    experiment = prepare_experiment(uri, "churn/store", folder / "artifacts")
    bundle = folder / "bundle"
    bundle.mkdir()
    (bundle / "card.json").write_text("{}")
    return uri, connect(uri).create_run(experiment).info.run_id, bundle


def version(store, name: str) -> tuple[str, Contract, Path, str]:
    _, run, bundle = store
    return run, STORE, bundle, name


def test_the_same_content_is_one_version_and_another_is_another(store):
    uri, *_ = store
    registry = MlflowRegistry(uri)
    assert [registry.register(*version(store, name)) for name in ("aaa", "aaa", "bbb")] == [1, 1, 2]
    tags = connect(uri).get_model_version(MODEL_NAME, "1").tags
    assert tags == {"bundle_version": "aaa", "contract": "store", "fingerprint": STORE.fingerprint}


def test_aliases_move_and_a_champion_is_no_challenger(store):
    uri, *_ = store
    registry = MlflowRegistry(uri)
    one, two = (registry.register(*version(store, name)) for name in ("aaa", "bbb"))
    registry.set_alias("champion", one)
    registry.set_alias("challenger", two)
    assert aliases(connect(uri)) == {"champion": one, "challenger": two}
    registry.set_alias("champion", two)
    assert aliases(connect(uri)) == {"champion": two}
    registry.set_alias("champion", two)
    assert aliases(connect(uri)) == {"champion": two}


def test_tags_are_set_and_text_over_the_limit_is_cut(store):
    uri, *_ = store
    registry = MlflowRegistry(uri)
    number = registry.register(*version(store, "ccc"))
    registry.set_tags(number, {"gate": "passed", "gate_reason": "x" * 9000})
    tags = connect(uri).get_model_version(MODEL_NAME, str(number)).tags
    assert (tags["gate"], len(tags["gate_reason"])) == ("passed", 4000)


def test_an_alias_is_not_set_in_a_store_that_does_not_exist(tmp_path):
    MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}").set_alias("champion", 1)
    assert not (tmp_path / "mlflow.db").exists()


def test_the_model_is_code_and_files_and_no_pickle(store):
    uri, _, bundle = store
    MlflowRegistry(uri).register(*version(store, "aaa"))
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
    registry = MlflowRegistry("http://127.0.0.1:9")
    for call in (
        lambda: registry.register("run", STORE, tmp_path, "v"),
        lambda: registry.set_alias("champion", 1),
        lambda: registry.set_tags(1, {"gate": "passed"}),
    ):
        with pytest.raises(TrackingUnavailable):
            call()


def test_mlflows_scoring_server_gives_the_numbers_of_the_service(store, tmp_path):
    """The application that `mlflow models serve` runs, in this process; `benchmarks.mlflow_serve` runs the command."""
    uri, run, _ = store
    home = home_with_champion(tmp_path)
    (bundle,) = (home / "bundles").iterdir()
    number = MlflowRegistry(uri).register(run, SCORER.contract, bundle, bundle.name)
    import mlflow  # not above: its own modules warn when they are imported; `register` has silenced that
    from mlflow.pyfunc import scoring_server

    mlflow.set_tracking_uri(uri)
    server = scoring_server.init(mlflow.pyfunc.load_model(f"models:/{MODEL_NAME}/{number}"))
    golden = [{name: row[name] for name in row if name != "id"} for row in json_rows(customers(40, seed=8))]
    alone, batch = ask(home, lambda client, worker: answers_of_service(client, golden))
    assert answers_of_mlflow(server, golden) == batch
    assert alone == pytest.approx(batch, rel=0, abs=1e-12)  # as everywhere: one row adds the same terms in its order


def answers_of_mlflow(server: Any, rows: list[dict[str, Any]]) -> list[float]:
    """What a server of MLflow answers to customers."""

    async def invoke() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://mlflow") as client:
            return await client.post("/invocations", json={"dataframe_records": rows, "params": {"as_of": AS_OF}})

    response = asyncio.run(invoke())
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


async def answers_of_service(client: httpx.AsyncClient, rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """What the service answers to them, one by one and as a batch."""
    alone = [await client.post("/predict", json={**row, "as_of": AS_OF}) for row in rows]
    batch = await client.post("/predict_batch", json={"customers": rows, "as_of": AS_OF})
    predictions = batch.json()["predictions"]
    return [each.json()["churn_probability"] for each in alone], [each["churn_probability"] for each in predictions]
