"""What MLflow is told of the gate: tags on the version, and who champion and challenger are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from churn_assets.errors import TrackingUnavailable
from churn_assets.mlflow_registry.connect import connect, store_path, unavailable
from churn_assets.mlflow_registry.models import MODEL_NAME, aliases
from churn_assets.promotion.pointer import Champion
from churn_assets.promotion.records import Challenger
from churn_assets.settings import Settings

if TYPE_CHECKING:
    from churn_assets.promotion.gate.verdict import Verdict

_TAG_LENGTH = 4000  # MLflow takes 5,000 characters


def publish(settings: Settings, kept: Challenger, verdict: Verdict, *, crowned: bool = False) -> str | None:
    """Tag the challenger's version with the verdict, and let the aliases follow if it became champion.

    Returns why MLflow does not know of it, None if it does. Never raises for MLflow.
    """
    if kept.registered_version is None:
        return f"challenger {kept.version} is not in MLflow's registry, expected a version to tag; register it again"
    try:
        _tag(settings.mlflow_uri, kept.registered_version, verdict)
        if crowned:
            sync_aliases(settings.mlflow_uri, kept.registered_version)
    except TrackingUnavailable as error:
        return str(error)
    return None


def sync_aliases(uri: str, champion: int) -> bool:
    """Let MLflow's alias `champion` name this version, which is then nobody's challenger; True if it did not.

    A rollback moves the champion without MLflow, so this is asked at every training and promotion. Raises
    TrackingUnavailable.
    """
    client = connect(uri)
    from mlflow.exceptions import MlflowException

    try:
        before = aliases(client)
        if before.get("champion") != champion:
            client.set_registered_model_alias(MODEL_NAME, "champion", str(champion))
        if before.get("challenger") == champion:
            client.delete_registered_model_alias(MODEL_NAME, "challenger")
        return before.get("champion") != champion
    except (MlflowException, OSError) as error:
        raise unavailable(uri, error) from error


def follow(settings: Settings, champion: Champion | None) -> str | None:
    """`sync_aliases` with the champion of a home; why it was not done, None if there is nothing to say."""
    if champion is None or champion.registered_version is None:
        return None
    store = store_path(settings.mlflow_uri)
    if store is not None and not store.exists():
        return None
    try:
        sync_aliases(settings.mlflow_uri, champion.registered_version)
    except TrackingUnavailable as error:
        return str(error)
    return None


def _tag(uri: str, number: int, verdict: Verdict) -> None:
    client = connect(uri)
    from mlflow.exceptions import MlflowException

    figures = {c.check: [_short(c.found), _short(c.limit), c.passed] for c in verdict.checks}
    tags = {
        "gate": "passed" if verdict.passed else "refused",
        "gate_reason": verdict.reason[:_TAG_LENGTH],
        "gate_champion": verdict.champion,
        "gate_figures": json.dumps(figures)[:_TAG_LENGTH],
    }
    try:
        for name, value in tags.items():
            client.set_model_version_tag(MODEL_NAME, str(number), name, value)
    except (MlflowException, OSError) as error:
        raise unavailable(uri, error) from error


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
