"""Gradient-boosted trees by XGBoost, deep: for tables in which many columns act together."""

from __future__ import annotations

from dataclasses import dataclass

from churn_assets.training.candidates import boosted

fit, settle = boosted.fit, boosted.settle


@dataclass(frozen=True)
class Params(boosted.Params):
    """As of `boosted`, with the trees of a deep model: many leaves, few rounds."""

    rounds: int = 500
    patience: int = 30
    max_depth: int = 10
    learning_rate: float = 0.08
    min_child_weight: float = 1.0
    reg_lambda: float = 2.0
    colsample_bynode: float = 0.6
