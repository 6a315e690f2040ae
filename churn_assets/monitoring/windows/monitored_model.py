"""The model whose predictions are monitored, and the reference that its windows are compared with.

The model is the champion, under the contract it was made with. The reference are the training rows that its
bundle brought along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from churn_assets.contract.model import Contract, Kind
from churn_assets.contract.policy import Monitoring
from churn_assets.errors import BundleMismatch, ChurnError
from churn_assets.monitoring.windows.profile import Profile, compute_profile
from churn_assets.monitoring.windows.windows import WHO, Window, rows_of
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

NO_CHAMPION = "no champion yet: predictions are monitored once a model answers (`churn run` makes the first)"

# What lies beyond these quantiles of the reference is outside: one customer of a thousand, when nothing changed.
LOWEST, HIGHEST = 0.0005, 0.9995
PREFIX = "x_"


@dataclass(frozen=True)
class Reference:
    """Training rows of model `version`: their profile, and per number the bounds of the range check.

    `outside_share` is the reference's own share beyond `bounds`, 0 to 1.
    """

    version: str
    profile: Profile
    bounds: Mapping[str, tuple[float, float]]
    outside_share: Mapping[str, float]

    def share_of(self, column: str, value: float) -> float:
        """Share of the reference's customers who have exactly this number."""
        numbers = self.profile.sample[column].to_numpy()
        return float((numbers == value).mean()) if len(numbers) else 0.0

    def count_distinct(self, column: str) -> int:
        """How many different numbers the reference's customers have."""
        return len(np.unique(self.profile.sample[column].to_numpy()))


@dataclass(frozen=True)
class MonitoredModel:
    """The champion's contract and reference; `reference` is None if it cannot be used, `no_reference` says why.

    Rows of another fingerprint than `fingerprint` are left out. `limits` are those of the contract in use: how a
    model is monitored may change without a new model.
    """

    version: str
    fingerprint: str
    contract: Contract
    limits: Monitoring
    reference: Reference | None
    no_reference: str = ""


def read_monitored_model(settings: Settings, contract: Contract) -> MonitoredModel | None:
    """The champion of this home; None before the first.

    A bundle whose contract or reference cannot be used gives a model without a reference, and the reason.
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
        return MonitoredModel(champion.version, champion.fingerprint, contract, limits, reference)
    except (ChurnError, OSError, ValueError, KeyError) as error:
        reason = f"no reference to compare with: {' '.join(str(error).split())}"
        return MonitoredModel(champion.version, champion.fingerprint, contract, limits, None, reason)


def load_reference(bundle: Path, contract: Contract) -> Reference:
    """The reference of a bundle, read under `contract`.

    Raises BundleMismatch if its rows were made under another contract, BundleCorrupt if the card cannot be
    read. Columns that it lacks are left out; the quality report of a window names them.
    """
    from churn_assets.scoring.bundle import read_card, read_reference

    table, thresholds = read_reference(bundle), read_card(bundle).thresholds
    made_under = (table.schema.metadata or {}).get(b"churn_contract", b"").decode()
    if made_under != contract.fingerprint:
        raise BundleMismatch(
            f"{bundle.name}: its reference rows were made under contract {made_under[:12] or 'unknown'}, expected "
            f"{contract.fingerprint[:12]}; train again, or use the bundle's contract"
        )
    return reference_of(table, contract, thresholds.value, bundle.name)


def reference_of(table: pa.Table, contract: Contract, threshold: float, version: str) -> Reference:
    """The same from a typed table with the contract's columns and `churn_probability`."""
    import duckdb

    renamed = table.rename_columns([PREFIX + name for name in table.column_names])
    key, score = f'"{PREFIX}{contract.key.name}"', f'"{PREFIX}churn_probability"'
    relation = (
        f"(SELECT CAST({key} AS VARCHAR) AS who, {score} AS score, {score} >= {threshold!r} AS decision, * FROM r)"
    )
    with duckdb.connect() as connection:
        connection.register("r", renamed)
        profile = compute_profile(connection, relation, contract, prefix=PREFIX)
    bounds, outside = {}, {}
    for column in contract.scoring_columns:
        if column.kind not in (Kind.NUMBER, Kind.INTEGER) or column.name not in profile.columns:
            continue
        numbers = profile.sample[column.name].to_numpy()
        numbers = numbers[np.isfinite(numbers)]
        if len(numbers):
            low, high = np.quantile(numbers, [LOWEST, HIGHEST])
            bounds[column.name] = (float(low), float(high))
            outside[column.name] = float(((numbers < low) | (numbers > high)).mean())
    return Reference(version, profile, bounds, outside)


def profile_window(connection: duckdb.DuckDBPyConnection, model: MonitoredModel, window: Window) -> Profile:
    """The profile of a window: the last row of each customer; `score` counts only where this model gave it."""
    bounds = model.reference.bounds if model.reference else None
    with _last_rows(connection, model, window) as relation:
        return compute_profile(connection, relation, model.contract, prefix=PREFIX, bounds=bounds)


@contextmanager
def _last_rows(connection: duckdb.DuckDBPyConnection, model: MonitoredModel, window: Window) -> Iterator[str]:
    """SQL of a relation with the last row of each customer; rows of other models have a null score."""
    # Positions are kept, not rows: eight bytes a customer, whatever the table's width.
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE last_rows AS SELECT max(seq) AS seq FROM predictions "
        f"WHERE {rows_of(window)} GROUP BY {WHO}"
    )
    version = model.version.replace("'", "''")
    try:
        yield (
            f"(SELECT {WHO} AS who, CASE WHEN model_version = '{version}' THEN p.score END AS score, "
            "p.decision AS decision, p.* EXCLUDE (score, decision) "
            f"FROM predictions p SEMI JOIN last_rows l ON p.seq = l.seq WHERE {rows_of(window)})"
        )
    finally:
        connection.execute("DROP TABLE last_rows")
