"""Hyper-parameters of a recipe: an Optuna study in SQLite that can be stopped and resumed; its best are kept as JSON.

The objective is the mean PR-AUC of an inner cross-validation among the *training* rows of the random split: validation
rows stay fresh for choosing between candidates, test rows for reporting. Trials are proposed by the tree-structured
Parzen estimator (Bergstra et al., NeurIPS 2011) and pruned after a fold in which they are below the median of the
earlier trials. The first trial is the recipe's defaults: tuning that finds nothing better keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import numpy as np

from churn_assets.contract.model import Contract
from churn_assets.data.hashing import data_hash
from churn_assets.errors import TrainingError
from churn_assets.storage.files import write_json
from churn_assets.training.candidate import figures, recipe_of
from churn_assets.training.cross_validation import fit_fold, make_folds
from churn_assets.training.feature_table import training_data

if TYPE_CHECKING:
    import optuna
    import pyarrow as pa

INNER_FOLDS = 3
DATABASE = "studies.db"
_BOTH_BOOSTED: Mapping[str, tuple[str, float, float]] = {
    "min_child_weight": ("log", 1.0, 50.0),
    "reg_lambda": ("log", 0.3, 30.0),
    "subsample": ("float", 0.5, 1.0),
    "colsample_bynode": ("float", 0.3, 1.0),
}
# (kind, lowest, highest); 'log' and 'int_log' are drawn on a log scale.
SPACES: Mapping[str, Mapping[str, tuple[str, float, float]]] = {
    "logistic": {"knots": ("int", 4, 40), "c": ("log", 0.01, 10.0)},
    "boosted": {"max_depth": ("int", 2, 6), "learning_rate": ("log", 0.03, 0.2), **_BOTH_BOOSTED},
    "deep": {"max_depth": ("int", 6, 14), "learning_rate": ("log", 0.03, 0.2), **_BOTH_BOOSTED},
    "network": {
        "knots": ("int", 8, 48),
        "width": ("int_log", 32, 256),
        "dropout": ("float", 0.0, 0.5),
        "learning_rate": ("log", 5e-4, 8e-3),
        "weight_decay": ("log", 1e-4, 1e-1),
        "epochs": ("int", 6, 20),
    },
}

_DEFAULTS = "defaults"


class Tuned(msgspec.Struct, frozen=True):
    """The best of a study so far: `params` are empty where the defaults are still best, `value` and `default_value` are
    mean inner PR-AUC; `trials` counts finished ones, `pruned` those of them that were stopped early."""

    name: str
    study: str
    params: dict[str, int | float]
    value: float
    default_value: float
    trials: int
    pruned: int

    def describe(self) -> str:
        """One line for people."""
        outcome = "its best parameters are used" if self.params else "no trial beat the defaults, which are used"
        return (
            f"study {self.study}: {self.trials} trials ({self.pruned} stopped early), inner PR-AUC "
            f"{self.default_value:.4f} with defaults, {self.value:.4f} at best; {outcome}"
        )


def study_name(name: str, contract: Contract, features: pa.Table, splits: pa.Table) -> str:
    """The name of a study: recipe, contract, the feature table and its random split."""
    rows = features.append_column("random", splits["random"])
    return f"{name}-{contract.fingerprint[:12]}-{data_hash(rows)[:12]}"


def best_so_far(folder: Path, study: str) -> Tuned | None:
    """The stored result of a study, or None if there is none. Raises TrainingError for a file that cannot be read."""
    path = folder / f"{study}.json"
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Tuned)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read as tuned parameters ({error}); delete it and tune again") from None


def tune(
    name: str,
    contract: Contract,
    features: pa.Table,
    splits: pa.Table,
    trials: int,
    folder: Path,
    seed: int = 42,
    progress: Callable[[str], None] | None = None,
) -> Tuned:
    """Resume the study of recipe `name` until it has `trials` finished trials; store and return its best. A killed run
    loses its current trial. Raises TrainingError for an unknown recipe or fewer than one trial."""
    if name not in SPACES or trials < 1:
        raise TrainingError(
            f"tuning '{name}' with {trials} trials, expected one of {', '.join(SPACES)} and at least 1 trial"
        )
    study = _open(folder, name, study_name(name, contract, features, splits), seed)
    objective = _objective(name, contract, features, splits, seed)
    while (done := len(_finished(study))) < trials:
        study.optimize(objective, n_trials=1)
        if progress is not None:
            progress(f"tuning {name}: trial {done + 1} of {trials}, best inner PR-AUC {study.best_value:.4f}")
    return _keep(folder, name, study)


def _open(folder: Path, name: str, study: str, seed: int) -> optuna.Study:
    import optuna

    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    opened = optuna.create_study(
        storage=f"sqlite:///{quote(str(folder / DATABASE))}",
        study_name=study,
        direction="maximize",
        load_if_exists=True,
    )
    # A resumed sampler must not draw the first trials again.
    opened.sampler = optuna.samplers.TPESampler(seed=seed + len(opened.trials))
    opened.pruner = optuna.pruners.MedianPruner(n_startup_trials=4)
    if not any(trial.user_attrs.get(_DEFAULTS) for trial in _finished(opened)):
        opened.enqueue_trial(defaults(name), user_attrs={_DEFAULTS: True})
    return opened


def defaults(name: str) -> dict[str, Any]:
    """The recipe's own value of every parameter that is tuned."""
    _, params = recipe_of(name, {})
    return {key: getattr(params, key) for key in SPACES[name]}


def _objective(
    name: str, contract: Contract, features: pa.Table, splits: pa.Table, seed: int
) -> Callable[[optuna.Trial], float]:
    data = training_data(contract, features, splits)
    view = data.views["random"]
    ids = np.asarray(features["customer_id"].to_pylist(), dtype=object).astype(str)
    folds = make_folds(data.churned, ids, view.split.train, INNER_FOLDS, seed)

    def mean_pr_auc(trial: optuna.Trial) -> float:
        import optuna

        recipe, params = recipe_of(name, _suggest(trial, SPACES[name]))
        reached: list[float] = []
        for step, fold in enumerate(folds):
            margin = fit_fold(recipe, params, view.matrix, data.churned, view.program.specs, fold, seed)
            reached.append(figures(data.churned[fold.held_out], margin)["pr_auc"])
            trial.report(float(np.mean(reached)), step)
            if step + 1 < len(folds) and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(reached))

    return mean_pr_auc


def _suggest(trial: optuna.Trial, space: Mapping[str, tuple[str, float, float]]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, (kind, low, high) in space.items():
        suggest: Any = trial.suggest_int if kind.startswith("int") else trial.suggest_float
        chosen[name] = suggest(name, low, high, log=kind.endswith("log"))
    return chosen


def _finished(study: optuna.Study) -> list[Any]:
    return [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def _keep(folder: Path, name: str, study: optuna.Study) -> Tuned:
    finished = _finished(study)
    default = next(trial for trial in finished if trial.user_attrs.get(_DEFAULTS))
    best = study.best_trial
    tuned = Tuned(
        name=name,
        study=study.study_name,
        params={} if best.number == default.number else dict(best.params),
        value=float(study.best_value),
        default_value=float(default.value),
        trials=len(finished),
        pruned=sum(trial.state.name == "PRUNED" for trial in finished),
    )
    write_json(folder / f"{study.study_name}.json", msgspec.to_builtins(tuned))
    return tuned
