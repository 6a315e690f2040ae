"""What a model is, and its files: `model.json` for settings, `weights.npz` for arrays; never a pickle.

A pickle runs code when it is loaded; these files are data (docs/decisions/0002-no-pickle.md).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from churn_assets.errors import BundleCorrupt
from churn_assets.features.compile import Array, Matrix
from churn_assets.storage.files import canonical_json, read_json_object

SETTINGS_FILE = "model.json"
ARRAYS_FILE = "weights.npz"


class Model(Protocol):
    """Turns feature rows into log-odds of churn; made by training, loaded by everybody else."""

    kind: ClassVar[str]

    @property
    def cost(self) -> float:
        """Estimated operations a row: the same number on every machine, to compare candidates by."""

    def margin(self, matrix: Matrix) -> Array:
        """Log-odds (n,) of feature rows (n, k) in C order, NaN for missing. Safe from any thread."""

    def save(self, directory: Path) -> None:
        """Write the model's files; the same model gives the same bytes."""


def write_model(
    directory: Path, kind: str, settings: Mapping[str, object], arrays: Mapping[str, npt.NDArray[Any]] | None = None
) -> None:
    """Write `model.json` and, for a model with arrays, `weights.npz`; the same model gives the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / SETTINGS_FILE).write_bytes(canonical_json({"kind": kind, **settings}))
    if arrays is not None:
        np.savez(directory / ARRAYS_FILE, allow_pickle=False, **arrays)


def read_settings(directory: Path) -> dict[str, Any]:
    """Read `model.json`; BundleCorrupt if it is missing or no JSON object with a kind."""
    settings = read_json(directory / SETTINGS_FILE)
    if "kind" not in settings:
        raise BundleCorrupt(
            f"{directory / SETTINGS_FILE}: no model kind in it, expected an object with 'kind'; make the bundle again"
        )
    return settings


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a bundle; BundleCorrupt if it cannot be read or is none."""
    try:
        return read_json_object(path)
    except (OSError, ValueError) as error:
        raise BundleCorrupt(f"{path}: cannot be read ({error}); make the bundle again") from error


def read_arrays(directory: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Settings and arrays of a model; BundleCorrupt if they cannot be read."""
    settings = read_settings(directory)
    path = directory / ARRAYS_FILE
    try:
        with zipfile.ZipFile(path) as parts:
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):  # may grow beyond memory
                raise ValueError("its arrays are compressed, expected them as they were written")
        with np.load(path, allow_pickle=False) as stored:
            return settings, {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise BundleCorrupt(f"{path}: cannot be read ({error}); make the bundle again") from error
