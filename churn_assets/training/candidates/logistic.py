"""Logistic regression over piecewise-linear ramps: the transparent baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from churn_assets.evaluation.metrics import Floats, Labels
from churn_assets.features.compile import FeatureSpec
from churn_assets.scoring.calibration import sigmoid
from churn_assets.scoring.models.logistic import LogisticModel
from churn_assets.scoring.models.piecewise import PiecewiseEncoding
from churn_assets.training.candidate import Rows

WIDE = 1500  # encoded columns; above, a step of Newton's method costs more than many steps by the gradient
_STEPS, _TOLERANCE = 100, 1e-5  # of Newton's method; the largest part of the mean gradient at its end


@dataclass(frozen=True)
class Params:
    """`knots` quantile knots a number, fewer where the encoded columns would be more than `WIDE`: curves of hundreds of
    numbers fit noise; `c` is the inverse strength of the ridge penalty."""

    knots: int = 17
    c: float = 0.5


def fit(train: Rows, validation: Rows, specs: tuple[FeatureSpec, ...], params: Params, seed: int) -> LogisticModel:
    """Fit on training rows alone; deterministic, so neither validation rows nor the seed are used."""
    matrix, churned = train
    basis = PiecewiseEncoding.fit(matrix, specs, _fewer_knots(specs, params.knots))
    weights, intercept = _ridge(basis.transform(matrix), churned.astype(np.float64), params.c)
    return LogisticModel(basis, weights, intercept)


def _fewer_knots(specs: Sequence[FeatureSpec], knots: int) -> int:
    """As many knots as let a number's ramps and its missing values fit into `WIDE` columns; at least the two ends."""
    numbers = sum(not spec.choices for spec in specs)
    codes = sum(len(spec.choices) + 1 for spec in specs if spec.choices)
    return min(knots, max(2, (WIDE - codes) // numbers)) if numbers else knots


def _ridge(columns: Floats, churned: Labels, c: float) -> tuple[Floats, float]:
    """Weights and intercept with the least `c * log-loss + weights @ weights / 2`, as of scikit-learn's
    LogisticRegression, which fits many columns; its own Newton's method takes several times as long as this one."""
    if columns.shape[1] > WIDE:
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(C=c, tol=_TOLERANCE, max_iter=1000).fit(columns, churned)
        return np.asarray(fitted.coef_[0]), float(fitted.intercept_[0])
    design = np.column_stack([columns, np.ones(len(columns))])
    penalty = np.append(np.full(columns.shape[1], 1.0 / c), 0.0)
    weights = np.zeros(design.shape[1])

    def loss(at: Floats) -> float:
        margin = design @ at
        return float(np.sum(np.logaddexp(0.0, margin) - churned * margin) + penalty @ at**2 / 2.0)

    reached = loss(weights)
    for _ in range(_STEPS):
        probability = sigmoid(design @ weights)
        gradient = design.T @ (probability - churned) + penalty * weights
        if np.abs(gradient).max() <= _TOLERANCE * len(columns):
            break
        # The gradient is exact; the curvature decides how many steps are taken, not where they end.
        half = (design * np.sqrt(probability * (1.0 - probability))[:, None]).astype(np.float32)
        step = np.linalg.solve((half.T @ half).astype(np.float64) + np.diag(penalty), gradient)
        while (there := loss(weights - step)) > reached and np.abs(step).max() > _TOLERANCE:
            step /= 2.0
        weights, reached = weights - step, there
    return weights[:-1], float(weights[-1])
