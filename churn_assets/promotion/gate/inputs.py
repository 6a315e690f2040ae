"""What a verdict depends on: facts about the challenger, and the evidence, loaded as it stands now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from churn_assets.contract.lineage import unknown_inputs
from churn_assets.contract.model import Contract
from churn_assets.errors import AssetMissing, BundleError, ChurnError, ReleaseError
from churn_assets.promotion.gate.evidence import CrossFitted, Evidence, holdout_evidence, recent_evidence
from churn_assets.promotion.holdout import Holdout, holdout_path, read_holdout
from churn_assets.promotion.pointer import Champion
from churn_assets.promotion.records import Challenger
from churn_assets.promotion.registration import TrainedModel, input_change, read_registration_record, unattested
from churn_assets.scoring.bundle import read_card, read_contract, read_provenance
from churn_assets.scoring.scorer import Scorer
from churn_assets.settings import Settings
from churn_assets.storage.sealed import bundle_hash
from churn_assets.training.cross_fitted import PROBABILITY, read_cross_fitted, unseen_by

ScorerLoader = Callable[[Path, Contract], Scorer]


class GateBlocked(Exception):
    """The gate itself cannot be held, for no fault of the challenger; it stays as it is."""


@dataclass(frozen=True)
class GateInputs:
    """The facts for one verdict; a problem is a message, None if there is none.

    `champion` and `challenger` are versions. `holdout` and `recent` are None where the models could not be
    scored: they are the same model, the challenger's bundle has a problem, there is no holdout, or the inputs differ as
    `change` says. `registered` is what the challenger was registered with, None where it could not be read. `forbidden`
    are columns that the champion reads although the contract excludes them, or nobody attests them any more; the
    challenger reads none of them. `training` says on which rows the challenger was trained, "" where its card does not.
    """

    contract: Contract
    champion: str
    challenger: str
    bundle: str = ""
    bundle_problem: str | None = None
    registered: TrainedModel | None = None
    registration_problem: str | None = None
    holdout_problem: str | None = None
    frozen_at: datetime | None = None
    holdout: Evidence | None = None
    recent: Evidence | None = None
    change: str = ""
    forbidden: tuple[str, ...] = ()
    training: str = ""


def load_inputs(
    settings: Settings,
    contract: Contract,
    champion: Champion | None,
    challenger: Challenger,
    labelled: pa.Table | None,
    load_scorer: ScorerLoader,
) -> GateInputs:
    """Everything the gate needs as it stands now; writes nothing.

    `load_scorer` loads a bundle that scores tables of a contract, and raises BundleError for any other. Raises
    GateBlocked if there is no champion to compare with, or its bundle or the holdout is damaged.
    """
    if champion is None:
        raise GateBlocked("this home has no champion to compare with; `churn run` makes one")
    if champion.version == challenger.version:
        return GateInputs(contract, champion.version, challenger.version)
    scorer, bundle_problem = _load_challenger(settings.home / challenger.bundle, contract, challenger, load_scorer)
    holdout, holdout_problem = _load_holdout(settings.holdout_dir, contract)
    trained = read_contract(settings.home / challenger.bundle) or contract
    frozen_before = holdout is not None and holdout.version != challenger.version
    change = input_change(champion, trained, settings.home, contract if frozen_before else None)
    comparable = scorer is not None and not change
    champion_scorer = _load_champion(settings.home, contract, champion, load_scorer) if comparable else None
    registered, registration_problem = _load_registered(settings.home, challenger.version)
    frozen = recent = None
    forbidden: tuple[str, ...] = ()
    if scorer is not None and champion_scorer is not None and holdout is not None:
        cross_fitted = _cross_fitted(contract, champion.path(settings.home), settings.home / challenger.bundle)
        frozen, recent = _both_evidences(contract, champion_scorer, scorer, holdout.rows, labelled, cross_fitted)
        forbidden = _forbidden(settings.home, contract, champion_scorer, scorer)
    return GateInputs(
        contract=contract,
        champion=champion.version,
        challenger=challenger.version,
        bundle=Path(challenger.bundle).name,
        bundle_problem=bundle_problem,
        registered=registered,
        registration_problem=registration_problem,
        holdout_problem=holdout_problem,
        frozen_at=holdout.frozen_at if holdout is not None else None,
        holdout=frozen,
        recent=recent,
        change=change,
        forbidden=forbidden,
        training=_training(settings.home / challenger.bundle) if scorer is not None else "",
    )


def _training(bundle: Path) -> str:
    """On which rows a model was trained, for the verdict."""
    try:
        recent = read_card(bundle).recent
    except BundleError:
        return ""
    return f"of the recent labels: {recent.reason}" if recent else ""


def _cross_fitted(contract: Contract, champion: Path, challenger: Path) -> CrossFitted | None:
    """The challenger's cross-fitted rows that the champion has not learned from, None where there are none."""
    try:
        scores, seen = read_cross_fitted(challenger), read_cross_fitted(champion)
    except AssetMissing as error:
        raise GateBlocked(str(error)) from error
    if scores is None:
        return None
    made_at = read_provenance(champion).made_at if seen is None else None
    rows = unseen_by(scores, contract, seen, made_at[:10] if isinstance(made_at, str) else "")
    return CrossFitted(rows, rows[PROBABILITY].to_numpy()) if rows.num_rows else None


def _forbidden(home: Path, contract: Contract, champion: Scorer, challenger: Scorer) -> tuple[str, ...]:
    """Columns that the champion alone reads, and that no model may read under the contract as it is now."""
    record, _ = _load_registered(home, champion.version)
    refused = {finding.column for finding in unattested(record, contract)} if record else set()
    refused |= {column.name for column in contract.columns if column.excluded}
    reads, challenger_reads = (
        {c.name for c in scorer.contract.scoring_columns if not c.excluded} for scorer in (champion, challenger)
    )
    return tuple(sorted((refused & reads) - challenger_reads)) if not refused & challenger_reads else ()


def _load_challenger(
    path: Path, contract: Contract, challenger: Challenger, load_scorer: ScorerLoader
) -> tuple[Scorer | None, str | None]:
    """Its scorer, or None and the problem."""
    try:
        unchanged = bundle_hash(path) == challenger.bundle_sha256
        scorer = load_scorer(path, contract)
    except (BundleError, OSError) as error:
        return None, str(error)
    if unknown := unknown_inputs(read_contract(path) or contract, contract):
        return None, (
            f"{challenger.version} uses {', '.join(unknown)}, which the contract in use does not have so; train again "
            "under that contract"
        )
    if unchanged:
        return scorer, None
    when = f"{challenger.approved_by} approved" if challenger.status == "approved" else "was registered"
    return None, (
        f"the bundle of {challenger.version} is not the one that {when}, expected manifest "
        f"{challenger.bundle_sha256[:12]}; restore it, or retrain"
    )


def _load_champion(home: Path, contract: Contract, champion: Champion, load_scorer: ScorerLoader) -> Scorer:
    try:
        return load_scorer(champion.path(home), contract)
    except (BundleError, OSError) as error:
        raise GateBlocked(
            f"champion {champion.version} cannot be compared with ({error}); `churn rollback`, or `churn run` for a "
            "first model under the contract as it is"
        ) from error


def _load_registered(home: Path, version: str) -> tuple[TrainedModel | None, str | None]:
    """What the version was registered with, or None and the problem."""
    try:
        return read_registration_record(home, version), None
    except AssetMissing as error:
        return None, str(error)


def _load_holdout(folder: Path, contract: Contract) -> tuple[Holdout | None, str | None]:
    """The frozen holdout, or None and the problem."""
    try:
        holdout = read_holdout(folder, contract)
    except ReleaseError as error:
        raise GateBlocked(str(error)) from error
    if holdout is not None:
        return holdout, None
    return None, (
        f"there is no frozen holdout at {holdout_path(folder, contract)}, expected customers that no "
        "model was trained on; this home had its first champion before they were kept: `churn run --home` another "
        "one, the models made there have them"
    )


def _both_evidences(
    contract: Contract,
    champion: Scorer,
    challenger: Scorer,
    holdout: pa.Table,
    labelled: pa.Table | None,
    cross_fitted: CrossFitted | None,
) -> tuple[Evidence, Evidence]:
    try:
        frozen = holdout_evidence(contract, champion, challenger, holdout)
        return frozen, recent_evidence(contract, champion, challenger, labelled, cross_fitted)
    except ChurnError as error:
        raise GateBlocked(str(error)) from error
