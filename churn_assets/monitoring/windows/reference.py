"""What windows are compared with: the training rows that the champion's bundle brought along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from churn_assets.contract.model import Contract, Kind
from churn_assets.errors import BundleMismatch
from churn_assets.monitoring.windows.profile import Content, observe

# What lies beyond these quantiles of the reference is outside: one customer of a thousand, when nothing changed.
LOWEST, HIGHEST = 0.0005, 0.9995
PREFIX = "x_"


@dataclass(frozen=True)
class Reference:
    """Training rows of model `version`: counts, sample, and per number the bounds of the range rule.

    `outside_share` is the reference's own share beyond `bounds`, 0 to 1.
    """

    version: str
    content: Content
    bounds: Mapping[str, tuple[float, float]]
    outside_share: Mapping[str, float]

    def share_of(self, column: str, value: float) -> float:
        """Share of the reference's customers who have exactly this number."""
        numbers = self.content.sample[column].to_numpy()
        return float((numbers == value).mean()) if len(numbers) else 0.0

    def values_of(self, column: str) -> int:
        """How many different numbers the reference's customers have."""
        return len(np.unique(self.content.sample[column].to_numpy()))


def load_reference(bundle: Path, contract: Contract) -> Reference:
    """The reference of a bundle, read under `contract`.

    Raises BundleMismatch if its rows were made under another contract, BundleCorrupt if the card cannot be
    read. Columns that it lacks are left out; windows say so.
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


def reference_of(table: object, contract: Contract, threshold: float, version: str) -> Reference:
    """The same from a typed Arrow table with `churn_probability`."""
    import duckdb
    import pyarrow as pa

    assert isinstance(table, pa.Table)
    named = table.rename_columns([PREFIX + name for name in table.column_names])
    key, score = f'"{PREFIX}{contract.key.name}"', f'"{PREFIX}churn_probability"'
    relation = (
        f"(SELECT CAST({key} AS VARCHAR) AS who, {score} AS score, {score} >= {threshold!r} AS decision, * FROM r)"
    )
    with duckdb.connect() as connection:
        connection.register("r", named)
        content = observe(connection, relation, contract, prefix=PREFIX)
    bounds, outside = {}, {}
    for column in contract.scoring_columns:
        if column.kind not in (Kind.NUMBER, Kind.INTEGER) or column.name not in content.facts:
            continue
        numbers = content.sample[column.name].to_numpy()
        numbers = numbers[np.isfinite(numbers)]
        if len(numbers):
            low, high = np.quantile(numbers, [LOWEST, HIGHEST])
            bounds[column.name] = (float(low), float(high))
            outside[column.name] = float(((numbers < low) | (numbers > high)).mean())
    return Reference(version, content, bounds, outside)
