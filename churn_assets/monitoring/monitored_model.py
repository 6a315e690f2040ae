"""Whose predictions are watched: the champion's, under the contract it was made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from churn_assets.contract.model import Contract, Kind
from churn_assets.contract.policy import Monitoring
from churn_assets.errors import ChurnError
from churn_assets.monitoring.drift.univariate import TESTED_KINDS
from churn_assets.monitoring.windows.profile import Content, observe
from churn_assets.monitoring.windows.reference import PREFIX, Reference, load_reference
from churn_assets.monitoring.windows.windows import WHO, Window, rows_of
from churn_assets.settings import Settings


def look(connection: Any, subject: Subject, window: Window) -> Content:
    """The last row of each customer of a window; `score` counts only where the champion gave it."""
    bounds = subject.reference.bounds if subject.reference else None
    with _last_rows(connection, subject, window) as relation:
        return observe(connection, relation, subject.contract, prefix=PREFIX, bounds=bounds)


@contextmanager
def _last_rows(connection: Any, subject: Subject, window: Window) -> Iterator[str]:
    """SQL of a relation with the last row of each customer; rows of other models have a null score."""
    # Positions are kept, not rows: eight bytes a customer, whatever the table's width.
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE last_rows AS SELECT max(seq) AS seq FROM predictions "
        f"WHERE {rows_of(window)} GROUP BY {WHO}"
    )
    version = subject.version.replace("'", "''")
    try:
        yield (
            f"(SELECT {WHO} AS who, CASE WHEN model_version = '{version}' THEN p.score END AS score, "
            "p.decision AS decision, p.* EXCLUDE (score, decision) "
            f"FROM predictions p SEMI JOIN last_rows l ON p.seq = l.seq WHERE {rows_of(window)})"
        )
    finally:
        connection.execute("DROP TABLE last_rows")


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
    from churn_assets.promotion.pointer import read_champion
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
