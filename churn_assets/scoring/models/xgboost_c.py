"""XGBoost's C library by ctypes: predictions without the 1.4 CPU-seconds of `import xgboost`.

A batch scores at 0.8 times the rate of xgboost's own `inplace_predict` on a finished matrix, with features,
calibration and checks included (`python -m benchmarks.batch_scoring`).

Only documented functions of the C API are called. Prediction from several threads on one handle is safe for tree
boosters as long as nothing sets parameters meanwhile, so these are set once, here; results live in a buffer of the
calling thread and are copied before the call returns.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from churn_assets.errors import BundleCorrupt, BundleError

_EXPECTED = "expected a model as XGBoost wrote it, and rows of its width; train it again"
_WHERE = re.compile(r"^\[\d\d:\d\d:\d\d\] \S+:\d+: ")
_NAMES = {"win32": "xgboost.dll", "darwin": "libxgboost.dylib"}


@cache
def library() -> ctypes.CDLL:
    """The shared library of the installed xgboost package; BundleError if there is none."""
    spec = importlib.util.find_spec("xgboost")  # finds a top-level package without importing it
    folders = list(spec.submodule_search_locations or []) if spec else []
    name = _NAMES.get(sys.platform, "libxgboost.so")
    for path in (Path(folder) / "lib" / name for folder in folders):
        if path.exists():
            return _declare(ctypes.CDLL(str(path)))
    where = ", ".join(folders) or "no xgboost package"
    raise BundleError(f"{name}: not found in {where}, expected in its lib folder; install xgboost or xgboost-cpu")


def _declare(lib: ctypes.CDLL) -> ctypes.CDLL:
    handle, text, pointer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
    signatures: dict[str, list[type]] = {
        "XGBoosterCreate": [pointer, ctypes.c_uint64, pointer],
        "XGBoosterFree": [handle],
        "XGBoosterSetParam": [handle, text, text],
        "XGBoosterLoadModelFromBuffer": [handle, text, ctypes.c_uint64],
        "XGBoosterSaveModelToBuffer": [handle, text, pointer, pointer],
        "XGBoosterGetNumFeature": [handle, pointer],
        "XGBoosterBoostedRounds": [handle, pointer],
        "XGBoosterPredictFromDense": [handle, text, text, handle, pointer, pointer, pointer],
        "XGBoosterPredictFromDMatrix": [handle, handle, text, pointer, pointer, pointer],
        "XGDMatrixCreateFromDense": [text, text, pointer],
        "XGDMatrixFree": [handle],
    }
    for name, arguments in signatures.items():
        getattr(lib, name).argtypes = arguments
        getattr(lib, name).restype = ctypes.c_int
    lib.XGBGetLastError.restype = text
    return lib


class Booster:
    """One booster in the C library, ready to predict on one thread a call: `raw` is a model in XGBoost's UBJSON or JSON
    format, of which `iterations` boosting rounds are used, 0 for all of them."""

    def __init__(self, raw: bytes, iterations: int = 0) -> None:
        self._library, self._handle = library(), ctypes.c_void_p()
        self.raw, self.iterations = raw, iterations
        if not raw.startswith(b"{"):  # UBJSON and JSON begin so; the library aborts the process on nothing at all
            raise BundleCorrupt(f"booster: begins with {raw[:8]!r}, {_EXPECTED}")
        self._call("XGBoosterCreate", None, 0, ctypes.byref(self._handle))
        self._call("XGBoosterLoadModelFromBuffer", self._handle, raw, len(raw))
        self._call("XGBoosterSetParam", self._handle, b"nthread", b"1")
        self._call("XGBoosterSetParam", self._handle, b"device", b"cpu")
        config = {"training": False, "strict_shape": False, "missing": float("nan"), "cache_id": 0}
        config |= {"iteration_begin": 0, "iteration_end": iterations}
        # 1: untransformed margin; 2: exact Shapley values (TreeSHAP), then the base value.
        self._margin_config, self._shapley_config = (json.dumps({**config, "type": kind}).encode() for kind in (1, 2))
        # The first prediction configures the booster, which is not safe from several threads.
        self.margin(np.zeros((1, self.features), dtype=np.float32))

    @property
    def features(self) -> int:
        """Columns the booster was trained on."""
        count = ctypes.c_uint64()
        self._call("XGBoosterGetNumFeature", self._handle, ctypes.byref(count))
        return count.value

    @property
    def rounds(self) -> int:
        """Boosting rounds in the model, used or not."""
        count = ctypes.c_int()
        self._call("XGBoosterBoostedRounds", self._handle, ctypes.byref(count))
        return count.value

    def margin(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Log-odds (n,) of rows (n, k), float32 in C order, NaN for missing."""
        if not len(matrix):
            return np.empty(0, dtype=np.float32)
        output = _Output()
        self._call("XGBoosterPredictFromDense", self._handle, _array(matrix), self._margin_config, None, *output.places)
        return output.values(len(matrix))

    def contributions(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Shapley values (n, k + 1) of rows (n, k), the base value last; a row adds up to its margin. The library's
        TreeSHAP, exact in float32. It reads a DMatrix only."""
        rows, columns = matrix.shape
        if not rows:
            return np.empty((0, columns + 1), dtype=np.float32)
        data, output = ctypes.c_void_p(), _Output()
        self._call("XGDMatrixCreateFromDense", _array(matrix), b'{"missing":NaN,"nthread":1}', ctypes.byref(data))
        try:
            self._call("XGBoosterPredictFromDMatrix", self._handle, data, self._shapley_config, *output.places)
            return output.values(rows * (columns + 1)).reshape(rows, columns + 1)
        finally:
            self._library.XGDMatrixFree(data)

    def as_json(self) -> bytes:
        """The whole model in XGBoost's JSON format."""
        length, text = ctypes.c_uint64(), ctypes.c_void_p()
        arguments = (b'{"format":"json"}', ctypes.byref(length), ctypes.byref(text))
        self._call("XGBoosterSaveModelToBuffer", self._handle, *arguments)
        return ctypes.string_at(text.value or 0, length.value)

    def _call(self, function: str, *arguments: object) -> None:
        if getattr(self._library, function)(*arguments) != 0:
            lines = self._library.XGBGetLastError().decode(errors="replace").strip().splitlines() or ["failed"]
            reason = _WHERE.sub("", lines[0]).strip(" :")  # without the time and the place in XGBoost's source
            raise BundleCorrupt(f"{function}: {reason}, {_EXPECTED}")

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.XGBoosterFree(self._handle)


class _Output:
    """Where the library writes a prediction; the buffer is valid until the next call."""

    def __init__(self) -> None:
        self._shape, self._result, self._dimensions = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint64()
        self.places = tuple(ctypes.byref(place) for place in (self._shape, self._dimensions, self._result))

    def values(self, count: int) -> npt.NDArray[np.float32]:
        """The first `count` numbers, copied."""
        return np.array((ctypes.c_float * count).from_address(self._result.value or 0), dtype=np.float32)


def _array(matrix: npt.NDArray[np.float32]) -> bytes:
    """The array interface of a float32 matrix in C order, which must live as long as the call."""
    return b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f4","version":3}' % (matrix.ctypes.data, *matrix.shape)
