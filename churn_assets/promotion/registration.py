"""Which models may be registered, and under which alias. Decisions are pure; the facts a later gate needs are stored.

A registered model leaves `admissions/<version>.json` in the home: its test PR-AUC and the findings of its audit,
which the gate checks again under the contract as it is then.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec

from churn_assets.contract.edit import remedy
from churn_assets.contract.lineage import describe_change, unknown_inputs
from churn_assets.contract.model import Contract
from churn_assets.errors import AssetMissing, GateRefused
from churn_assets.mlflow_registry.registry import Alias
from churn_assets.promotion.pointer import Champion
from churn_assets.storage.files import read_file, write_json

FOLDER = "admissions"


class AuditFinding(msgspec.Struct, frozen=True, array_like=True):
    """A column that a model's audit found over a limit; `message` is a clause with the column as its subject."""

    column: str
    message: str


@dataclass(frozen=True)
class TrainedModel:
    """A model to be registered, with what its audit found. `generated`: this package generated its customers;
    `no_signal`: it is no better than random (`scoring.card.no_better_than_random`). `pr_auc` is on test customers, out
    of fold on the others where too few of a class were tested (`scoring.card.judged_part`)."""

    version: str
    pr_auc: float
    generated: bool
    findings: tuple[AuditFinding, ...] = ()
    no_signal: bool = False


@dataclass(frozen=True)
class Role:
    """The alias a model gets, and why. `change`: how its inputs differ from the champion's, '' if they do not; the
    gate, which compares two models on the same rows, then asks for the rules of registration alone."""

    alias: Alias
    reason: str
    change: str = ""


@dataclass(frozen=True)
class Registration:
    """The value of the asset `registered_model`. Without MLflow `registered_version` is None and `missing` says why;
    with it, `missing` says what was wrong with an alias, None if nothing was."""

    version: str
    bundle: str
    alias: Alias
    reason: str
    champion: str
    registered_version: int | None
    registry: str
    missing: str | None


def save_registration_record(home: Path, model: TrainedModel) -> Path:
    """Store the facts that the gate checks again; whole or not at all."""
    stored = msgspec.to_builtins(model)
    stored["accused"] = stored.pop("findings")
    return write_json(home / FOLDER / f"{model.version}.json", stored)


def read_registration_record(home: Path, version: str) -> TrainedModel:
    """The inverse of `save_registration_record`. Raises AssetMissing if it is not there or cannot be read."""
    path = home / FOLDER / f"{version}.json"
    try:
        stored = json.loads(read_file(path))
        return msgspec.convert({**stored, "findings": stored["accused"]}, TrainedModel)
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise AssetMissing(
            f"{path}: {problem}, expected the findings of the audit of model {version}; "
            "register the model again: dagster asset materialize --select registered_model"
        ) from error


def check_registration(model: TrainedModel, contract: Contract) -> None:
    """Raise GateRefused unless the model's PR-AUC reaches the contract's floor, and every column that
    its audit found over a limit is attested in the contract as it is now."""
    floor = contract.quality.pr_auc_floor
    if not model.pr_auc >= floor:  # written so that NaN is refused as well
        raise GateRefused(
            f"model {model.version}: test PR-AUC is {model.pr_auc:.4f}, expected at least {floor:.4f} "
            f"(quality.pr_auc_floor of contract '{contract.name}'); read chosen_model's report, repair the data "
            "or lower the floor knowingly"
        )
    open_findings = unattested(model, contract)
    if open_findings:
        raise GateRefused(f"model {model.version}: {_describe_findings(open_findings, contract)}")


def _describe_findings(findings: list[AuditFinding], contract: Contract) -> str:
    first = findings[0]
    more = list(dict.fromkeys(f"'{finding.column}'" for finding in findings if finding.column != first.column))
    also = f" (the same for {', '.join(more)})" if more else ""
    return (
        f"column '{first.column}' {first.message}{also}, expected somebody to attest that "
        f"it is known before churn; do so: {remedy(first.column, contract)}"
    )


def unattested(model: TrainedModel, contract: Contract) -> list[AuditFinding]:
    """Findings of the model's audit on columns that nobody attests."""
    return [finding for finding in model.findings if not contract.column(finding.column).attested]


def assign_role(
    model: TrainedModel,
    contract: Contract,
    champion: Champion | None,
    home: Path,
    champion_generated: bool = False,
    refused: bool = False,
    in_use: Contract | None = None,
) -> Role:
    """Champion if there is none that can answer and the model was not `refused` (or rejected) before, else challenger.

    `contract` is that of the model; `in_use` as in `input_change`. A champion answers as long as its bundle is there;
    whether its contract has other limits, values or texts does not matter.
    """
    weak = "; it is no better than random, so nobody is to be contacted" * model.no_signal
    if champion is not None and champion.version == model.version:
        return Role("champion", champion.reason)
    reason = _why_none_answers(model, champion, home, champion_generated)
    if reason is not None and refused:
        return Role("challenger", f"{reason}, but this model was refused or rejected: only the gate promotes it")
    if reason is not None:
        return Role("champion", f"{reason}{weak}")
    assert champion is not None  # without one there is a reason
    if change := input_change(champion, contract, home, in_use):
        reason = f"its inputs differ from those of champion {champion.version}: {change}{weak}"
        return Role("challenger", reason, change)
    return Role("challenger", f"champion {champion.version} stays; only the gate replaces it by a challenger{weak}")


def input_change(champion: Champion, trained: Contract, home: Path, in_use: Contract | None = None) -> str:
    """How the inputs of a model `trained` under a contract differ from the champion's, as a clause; '' if they are the
    same, or if the contract `in_use` allows those of the champion. It is given where a holdout was frozen before the
    model: its rows have the inputs of both then, and the two can be compared."""
    from churn_assets.scoring.bundle import read_contract  # whose NumPy a rollback does not wait for

    own = read_contract(champion.path(home))
    if own is None:  # the bundle is damaged: what it was made under is all that is known
        return "" if champion.fingerprint == trained.fingerprint else "they cannot be read any more"
    if in_use is not None and not unknown_inputs(own, in_use):
        return ""
    return describe_change(own, trained)


def _why_none_answers(
    model: TrainedModel, champion: Champion | None, home: Path, champion_generated: bool
) -> str | None:
    """Why no champion can answer for the model's customers, None if one can."""
    if champion is None:
        return "the first model of this home"
    if not champion.path(home).is_dir():
        return f"the bundle of champion {champion.version} is gone from this home"
    if champion_generated and not model.generated:
        return f"champion {champion.version} was trained on generated customers, this model on real ones"
    return None
