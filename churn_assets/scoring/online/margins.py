"""A model for one row of Python floats: no array where the arrays would cost more than the model."""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np

from churn_assets.scoring.models.base import BlendModel, BoostedModel, LogisticModel, Model
from churn_assets.scoring.models.piecewise import Group

Margin = Callable[[list[float]], float]
_Line = tuple[list[float], list[float], list[float], list[float], float]  # knots; x, y, slope between them; missing


def margin_of_one(model: Model) -> Margin:
    """The model's log-odds of one row of features, each of them representable in 32 bits.

    Agrees with `model.margin` up to the order in which the same terms are added.
    """
    match model:
        case LogisticModel():
            return _logistic(model)
        case BoostedModel() if (masks := model.leaf_masks) is not None:
            return masks.margin_of_one
        case BlendModel(members=members, weights=weights):
            parts = list(zip(map(margin_of_one, members), weights, strict=True))
            return lambda row: sum(weight * part(row) for part, weight in parts)
    return lambda row: float(model.margin(np.frombuffer(array("f", row), dtype=np.float32).reshape(1, -1))[0])


def _logistic(model: LogisticModel) -> Margin:
    groups, slices = model.basis.groups, model.basis.slices
    heights = [g.heights(model.weights[where, None])[:, 0].tolist() for g, where in zip(groups, slices, strict=True)]
    lines = [(j, *_line(g, heights[j])) for j, g in enumerate(groups) if not g.is_category]
    choices = [(j, heights[j]) for j, g in enumerate(groups) if g.is_category]
    intercept = model.intercept

    def margin(row: list[float]) -> float:
        total = intercept
        for j, knots, x, y, slope, missing in lines:
            value = row[j]
            if value == value:
                i = bisect_right(knots, value)
                total += y[i] + slope[i] * (value - x[i])
            else:
                total += missing
        for j, own in choices:
            value = row[j]
            total += own[int(value)] if value == value else own[-1]
        return total

    return margin


def _line(group: Group, heights: Sequence[float]) -> _Line:
    """A curve as its pieces: piece i lies below knot i, the first and the last are flat."""
    knots, own = list(group.knots), list(heights[:-1])
    if not knots:
        return [], [0.0], own, [0.0], heights[-1]
    pairs = itertools.pairwise(zip(knots, own, strict=True))
    slopes = [(above - below) / (right - left) for (left, below), (right, above) in pairs]
    return knots, [knots[0], *knots], [own[0], *own], [0.0, *slopes, 0.0], heights[-1]
