"""The blend of several models, and how a saved model is loaded by its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from churn_assets.errors import BundleCorrupt
from churn_assets.features.compile import Array, Matrix
from churn_assets.scoring.models.base import SETTINGS_FILE, Model, read_settings, write_model
from churn_assets.scoring.models.boosted import BoostedModel
from churn_assets.scoring.models.logistic import LogisticModel
from churn_assets.scoring.models.network import NetworkModel


class BlendModel:
    """The weighted mean of its members' log-odds; weights are positive and add up to one."""

    kind: ClassVar[str] = "blend"

    def __init__(self, members: Sequence[Model], weights: Sequence[float]) -> None:
        if len(members) != len(weights) or not members:
            raise ValueError(f"{len(members)} members and {len(weights)} weights, expected equally many")
        if min(weights) <= 0.0 or abs(sum(weights) - 1.0) > 1e-9:
            raise ValueError(f"weights are {list(weights)}, expected positive numbers that add up to one")
        self.members = tuple(members)
        self.weights = tuple(map(float, weights))

    @property
    def cost(self) -> float:
        """Operations a row, all members together."""
        return sum(member.cost for member in self.members)

    def margin(self, matrix: Matrix) -> Array:
        """Log-odds (n,) of feature rows (n, k)."""
        out = np.zeros(len(matrix))
        for member, weight in zip(self.members, self.weights, strict=True):
            out += weight * member.margin(matrix)
        return out

    def save(self, directory: Path) -> None:
        """Write `model.json`, and each member in a folder of its number."""
        write_model(directory, self.kind, {"weights": list(self.weights)})
        for i, member in enumerate(self.members):
            member.save(directory / str(i))

    @classmethod
    def load(cls, directory: Path) -> BlendModel:
        """Read what `save` wrote."""
        weights = read_settings(directory)["weights"]
        return cls([load_model(directory / str(i)) for i in range(len(weights))], weights)


MODELS: Mapping[str, type[LogisticModel] | type[BoostedModel] | type[NetworkModel] | type[BlendModel]] = {
    model.kind: model for model in (LogisticModel, BoostedModel, NetworkModel, BlendModel)
}


def load_model(directory: Path) -> Model:
    """The model saved in `directory`, whatever its kind; BundleCorrupt if its files are not as written."""
    kind = read_settings(directory)["kind"]
    if kind not in MODELS:
        raise BundleCorrupt(
            f"{directory / SETTINGS_FILE}: kind is {kind!r}, expected one of {', '.join(MODELS)}; "
            "was the bundle made by a newer version?"
        )
    return MODELS[kind].load(directory)
