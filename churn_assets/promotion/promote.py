"""A challenger meets the gate, and becomes champion only through it.

    waiting_gate --gate passed--> approved --gate passed again--> champion
         |             `--(approval = "manual")--> waiting_approval --a person--> approved
         `--gate failed--> refused                                        (the same from approved)

The verdict is in the ledger before the pointer moves. What speaks against the challenger refuses it; what
hinders the gate itself (no champion to compare with, a damaged holdout) leaves it waiting, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from churn_assets.contract.model import Contract
from churn_assets.errors import AssetMissing, BundleError, ChurnError, GateRefused, ReleaseError, TransitionRefused
from churn_assets.mlflow_registry.tags import publish
from churn_assets.promotion.champion import bundle_hash, move_champion, recover
from churn_assets.promotion.gate.comparison import Check
from churn_assets.promotion.ledger.ledger import Ledger
from churn_assets.promotion.pointer import Champion, read_champion
from churn_assets.promotion.records import GATE, Challenger
from churn_assets.promotion.registration_rules import admit, read_admission
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from churn_assets.promotion.gate.verdict import Verdict
    from churn_assets.scoring.scorer import Scorer

# undecided: the gate could not be held. overtaken: a person or another run has moved it or the champion meanwhile.
Status = Literal["promoted", "refused", "waiting_approval", "undecided", "overtaken"]


@dataclass(frozen=True)
class Outcome:
    """What became of a challenger. `verdict` is None if the gate could not be held; `missing` says why MLflow does
    not know of it, None if it does."""

    version: str
    status: Status
    words: str
    verdict: Verdict | None = None
    missing: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As a small JSON value."""
        told = {"version": self.version, "status": self.status, "words": self.words, "missing": self.missing}
        return {**told, "verdict": self.verdict.to_json() if self.verdict else None}


class _Hindered(Exception):
    """The gate itself cannot be held; the challenger is not to blame."""


def promote_waiting(
    settings: Settings, contract: Contract, labelled: pa.Table | None, now: datetime | None = None
) -> list[Outcome]:
    """Hold the gate for every challenger that waits for it or is approved, the newest first.

    Once one is promoted the older ones are refused: what they were compared with is champion no more.
    `labelled` is the table `labelled_predictions`, None if there is none.
    """
    recover(settings)
    ledger = Ledger(settings.ledger_path)
    waiting = sorted(ledger.challengers("waiting_gate", "approved"), key=lambda c: -c.number)
    outcomes: list[Outcome] = []
    for found in waiting:
        newer = next((o.version for o in outcomes if o.status == "promoted"), None)
        if newer is not None:
            outcomes.append(_refuse(settings, contract, found, _superseded(found, newer), now))
        else:
            outcomes.append(_turn(settings, contract, found, labelled, now))
    return outcomes


def _turn(
    settings: Settings, contract: Contract, found: Challenger, labelled: pa.Table | None, now: datetime | None
) -> Outcome:
    try:
        return try_promotion(settings, contract, found.version, labelled, now)
    except TransitionRefused as error:
        return Outcome(found.version, "overtaken", str(error))


def try_promotion(
    settings: Settings, contract: Contract, version: str, labelled: pa.Table | None, now: datetime | None = None
) -> Outcome:
    """Hold the gate for one challenger of the ledger, and do what the verdict and the contract's approval say.

    There is no other way to promote. Raises TransitionRefused for a version that is no challenger on its way,
    or if another than the one it was compared with has become champion meanwhile: it stays approved.
    """
    recover(settings)
    found = Ledger(settings.ledger_path).challenger(version)
    try:
        verdict = hold_gate(settings, contract, found, labelled)
    except _Hindered as hindrance:
        words = f"the gate cannot be held for challenger {version}: {hindrance}"
        Ledger(settings.ledger_path).fail_promotion(found.run_key, words, now)
        return Outcome(version, "undecided", words)
    if not verdict.passed:
        return _refuse(settings, contract, found, verdict, now)
    kept = _record(settings, contract, version, verdict, now)
    if kept.status != "approved":
        words = f"{verdict.reason}; it waits for a person: churn approve {version}"
        return Outcome(version, "waiting_approval", words, verdict, publish(settings, kept, verdict))
    champion = _crown(settings, contract, kept, verdict, now)
    told = f"{verdict.reason}; it is champion, approved by {champion.by}"
    return Outcome(version, "promoted", told, verdict, publish(settings, kept, verdict, crowned=True))


def hold_gate(settings: Settings, contract: Contract, found: Challenger, labelled: pa.Table | None) -> Verdict:
    """The verdict on a challenger as everything stands now; writes nothing."""
    from churn_assets.promotion.gate.verdict import Verdict, duel

    champion = _champion(settings)
    if champion.version == found.version:
        words = f"{found.version} is the champion already, expected another model"
        return Verdict(champion.version, found.version, (Check("another_model", None, None, False, words),))
    checks, scorer = _bundle(settings, contract, found)
    checks = [*checks, _admitted(settings, contract, found.version)]
    defender = _defender(settings, contract, champion) if scorer is not None else None
    holdout, frozen = _holdout(settings, contract)
    checks.append(frozen)
    if scorer is None or defender is None or holdout is None:
        return Verdict(champion.version, found.version, tuple(checks))
    try:
        fought = duel(contract, defender, scorer, holdout, labelled)
    except ChurnError as error:
        raise _Hindered(str(error)) from error
    return Verdict(champion.version, found.version, (*checks, *fought.checks), fought.draws, fought.evidence)


def _champion(settings: Settings) -> Champion:
    champion = read_champion(settings.home)
    if champion is None:
        raise _Hindered("this home has no champion to compare with; `churn run` makes one")
    return champion


def _bundle(settings: Settings, contract: Contract, found: Challenger) -> tuple[list[Check], Scorer | None]:
    from churn_assets.scoring.bundle import load_bundle

    path = settings.home / found.bundle
    try:
        same = bundle_hash(path) == found.bundle_sha256
        scorer = load_bundle(path, contract.fingerprint)
    except (BundleError, OSError) as error:
        return [Check("bundle", None, None, False, str(error))], None
    whole = Check("bundle", None, None, True, f"{path.name} is whole and reproduces its golden rows")
    if same:
        return [whole], scorer
    who = f"{found.approved_by} approved" if found.status == "approved" else "was registered"
    words = f"the bundle of {found.version} is not the one that {who}, expected manifest {found.bundle_sha256[:12]}"
    return [Check("bundle", None, None, False, f"{words}; restore it, or retrain")], None


def _admitted(settings: Settings, contract: Contract, version: str) -> Check:
    try:
        admit(read_admission(settings.home, version), contract)
    except (GateRefused, AssetMissing) as refusal:
        return Check("attested", None, None, False, str(refusal))
    words = "its test PR-AUC reaches the floor, and every column its audit accuses is attested"
    return Check("attested", None, None, True, words)


def _defender(settings: Settings, contract: Contract, champion: Champion) -> Scorer:
    from churn_assets.scoring.bundle import load_bundle

    try:
        return load_bundle(champion.path(settings.home), contract.fingerprint)
    except (BundleError, OSError) as error:
        raise _Hindered(
            f"champion {champion.version} cannot be compared with ({error}); `churn rollback`, or `churn run` for a "
            "first model under the contract as it is"
        ) from error


def _holdout(settings: Settings, contract: Contract) -> tuple[pa.Table | None, Check]:
    from churn_assets.promotion.holdout import holdout_path, read_holdout

    path = holdout_path(settings.holdout_dir, contract)
    try:
        found = read_holdout(settings.holdout_dir, contract)
    except ReleaseError as error:
        raise _Hindered(str(error)) from error
    if found is None:
        words = (
            f"there is no frozen holdout at {path}, expected customers that no model has learnt from; this home had "
            "its first champion before they were kept: `churn run --home` another one, the models made there have them"
        )
        return None, Check("holdout", None, None, False, words)
    return found.rows, Check("holdout", None, None, True, f"customers frozen on {found.frozen_at:%Y-%m-%d}")


def _superseded(found: Challenger, newer: str) -> Verdict:
    from churn_assets.promotion.gate.verdict import Verdict

    words = f"superseded by {newer}, a newer challenger that was promoted"
    return Verdict(newer, found.version, (Check("not_superseded", None, None, False, words),))


def _refuse(
    settings: Settings, contract: Contract, found: Challenger, verdict: Verdict, now: datetime | None
) -> Outcome:
    kept = _record(settings, contract, found.version, verdict, now)
    return Outcome(found.version, "refused", verdict.reason, verdict, publish(settings, kept, verdict))


def _record(settings: Settings, contract: Contract, version: str, verdict: Verdict, now: datetime | None) -> Challenger:
    approval: Literal["automatic", "manual"] = "manual" if contract.release.approval == "manual" else "automatic"
    ledger = Ledger(settings.ledger_path)
    return ledger.record_verdict(version, verdict.passed, verdict.to_json(), approval, verdict.reason, now)


def _crown(
    settings: Settings, contract: Contract, kept: Challenger, verdict: Verdict, now: datetime | None
) -> Champion:
    by = kept.approved_by or GATE
    champion = Champion(
        version=kept.version,
        bundle=kept.bundle,
        fingerprint=contract.fingerprint,
        registered_version=kept.registered_version,
        since_at=now or datetime.now(UTC),
        by=by,
        reason=verdict.reason,
    )
    return move_champion(settings, champion, "promotion", by, verdict.reason, now, instead_of=verdict.champion).to
