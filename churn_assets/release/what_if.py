"""What if another model had answered: a part of the log scored again by `replay`, beside the answers that were given.

Where that model was a shadow its rows in the log are these rows, bit for bit.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract
from churn_assets.errors import ContractError, DataError, RowsRejected
from churn_assets.prediction_log.records import Prediction
from churn_assets.prediction_log.schema import columns_of
from churn_assets.release.analysis import Pairs, pairs_of
from churn_assets.release.replay import record_of, replay
from churn_assets.scoring.online import CustomerScorer
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb

_BATCH = 10_000  # rows held at once as Python objects
_ROWS = """
    FROM answers WHERE ($policies IS NULL OR policy IN (SELECT unnest($policies::VARCHAR[])))
        AND ($since IS NULL OR scored_at >= $since) AND ($until IS NULL OR scored_at < $until)
"""


@dataclass(frozen=True)
class Part:
    """A part of the log: answers of these policies (ids, None: of any) from `since` to before `until` (UTC, naive)."""

    policies: tuple[str, ...] | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None

    @property
    def values(self) -> dict[str, object]:
        """The parameters of its SQL."""
        policies = None if self.policies is None else list(self.policies)
        return {"policies": policies, "since": self.since, "until": self.until}


@dataclass(frozen=True)
class WhatIf:
    """The pairs of a part of the log, and its further rows: `refused` break the model's contract, `failed` have no
    finite score, `unknown` were answered under a contract that the log does not have any more."""

    pairs: Pairs
    refused: int
    failed: int
    unknown: int


def what_if(
    connection: duckdb.DuckDBPyConnection,
    customers: CustomerScorer,
    contracts: Mapping[str, Contract],
    part: Part = Part(),
) -> WhatIf:
    """What `customers` would have said to the rows of `part`; `contracts` are those of the log, by fingerprint."""
    import pyarrow as pa

    rows: dict[str, list[object]] = {
        name: []
        for name in ("prediction_id", "champion_score", "champion_calls", "challenger_score", "challenger_calls")
    }
    counts = {"refused": 0, "failed": 0, "unknown": 0}
    for record in read_answers(connection, contracts, part):
        if record is None:
            counts["unknown"] += 1
            continue
        try:
            other = replay(customers, record)
        except RowsRejected:
            counts["refused"] += 1
            continue
        except DataError:
            counts["failed"] += 1
            continue
        values = record.prediction_id, record.score, record.decision, other.score, other.decision
        for column, value in zip(rows.values(), values, strict=True):
            column.append(value)
    types = [pa.string(), pa.float64(), pa.bool_(), pa.float64(), pa.bool_()]
    columns = [pa.array(values, kind) for values, kind in zip(rows.values(), types, strict=True)]
    return WhatIf(pairs_of(pa.table(columns, names=list(rows))), **counts)


def read_answers(
    connection: duckdb.DuckDBPyConnection, contracts: Mapping[str, Contract], part: Part = Part()
) -> Iterator[Prediction | None]:
    """The answers of a part of the log, in its order; None for one whose contract is not among `contracts`."""
    types = columns_of(connection)
    result = connection.sql(f"SELECT * {_ROWS} ORDER BY seq", params=part.values)
    for batch in result.to_arrow_reader(_BATCH):
        for row in batch.to_pylist():
            contract = contracts.get(row["fingerprint"])
            yield None if contract is None else record_of(contract, row, types)


def read_contracts(settings: Settings) -> dict[str, Contract]:
    """Every contract that the ingest met, by its fingerprint. Files that cannot be read are left out."""
    contracts = {}
    for path in (settings.warehouse_dir / "contracts").glob("*.toml"):
        with suppress(ContractError):
            contracts[path.stem] = load_contract(path)
    return contracts
