"""One recipe refitted without columns, on single columns and by age, with bootstrap intervals on test rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Contract, Kind
from churn_assets.evaluation.bootstrap import interval, statistics_under, stratified_samples
from churn_assets.evaluation.metrics import Floats, Labels, Ranking
from churn_assets.features.encode import Columns
from churn_assets.training.candidate import Parameters, recipe_of
from churn_assets.training.feature_table import TrainingData, at_rows

Index = npt.NDArray[np.int64]

DRAWS = 400
BAND_DAYS = (0.0, 30.0, 60.0, 90.0, 120.0, 180.0, 365.0)
BANDS = 5  # of equal size, for a cohort that is no date
FOLDS = 5  # for the bands: one test part has too few churners of one age
STOP_EVERY = 8  # one in so many training rows of a fold is used for early stopping
FEWEST = 10  # churned or kept customers of a band; with fewer it gets no figure

# A ladder needs many fits and no precision in the third decimal: fewer rounds at a higher rate, one booster.
_QUICK: Parameters = {"rounds": 120, "patience": 20, "learning_rate": 0.15, "bag": 1, "threads": 1}
_ALONE: Parameters = {"rounds": 60, "patience": 15, "max_depth": 3}
QUICK: Mapping[str, Parameters] = {"boosted": _QUICK, "deep": _QUICK, "logistic": {}}
ALONE: Mapping[str, Parameters] = {"boosted": _ALONE, "deep": _ALONE, "logistic": {}}


class Figure(msgspec.Struct, frozen=True):
    """PR-AUC on test rows with its 95 % interval; `base_rate` is what a random list reaches."""

    pr_auc: float
    low: float
    high: float
    base_rate: float
    rows: int

    def __str__(self) -> str:
        return f"{self.pr_auc:.3f} ({self.low:.3f} to {self.high:.3f})"


class AgeBand(msgspec.Struct, frozen=True, omit_defaults=True, rename={"label": "words"}):
    """Customers of one age, scored out of fold; the figure of `Figure` is absent where there are too few to say."""

    label: str
    rows: int
    churners: int
    pr_auc: float | None = None
    low: float | None = None
    high: float | None = None
    base_rate: float | None = None

    @property
    def figure(self) -> Figure | None:
        """The figure, None where there are too few customers."""
        return None if self.pr_auc is None else msgspec.convert(msgspec.to_builtins(self), Figure)


class Ladder:
    """Fits the audited recipe on parts of one feature table; masks columns, computes nothing twice. `without` are
    features that the audited model does not read: they are in none of its figures but `complete` and `alone`."""

    def __init__(
        self, data: TrainingData, recipe: str, params: Parameters, seed: int, without: Collection[int] = ()
    ) -> None:
        self.data, self.name, self.seed, self.without = data, recipe, seed, frozenset(without)
        self.params = {**params, **QUICK[recipe]}
        self._margins = cache(self._fit)

    def test(self, split: str, left_out: Sequence[int] = ()) -> Figure:
        """The figure on test rows without the features at `left_out`."""
        return self._figure(split, self._kept(left_out), small=False)

    def complete(self, split: str) -> Figure:
        """The figure on test rows with every feature of the table."""
        return self._figure(split, tuple(range(len(self.data.views["random"].program.specs))), small=False)

    def alone(self, split: str, features: Sequence[int]) -> Figure:
        """The figure on test rows with nothing but these features, by a smaller model of the same recipe."""
        return self._figure(split, tuple(features), small=True)

    def out_of_fold(self, rows: Index) -> Floats:
        """Log-odds of `rows`, one a customer, by models not trained on them: random split's features, 5 folds."""
        view, label, kept = self.data.views["random"], self.data.churned[rows], list(self._kept(()))
        matrix = np.ascontiguousarray(view.matrix[rows][:, kept])
        specs = tuple(view.program.specs[index] for index in kept)
        fold = np.empty(len(label), dtype=np.int64)
        shuffled = np.random.default_rng(self.seed).permutation(len(label))
        by_label = shuffled[np.argsort(label[shuffled], kind="stable")]
        fold[by_label] = np.arange(len(label)) % FOLDS
        recipe, params = recipe_of(self.name, self.params)
        margin = np.empty(len(label))
        for part in range(FOLDS):
            others = shuffled[fold[shuffled] != part]
            stop = np.arange(len(others)) % STOP_EVERY == 0
            learn, watch, scored = others[~stop], others[stop], fold == part
            model = recipe.fit((matrix[learn], label[learn]), (matrix[watch], label[watch]), specs, params, self.seed)
            margin[scored] = model.margin(matrix[scored])
        return margin

    def _fit(self, split: str, features: tuple[int, ...], small: bool) -> tuple[Floats, Floats]:
        """Log-odds of validation and of test rows; all equal if no feature is left."""
        view = self.data.views[split]
        train, validation, test = view.split.train, view.split.validation, view.split.test
        if not features:
            return np.zeros(len(validation)), np.zeros(len(test))
        matrix = np.ascontiguousarray(view.matrix[:, list(features)])
        specs = tuple(view.program.specs[index] for index in features)
        recipe, params = recipe_of(self.name, {**self.params, **(ALONE[self.name] if small else {})})
        label = self.data.churned
        model = recipe.fit(
            (matrix[train], label[train]), (matrix[validation], label[validation]), specs, params, self.seed
        )
        return model.margin(matrix[validation]), model.margin(matrix[test])

    def _kept(self, left_out: Sequence[int]) -> tuple[int, ...]:
        width = len(self.data.views["random"].program.specs)
        return tuple(index for index in range(width) if index not in left_out and index not in self.without)

    def _figure(self, split: str, features: tuple[int, ...], small: bool) -> Figure:
        label = self.data.churned[self.data.views[split].split.test]
        return figure(label, self._margins(split, features, small)[1], self.seed)


def figure(label: Labels, margin: Floats, seed: int) -> Figure:
    """PR-AUC with the percentile bootstrap over rows, stratified by label."""
    ranking = Ranking(label, margin)
    (draws,) = statistics_under(stratified_samples(label, DRAWS, seed), ranking.pr_auc)
    return Figure(ranking.pr_auc(), *interval(draws), float(label.mean()), len(label))


def age_bands(
    contract: Contract, columns: Columns, as_of: float | Floats, ladder: Ladder, rows: Index
) -> tuple[AgeBand, ...]:
    """The recipe with all columns, out of fold on `rows` (one a customer), by age as of the contract's cohort."""
    cohort = contract.time.cohort
    if cohort is None:
        return ()
    label, margin = ladder.data.churned[rows], ladder.out_of_fold(rows)
    values = np.asarray(columns[cohort], dtype=np.float64)[rows]
    column = contract.column(cohort)
    if column.kind is Kind.DATE:
        age, edges, unit = at_rows(as_of, rows) - values, [*BAND_DAYS, np.inf], "days"
    else:
        known = values[~np.isnan(values)]
        edges = np.unique(np.quantile(known, np.arange(BANDS + 1) / BANDS)).tolist() if len(known) else []
        age, unit = values, column.unit or cohort
        edges = [*edges[:-1], np.inf]
    bands = []
    for low, high in pairwise(edges):
        inside = (age >= low) & (age < high)
        name = f"{low:g} to {high:g} {unit}" if np.isfinite(high) else f"{low:g} {unit} and more"
        bands.append(_band(name, label[inside], margin[inside], ladder.seed))
    return tuple(bands)


def _band(name: str, label: Labels, margin: Floats, seed: int) -> AgeBand:
    churners = int(label.sum())
    enough = min(churners, len(label) - churners) >= FEWEST
    figures = msgspec.structs.asdict(figure(label, margin, seed)) if enough else {}
    return AgeBand(name, churners=churners, **{"rows": len(label), **figures})
