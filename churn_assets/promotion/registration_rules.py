"""Who may be registered, and under which alias. Pure decisions; nothing is written here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from churn_assets.contract.model import Contract
from churn_assets.errors import AssetMissing, GateRefused
from churn_assets.promotion.pointer import Champion
from churn_assets.storage.files import write_json

FOLDER = "admissions"


def keep_admission(home: Path, model: Model) -> Path:
    """Write the model's test figure and what its audit accuses; whole or not at all."""
    return write_json(home / FOLDER / f"{model.version}.json", asdict(model))


def read_admission(home: Path, version: str) -> Model:
    """What `keep_admission` wrote. Raises AssetMissing if it is not there or cannot be read."""
    path = home / FOLDER / f"{version}.json"
    try:
        stored = json.loads(path.read_bytes())
        accused = tuple((str(column), str(words)) for column, words in stored["accused"])
        return Model(str(stored["version"]), float(stored["pr_auc"]), bool(stored["generated"]), accused)
    except (OSError, ValueError, KeyError, TypeError) as error:
        words = "is not there" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise AssetMissing(
            f"{path} {words}, expected what the audit of model {version} found; "
            "register the model again: dagster asset materialize --select registered_model"
        ) from error


Alias = Literal["champion", "challenger"]


@dataclass(frozen=True)
class Model:
    """A model that asks for admission. `generated`: its customers were made up by this package.

    `accused` are pairs of a column that its audit found over a limit, and by what, in words.
    """

    version: str
    pr_auc: float
    generated: bool
    accused: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Role:
    """The alias a model gets, and why."""

    alias: Alias
    reason: str


def admit(model: Model, contract: Contract) -> None:
    """Raise GateRefused unless the model's test PR-AUC reaches the contract's floor, and every column its
    audit accuses is attested in the contract as it is now."""
    floor = contract.quality.pr_auc_floor
    if not model.pr_auc >= floor:  # written so that NaN is refused as well
        raise GateRefused(
            f"model {model.version}: test PR-AUC is {model.pr_auc:.4f}, expected at least {floor:.4f} "
            f"(quality.pr_auc_floor of contract '{contract.name}'); look at chosen_model's report, mend the data "
            "or lower the floor knowingly"
        )
    open_ = unattested(model, contract)
    if open_:
        column, words = open_[0]
        others = list(dict.fromkeys(f"'{name}'" for name, _ in open_ if name != column))
        more = f" (so it is with {', '.join(others)})" if others else ""
        raise GateRefused(
            f"model {model.version}: column '{column}' {words}{more}, expected somebody to vouch that it is "
            'known before churn; write attested = "who, when, why it is known before churn" under it in '
            f"{contract.where}, or take it out of the model"
        )


def unattested(model: Model, contract: Contract) -> list[tuple[str, str]]:
    """What the model's audit accuses and nobody vouches for: pairs of column and words."""
    return [(column, words) for column, words in model.accused if not contract.column(column).attested]


def role_of(
    model: Model, contract: Contract, champion: Champion | None, home: Path, champion_generated: bool = False
) -> Role:
    """Champion if there is none that can answer for this contract and its customers, else challenger."""
    if champion is None:
        return Role("champion", "the first model of this home")
    if champion.version == model.version:
        return Role("champion", champion.reason)
    if champion.fingerprint != contract.fingerprint:
        return Role(
            "champion",
            f"the contract has changed: champion {champion.version} was made under {champion.fingerprint[:12]}, "
            f"the present contract '{contract.name}' is {contract.fingerprint[:12]}",
        )
    if not champion.path(home).is_dir():
        return Role("champion", f"the bundle of champion {champion.version} is gone from this home")
    if champion_generated and not model.generated:
        return Role("champion", f"champion {champion.version} had learnt from generated customers, this one from yours")
    return Role("challenger", f"champion {champion.version} stays; a challenger replaces it only by a gate of its own")
