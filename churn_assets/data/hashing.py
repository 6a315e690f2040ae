"""Hashes of a table's contents."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


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


def content_hash(table: pa.Table) -> str:
    """SHA-256 (hex) of names, types, values and row order of flat columns, for what is kept for years.

    Unlike `data_hash` it does not see how Arrow lays values out in memory, which files and versions change.
    """
    digest = hashlib.sha256()
    for field, column in zip(table.schema, table.columns, strict=True):
        present = np.asarray(pc.is_valid(column).to_numpy(), dtype=np.uint8)
        digest.update(f"{field.name}\x1f{field.type}\x1f{len(present)}\x1f".encode())
        digest.update(present.tobytes())
        known = column.drop_null()
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            digest.update(pc.binary_length(known).cast(pa.int64()).to_numpy().tobytes())
            digest.update("".join(known.to_pylist()).encode())
        else:
            plain = known.cast(pa.int32()) if pa.types.is_date32(field.type) else known
            digest.update(np.ascontiguousarray(plain.to_numpy()).tobytes())
    return digest.hexdigest()
