"""The registered model `churn`: versions, and the aliases champion and challenger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.mlflow_registry.connect import connect, hushed, unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

MODEL_NAME = "churn"
Alias = Literal["champion", "challenger"]

# What the Scorer needs to answer, and nothing more; MLflow would spend 6 s to guess it wrong.
_NEEDS = ("numpy", "pyarrow", "xgboost", "churn-assets")
_COLUMN_TYPES: Mapping[Kind, str] = {Kind.NUMBER: "double", Kind.INTEGER: "double", Kind.BOOLEAN: "boolean"}


@dataclass(frozen=True)
class Registered:
    """A version in the registry; `created` is False if this content was there already."""

    version: int
    created: bool
    uri: str


def register(
    uri: str, run_id: str, contract: Contract, bundle: Path, bundle_version: str, tags: Mapping[str, object]
) -> Registered:
    """Register the bundle folder as a version of `churn`, once a content.

    `run_id` is the training's MLflow run. Raises TrackingUnavailable.
    """
    client = connect(uri)
    from mlflow.exceptions import MlflowException

    try:
        found = find(client, bundle_version)
        if found is not None:
            return Registered(found, False, f"models:/{MODEL_NAME}/{found}")
        labels = {"bundle_version": bundle_version, "contract": contract.name, **tags}
        made = _log_and_register(uri, run_id, contract, bundle, {name: str(value) for name, value in labels.items()})
        return Registered(made, True, f"models:/{MODEL_NAME}/{made}")
    except (MlflowException, OSError) as error:
        raise unavailable(uri, error) from error


def find(client: MlflowClient, bundle_version: str) -> int | None:
    """The registered version that holds this bundle."""
    query = f"name = '{MODEL_NAME}' and tags.bundle_version = '{bundle_version}'"
    versions = [int(found.version) for found in client.search_model_versions(query)]
    return min(versions, default=None)


def point(uri: str, alias: Alias, version: int) -> None:
    """Let `alias` name this version; a version is not its own challenger. Raises TrackingUnavailable."""
    client = connect(uri)
    from mlflow.exceptions import MlflowException

    try:
        client.set_registered_model_alias(MODEL_NAME, alias, str(version))
        if alias == "champion" and aliases(client).get("challenger") == version:
            client.delete_registered_model_alias(MODEL_NAME, "challenger")
    except (MlflowException, OSError) as error:
        raise unavailable(uri, error) from error


def aliases(client: MlflowClient) -> dict[str, int]:
    """Which version each alias names."""
    model = client.get_registered_model(MODEL_NAME)
    return {alias: int(version) for alias, version in model.aliases.items()}


def signature(contract: Contract) -> ModelSignature:
    """Columns a customer is scored by, dates and categories as text, and the parameter `as_of`."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    columns = [_column_spec(ColSpec, column) for column in contract.scoring_columns]
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


def _column_spec(spec: Any, column: Column) -> Any:
    return spec(_COLUMN_TYPES.get(column.kind, "string"), name=column.name, required=not column.nullable)


def _log_and_register(uri: str, run_id: str, contract: Contract, bundle: Path, tags: dict[str, str]) -> int:
    import mlflow

    # `Model.log` and `register_model` can be told store and experiment in no other way.
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment_id=connect(uri).get_run(run_id).info.experiment_id)
    with hushed():  # it would like an input example, although it is given the signature
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
