"""A multi-layer perceptron over the piecewise-linear encoding, in NumPy.

Its input is the encoded columns (width) of a PiecewiseEncoding fitted on training rows. A net is its layers: pairs
of torch `Linear` weight (out, in) and bias (out), float32 or float64; SiLU follows every layer but the last, which
has one output: the log-odds.

For a few rows the first layer is evaluated as one curve a feature (`piecewise.PiecewiseTables`). Sums are float64: a
float32 product depends on the shape BLAS is given, float64 keeps one row and a batch within 1e-12.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from churn_assets.errors import BundleCorrupt
from churn_assets.scoring.models.base import SETTINGS_FILE, read_arrays, write_arrays
from churn_assets.scoring.models.piecewise import FEW_ROWS, PiecewiseEncoding, PiecewiseTables

Array = npt.NDArray[np.float64]
Parameters = npt.NDArray[np.floating]
Layers = tuple[tuple[Parameters, Parameters], ...]

_CHUNK = 256  # rows at a time: bounds memory, keeps a chunk's activations in the second-level cache


class NetworkModel:
    """The mean log-odds of one or more nets that share an encoding."""

    kind: ClassVar[str] = "network"

    def __init__(self, encoding: PiecewiseEncoding, nets: Sequence[Layers]) -> None:
        self.encoding = encoding
        self.nets = tuple(nets)
        self._runs = [_Run(encoding, layers) for layers in self.nets]

    @property
    def cost(self) -> float:
        """Operations a row: two for each weight, and an exponential for each hidden unit."""
        return float(sum(2 * weight.size + 8 * weight.shape[0] for layers in self.nets for weight, _ in layers))

    def margin(self, matrix: npt.NDArray[np.float32]) -> Array:
        """Log-odds (n,) of feature rows (n, k)."""
        out = np.zeros(len(matrix))
        for start in range(0, len(matrix), _CHUNK):
            chunk = matrix[start : start + _CHUNK]
            part = out[start : start + _CHUNK]
            for run in self._runs:
                part += run(chunk)
        out /= len(self._runs)
        return out

    def save(self, directory: Path) -> None:
        """Write `model.json` and `weights.npz`, weights in the precision they came in."""
        arrays: dict[str, npt.NDArray[np.generic]] = dict(self.encoding.to_arrays())
        for i, layers in enumerate(self.nets):
            for j, (weight, bias) in enumerate(layers):
                arrays |= {f"net{i}_weight{j}": weight, f"net{i}_bias{j}": bias}
        write_arrays(directory, self.kind, {"layers": [len(layers) for layers in self.nets]}, arrays)

    @classmethod
    def load(cls, directory: Path) -> NetworkModel:
        """Read what `save` wrote; version 0.1 also wrote embeddings, which were always empty."""
        settings, arrays = read_arrays(directory)
        try:
            nets = [
                tuple((arrays[f"net{i}_weight{j}"], arrays[f"net{i}_bias{j}"]) for j in range(layers))
                for i, layers in enumerate(settings["layers"])
            ]
            return cls(PiecewiseEncoding.from_arrays(arrays), nets)
        except KeyError as error:
            raise BundleCorrupt(f"{directory / SETTINGS_FILE}: {error} is missing; make the bundle again") from error


class _Run:
    """One net made ready. Activations are transposed, (units, rows), so that torch's weights serve as they are."""

    def __init__(self, encoding: PiecewiseEncoding, layers: Layers) -> None:
        self.encoding = encoding
        self.layers = [
            (np.ascontiguousarray(w, dtype=np.float64), np.asarray(b, dtype=np.float64)[:, None]) for w, b in layers
        ]
        # The first layer reads the encoded columns: its product is a sum of curves.
        self.curves = PiecewiseTables(encoding, self.layers[0][0].T)

    def __call__(self, rows: npt.NDArray[np.float32]) -> Array:
        """Log-odds (n,) of feature rows (n, k)."""
        (weight, bias), *others = self.layers
        few = len(rows) <= FEW_ROWS
        x = self.curves(rows).sum(axis=1).T if few else weight @ self.encoding.transposed(rows)
        x += bias
        for weight, bias in others:
            x = weight @ _silu(x)
            x += bias
        return np.asarray(x[0])


def _silu(x: Array) -> Array:
    """x / (1 + exp(-x)), in place."""
    gate = np.negative(x)
    np.minimum(gate, 700.0, out=gate)
    np.exp(gate, out=gate)
    gate += 1.0
    x /= gate
    return x
