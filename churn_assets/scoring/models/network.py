"""A multi-layer perceptron over the piecewise-linear encoding, in NumPy.

A net is its layers: pairs of torch `Linear` weight (out, in) and bias (out), float32 or float64; SiLU follows every
layer but the last, which has one output: the log-odds. For a few rows the first layer is one curve a feature. Sums are
float64: a float32 product depends on the shape BLAS is given, float64 keeps one row and a batch within 1e-12.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from churn_assets.errors import BundleCorrupt
from churn_assets.features.compile import Array, Matrix
from churn_assets.scoring.models.base import SETTINGS_FILE, read_arrays, write_model
from churn_assets.scoring.models.piecewise import FEW_ROWS, PiecewiseEncoding, PiecewiseTables

Parameters = npt.NDArray[np.floating]
Layers = tuple[tuple[Parameters, Parameters], ...]

_CHUNK = 256  # rows at a time: bounds memory, keeps a chunk's activations in the second-level cache


class NetworkModel:
    """The mean log-odds of one or more nets that share an encoding."""

    kind: ClassVar[str] = "network"

    def __init__(self, encoding: PiecewiseEncoding, nets: Sequence[Layers]) -> None:
        self.encoding = encoding
        self.nets = tuple(nets)
        self._nets = []
        for layers in self.nets:
            doubles = [(np.ascontiguousarray(w, np.float64), np.asarray(b, np.float64)[:, None]) for w, b in layers]
            # The first layer reads the encoded columns: its product is a sum of curves.
            self._nets.append((PiecewiseTables(encoding, doubles[0][0].T), doubles))

    @property
    def cost(self) -> float:
        """Operations a row: two for each weight, and an exponential for each hidden unit."""
        return float(sum(2 * weight.size + 8 * weight.shape[0] for layers in self.nets for weight, _ in layers))

    def margin(self, matrix: Matrix) -> Array:
        """Log-odds (n,) of feature rows (n, k)."""
        out = np.zeros(len(matrix))
        for start in range(0, len(matrix), _CHUNK):
            chunk, part = matrix[start : start + _CHUNK], out[start : start + _CHUNK]
            for curves, layers in self._nets:
                part += self._margin(chunk, curves, layers)
        out /= len(self._nets)
        return out

    def _margin(self, rows: Matrix, curves: PiecewiseTables, layers: Sequence[tuple[Array, Array]]) -> Array:
        """Log-odds (n,) by one net; activations are transposed, (units, n), so that torch's weights fit as they are."""
        (weight, bias), *others = layers
        x = curves(rows).sum(axis=1).T if len(rows) <= FEW_ROWS else weight @ self.encoding.transposed(rows)
        x += bias
        for weight, bias in others:
            x = weight @ _silu(x)
            x += bias
        return np.asarray(x[0])

    def save(self, directory: Path) -> None:
        """Write `model.json` and `weights.npz`, weights in the precision they came in."""
        arrays: dict[str, npt.NDArray[np.generic]] = dict(self.encoding.to_arrays())
        for i, layers in enumerate(self.nets):
            for j, (weight, bias) in enumerate(layers):
                arrays |= {f"net{i}_weight{j}": weight, f"net{i}_bias{j}": bias}
        write_model(directory, self.kind, {"layers": [len(layers) for layers in self.nets]}, arrays)

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


def _silu(x: Array) -> Array:
    """x / (1 + exp(-x)), in place."""
    gate = np.negative(x)
    np.minimum(gate, 700.0, out=gate)
    np.exp(gate, out=gate)
    gate += 1.0
    x /= gate
    return x
