"""A candidate: one kind of model, fitted on both splits and measured on rows that it was not trained on.

Where there are recent labels, it has variants for customers who have changed: recent rows weighted, or alone.

On the random split every training and validation row is scored by a model of the other folds; the candidate itself is
then fitted on all of them, with as many rounds as the folds needed. Out of time the validation rows, the newest but
for the test rows, are scored by a model of the training rows.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from churn_assets.contract.model import Contract
from churn_assets.errors import TrainingError
from churn_assets.evaluation.metrics import Floats, Labels, model_metrics, shortage
from churn_assets.features.compile import FeatureSpec, Matrix
from churn_assets.scoring.calibration import sigmoid
from churn_assets.scoring.models.base import Model
from churn_assets.scoring.models.blend import load_model
from churn_assets.training.feature_table import TrainingData, features_hash, recent_size, training_data
from churn_assets.training.split import Ids, Index, Mask, Split, fold_numbers

if TYPE_CHECKING:
    import pyarrow as pa

NAMES = ("logistic", "boosted", "deep", "network")
FOLDS = 4
REPEATS, FEW_ROWS = 3, 4000  # below so many rows the folds are drawn several times: one draw says little
VARIED = ("logistic", "boosted")  # recipes with variants: a few hundred labels carry no deep model
LEAST_RECENT = 30  # churned and kept customers with recent labels, from which on there are variants
MOST_COPIES = 10  # of a recent row, where recent rows are weighted
# Parameters of a recipe by the names of its `Params`: in the configuration of an asset, a study and the model card.
Parameters = Mapping[str, int | float]
Rows = tuple[Matrix, Labels]
TrainedOn = Literal["all", "weighted", "recent"]  # all rows alike; recent rows count more; recent rows alone


class Recipe(Protocol):
    """The interface of a module in `training.candidates`: `Params`, a frozen dataclass with defaults, and `fit`."""

    Params: type[Any]

    def fit(self, train: Rows, validation: Rows, specs: tuple[FeatureSpec, ...], params: Any, seed: int) -> Model:
        """Fit on training rows; validation rows may be used for early stopping only."""

    # A recipe that stops early has `settle(models, params)` as well: see `candidates.boosted`.


@dataclass(frozen=True)
class Fitted:
    """A model of one split, and log-odds (repeats, n) of that split's `judged_rows` by models not trained on them."""

    model: Model
    out_of_fold: Floats
    metrics: dict[str, float]


def judged_rows(name: str, split: Split) -> Index:
    """Rows of the split `name` by which candidates are compared and calibrated."""
    return split.learn if name == "random" else split.validation


@dataclass(frozen=True)
class Candidate:
    """One recipe, fitted on the random split and, if there is a cohort, on the out-of-time split; or a blend of such.

    `features_sha256` is the hash of the feature table it was trained on. `trained_on` says which rows of the random
    split it was fitted on and how; `variants` are the same recipe, trained otherwise. They have the out-of-time model
    of the recipe, and metrics on recent rows.
    """

    name: str
    features_sha256: str
    params: dict[str, int | float]
    fitted: dict[str, Fitted]
    cpu_s: float
    trained_on: TrainedOn = "all"
    variants: tuple[Candidate, ...] = ()
    seed: int = 42

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Out-of-fold metrics by split."""
        return {name: fitted.metrics for name, fitted in self.fitted.items()}

    @property
    def cost(self) -> float:
        """Estimated operations a row."""
        return self.fitted["random"].model.cost

    def save(self, directory: Path) -> None:
        """Write `candidate.json`, a model folder and the out-of-fold log-odds of each split."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, fitted in self.fitted.items():
            (directory / name).mkdir()
            fitted.model.save(directory / name)
            np.save(directory / f"{name}.npy", fitted.out_of_fold, allow_pickle=False)
        for variant in self.variants:
            variant.save(directory / variant.trained_on)
        names = ("name", "features_sha256", "params", "metrics", "cpu_s", "trained_on", "seed")
        stored = {key: getattr(self, key) for key in names}
        stored["variants"] = [variant.trained_on for variant in self.variants]
        (directory / "candidate.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Candidate:
        """Read what `save` wrote."""
        stored = json.loads((directory / "candidate.json").read_text(encoding="utf-8"))
        fitted = {
            name: Fitted(load_model(directory / name), np.load(directory / f"{name}.npy", allow_pickle=False), metrics)
            for name, metrics in stored["metrics"].items()
        }
        variants = tuple(cls.load(directory / name) for name in stored.get("variants", ()))
        trained_on = stored.get("trained_on", "all")
        name, features_sha256, params = stored["name"], stored["features_sha256"], stored["params"]
        seed = stored.get("seed", 42)
        return cls(name, features_sha256, params, fitted, stored["cpu_s"], trained_on, variants, seed)


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
    ids = np.asarray(features["customer_id"].to_pylist(), dtype=object).astype(str)
    start = time.process_time()
    fitted = {"random": _cross_fitted(recipe, settings, data, ids, seed)}
    if "out_of_time" in data.views:
        fitted["out_of_time"] = _by_time(recipe, settings, data, seed)
    variants: list[Candidate] = []
    origin, stored = features_hash(features), dataclasses.asdict(settings)
    for trained_on, copies in _copies(name, data, features).items():
        varied = {**fitted, "random": _cross_fitted(recipe, settings, data, ids, seed, copies)}
        variants.append(Candidate(name, origin, stored, varied, 0.0, trained_on, seed=seed))
    return Candidate(name, origin, stored, fitted, time.process_time() - start, "all", tuple(variants), seed)


def recent_rows(data: TrainingData, features: pa.Table) -> Mask:
    """True (n,) for those of the random split's training and validation rows that are recent labels."""
    return np.asarray(data.views["random"].split.learn >= features.num_rows - recent_size(features), dtype=np.bool_)


def _copies(name: str, data: TrainingData, features: pa.Table) -> dict[TrainedOn, Index]:
    """How often each training row (n,) counts in each variant of a recipe; none without enough recent labels."""
    recent = recent_rows(data, features)
    label = data.churned[data.views["random"].split.learn]
    rarer = min(int(label[recent].sum()), int((1 - label[recent]).sum()))
    if name not in VARIED or rarer < LEAST_RECENT or recent.all():
        return {}
    # Recent rows together count as much as the others, if that takes no more than so many copies.
    copies = int(np.clip(round(float((~recent).sum() / recent.sum())), 2, MOST_COPIES))
    return {"weighted": np.where(recent, copies, 1), "recent": recent.astype(np.int64)}


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


def _cross_fitted(
    recipe: Recipe, params: Any, data: TrainingData, ids: Ids, seed: int, copies: Index | None = None
) -> Fitted:
    """Every training and validation row scored by a model of the other folds; in each fit a row counts `copies` (n,)
    times, 0 for not at all."""
    view = data.views["random"]
    rows, specs = view.split.learn, view.program.specs
    matrix, label = view.matrix[rows], data.churned[rows]
    copies = np.ones(len(rows), dtype=np.int64) if copies is None else copies
    repeats = REPEATS if len(rows) < FEW_ROWS else 1
    margin, models = np.empty((repeats, len(rows))), []
    folds = [fold_numbers(label, ids[rows], FOLDS, seed + repeat) for repeat in range(repeats)]

    def counted(mask: Mask) -> Rows:
        chosen = np.repeat(np.flatnonzero(mask), copies[mask])
        return matrix[chosen], label[chosen]

    for fold in folds:
        for part in range(FOLDS):
            models.append(recipe.fit(counted(fold != part), counted(fold == part), specs, params, seed))
    models, settled = _settle(recipe, models, params)
    for number, model in enumerate(models):
        repeat, part = divmod(number, FOLDS)
        scored = folds[repeat] == part
        margin[repeat, scored] = model.margin(matrix[scored])
    model = recipe.fit(counted(np.ones(len(rows), dtype=bool)), (matrix[:0], label[:0]), specs, settled, seed)
    judged = copies == copies.max()  # where recent rows count more, they are what it is for
    return Fitted(model, margin, _metrics(label[judged], margin[:, judged], settled))


def _by_time(recipe: Recipe, params: Any, data: TrainingData, seed: int) -> Fitted:
    view = data.views["out_of_time"]
    (learn, held_out, rows), specs = (view.split.train, view.split.validation, view.split.learn), view.program.specs
    matrix, label = view.matrix, data.churned
    stopped = recipe.fit((matrix[learn], label[learn]), (matrix[held_out], label[held_out]), specs, params, seed)
    (stopped,), settled = _settle(recipe, [stopped], params)
    margin = stopped.margin(matrix[held_out])[None, :]
    model = recipe.fit((matrix[rows], label[rows]), (matrix[:0], label[:0]), specs, settled, seed)
    return Fitted(model, margin, _metrics(label[held_out], margin, settled))


def _settle(recipe: Any, models: list[Model], params: Any) -> tuple[list[Model], Any]:
    return recipe.settle(models, params) if hasattr(recipe, "settle") else (models, params)


def _metrics(label: Labels, margin: Floats, settled: Any) -> dict[str, float]:
    rounds = {"rounds": float(settled.rounds)} if hasattr(settled, "rounds") else {}
    counts = {"rows": float(len(label)), **rounds}
    if shortage(float(label.sum()), len(label)):
        return counts
    each = [figures(label, repeat) for repeat in margin]
    return {**{name: float(np.mean([e[name] for e in each])) for name in each[0]}, **counts}


def figures(churned: Labels, margin: Floats) -> dict[str, float]:
    """Metrics of uncalibrated log-odds."""
    return model_metrics(churned, margin, sigmoid(margin))
