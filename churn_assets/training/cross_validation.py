"""Stratified, grouped cross-validation: how much a metric depends on which customers were drawn.

Test rows of the random split are never read. A fold's statistics, model and early stopping come from the other folds
only. The standard deviation over folds measures the spread; it is not a standard error, because folds share training
rows (Bengio & Grandvalet, "No unbiased estimator of the variance of k-fold cross-validation", JMLR 2004).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from churn_assets.contract.model import Contract
from churn_assets.errors import TrainingError
from churn_assets.evaluation.metrics import FEWEST, Floats, Labels, shortage
from churn_assets.features.compile import FeatureSpec, Matrix, compile_features
from churn_assets.features.encode import encode_table
from churn_assets.training.candidate import Parameters, Recipe, figures, recipe_of
from churn_assets.training.feature_table import as_of_of, at_rows, take_rows
from churn_assets.training.split import Ids, Index, read_splits

if TYPE_CHECKING:
    import pyarrow as pa

FOLDS = 5
STOP_EVERY = 8  # of the customers that are trained on, one in so many is used for early stopping instead
METRICS = ("pr_auc", "roc_auc", "log_loss", "ece")


@dataclass(frozen=True)
class Fold:
    """Row numbers: trained on, used for early stopping, and scored."""

    learn: Index
    stop: Index
    held_out: Index


class FoldSummary(msgspec.Struct, frozen=True):
    """Mean and deviation (n - 1) over folds of each of METRICS, for one model."""

    model: str
    pr_auc_mean: float
    pr_auc_deviation: float
    roc_auc_mean: float
    roc_auc_deviation: float
    log_loss_mean: float
    log_loss_deviation: float
    ece_mean: float
    ece_deviation: float


class CrossValidation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Metrics over folds of each model: `folds[model][metric]` has a value a fold, `summary` a row a model.

    Its JSON form is the asset `cross_validation`; `chosen` names the model that was chosen, and `missing` says why
    there is nothing else. It is equal for equal inputs, so it holds no times.
    """

    rows: int = 0
    summary: list[FoldSummary] = []
    folds: dict[str, dict[str, list[float]]] = {}
    chosen: str = ""
    seed: int | None = None
    missing: str = ""

    def difference(self, first: str, second: str) -> tuple[float, float]:
        """Mean and deviation over folds of PR-AUC of `first` less that of `second`, on the same folds."""
        gaps = np.array(self.folds[first]["pr_auc"]) - np.array(self.folds[second]["pr_auc"])
        return float(gaps.mean()), float(gaps.std(ddof=1))


def cross_validate(
    contract: Contract,
    customers: pa.Table,
    splits: pa.Table,
    params: Mapping[str, Parameters],
    blend: Sequence[str] = (),
    folds: int = FOLDS,
    seed: int = 42,
) -> CrossValidation:
    """Cross-validate the recipes named in `params`, each with its parameters, and the mean of those in `blend`, the
    parts of the chosen model.

    Raises TrainingError for an unknown recipe or parameter, and for too few customers of a class in a fold.
    """
    split = read_splits(splits)["random"]
    rows = np.sort(np.concatenate([split.train, split.validation]))
    churned = customers["churned"].to_numpy()
    if few := shortage(float(churned[rows].sum()) // folds, len(rows) // folds):
        raise TrainingError(f"{few} in each of {folds} folds, expected at least {FEWEST}; use fewer folds or more rows")
    ids = np.asarray(customers[contract.key.name].to_pylist(), dtype=object).astype(str)
    columns, as_of = encode_table(contract, customers), as_of_of(customers)
    recipes = {name: recipe_of(name, given) for name, given in params.items()}
    metrics: dict[str, list[dict[str, float]]] = {}
    for fold in make_folds(churned, ids, rows, folds, seed):
        program = compile_features(contract).fit(take_rows(columns, fold.learn), at_rows(as_of, fold.learn))
        matrix = program(columns, as_of)
        margins = {name: fit_fold(*r, matrix, churned, program.specs, fold, seed) for name, r in recipes.items()}
        if len(blend) > 1:
            margins[" + ".join(blend)] = np.mean([margins[name] for name in blend], axis=0)
        for name, margin in margins.items():
            metrics.setdefault(name, []).append(figures(churned[fold.held_out], margin))
    by_model = {name: {m: [row[m] for row in each] for m in METRICS} for name, each in metrics.items()}
    summary = [_summarise(name, values) for name, values in by_model.items()]
    return CrossValidation(len(rows), summary, by_model, " + ".join(blend), seed)


def make_folds(churned: Labels, groups: Ids, rows: Index, folds: int = FOLDS, seed: int = 42) -> list[Fold]:
    """Folds of `rows`, stratified by label, with all rows of one group (customer) in one place.

    Groups of each label are dealt out in turn after a shuffle, so that folds differ by one group at most.
    Raises TrainingError if a class has fewer groups than there are folds.
    """
    _, first, member = np.unique(groups[rows], return_index=True, return_inverse=True)
    label = np.asarray(churned)[rows][first]
    rng = np.random.default_rng(seed)
    fold_of, stops = np.empty(len(first), dtype=np.int64), np.zeros(len(first), dtype=bool)
    for value in (0, 1):
        shuffled = rng.permutation(np.flatnonzero(label == value))
        if folds < 2 or len(shuffled) < 2 * folds:
            kind = "churned" if value else "kept"
            raise TrainingError(
                f"{len(shuffled)} {kind} customers for {folds} folds, expected at least 2 a fold and 2 folds; "
                "use fewer folds or a table with more rows"
            )
        fold_of[shuffled] = np.arange(len(shuffled)) % folds
        # A share of every fold is used for early stopping when the fold is not held out.
        turn = np.arange(len(shuffled)) // folds
        stops[shuffled] = turn % STOP_EVERY == 0
    of_row, stops_row = fold_of[member], stops[member]
    return [
        Fold(rows[(of_row != k) & ~stops_row], rows[(of_row != k) & stops_row], rows[of_row == k]) for k in range(folds)
    ]


def fit_fold(
    recipe: Recipe, params: Any, matrix: Matrix, churned: Labels, specs: tuple[FeatureSpec, ...], fold: Fold, seed: int
) -> Floats:
    """Log-odds of the held-out rows, by a model that was not trained on them."""
    learn, stop = ((matrix[part], churned[part]) for part in (fold.learn, fold.stop))
    return recipe.fit(learn, stop, specs, params, seed).margin(matrix[fold.held_out])


def _summarise(model: str, folds: Mapping[str, Sequence[float]]) -> FoldSummary:
    means = {f"{metric}_mean": float(np.mean(values)) for metric, values in folds.items()}
    deviations = {f"{metric}_deviation": float(np.std(values, ddof=1)) for metric, values in folds.items()}
    return FoldSummary(model, **means, **deviations)
