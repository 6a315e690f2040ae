"""What each feature adds to a customer's log-odds: Shapley values, exact wherever that is affordable.

- Boosted trees: exact TreeSHAP by XGBoost's C library; the base value is the mean over the trees'
  paths as their covers (sums of training rows' Hessians) weigh them (Lundberg et al.,
  "From local explanations to global understanding with explainable AI for trees", Nature MI 2020).
- Logistic: the model is additive, so a feature's Shapley value is its curve at the customer minus the
  curve's mean over training rows; the base value is the mean log-odds of training rows.
- Blend: Shapley values are linear in the model, so they are the weighted sum of the members' values.
- Network: an estimate. Features are switched from a background customer's value to this customer's, one
  after the other, in random orders (Strumbelj & Kononenko, 2014) that keep the features of one topic
  together (Owen, 1977), each order also backwards. Orders and background customers are drawn once with a
  fixed seed, so equal customers get equal values, and the sum is exact: only its division is estimated.

Whatever the model, base value + contributions = log-odds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.scoring.models.base import BlendModel, BoostedModel, LogisticModel, Model, NetworkModel

Array = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
Topics = Sequence[Sequence[int]]

BACKGROUND_ROWS = 16  # of a network: each is walked from in one order and in its reverse
_SEED = 42
_CHUNK = 64  # customers explained at a time by a network


@dataclass(frozen=True)
class Contributions:
    """`values` (n, k) in log-odds, positive towards churn; `base` + their sum is the log-odds.

    `exact` is False if any of it comes from a network, where the division among features is estimated.
    """

    values: Array
    base: float
    exact: bool


def is_exact(model: Model) -> bool:
    """Whether the model's contributions are exact: without a network they are."""
    if isinstance(model, BlendModel):
        return all(is_exact(member) for member in model.members)
    return not isinstance(model, NetworkModel)


def reference(model: Model, matrix: Matrix, seed: int = _SEED) -> dict[str, Any]:
    """What `contributions` needs to know of training rows (n, k), as JSON: little, and for trees nothing."""
    match model:
        case LogisticModel():
            return {"means": model.heights(matrix).mean(axis=0).tolist()}
        case NetworkModel():
            chosen = np.sort(np.random.default_rng(seed).permutation(len(matrix))[:BACKGROUND_ROWS])
            return {"rows": [[None if np.isnan(x) else float(x) for x in row] for row in matrix[chosen]]}
        case BlendModel():
            return {"members": [reference(member, matrix, seed) for member in model.members]}
    return {}


def contributions(model: Model, matrix: Matrix, known: Mapping[str, Any], topics: Topics) -> Contributions:
    """Contributions of feature rows (n, k); `known` is `reference` of the training rows.

    `topics` are feature numbers that belong together, each in one topic. TypeError for a model kind that
    cannot be explained.
    """
    match model:
        case BoostedModel():
            return Contributions(*model.contributions(matrix), exact=True)
        case LogisticModel():
            means = np.asarray(known["means"], dtype=np.float64)
            return Contributions(model.heights(matrix) - means, model.intercept + float(means.sum()), exact=True)
        case BlendModel():
            pairs = zip(model.members, known["members"], strict=True)
            parts = [contributions(member, matrix, of_member, topics) for member, of_member in pairs]
            values = sum((w * part.values for w, part in zip(model.weights, parts, strict=True)), np.zeros(1))
            base = sum(w * part.base for w, part in zip(model.weights, parts, strict=True))
            return Contributions(np.asarray(values), base, all(part.exact for part in parts))
        case NetworkModel():
            rows = [[np.nan if x is None else x for x in row] for row in known["rows"]]
            return _sampled(model, matrix, np.array(rows, dtype=np.float32), topics)
    raise TypeError(f"a model of kind '{model.kind}' has no contributions; teach scoring/contributions.py")


def _sampled(model: NetworkModel, matrix: Matrix, background: Matrix, topics: Topics) -> Contributions:
    rng = np.random.default_rng(_SEED)
    orders = [_order(rng, topics) for _ in background]
    values = np.zeros(matrix.shape)
    for start in range(0, len(matrix), _CHUNK):
        part = slice(start, start + _CHUNK)
        for other, order in zip(background, orders, strict=True):
            for walk in (order, order[::-1]):
                values[part] += _walked(model, matrix[part], other, walk)
    values /= 2.0 * len(background)
    return Contributions(values, float(model.margin(background).mean()), exact=False)


def _order(rng: np.random.Generator, topics: Topics) -> npt.NDArray[np.intp]:
    """Topics in random order, and the features of each in random order."""
    return np.concatenate([rng.permutation(np.asarray(topics[i], dtype=np.intp)) for i in rng.permutation(len(topics))])


def _walked(model: NetworkModel, rows: Matrix, other: Matrix, order: npt.NDArray[np.intp]) -> Array:
    """How the log-odds (n, k) move as `other` becomes each row, feature after feature in this order."""
    count, width = rows.shape
    steps = np.repeat(other[None, None, :], count, axis=0).repeat(width + 1, axis=1)
    for position, feature in enumerate(order, start=1):
        steps[:, position:, feature] = rows[:, feature, None]
    margin = model.margin(np.ascontiguousarray(steps.reshape(-1, width))).reshape(count, width + 1)
    out = np.empty((count, width))
    out[:, order] = np.diff(margin, axis=1)
    return out
