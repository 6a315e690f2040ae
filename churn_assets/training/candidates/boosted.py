"""Gradient-boosted trees by XGBoost, shallow and regularised, stopped early on validation PR-AUC."""

from __future__ import annotations

from dataclasses import dataclass

import xgboost

from churn_assets.features.compile import FeatureSpec
from churn_assets.scoring.models.boosted import BoostedModel
from churn_assets.training.candidate import Rows

# Parameters that XGBoost knows by the same name.
_LIBRARY_PARAMETERS = ("max_depth", "learning_rate", "min_child_weight", "reg_lambda", "subsample", "colsample_bytree")


@dataclass(frozen=True)
class Params:
    """XGBoost's parameters by their own names; `bag` boosters with different seeds are averaged. No class weights: they
    do not raise PR-AUC and harm calibration."""

    rounds: int = 600
    patience: int = 50
    max_depth: int = 4
    learning_rate: float = 0.08
    min_child_weight: float = 5.0
    reg_lambda: float = 3.0
    subsample: float = 0.8
    colsample_bytree: float = 0.7
    bag: int = 1
    threads: int = 1  # a second thread gives nothing at this size


def fit(train: Rows, validation: Rows, specs: tuple[FeatureSpec, ...], params: Params, seed: int) -> BoostedModel:
    """Fit `bag` boosters; each keeps the rounds up to its best validation PR-AUC."""
    learn = xgboost.DMatrix(train[0], label=train[1])
    stop = xgboost.DMatrix(validation[0], label=validation[1])
    settings = {
        "objective": "binary:logistic",
        "eval_metric": "aucpr",
        "tree_method": "hist",
        "monotone_constraints": tuple(spec.monotone for spec in specs),
        "nthread": params.threads,
        **{name: getattr(params, name) for name in _LIBRARY_PARAMETERS},
    }
    boosters, rounds = [], []
    for number in range(params.bag):
        booster = xgboost.train(
            {**settings, "seed": seed + number},
            learn,
            num_boost_round=params.rounds,
            evals=[(stop, "validation")],
            early_stopping_rounds=params.patience,
            verbose_eval=False,
        )
        boosters.append(bytes(booster.save_raw("ubj")))
        rounds.append(int(booster.best_iteration) + 1)
    return BoostedModel(boosters, rounds)
