"""How well each column alone predicts the label, and whether anything but the label explains it (an *echo*).

Everything is measured on training and validation rows. docs/audit.md describes each measure with its sources, and
what the echo test cannot detect. An echo is independent of all other columns given the label; predictors of the label
predict it in one exact proportion, that of a copy of the label (`by_label` is 1, for an independent cause of churn 0).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from churn_assets.contract.expressions import columns_read
from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.evaluation.bootstrap import interval, statistics_under, stratified_samples
from churn_assets.evaluation.metrics import Ranking, roc_auc
from churn_assets.features.compile import FeatureSpec, Matrix
from churn_assets.features.encode import Columns
from churn_assets.leakage.probe import DRAWS, lift_at_rate, rate_weights

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
Index = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

FOLDS = 5
BINS = 20
SMOOTHING = 20.0  # rows of the base rate added to each bin
FEWEST_IN_RUN = 10  # a shorter run of churners without a kept customer may be chance
RUN_ODDS = 120.0  # a run is this many times the odds of churn: 3 kept customers more would still be 40 times the odds
LIFT_WITH_BOUND = 0.5  # the bound of a smaller lift is not computed
PREDICTIVE = 0.55  # ROC AUC from which on a column counts as one that predicts the label
MOST_ROWS = 50_000  # more rows do not make the echo test more precise
REPEATS = 0.9  # rank correlation within both labels from which on two columns count as the same
TIED = 0.1  # correlation within a label with the prediction from other columns; below it a column is independent
CLEAR = 3.0  # standard errors
PRECISE = 0.25  # with a larger standard error `by_label` is not used
FEWEST = 100  # churned or kept customers; with fewer the echo test has no power
FEWEST_MISSING = 0.005  # a smaller share of missing values is not tested
RIDGE = 30.0  # penalty, against columns of variance 1: holds back noise of a few hundred rows


def features_of(contract: Contract, specs: Sequence[FeatureSpec], own: bool = False) -> dict[str, tuple[int, ...]]:
    """For each column the positions in the matrix of itself and of every feature that reads it; with `own`, of those
    that read nothing else."""
    reads = columns_read(contract)
    columns_of = [reads.get(spec.name, frozenset({spec.name})) for spec in specs]
    return {
        name: tuple(i for i, read in enumerate(columns_of) if (read == {name} if own else name in read))
        for name in (column.name for column in contract.scoring_columns)
    }


def companions(contract: Contract, name: str) -> tuple[str, ...]:
    """Columns that some feature reads together with `name`, clocks (dates and the cohort) aside.

    They describe the same thing: without the count of e-mails sent, the share of opened e-mails still shows who
    was sent any.
    """
    clocks = {column.name for column in contract.scoring_columns if column.kind is Kind.DATE} | {contract.time.cohort}
    names = {other for read in columns_read(contract).values() if name in read for other in read} - clocks - {name}
    return tuple(column.name for column in contract.scoring_columns if column.name in names)


@dataclass(frozen=True)
class EchoTest:
    """Whether a quantity depends on the label alone.

    `roc_auc` of the quantity alone, at least 0.5. `tied`: its correlation with its out-of-fold prediction from all
    other columns, among the churned or among the kept, whichever is larger; up to `tied_by_chance` it may be
    noise. `by_label`: how far predictors of the label predict it, as a share of how far they would predict a copy of
    the label; `by_label_error` is its standard error, infinite if other columns do not predict the label.
    """

    roc_auc: float
    tied: float
    tied_by_chance: float
    by_label: float
    by_label_error: float

    def is_echo(self, roc_auc_limit: float) -> bool:
        """Strong enough, explained by the label, and by nothing else."""
        return (
            self.roc_auc >= roc_auc_limit
            and self.tied <= max(TIED, self.tied_by_chance)
            and self.by_label_error <= PRECISE
            and abs(self.by_label - 1.0) <= max(0.1, CLEAR * self.by_label_error)
            and self.by_label >= CLEAR * self.by_label_error
        )


@dataclass(frozen=True)
class ColumnSignal:
    """How well one column alone predicts the label.

    `pr_auc_lift` is 0 (a random list) to 1 (perfect) at the rate of `leakage.probe`, `pr_auc_lift_low` its lower 95 %
    bound. `isolated_share`: churners in runs of values without a kept customer, `isolated_by` describes the longest.
    `values` and `gaps` are the echo tests of the values and of
    their being missing (None: nothing missing). `repeats` are columns with the same information; they are left out
    of the other columns.
    """

    pr_auc_lift: float
    pr_auc_lift_low: float
    isolated_share: float
    isolated_by: str
    values: EchoTest
    gaps: EchoTest | None
    repeats: tuple[str, ...]


def measure_columns(
    contract: Contract,
    columns: Columns,
    matrix: Matrix,
    specs: Sequence[FeatureSpec],
    churned: Labels,
    rows: Index,
    seed: int = 42,
) -> dict[str, ColumnSignal]:
    """The signal of every column of the model, measured on `rows` (training and validation rows)."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(rows)[:MOST_ROWS]
    label, fold = churned[rows], np.arange(len(rows)) % FOLDS
    ridge = RidgeBaseline(matrix[rows], specs, label, fold)
    cells = {}  # numbers with NaN for missing; categories as their codes
    for column in (c for c in contract.scoring_columns if c.kind is not Kind.TEXT):
        values = np.asarray(columns[column.name][rows], dtype=np.float64)
        cells[column.name] = np.where(values < 0, np.nan, values) if column.choices else values
    reads, repeats = features_of(contract, specs), _repeats(cells, label)
    return {
        name: _signal(contract.column(name), values, label, fold, ridge, reads, repeats[name])
        for name, values in cells.items()
    }


@dataclass(frozen=True)
class Alone:
    """What one column reaches alone, as the audit measures it (`ColumnSignal`); `roc_auc` is at least 0.5."""

    roc_auc: float
    pr_auc_lift: float
    pr_auc_lift_low: float
    isolated_share: float
    isolated_by: str


def measure_alone(column: Column, values: Floats, churned: Labels, seed: int = 42) -> Alone:
    """One column (n,) of numbers, days or codes of `choices`, NaN for missing, without the rest of its table."""
    rows = np.random.default_rng(seed).permutation(len(values))[:MOST_ROWS]
    values, label = values[rows], churned[rows]
    score = _cross_fitted(_bins(values, bool(column.choices)), label, np.arange(len(rows)) % FOLDS)
    return Alone(
        _strength(column, values, score, label), *_lift(label, score), *isolated_churners(values, label, column)
    )


@dataclass(frozen=True)
class Pair:
    """Two columns whose `quantity`, a clause such as the ratio, reaches `lift` (`low` its lower 95 % bound)."""

    first: str
    second: str
    quantity: str
    lift: float
    low: float


def best_pair(columns: Columns, names: Sequence[str], churned: Labels, rows: Index, seed: int = 42) -> Pair | None:
    """The pair of these numbers and dates of which one quantity predicts the label best; None of fewer than two.

    Tried are product, ratio, and how far the second column is from the line on which it lies for churned or for kept
    customers: an end that is written as a start and a duration is there, and a total that has stopped growing.
    """
    rows = np.random.default_rng(seed).permutation(rows)[:MOST_ROWS]
    label, fold = churned[rows], np.arange(len(rows)) % FOLDS
    cells = {name: np.asarray(columns[name][rows], dtype=np.float64) for name in names}
    best: tuple[float, str, str, str, Floats] | None = None
    for first, second in combinations(names, 2):
        for quantity, values in _quantities(cells[first], cells[second], label).items():
            score = _cross_fitted(_bins(values, False), label, fold)
            lift = lift_at_rate(Ranking(label, score), rate_weights(label))
            if best is None or lift > best[0]:
                best = (lift, first, second, quantity, score)
    return Pair(*best[1:4], *_lift(label, best[4])) if best else None


def _quantities(first: Floats, second: Floats, label: Labels) -> dict[str, Floats]:
    with np.errstate(all="ignore"):
        quantities = {"the product": first * second, "the ratio": second / first}
    for c, whom in ((0, "kept"), (1, "churned")):
        own = (label == c) & np.isfinite(first) & np.isfinite(second)
        x, y = first[own], second[own]
        if len(x) > 2 and np.ptp(x) > 0:
            slope = float(np.cov(x, y)[0, 1] / np.var(x, ddof=1))
            quantities[f"the distance from the line of {whom} customers"] = (
                second - y.mean() - slope * (first - x.mean())
            )
    return {name: np.where(np.isfinite(values), values, np.nan) for name, values in quantities.items()}


def others_are_tied(signals: Mapping[str, ColumnSignal], name: str) -> bool:
    """Whether most other columns that predict the label, at least two, are tied to their fellows within the labels.

    Otherwise nothing follows from a column that is not: where all columns are independent given the label, each would
    be an echo.
    """
    tests = [s.values for other, s in signals.items() if other != name and other not in signals[name].repeats]
    tied = [test.tied > max(TIED, test.tied_by_chance) for test in tests if test.roc_auc >= PREDICTIVE]
    return sum(tied) >= max(2, len(tied) / 2)


def least_run(label: Labels) -> int:
    """Churners that a run without a kept customer must have to say anything at this rate of churn."""
    share = min(float(np.mean(label)), 1.0 - 1e-9)
    return round(max(FEWEST_IN_RUN, RUN_ODDS * share / (1.0 - share)))


def isolated_churners(values: Floats, label: Labels, column: Column) -> tuple[float, str]:
    """Share of the churners in runs of at least `least_run` churners without a kept customer, and a description of the
    longest run. Values are sorted, equal ones are one step; a category's choices and missing values are runs of
    their own."""
    least = least_run(label)
    runs = [run for run in _runs(values, label, column) if run[0] >= least]
    _, longest = max(runs, key=lambda run: run[0], default=(0, ""))
    return sum(churners for churners, _ in runs) / max(1, int(label.sum())), longest


def _runs(values: Floats, label: Labels, column: Column) -> Iterator[tuple[int, str]]:
    known = ~np.isnan(values)
    missing = label[~known]
    if len(missing) and missing.all():
        yield len(missing), f"{column.name} missing"
    distinct, place = np.unique(values[known], return_inverse=True)
    churned: Floats = np.bincount(place, label[known], len(distinct)).astype(np.float64)
    pure = churned == np.bincount(place, minlength=len(distinct))
    if column.choices:
        for code in np.flatnonzero(pure):
            yield int(churned[code]), f"{column.name} = {column.choices[int(distinct[code])]}"
    else:
        yield from _ranges(distinct, churned, pure, column)


def _ranges(distinct: Floats, churned: Floats, pure: Flags, column: Column) -> Iterator[tuple[int, str]]:
    is_date = column.kind is Kind.DATE
    edges = np.flatnonzero(np.diff(np.concatenate([[0], pure.astype(np.int8), [0]])))
    for start, end in zip(edges[::2], edges[1::2] - 1, strict=True):
        low, high = (str(np.datetime64(int(v), "D")) if is_date else f"{v:g}" for v in distinct[[start, end]])
        text = f"{column.name} = {low}" if low == high else f"{column.name} from {low} to {high}"
        yield int(churned[start : end + 1].sum()), text


class RidgeBaseline:
    """Out-of-fold ridge predictions of a column from the model's other features.

    The normal equations are summed once, by fold and by label, and inverted once for each fit: to leave features out
    is a small system of their own columns, so five hundred columns cost little more than one. Numbers enter as their
    ranks (0 to 1) to the first, second and third power, categories as one indicator a choice, missing values as an
    indicator; all scaled to variance 1.
    """

    def __init__(self, matrix: Matrix, specs: Sequence[FeatureSpec], churned: Labels, fold: Index) -> None:
        parts = [_expanded(matrix[:, index].astype(np.float64), spec) for index, spec in enumerate(specs)]
        self.owner = np.repeat(np.arange(-1, len(specs)), [1, *(part.shape[1] for part in parts)])
        wide = np.column_stack([np.ones(len(matrix)), *parts])
        self.rows = [[np.flatnonzero((churned == c) & (fold == f)) for f in range(fold.max() + 1)] for c in (0, 1)]
        self.designs = [[wide[r] for r in by_fold] for by_fold in self.rows]
        self.grams = [[design.T @ design for design in by_fold] for by_fold in self.designs]
        self._inverses: dict[tuple[int, ...], list[Floats]] = {}

    def without(self, features: Sequence[int]) -> Flags:
        """Columns of the design (k,) that stay when these features of the matrix are left out."""
        return ~np.isin(self.owner, features)

    def predict(self, target: Floats, keep: Flags, labels: Sequence[int] = (0, 1)) -> Floats:
        """Predictions of `target`, shape (rows,), each by a fit on the other folds of customers with one of
        `labels`; NaN for the rest. The intercept is not shrunk."""
        predicted = np.full(len(target), np.nan)
        folds = range(len(self.rows[0]))
        products = [np.sum([self.designs[c][f].T @ target[self.rows[c][f]] for c in labels], axis=0) for f in folds]
        for held_out, inverse in enumerate(self._inverses_of(tuple(labels))):
            product = np.sum([products[f] for f in folds if f != held_out], axis=0)
            weights = _solve_without(inverse, product, ~keep)
            for c in labels:
                predicted[self.rows[c][held_out]] = self.designs[c][held_out] @ weights
        return predicted

    def _inverses_of(self, labels: tuple[int, ...]) -> list[Floats]:
        """The inverse (k, k) of the penalised normal equations without each fold in turn."""
        if labels not in self._inverses:
            penalty = RIDGE * np.eye(len(self.owner))
            penalty[0, 0] = 1e-9
            grams = [np.sum([self.grams[c][f] for c in labels], axis=0) for f in range(len(self.rows[0]))]
            every = np.sum(grams, axis=0) + penalty
            self._inverses[labels] = [np.linalg.inv(every - gram) for gram in grams]
        return self._inverses[labels]


def _solve_without(inverse: Floats, product: Floats, out: Flags) -> Floats:
    """Coefficients (k,) of the system whose whole inverse is `inverse` with the columns `out` struck, 0 for those.

    Block elimination: the inverse of what stays is A_kk - A_ko A_oo^-1 A_ok (Golub and Van Loan, Matrix Computations,
    section 2.1.4).
    """
    weights = inverse @ np.where(out, 0.0, product)
    if out.any():
        weights -= inverse[:, out] @ np.linalg.solve(inverse[np.ix_(out, out)], weights[out])
        weights[out] = 0.0
    return np.asarray(weights, dtype=np.float64)


def ranked(values: Floats) -> Floats:
    """Ranks of `values` from -0.5 to 0.5, ties at their middle; 0 for missing ones."""
    known = ~np.isnan(values)
    ranks = np.zeros(len(values))
    if known.any():
        _, place, count = np.unique(values[known], return_inverse=True, return_counts=True)
        ranks[known] = ((np.cumsum(count) - count / 2) / count.sum())[place] - 0.5
    return ranks


def _expanded(values: Floats, spec: FeatureSpec) -> Floats:
    known = ~np.isnan(values)
    if spec.choices:
        columns = [(values == code).astype(np.float64) for code in range(len(spec.choices))]
    else:
        rank = ranked(values)
        columns = [rank, np.where(known, rank**2 - 1 / 12, 0.0), rank**3]
    columns.append((~known).astype(np.float64))
    wide = np.column_stack(columns)
    wide = wide - wide.mean(axis=0)
    spread = wide.std(axis=0)
    return np.asarray(wide[:, spread > 1e-9] / spread[spread > 1e-9], dtype=np.float64)


def _signal(
    column: Column,
    values: Floats,
    label: Labels,
    fold: Index,
    ridge: RidgeBaseline,
    reads: Mapping[str, Sequence[int]],
    repeats: tuple[str, ...],
) -> ColumnSignal:
    keep = ridge.without([index for name in (column.name, *repeats) for index in reads[name]])
    score = _cross_fitted(_bins(values, bool(column.choices)), label, fold)
    strength = _strength(column, values, score, label)
    gaps = _gap_echo(values, label, ridge, keep)
    isolated = isolated_churners(values, label, column)
    return ColumnSignal(*_lift(label, score), *isolated, _echo(score, strength, label, ridge, keep), gaps, repeats)


def _strength(column: Column, values: Floats, score: Floats, label: Labels) -> float:
    strength = max(roc_auc(label, score), 0.5)
    if not column.choices:  # ranks keep the full order of a number, bins do not
        by_rank = roc_auc(label, ranked(values))
        strength = max(strength, by_rank, 1.0 - by_rank)
    return strength


def _lift(label: Labels, score: Floats) -> tuple[float, float]:
    """The lift of a score, and its lower 95 % bound if it is large."""
    ranking, weight = Ranking(label, score), rate_weights(label)
    lift = lift_at_rate(ranking, weight)
    if lift < LIFT_WITH_BOUND:
        return lift, lift
    (draws,) = statistics_under(stratified_samples(label, DRAWS, 0), lambda w: lift_at_rate(ranking, weight, w))
    return lift, interval(draws)[0]


def _gap_echo(values: Floats, label: Labels, ridge: RidgeBaseline, keep: Flags) -> EchoTest | None:
    missing = np.isnan(values).astype(np.float64)
    if not FEWEST_MISSING <= missing.mean() <= 1.0 - FEWEST_MISSING:
        return None
    by_gap = roc_auc(label, missing)
    return _echo(missing, max(by_gap, 1.0 - by_gap), label, ridge, keep)


def _echo(score: Floats, strength: float, label: Labels, ridge: RidgeBaseline, keep: Flags) -> EchoTest:
    fewest = min(int(label.sum()), int((1 - label).sum()))
    # The intercept alone, too few customers: no power. Weaker than predictive: nothing would follow.
    if keep.sum() <= 1 or fewest < FEWEST or strength < PREDICTIVE:
        return EchoTest(strength, 0.0, 0.0, 0.0, np.inf)
    means = np.array([score[label == c].mean() for c in (0, 1)])
    residual, difference = score - means[label], float(means[1] - means[0])
    if abs(difference) < 1e-9 or not residual.any():
        # Nothing varies within the labels: either no signal at all, or the label itself.
        return EchoTest(strength, 0.0, 0.0, 1.0, 0.0 if abs(difference) > 1e-9 else np.inf)
    predicted = ridge.predict(label.astype(np.float64), keep)
    predicted = predicted - predicted.mean()
    expected = float(np.mean(predicted * (label - label.mean()))) * difference
    noise = float(np.std(predicted * residual)) / math.sqrt(len(label))
    by_label = 1.0 + float(np.mean(predicted * residual)) / expected if expected else 0.0
    error = noise / abs(expected) if expected else math.inf
    tied, by_chance = _tied(residual, label, ridge, keep)
    return EchoTest(strength, tied, by_chance, by_label, error)


def _tied(residual: Floats, label: Labels, ridge: RidgeBaseline, keep: Flags) -> tuple[float, float]:
    """Correlation of `residual`, the column less its mean in each label, with its prediction from the other columns, in
    the label where it is clearest; and the correlation that chance gives there."""
    correlations = []
    for c in (0, 1):
        own = label == c
        centred, predicted = residual[own] - residual[own].mean(), ridge.predict(residual, keep, (c,))[own]
        predicted = predicted - predicted.mean()
        spread = float(np.sqrt(np.sum(centred**2) * np.sum(predicted**2)))
        correlation = float(np.sum(centred * predicted)) / spread if spread > 0 else 0.0
        correlations.append((correlation, CLEAR / float(np.sqrt(own.sum()))))
    return max(correlations, key=lambda pair: pair[0] - max(TIED, pair[1]))


def _bins(values: Floats, category: bool) -> Index:
    """Bin 0 for missing, then quantile bins or a category's choices."""
    known = ~np.isnan(values)
    bins = np.zeros(len(values), dtype=np.int64)
    if category:
        bins[known] = values[known].astype(np.int64) + 1
    elif known.any():
        edges = np.unique(np.quantile(values[known], np.arange(1, BINS) / BINS, method="lower"))
        bins[known] = 1 + np.searchsorted(edges, values[known])
    return bins


def _cross_fitted(code: Index, label: Labels, fold: Index) -> Floats:
    """Log-odds of churn of each row's bin, counted on the other folds."""
    bins, base = int(code.max()) + 1, float(label.mean())
    score = np.empty(len(label))
    for held_out in range(FOLDS):
        learn = fold != held_out
        hits = np.bincount(code[learn], label[learn], bins) + SMOOTHING * base
        rate = hits / (np.bincount(code[learn], minlength=bins) + SMOOTHING)
        score[~learn] = np.log(rate / (1.0 - rate))[code[~learn]]
    return score


def _repeats(cells: Mapping[str, Floats], label: Labels) -> dict[str, tuple[str, ...]]:
    """For each column those that rank customers alike among churned and kept: the same column twice."""
    close = np.ones((len(cells), len(cells)), dtype=bool)
    for c in (0, 1):
        ranks = np.column_stack([ranked(values[label == c]) for values in cells.values()])
        ranks -= ranks.mean(axis=0)
        spread = np.sqrt((ranks**2).sum(axis=0))
        ranks /= np.where(spread > 0, spread, 1.0)
        close &= np.abs(ranks.T @ ranks) >= REPEATS
    return {
        name: tuple(other for other, is_close in zip(cells, row, strict=True) if is_close and other != name)
        for name, row in zip(cells, close, strict=True)
    }
