"""Generated customers: the process, scenarios of drift, faults and planted leaks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from churn_assets.data.readers.source import GENERATED, Location, generated_size, register_scheme

if TYPE_CHECKING:
    import pyarrow as pa

    from churn_assets.contract.model import Contract


def register_generated_source() -> None:
    """Let readers open `generated://name?rows=..&seed=..`; each entry point calls this once."""
    register_scheme(GENERATED, _read_generated)


def _read_generated(location: Location, contract: Contract, batch_rows: int) -> Iterator[pa.RecordBatch]:
    from churn_assets.synthetic.generate import generate_batches

    rows, seed = generated_size(location)
    return generate_batches(contract, rows, seed, batch_rows=batch_rows)
