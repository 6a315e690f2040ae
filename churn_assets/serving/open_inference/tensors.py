"""Tensors of the Open Inference Protocol: a name, a datatype, a shape, and values in row-major order.

Values are Python's, None is missing: null in JSON, NaN in floating point, the empty text in BYTES. Raw bytes are little
endian without padding; an element of BYTES is its length in four bytes, then the bytes. Source: the specification at
https://github.com/open-inference/open-inference-protocol, and Triton's extension "binary tensor data".
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BYTES, BOOL, INT64, FP64 = "BYTES", "BOOL", "INT64", "FP64"
NUMPY_TYPES: Mapping[str, np.dtype[Any]] = {  # of one element, in raw bytes
    BOOL: np.dtype("?"),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
DATATYPES = (BYTES, *NUMPY_TYPES)
_LENGTH = struct.Struct("<I")
_LARGEST = 2**63  # of a shape; more elements than any body has
_JSON_TYPES: Mapping[str, frozenset[type]] = {
    BYTES: frozenset({str, type(None)}),
    BOOL: frozenset({bool, type(None)}),
    **{name: frozenset({int, type(None)}) for name in DATATYPES if "INT" in name},
    **{name: frozenset({int, float, type(None)}) for name in DATATYPES if name.startswith("FP")},
}


class TensorError(ValueError):
    """A tensor whose data do not fit its datatype and shape: which one, what it has and what is expected."""

    def __init__(self, tensor: str, problem: str, expected: str) -> None:
        super().__init__(f"tensor '{tensor}': {problem}, expected {expected}")
        self.tensor, self.problem, self.expected = tensor, problem, expected


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; `values` are flat, as many as `shape` says."""

    name: str
    datatype: str
    shape: Sequence[int]
    values: Sequence[Any]


def count_elements(name: str, datatype: str, shape: Sequence[int]) -> int:
    """The number of elements of a tensor. Raises TensorError for an unknown datatype or a shape that is none."""
    if datatype not in _JSON_TYPES:
        raise TensorError(name, f"the datatype is {datatype[:20]!r}", f"one of: {', '.join(DATATYPES)}")
    if not 1 <= len(shape) <= 2 or min(shape) < 0 or (count := math.prod(shape)) >= _LARGEST:
        raise TensorError(name, f"the shape is {str(list(shape))[:60]}", "[rows], [rows, 1] or [rows, columns]")
    return count


def tensor_of_json(name: str, datatype: str, shape: Sequence[int], data: Sequence[Any]) -> Tensor:
    """A tensor of JSON values, flat or nested row by row. Raises TensorError."""
    count = count_elements(name, datatype, shape)
    flat: Sequence[Any] = data
    if data and type(data[0]) is list:
        if not all(type(row) is list for row in data):
            raise TensorError(name, "some of its data are lists", "a flat list, or lists of one length")
        flat = [value for row in data for value in row]
    types = set(map(type, flat))
    if not types <= _JSON_TYPES[datatype]:
        index = next(i for i, value in enumerate(flat) if type(value) not in _JSON_TYPES[datatype])
        raise TensorError(name, f"element {index} is of another type than its datatype", f"{datatype} or null")
    if len(flat) != count:
        raise _wrong_count(name, len(flat), shape)
    return Tensor(name, datatype, shape, flat if datatype != BYTES else _without_empty(flat))


def tensor_of_bytes(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Tensor:
    """A tensor of raw bytes. Raises TensorError."""
    count = count_elements(name, datatype, shape)
    if datatype == BYTES:
        return Tensor(name, datatype, shape, _without_empty(_texts(name, shape, raw, count)))
    element = NUMPY_TYPES[datatype]
    if len(raw) != count * element.itemsize:
        problem = f"it has {len(raw):,} bytes"
        raise TensorError(name, problem, f"{count * element.itemsize:,} for {list(shape)} of {datatype}")
    if datatype == BOOL:
        return Tensor(name, datatype, shape, [byte != 0 for byte in bytes(raw)])
    values = np.frombuffer(raw, element).tolist()
    return Tensor(name, datatype, shape, values if "INT" in datatype else without_nan(values))


def tensor_of_contents(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Tensor:
    """A tensor of the typed contents of gRPC: numbers, booleans or bytes, as many as the shape says. Raises
    TensorError."""
    count = count_elements(name, datatype, shape)
    if len(values) != count:
        raise _wrong_count(name, len(values), shape)
    if datatype == BYTES:
        values = _without_empty([_text(name, index, value) for index, value in enumerate(values)])
    elif datatype.startswith("FP"):
        values = without_nan(values)
    return Tensor(name, datatype, shape, values)


def raw_bytes(tensor: Tensor) -> bytes:
    """The raw bytes of a tensor of BYTES, BOOL or FP64: None is the empty text or NaN.

    >>> raw_bytes(Tensor("band", BYTES, [2], ["low", None])).hex(" ")
    '03 00 00 00 6c 6f 77 00 00 00 00'
    """
    if tensor.datatype == BYTES:
        parts: list[bytes] = []
        for text in bytes_of(tensor):
            parts += _LENGTH.pack(len(text)), text
        return b"".join(parts)
    if tensor.datatype == BOOL:
        return bytes(tensor.values)
    return array("d", [math.nan if value is None else value for value in tensor.values]).tobytes()


def bytes_of(tensor: Tensor) -> list[bytes]:
    """The elements of a tensor of BYTES; None is empty."""
    return [b"" if text is None else text.encode() for text in tensor.values]


def without_nan(values: Iterable[float]) -> list[float | None]:
    """None in the place of NaN."""
    return [value if value == value else None for value in values]


def _without_empty(texts: Iterable[str | None]) -> list[str | None]:
    return [text or None for text in texts]


def _texts(name: str, shape: Sequence[int], raw: bytes | memoryview, count: int) -> list[str]:
    texts: list[str] = []
    place, end = 0, len(raw)
    while place + _LENGTH.size <= end and len(texts) < count:
        (length,) = _LENGTH.unpack_from(raw, place)
        place += _LENGTH.size + length
        if place > end:
            break
        texts.append(_text(name, len(texts), raw[place - length : place]))
    if len(texts) != count or place != end:
        raise TensorError(name, f"its bytes are not {count:,} elements", f"{list(shape)}, each with its length")
    return texts


def _text(name: str, index: int, value: bytes | memoryview) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        raise TensorError(name, f"element {index} is not UTF-8", "text in UTF-8") from None


def _wrong_count(name: str, count: int, shape: Sequence[int]) -> TensorError:
    return TensorError(name, f"it has {count:,} elements", f"{math.prod(shape):,} for the shape {list(shape)}")
