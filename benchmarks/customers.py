"""Generated customers of the store contract, as validation hands them on."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract
from churn_assets.data.validation.validate import validate_features_only
from churn_assets.synthetic.generate import AS_OF, generate_batches

CONTRACT = load_contract(Path(__file__).resolve().parent.parent / "contracts" / "store.toml")
BATCH_ROWS = 65_536

__all__ = ["AS_OF", "BATCH_ROWS", "CONTRACT", "churned", "raw_batches", "typed"]


def raw_batches(rows: int, seed: int, contract: Contract = CONTRACT):
    """Raw record batches, label included."""
    return generate_batches(contract, rows, seed, batch_rows=BATCH_ROWS)


def typed(rows: int, seed: int, contract: Contract = CONTRACT) -> pa.Table:
    """A typed table of valid customers, without the label."""
    parts = [validate_features_only(contract, pa.table(b), as_of=AS_OF).customers for b in raw_batches(rows, seed)]
    return pa.concat_tables(parts).combine_chunks()


def churned(rows: int, seed: int, contract: Contract = CONTRACT) -> list[bool]:
    """The labels of the same customers."""
    name, value = contract.label.column, contract.label.churned_when
    return [str(cell) == value for batch in raw_batches(rows, seed) for cell in batch.column(name).to_pylist()]
