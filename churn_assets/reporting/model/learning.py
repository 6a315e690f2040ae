"""Would more customers help, and does the model know its training customers better than others: the learning curve."""

from __future__ import annotations

import numpy as np

from churn_assets.evaluation.bootstrap import interval, statistics_under
from churn_assets.evaluation.metrics import Floats, Ranking, shortage
from churn_assets.reporting.model.facts import Estimate, Learning, LearningPoint
from churn_assets.reporting.model.measure import Scored
from churn_assets.training.candidate import Candidate, recipe_of
from churn_assets.training.feature_table import TrainingData
from churn_assets.training.split import Index

SHARES = (0.1, 0.25, 0.5)
LARGEST_FIT = 20_000  # rows: of a large table the smaller shares show the curve, and cost seconds


def learning_curve(
    chosen: Candidate, candidates: dict[str, Candidate], data: TrainingData, test: Scored, seed: int
) -> Learning | None:
    """PR-AUC on training and test rows by the number of training rows: the recipe of the `chosen` model fitted again on
    `SHARES` of the random split's training rows, each part of the next and stopped early on validation rows, and the
    model itself, which was fitted on the rows of both.

    A blend is fitted from its members among `candidates`, by name. `test` are the test rows with calibrated scores;
    None where too few of a class are tested.
    """
    if shortage(float(test.churned.sum()), len(test.churned)):
        return None
    view = data.views["random"]
    train, model = view.split.train, chosen.fitted["random"].model
    points, scores = [], []
    for rows in _samples(data, train, seed):
        on_train, on_test = _fitted(chosen, candidates, data, rows, seed)
        points.append(_point(data, rows, on_train, on_test, test))
        scores.append(on_test)
    complete = model.margin(view.matrix[view.split.test])
    learn = view.split.learn
    points.append(_point(data, learn, model.margin(view.matrix[learn]), complete, test))
    return Learning(points, _gain(test, scores[-1], complete) if scores else None)


def _samples(data: TrainingData, train: Index, seed: int) -> list[Index]:
    """Nested samples of the training rows, each with the churn rate of all; none that is too small or too large."""
    generator, label = np.random.default_rng(seed), data.churned[train]
    place = np.empty(len(train))
    for value in (0, 1):  # position within the class: a share of the rows has that share of each class
        rows = np.flatnonzero(label == value)
        place[generator.permutation(rows)] = (np.arange(len(rows)) + 0.5) / max(1, len(rows))
    samples = [train[place < share] for share in SHARES]
    return [rows for rows in samples if len(rows) <= LARGEST_FIT and _enough(data, rows)]


def _enough(data: TrainingData, rows: Index) -> bool:
    churners = int(data.churned[rows].sum())
    return not shortage(churners, len(rows))


def _fitted(
    chosen: Candidate, candidates: dict[str, Candidate], data: TrainingData, rows: Index, seed: int
) -> tuple[Floats, Floats]:
    """Log-odds of the training rows `rows` and of the test rows, by the recipe fitted on `rows` alone."""
    view = data.views["random"]
    learn, stop = ((view.matrix[part], data.churned[part]) for part in (rows, view.split.validation))
    margins = []
    for name in chosen.name.split(" + "):
        recipe, params = recipe_of(name, candidates[name].params)
        model = recipe.fit(learn, stop, view.program.specs, params, seed)
        margins.append([model.margin(view.matrix[part]) for part in (rows, view.split.test)])
    on_train, on_test = (np.mean(part, axis=0) for part in zip(*margins, strict=True))
    return on_train, on_test


def _point(data: TrainingData, rows: Index, on_train: Floats, on_test: Floats, test: Scored) -> LearningPoint:
    ranking = Ranking(test.churned, on_test)
    (draws,) = statistics_under(test.weights, ranking.pr_auc)
    return LearningPoint(
        rows=len(rows),
        churners=int(data.churned[rows].sum()),
        train=Ranking(data.churned[rows], on_train).pr_auc(),
        test=Estimate(ranking.pr_auc(), *interval(draws)),
    )


def _gain(test: Scored, half: Floats, complete: Floats) -> Estimate:
    """Test PR-AUC of the model less that of the largest sample, with the interval of the paired bootstrap."""
    first, second = Ranking(test.churned, complete), Ranking(test.churned, half)
    (draws,) = statistics_under(test.weights, lambda weight: first.pr_auc(weight) - second.pr_auc(weight))
    return Estimate(first.pr_auc() - second.pr_auc(), *interval(draws))
