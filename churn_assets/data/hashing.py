"""Hashes of a table's contents, and numbers that depend on a row's number and a seed alone."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
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
    """SHA-256 (hex) of names, types, values and row order of flat columns, for what is kept for years. Unlike
    `data_hash` it does not see how Arrow lays values out in memory, which files and versions change."""
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


def hash_rows(rows: npt.NDArray[np.int64], seed: int, word: str) -> npt.NDArray[np.uint64]:
    """A uniform 64-bit number for each row number (splitmix64; Steele, Lea and Flood 2014), shape (rows,).

    It depends on the row's number, the seed and the word alone, so a sample or a change of some rows is the same
    whatever the size of the batches.
    """
    base = int.from_bytes(hashlib.sha256(f"{seed}\x1f{word}".encode()).digest()[:8], "big")
    with np.errstate(over="ignore"):
        mixed = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(base)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def uniform_rows(rows: npt.NDArray[np.int64], seed: int, word: str) -> npt.NDArray[np.float64]:
    """A uniform number in [0, 1) for each row number, shape (rows,); see `hash_rows`."""
    return np.asarray((hash_rows(rows, seed, word) >> np.uint64(11)) * 2.0**-53)
