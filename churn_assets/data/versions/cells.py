"""Cells compared bit for bit: a digest of a table, a number for each different cell, and runs of equal cells.

Two cells are equal if both are null, or if their bytes are: -0.0 is not 0.0, and a NaN equals itself. How Arrow lays a
column out in memory (chunks, dictionaries, what stands under a null) does not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Codes = npt.NDArray[np.int64]
_UNSIGNED = {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}


def dense_type(type_: pa.DataType) -> pa.DataType:
    """The type of a column's cells, without a dictionary."""
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def dense(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array without a dictionary."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def table_digest(table: pa.Table) -> str:
    """SHA-256 (hex) of a table's names, types, cells, order of rows and metadata; the same in every release of Arrow
    for columns that are not nested."""
    digest = hashlib.sha256()
    for key, value in sorted((table.schema.metadata or {}).items()):
        digest.update(b"%d %b %d %b " % (len(key), key, len(value), value))
    for field, column in zip(table.schema, table.columns, strict=True):
        digest.update(f"{len(field.name)} {field.name} {field.type} {field.nullable} {table.num_rows} ".encode())
        cells = dense(column)
        digest.update(np.asarray(pc.is_valid(cells).to_numpy(zero_copy_only=False), dtype=np.uint8).tobytes())
        for part in _bytes_of(cells.drop_null()):
            digest.update(part)
    return digest.hexdigest()


def codes_of(columns: Sequence[pa.ChunkedArray]) -> Codes:
    """A number (rows of all `columns`, one after another) for each different cell of columns of one type, -1 for null.
    Cells of a type that Arrow cannot compare, such as a list, are all different."""
    cells = pa.concat_arrays([dense(column) for column in columns])
    plain = _as_bits(cells)
    try:
        indices = plain.dictionary_encode().indices
    except (pa.ArrowNotImplementedError, AttributeError):
        return np.arange(len(cells), dtype=np.int64)
    return np.asarray(pc.fill_null(indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64)


def run_starts(codes: Codes) -> Codes:
    """Where runs of equal cells begin, in ascending order."""
    changes = np.flatnonzero(codes[1:] != codes[:-1]) + 1
    return np.concatenate([np.zeros(min(1, len(codes)), dtype=np.int64), changes])


def _as_bits(cells: pa.Array) -> pa.Array:
    """Numbers, dates and times as whole numbers of the same bits, so that each bit counts; others as they are."""
    if pa.types.is_floating(cells.type) or pa.types.is_temporal(cells.type):
        try:
            return cells.view(_UNSIGNED[cells.type.bit_width])
        except (KeyError, ValueError, pa.ArrowException):
            return cells
    return cells


def _bytes_of(known: pa.Array) -> list[bytes]:
    """The bytes of cells of which none is null."""
    type_ = known.type
    if pa.types.is_boolean(type_):
        return [known.cast(pa.uint8()).to_numpy(zero_copy_only=False).tobytes()]
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_temporal(type_):
        bits = _as_bits(known)
        if pa.types.is_integer(bits.type):
            return [np.ascontiguousarray(bits.to_numpy(zero_copy_only=False)).tobytes()]
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    if any(is_text(type_) for is_text in texts):
        binary = known.cast(pa.large_binary())
        ends = np.frombuffer(binary.buffers()[1], dtype=np.int64)[binary.offset : binary.offset + len(binary) + 1]
        data = memoryview(binary.buffers()[2] or b"")[int(ends[0]) : int(ends[-1])] if len(binary) else b""
        return [np.diff(ends).tobytes(), bytes(data)]
    return [repr(known.to_pylist()).encode()]
