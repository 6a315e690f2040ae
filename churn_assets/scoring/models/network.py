"""A multi-layer perceptron over piecewise-linear embeddings, in NumPy.

Parameter layout, for `training.candidates.network` to export to (torch shapes, float32 or float64):

- `encoding`: a PiecewiseEncoding of `width` columns over `k` features, fitted on training rows.
- `Net.embedding` (width, d) and `Net.embedding_bias` (k, d): feature j becomes
  `act(encoded[:, slices[j]] @ embedding[slices[j]] + embedding_bias[j])`, d numbers a feature, and the
  network's input is these in feature order, (k * d). From a torch `Linear` a feature, row block j of
  `embedding` is `linear_j.weight.T`. `d = 0` (both arrays of zero columns): the encoded columns
  themselves are the input, (width).
- `Net.layers`: pairs of torch `Linear` weight (out, in) and bias (out); the hidden activation follows
  every layer but the last, which has one output: the log-odds.

For a few rows the embedding is evaluated as one curve a feature (`piecewise.PiecewiseTables`). Sums are float64: a
float32 product depends on the shape BLAS is given, float64 keeps one row and a batch within 1e-12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from churn_assets.errors import BundleCorrupt
from churn_assets.scoring.models.base import SETTINGS_FILE, read_arrays, write_arrays
from churn_assets.scoring.models.piecewise import FEW_ROWS, PiecewiseEncoding, PiecewiseTables

Array = npt.NDArray[np.float64]
Parameters = npt.NDArray[np.floating]
Activation = Literal["none", "relu", "silu"]

_CHUNK = 256  # rows at a time: bounds memory, keeps a chunk's activations in the second-level cache


@dataclass(frozen=True)
class Net:
    """The weights of one network; see the module's docstring for their layout."""

    embedding: Parameters
    embedding_bias: Parameters
    layers: tuple[tuple[Parameters, Parameters], ...]


class NetworkModel:
    """The mean log-odds of one or more nets that share an encoding."""

    kind: ClassVar[str] = "network"

    def __init__(
        self,
        encoding: PiecewiseEncoding,
        nets: Sequence[Net],
        *,
        embedding_activation: Activation = "relu",
        activation: Activation = "silu",
    ) -> None:
        self.encoding = encoding
        self.nets = tuple(nets)
        self.embedding_activation: Activation = embedding_activation
        self.activation: Activation = activation
        self._runs = [_Run(encoding, net, embedding_activation, activation) for net in self.nets]

    @property
    def cost(self) -> float:
        """Operations a row: two for each weight, and an exponential for each hidden unit."""
        return float(sum(2 * w.size + 8 * w.shape[0] for net in self.nets for w, _ in net.layers))

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
        for i, net in enumerate(self.nets):
            arrays[f"net{i}_embedding"] = net.embedding
            arrays[f"net{i}_embedding_bias"] = net.embedding_bias
            for j, (weight, bias) in enumerate(net.layers):
                arrays[f"net{i}_weight{j}"] = weight
                arrays[f"net{i}_bias{j}"] = bias
        settings = {
            "nets": len(self.nets),
            "layers": [len(net.layers) for net in self.nets],
            "embedding_activation": self.embedding_activation,
            "activation": self.activation,
        }
        write_arrays(directory, self.kind, settings, arrays)

    @classmethod
    def load(cls, directory: Path) -> NetworkModel:
        """Read what `save` wrote."""
        settings, arrays = read_arrays(directory)
        try:
            nets = [
                Net(
                    arrays[f"net{i}_embedding"],
                    arrays[f"net{i}_embedding_bias"],
                    tuple((arrays[f"net{i}_weight{j}"], arrays[f"net{i}_bias{j}"]) for j in range(layers)),
                )
                for i, layers in enumerate(settings["layers"])
            ]
            return cls(
                PiecewiseEncoding.from_arrays(arrays),
                nets,
                embedding_activation=settings["embedding_activation"],
                activation=settings["activation"],
            )
        except KeyError as error:
            raise BundleCorrupt(f"{directory / SETTINGS_FILE}: {error} is missing; make the bundle again") from error


class _Run:
    """One net made ready. Activations are transposed, (units, rows), so that torch's weights serve as they are."""

    def __init__(
        self, encoding: PiecewiseEncoding, net: Net, embedding_activation: Activation, activation: Activation
    ) -> None:
        self.encoding = encoding
        self.activation = activation
        self.embedding = np.asarray(net.embedding, dtype=np.float64)
        self.embedding_bias = np.asarray(net.embedding_bias, dtype=np.float64)
        self.embedding_activation: Activation = embedding_activation
        self.embedded = self.embedding.shape[1] > 0
        self.layers = [
            (np.ascontiguousarray(w, dtype=np.float64), np.asarray(b, dtype=np.float64)[:, None]) for w, b in net.layers
        ]
        # Without an embedding the first layer reads the encoded columns: its product is a sum of curves.
        self.curves = PiecewiseTables(encoding, self.embedding if self.embedded else self.layers[0][0].T)

    def __call__(self, rows: npt.NDArray[np.float32]) -> Array:
        """Log-odds (n,) of feature rows (n, k)."""
        few = len(rows) <= FEW_ROWS
        if self.embedded:
            x, done = self._embed_few(rows) if few else self._embed(rows), 0
        elif few:
            x, done = self.curves(rows).sum(axis=1).T, 1
            x = self._after(x, 0)
        else:
            x, done = self.encoding.transposed(rows), 0
        for layer in range(done, len(self.layers)):
            x = self._after(self.layers[layer][0] @ x, layer)
        return np.asarray(x[0])

    def _after(self, x: Array, layer: int) -> Array:
        x += self.layers[layer][1]
        return _activate(x, self.activation) if layer + 1 < len(self.layers) else x

    def _embed_few(self, rows: npt.NDArray[np.float32]) -> Array:
        x = self.curves(rows)
        x += self.embedding_bias
        return _activate(x, self.embedding_activation).reshape(len(rows), -1).T

    def _embed(self, rows: npt.NDArray[np.float32]) -> Array:
        encoded = self.encoding.transposed(rows)
        depth = self.embedding.shape[1]
        x = np.empty((depth * len(self.encoding.groups), len(rows)))
        for j, where in enumerate(self.encoding.slices):
            np.matmul(self.embedding[where].T, encoded[where], out=x[j * depth : (j + 1) * depth])
        x += self.embedding_bias.reshape(-1, 1)
        return _activate(x, self.embedding_activation)


def _activate(x: Array, activation: Activation) -> Array:
    """Apply an activation in place."""
    match activation:
        case "relu":
            np.maximum(x, 0.0, out=x)
        case "silu":
            gate = np.negative(x)
            np.minimum(gate, 700.0, out=gate)
            np.exp(gate, out=gate)
            gate += 1.0
            x /= gate
        case "none":
            pass
    return x
