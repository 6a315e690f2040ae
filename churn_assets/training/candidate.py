"""A candidate: one kind of model, fitted on both splits, measured on validation rows only."""

from __future__ import annotations

import dataclasses
import importlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from churn_assets.contract.model import Contract
from churn_assets.errors import TrainingError
from churn_assets.evaluation.metrics import Floats, Labels, model_metrics
from churn_assets.features.compile import FeatureSpec, Matrix
from churn_assets.scoring.calibration import sigmoid
from churn_assets.scoring.models.base import Model
from churn_assets.scoring.models.blend import load_model
from churn_assets.training.feature_table import TrainingData, View, features_hash, training_data

if TYPE_CHECKING:
    import pyarrow as pa

NAMES = ("logistic", "boosted", "network")
# Parameters of a recipe by the names of its `Params`: in the configuration of an asset, a study and the model card.
Parameters = Mapping[str, int | float]
Rows = tuple[Matrix, Labels]


class Recipe(Protocol):
    """The interface of a module in `training.candidates`: `Params`, a frozen dataclass with defaults, and `fit`."""

    Params: type[Any]

    def fit(self, train: Rows, validation: Rows, specs: tuple[FeatureSpec, ...], params: Any, seed: int) -> Model:
        """Fit on training rows; validation rows may be used for early stopping only."""


@dataclass(frozen=True)
class Fitted:
    """A model of one split and its log-odds on that split's validation rows."""

    model: Model
    validation_margin: Floats
    metrics: dict[str, float]


@dataclass(frozen=True)
class Candidate:
    """One recipe, fitted on the random split and, if there is a cohort, on the out-of-time split; or a blend of such.

    `features_sha256` is the hash of the feature table it was trained on.
    """

    name: str
    features_sha256: str
    params: dict[str, int | float]
    fitted: dict[str, Fitted]
    cpu_s: float

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Validation metrics by split."""
        return {name: fitted.metrics for name, fitted in self.fitted.items()}

    @property
    def cost(self) -> float:
        """Estimated operations a row."""
        return self.fitted["random"].model.cost

    def save(self, directory: Path) -> None:
        """Write `candidate.json`, a model folder and the validation margins of each split."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, fitted in self.fitted.items():
            (directory / name).mkdir()
            fitted.model.save(directory / name)
            np.save(directory / f"{name}.npy", fitted.validation_margin, allow_pickle=False)
        stored = {key: getattr(self, key) for key in ("name", "features_sha256", "params", "metrics", "cpu_s")}
        (directory / "candidate.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Candidate:
        """Read what `save` wrote."""
        stored = json.loads((directory / "candidate.json").read_text(encoding="utf-8"))
        fitted = {
            name: Fitted(load_model(directory / name), np.load(directory / f"{name}.npy", allow_pickle=False), metrics)
            for name, metrics in stored["metrics"].items()
        }
        return cls(stored["name"], stored["features_sha256"], stored["params"], fitted, stored["cpu_s"])


def train_candidate(
    name: str,
    contract: Contract,
    features: pa.Table,
    splits: pa.Table,
    params: Parameters | None = None,
    seed: int = 42,
) -> Candidate:
    """Fit the recipe `name` on every split of the feature table; `params` overrides its defaults by name. Raises
    TrainingError for an unknown recipe or parameter."""
    recipe, settings = recipe_of(name, params or {})
    data = training_data(contract, features, splits)
    start = time.process_time()
    fitted = {which: _fit(recipe, settings, data, view, seed) for which, view in data.views.items()}
    return Candidate(name, features_hash(features), dataclasses.asdict(settings), fitted, time.process_time() - start)


def recipe_of(name: str, params: Parameters) -> tuple[Recipe, Any]:
    """The recipe `name` and its `Params`, `params` over its defaults. Raises TrainingError for an unknown name."""
    if name not in NAMES:
        raise TrainingError(f"no candidate '{name}', expected one of {', '.join(NAMES)}")
    # A step imports the library of its own candidate only.
    recipe: Any = importlib.import_module(f"churn_assets.training.candidates.{name}")
    known = sorted(field.name for field in dataclasses.fields(recipe.Params))
    for key in params:
        if key not in known:
            raise TrainingError(f"candidate '{name}' has no parameter '{key}', expected one of {', '.join(known)}")
    return recipe, recipe.Params(**params)


def _fit(recipe: Recipe, params: Any, data: TrainingData, view: View, seed: int) -> Fitted:
    train, validation = view.split.train, view.split.validation
    held_out, label = view.matrix[validation], data.churned[validation]
    model = recipe.fit((view.matrix[train], data.churned[train]), (held_out, label), view.program.specs, params, seed)
    margin = model.margin(held_out)
    return Fitted(model, margin, {**figures(label, margin), "rows": float(len(label))})


def figures(churned: Labels, margin: Floats) -> dict[str, float]:
    """Metrics of uncalibrated log-odds."""
    return model_metrics(churned, margin, sigmoid(margin))
