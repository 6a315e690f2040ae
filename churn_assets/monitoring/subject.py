"""Whose predictions are watched: the champion's, under the contract it was made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from churn_assets.contract.model import Contract, Kind
from churn_assets.contract.policy import Monitoring
from churn_assets.errors import ChurnError
from churn_assets.monitoring.reference import Reference, load_reference
from churn_assets.monitoring.rule import TESTED_KINDS
from churn_assets.settings import Settings

NO_CHAMPION = "no champion yet: nothing is watched before a model answers (`churn run`)"


@dataclass(frozen=True)
class Subject:
    """The champion's contract and reference; `reference` is None if it cannot be used, `words` says why.

    Rows of another fingerprint than `fingerprint` are not looked at. `limits` are those of the contract in
    use: how a model is watched may change without a new model.
    """

    version: str
    fingerprint: str
    contract: Contract
    limits: Monitoring
    reference: Reference | None
    words: str = ""

    @property
    def watched(self) -> Mapping[str, Kind]:
        """Raw columns that may alarm: what goes to the model as it is, but for the silent ones."""
        return {
            column.name: column.kind
            for column in self.contract.feature_columns
            if column.kind in TESTED_KINDS and column.name not in self.limits.silent
        }


def read_subject(settings: Settings, contract: Contract) -> Subject | None:
    """The champion of this home as something to watch; None before the first.

    A bundle whose contract or reference cannot be used makes a subject without a reference, and says why.
    Raises PointerCorrupt.
    """
    from churn_assets.contract.load import load_contract
    from churn_assets.release.state import read_champion
    from churn_assets.scoring.bundle import CONTRACT

    champion = read_champion(settings.home)
    if champion is None:
        return None
    bundle, limits = champion.path(settings.home), contract.monitoring
    try:
        if champion.fingerprint != contract.fingerprint:
            contract = load_contract(bundle / CONTRACT)
        reference = load_reference(bundle, contract)
        return Subject(champion.version, champion.fingerprint, contract, limits, reference)
    except (ChurnError, OSError, ValueError, KeyError) as error:
        words = f"no reference to compare with: {' '.join(str(error).split())}"
        return Subject(champion.version, champion.fingerprint, contract, limits, None, words)
