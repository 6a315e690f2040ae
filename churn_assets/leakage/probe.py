"""A quick model for the audit: how much of the possible lift is lost without some columns.

Everything is measured on training and validation rows, each scored by trees that were not trained on it. Lifts are of
PR-AUC at one rate of churn, `RATE`, whatever the table's is: PR-AUC at 2 % and at 92 % churn cannot be compared, and a
limit could not hold for both. Rows are weighted for that, so that a lift depends on the ranking alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from churn_assets.evaluation.bootstrap import interval, statistics_under, stratified_samples
from churn_assets.evaluation.metrics import Floats, Labels, Ranking
from churn_assets.features.compile import FeatureSpec, Matrix
from churn_assets.scoring.models.base import Model
from churn_assets.training.candidate import Parameters, recipe_of
from churn_assets.training.feature_table import TrainingData

Index = npt.NDArray[np.int64]

RATE = 0.25  # share of churners that lifts are measured at
FOLDS = 4
ONE_SPLIT = 8_000  # from so many rows on, the validation rows are enough to measure on
STOP_EVERY = 6  # one in so many training rows of a fold stops the trees
DRAWS = 200
MOST_REFITS = 8  # columns; a column that matters less when shuffled than these is not refitted without
TREES: Parameters = {"rounds": 120, "patience": 20, "learning_rate": 0.15, "bag": 1, "threads": 1}


@dataclass(frozen=True)
class Loss:
    """Lift that is lost without some columns, and its lower 95 % bound; `share` is of the complete model's lift,
    `share_low` its bound; both are at most 1."""

    lift: float
    low: float
    share: float
    share_low: float


class Probe:
    """Boosted trees on parts of a feature table, refitted without columns; nothing is computed twice.

    `columns` are positions in the matrix by column of the table; `data` has the matrix.
    """

    def __init__(self, data: TrainingData, columns: Mapping[str, Sequence[int]], seed: int) -> None:
        view = data.views["random"]
        train, validation = view.split.train, view.split.validation
        self.matrix, self.specs, self.columns, self.seed = view.matrix, view.program.specs, columns, seed
        known = np.concatenate([train, validation])
        if len(known) > ONE_SPLIT:
            self.parts = [(train, validation, validation)]
        else:
            self.parts = _folds(known, data.churned[known], seed)
        self.rows = np.concatenate([scored for _, _, scored in self.parts])
        self._churned = data.churned
        self.label = data.churned[self.rows]
        self.weight = rate_weights(self.label)
        self._rankings: dict[tuple[int, ...], Ranking] = {}
        self._models: dict[tuple[int, ...], list[Model]] = {}

    def features(self, without: Sequence[str] = ()) -> tuple[int, ...]:
        """Positions of all features that read none of these columns."""
        out = {index for name in without for index in self.columns[name]}
        return tuple(index for index in range(len(self.specs)) if index not in out)

    def ranking(self, features: tuple[int, ...]) -> Ranking:
        """The measured rows as a model of these features ranks them."""
        if features not in self._rankings:
            specs = tuple(self.specs[index] for index in features)
            models, margin = self._fit(self.matrix[:, list(features)], specs)
            self._models[features], self._rankings[features] = models, Ranking(self.label, margin)
        return self._rankings[features]

    def lift(self, features: tuple[int, ...], sample: Floats | None = None) -> float:
        """The lift at `RATE`, of a bootstrap `sample` (row multiplicities) if it is given."""
        return lift_at_rate(self.ranking(features), self.weight, sample)

    def headline(self, features: tuple[int, ...]) -> float:
        """The PR-AUC lift at the table's own rate of churn."""
        base = float(self.label.mean())
        return (self.ranking(features).pr_auc() - base) / (1.0 - base)

    def loss(self, complete: tuple[int, ...], without: tuple[int, ...], least: float = 0.0) -> Loss:
        """What is lost from `complete` to `without`, by a paired bootstrap stratified by label; up to `least` lift the
        bounds are the figures themselves."""
        first, second = self.lift(complete), self.lift(without)
        point = first - second
        if point <= least:
            return Loss(point, point, *[max(0.0, point) / max(first, 1e-9)] * 2)
        draws, shares = statistics_under(
            stratified_samples(self.label, DRAWS, self.seed),
            lambda w: self.lift(complete, w) - self.lift(without, w),
            lambda w: 1.0 - self.lift(without, w) / max(self.lift(complete, w), 1e-9),
        )
        share = 1.0 - second / max(first, 1e-9)
        return Loss(point, interval(draws)[0], min(1.0, share), min(1.0, interval(shares)[0]))

    def by_shuffling(self, complete: tuple[int, ...], names: Sequence[str]) -> list[str]:
        """Columns, those first whose shuffled values cost the model of `complete` most lift."""
        if not complete:
            return list(names)
        self.ranking(complete)
        place = {feature: position for position, feature in enumerate(complete)}
        cost = {}
        for name in names:
            own = [place[index] for index in self.columns[name] if index in place]
            cost[name] = self._lift_shuffled(complete, own) if own else np.inf
        return sorted(names, key=lambda name: cost[name])

    def _lift_shuffled(self, complete: tuple[int, ...], own: list[int]) -> float:
        margin = []
        for number, (model, (_, _, scored)) in enumerate(zip(self._models[complete], self.parts, strict=True)):
            shuffled = self.matrix[scored][:, list(complete)]
            order = np.random.default_rng(self.seed + number).permutation(len(scored))
            shuffled[:, own] = shuffled[order][:, own]
            margin.append(model.margin(np.ascontiguousarray(shuffled)))
        return lift_at_rate(Ranking(self.label, np.concatenate(margin)), self.weight)

    def _fit(self, matrix: Matrix, specs: tuple[FeatureSpec, ...]) -> tuple[list[Model], Floats]:
        """A model of each part, and the log-odds of the measured rows; all equal without a feature."""
        if not specs:
            return [], np.zeros(len(self.rows))
        recipe, params = recipe_of("boosted", TREES)
        matrix, label = np.ascontiguousarray(matrix), self._churned
        models = [
            recipe.fit((matrix[learn], label[learn]), (matrix[stop], label[stop]), specs, params, self.seed)
            for learn, stop, _ in self.parts
        ]
        scored = [model.margin(matrix[rows]) for model, (_, _, rows) in zip(models, self.parts, strict=True)]
        return models, np.concatenate(scored)


def rate_weights(label: Labels) -> Floats:
    """Weights (n,) under which `RATE` of the rows are churners; all are 1 on average."""
    share = float(np.mean(label))
    return np.where(np.asarray(label) == 1, RATE / share, (1.0 - RATE) / (1.0 - share))


def lift_at_rate(ranking: Ranking, weight: Floats, sample: Floats | None = None) -> float:
    """(PR-AUC - `RATE`) / (1 - `RATE`) under `rate_weights`: 0 is a random list, 1 a perfect one."""
    return (ranking.pr_auc(weight if sample is None else weight * sample) - RATE) / (1.0 - RATE)


def _folds(rows: Index, label: Labels, seed: int) -> list[tuple[Index, Index, Index]]:
    """(learn, stop, measured) of each fold, stratified by label."""
    order = np.random.default_rng(seed).permutation(len(rows))
    order = order[np.argsort(label[order], kind="stable")]
    fold = np.empty(len(rows), dtype=np.int64)
    fold[order] = np.arange(len(rows)) % FOLDS
    parts = []
    for number in range(FOLDS):
        others = order[fold[order] != number]
        stop = np.arange(len(others)) % STOP_EVERY == 0
        parts.append((rows[others[~stop]], rows[others[stop]], rows[fold == number]))
    return parts
