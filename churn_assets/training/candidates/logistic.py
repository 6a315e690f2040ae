"""Logistic regression over piecewise-linear ramps: the transparent baseline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from churn_assets.features.compile import FeatureSpec
from churn_assets.scoring.models.logistic import LogisticModel
from churn_assets.scoring.models.piecewise import PiecewiseEncoding
from churn_assets.training.candidate import Rows


@dataclass(frozen=True)
class Params:
    """`knots` quantile knots a number; `c` is the inverse strength of the ridge penalty."""

    knots: int = 17
    c: float = 0.5


def fit(train: Rows, validation: Rows, specs: tuple[FeatureSpec, ...], params: Params, seed: int) -> LogisticModel:
    """Fit on training rows alone; deterministic, so neither validation rows nor the seed are used."""
    matrix, churned = train
    basis = PiecewiseEncoding.fit(matrix, specs, params.knots)
    fitted = LogisticRegression(C=params.c, solver="newton-cholesky").fit(basis.transform(matrix), churned)
    return LogisticModel(basis, np.asarray(fitted.coef_[0]), float(fitted.intercept_[0]))
