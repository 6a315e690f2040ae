"""The hash of a table's contents, for provenance."""

from __future__ import annotations

import hashlib

import pyarrow as pa


def data_hash(table: pa.Table) -> str:
    """SHA-256 (hex) of names, types, values and row order; metadata and chunking do not matter."""
    plain = table.replace_schema_metadata(None).combine_chunks()
    digest = hashlib.sha256(str(plain.schema).encode())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain.schema) as writer:
        for batch in plain.to_batches(max_chunksize=65_536):
            writer.write_batch(batch)
    digest.update(sink.getvalue())
    return digest.hexdigest()
