"""Gradient-boosted trees by XGBoost, shallow and regularised; the number of rounds is that with the least log-loss.

Log-loss, not PR-AUC: it moves with every row, while the PR-AUC of few churners peaks by chance after a few rounds. A
floor of rounds keeps scores apart where even the first trees overfit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import xgboost

from churn_assets.features.compile import FeatureSpec
from churn_assets.scoring.models.boosted import BoostedModel
from churn_assets.training.candidate import Rows

# Parameters that XGBoost knows by the same name.
_LIBRARY_PARAMETERS = ("max_depth", "learning_rate", "min_child_weight", "reg_lambda", "subsample", "colsample_bynode")
WIDE = 200  # features; more are cut into fewer bins, which costs no accuracy and halves the time of deep trees
_BINS, _BINS_OF_WIDE = 256, 128


@dataclass(frozen=True)
class Params:
    """XGBoost's parameters by their own names; `bag` boosters with different seeds are averaged. No class weights: they
    do not raise PR-AUC and harm calibration. With a `patience` of 0 all `rounds` are used, else those up to the least
    log-loss of the validation rows, but at least `least_rounds`."""

    rounds: int = 1000
    patience: int = 50
    least_rounds: int = 30
    max_depth: int = 4
    learning_rate: float = 0.05
    min_child_weight: float = 1.0
    reg_lambda: float = 1.0
    subsample: float = 0.8
    colsample_bynode: float = 0.8
    bag: int = 1
    threads: int = 1  # a second thread gives nothing at this size


AnyParams = TypeVar("AnyParams", bound=Params)


def fit(train: Rows, validation: Rows, specs: tuple[FeatureSpec, ...], params: Params, seed: int) -> BoostedModel:
    """Fit `bag` boosters on training rows; validation rows decide the number of rounds, if there is a `patience`."""
    learn = xgboost.DMatrix(train[0], label=train[1])
    settings = {
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "tree_method": "hist",
        "max_bin": _BINS if len(specs) <= WIDE else _BINS_OF_WIDE,
        "monotone_constraints": tuple(spec.monotone for spec in specs),
        "nthread": params.threads,
        **{name: getattr(params, name) for name in _LIBRARY_PARAMETERS},
    }
    stopping: dict[str, Any] = {}
    if params.patience:
        stop = xgboost.DMatrix(validation[0], label=validation[1])
        stopping = {"evals": [(stop, "validation")], "early_stopping_rounds": params.patience, "verbose_eval": False}
    boosters, rounds = [], []
    for number in range(params.bag):
        booster = xgboost.train({**settings, "seed": seed + number}, learn, num_boost_round=params.rounds, **stopping)
        boosters.append(bytes(booster.save_raw("ubj")))
        best = int(booster.best_iteration) + 1 if params.patience else params.rounds
        rounds.append(min(max(best, params.least_rounds), int(booster.num_boosted_rounds())))
    return BoostedModel(boosters, rounds)


def settle(models: Sequence[BoostedModel], params: AnyParams) -> tuple[list[BoostedModel], AnyParams]:
    """The models of several folds, all with the mean of their rounds, and parameters that fit as many without stopping:
    for a model of all their rows. A fold that stopped long before the mean has all the rounds it was fitted to."""
    each = [booster.iterations for model in models for booster in model.boosters]
    rounds = round(sum(each) / len(each))
    return [model.at(rounds) for model in models], dataclasses.replace(params, rounds=rounds, patience=0)
