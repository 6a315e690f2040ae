"""The registered model `churn`: versions, their tags, and the aliases champion and challenger."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from churn_assets.contract.model import Contract, Kind
from churn_assets.mlflow_registry.connect import calls, connect, quiet, store_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

MODEL_NAME = "churn"
Alias = Literal["champion", "challenger"]

_TAG_LENGTH = 4000
# What the Scorer needs to answer, and nothing more; MLflow spends 6 s on a wrong guess.
_NEEDS = ("numpy", "pyarrow", "xgboost", "churn-assets")
_COLUMN_TYPES: Mapping[Kind, str] = {Kind.NUMBER: "double", Kind.INTEGER: "double", Kind.BOOLEAN: "boolean"}


class ModelRegistry(Protocol):
    """A registry of model versions, each with a number; every method raises TrackingUnavailable.

    Callers commit first and tell the registry afterwards.
    """

    def register(self, run_id: str, contract: Contract, bundle: Path, bundle_version: str) -> int:
        """The number of this bundle, registered once for each content, from the MLflow run of its training."""
        ...

    def set_alias(self, alias: Alias, number: int) -> int | None:
        """Let `alias` name this version; the champion is nobody's challenger. Returns the version that the alias named
        before, None if it named this one or none."""
        ...

    def set_tags(self, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        ...


class MlflowRegistry:
    """The registered model `churn` in the MLflow store at `uri`; connects at the first call."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def register(self, run_id: str, contract: Contract, bundle: Path, bundle_version: str) -> int:
        """As the protocol says; the version gets the tags bundle_version, contract and fingerprint."""
        with calls(self.uri) as client:
            query = f"name = '{MODEL_NAME}' and tags.bundle_version = '{bundle_version}'"
            if known := [int(version.version) for version in client.search_model_versions(query)]:
                return min(known)
            tags = {"bundle_version": bundle_version, "contract": contract.name, "fingerprint": contract.fingerprint}
            return _log_and_register(self.uri, run_id, contract, bundle, tags)

    def set_alias(self, alias: Alias, number: int) -> int | None:
        """As the protocol says. Does nothing for an sqlite store that does not exist: it has no version to name."""
        store = store_path(self.uri)
        if store is not None and not store.exists():
            return None
        with calls(self.uri) as client:
            before = aliases(client)
            if before.get(alias) != number:
                client.set_registered_model_alias(MODEL_NAME, alias, str(number))
            if alias == "champion" and before.get("challenger") == number:
                client.delete_registered_model_alias(MODEL_NAME, "challenger")
            return None if before.get(alias) == number else before.get(alias)

    def set_tags(self, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version; MLflow takes 5,000 characters, longer text is cut."""
        with calls(self.uri) as client:
            for name, value in tags.items():
                client.set_model_version_tag(MODEL_NAME, str(number), name, value[:_TAG_LENGTH])


def peek_alias(uri: str, alias: Alias) -> int | None:
    """Which version an alias names in an sqlite store, read from its file without MLflow, whose import takes seconds.
    None if it names none, and for any other store."""
    store = store_path(uri)
    if store is None or not store.is_file():
        return None
    query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
    try:
        with contextlib.closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)) as db:
            row = db.execute(query, (MODEL_NAME, alias)).fetchone()
    except sqlite3.Error:  # a store of another release, or busy: the next monitor asks MLflow itself
        return None
    return int(row[0]) if row else None


def aliases(client: MlflowClient) -> dict[str, int]:
    """Which version each alias names."""
    model = client.get_registered_model(MODEL_NAME)
    return {alias: int(version) for alias, version in model.aliases.items()}


def signature(contract: Contract) -> ModelSignature:
    """Columns a customer is scored by, dates and categories as text, and the parameter `as_of`."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    columns = [
        ColSpec(_COLUMN_TYPES.get(column.kind, "string"), name=column.name, required=not column.nullable)
        for column in contract.scoring_columns
    ]
    return ModelSignature(
        inputs=Schema(columns),
        outputs=Schema([ColSpec("double")]),
        params=ParamSchema([ParamSpec("as_of", "string", "")]),
    )


def requirements() -> list[str]:
    """The pinned requirements of the model."""
    return [f"{name}=={_version(name)}" for name in _NEEDS]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return metadata.version(f"{name}-cpu")  # xgboost under the name of its build without a GPU


def _log_and_register(uri: str, run_id: str, contract: Contract, bundle: Path, tags: dict[str, str]) -> int:
    import mlflow

    # `Model.log` and `register_model` take store and experiment from the process alone.
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment_id=connect(uri).get_run(run_id).info.experiment_id)
    with quiet():  # it warns that there is no input example, although it gets the signature
        import mlflow.pyfunc
        from mlflow.models import Model

        logged = Model.log(
            artifact_path=None,
            name="model",
            flavor=mlflow.pyfunc,
            run_id=run_id,
            python_model=str(Path(__file__).with_name("pyfunc.py")),
            artifacts={"bundle": bundle.absolute().as_uri()},
            pip_requirements=requirements(),
            signature=signature(contract),
        )
        return int(mlflow.register_model(logged.model_uri, MODEL_NAME, tags=tags).version)
