"""A chosen model enters the release: the gate, the registry, the champion pointer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from churn_assets.contract.model import Contract
from churn_assets.errors import BundleError, TrackingUnavailable
from churn_assets.mlflow_registry.models import MODEL_NAME, Registered, point, register
from churn_assets.mlflow_registry.tags import sync_aliases
from churn_assets.promotion.champion import bundle_hash, learn_number, move_champion, recover
from churn_assets.promotion.ledger.ledger import Ledger
from churn_assets.promotion.pointer import Champion, read_champion
from churn_assets.promotion.registration_rules import Alias, Model, Role, admit, keep_admission, role_of
from churn_assets.settings import Settings


@dataclass(frozen=True)
class Promotion:
    """What became of a model. `registered_version` is None, and `missing` says why, without MLflow."""

    version: str
    bundle: str
    alias: Alias
    reason: str
    champion: str
    registered_version: int | None
    registry: str
    missing: str | None

    def to_json(self) -> dict[str, Any]:
        """As a small JSON value."""
        return asdict(self)


def promote(
    settings: Settings,
    contract: Contract,
    model: Model,
    bundle: Path,
    tracking: tuple[str, str | None, str | None],
    request: str | None = None,
    before_champion: Callable[[], object] = lambda: None,
) -> Promotion:
    """Admit the model, register it, and point to it if it is to be champion.

    `bundle` lies inside the home; `tracking` is MLflow's uri, this training's run id, and why there is
    none; `request` is the key of the request in the ledger that the training answers, if it does. A challenger
    waits for the gate in the ledger from here on. `before_champion` is called before the pointer moves to a
    model that becomes, or is, champion: it writes what must be on disk then. Raises GateRefused below the
    contract's floor. Without MLflow the model is still promoted, with `missing` saying that it is not in the
    registry.
    """
    admit(model, contract)
    keep_admission(settings.home, model)
    home = settings.home
    recover(settings)
    champion = read_champion(home)
    role = role_of(model, contract, champion, home, _learnt_from_generated(home, champion))
    uri, run_id, missing = tracking
    registered: Registered | None = None
    if run_id is not None and missing is None:
        try:
            registered = register(uri, run_id, contract, bundle, model.version, {"fingerprint": contract.fingerprint})
            point(uri, role.alias, registered.version)
            if role.alias == "challenger" and champion and champion.registered_version is not None:
                sync_aliases(uri, champion.registered_version)  # a rollback moves it without MLflow
        except TrackingUnavailable as error:
            missing = str(error)
    number = registered.version if registered else None
    if role.alias == "champion":
        before_champion()
        champion = _enthrone(settings, contract, model, bundle, number, role, champion)
    assert champion is not None  # a challenger has one
    _answer(settings, model.version, bundle, number, role.alias, request)
    return Promotion(
        version=model.version,
        bundle=str(bundle.relative_to(home)),
        alias=role.alias,
        reason=role.reason,
        champion=champion.version,
        registered_version=number,
        registry=f"models:/{MODEL_NAME}/{number}" if number is not None else "",
        missing=missing,
    )


def _answer(
    settings: Settings, version: str, bundle: Path, number: int | None, alias: Alias, request: str | None
) -> None:
    """Tell the ledger what has come of a training: a challenger for the gate, or the champion itself."""
    ledger = Ledger(settings.ledger_path)
    if alias == "champion":
        if request is not None:
            ledger.finish_request(request, f"champion {version}")
        return
    inside = bundle.relative_to(settings.home).as_posix()
    ledger.add_challenger(version, inside, bundle_hash(bundle), number, request)


def _enthrone(
    settings: Settings,
    contract: Contract,
    model: Model,
    bundle: Path,
    number: int | None,
    role: Role,
    before: Champion | None,
) -> Champion:
    if before is not None and before.version == model.version:
        found = None if number is None else learn_number(settings, model.version, number)
        return found or before
    champion = Champion(
        version=model.version,
        bundle=bundle.relative_to(settings.home).as_posix(),
        fingerprint=contract.fingerprint,
        registered_version=number,
        since_at=datetime.now(UTC),
        by="training",
        reason=role.reason,
    )
    return move_champion(settings, champion, "first", champion.by, role.reason).to


def _learnt_from_generated(home: Path, champion: Champion | None) -> bool:
    from churn_assets.scoring.bundle import read_provenance

    if champion is None:
        return False
    try:
        return bool(read_provenance(champion.path(home)).get("generated"))
    except (BundleError, OSError, ValueError):
        return False
