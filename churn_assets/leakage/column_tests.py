"""What a column alone gives away about the label, and whether anything but the label explains it.

Measured on training and validation rows only, for each column:

- how far the column alone goes from the base rate (0) to perfect (1) in PR-AUC, cross-fitted;
- the share of churners it isolates: long runs of its sorted values without a single kept customer;
- its ROC AUC alone, and that of its being missing;
- whether it is an *echo*: strong alone, and yet, once the label is known, nothing else that is known
  about a customer tells anything about it. A behaviour shares its causes with other behaviours, so it
  stays tied to them among the churned and among the kept. A number written from the outcome does not:
  the label screens it off from everything else (Pearl, Causality, 2009, section 1.2: the label is its
  whole Markov blanket). What predicts the label then predicts the column in one exact proportion, that
  of a copy of the label (`by_label` is 1); what is tied otherwise misses it, an independent cause of
  churn has 0.

What this cannot tell: a cause of churn that shows in no other column, where all other columns are
themselves consequences of churn, looks the same as an echo. Nor can it find an echo that was mixed
with a behaviour, unless it goes over one of the plain limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.evaluation.metrics import pr_auc, roc_auc
from churn_assets.features.compile import FeatureSpec, Matrix
from churn_assets.features.encode import Columns
from churn_assets.leakage.column_groups import features_of
from churn_assets.leakage.ridge import Others, ranked

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]

RUN_ROWS = 30  # a shorter run of churners without a kept customer is luck


def isolated(values: Floats, label: Labels, column: Column) -> tuple[float, str]:
    """Share of the churners in runs of at least RUN_ROWS churners without a kept customer, and the
    longest run in words. Values are sorted, equal ones stand together; a category's choices and
    missing values are runs of their own."""
    total = max(1, int(label.sum()))
    best, share, words = 0, 0, ""
    for churners, told in _runs(values, label, column):
        if churners >= RUN_ROWS:
            share += churners
            if churners > best:
                best, words = churners, told
    return share / total, words


def _runs(values: Floats, label: Labels, column: Column) -> Iterator[tuple[int, str]]:
    known = ~np.isnan(values)
    gone = label[~known]
    if len(gone) and gone.all():
        yield len(gone), f"{column.name} missing"
    distinct, place = np.unique(values[known], return_inverse=True)
    churned = np.bincount(place, label[known], len(distinct))
    pure = churned == np.bincount(place, minlength=len(distinct))
    if column.choices:
        for code in np.flatnonzero(pure):
            yield int(churned[code]), f"{column.name} = {column.choices[int(distinct[code])]}"
        return
    edges = np.flatnonzero(np.diff(np.concatenate([[0], pure.astype(np.int8), [0]])))
    for start, end in zip(edges[::2], edges[1::2] - 1, strict=True):
        one, two = (_word(column, distinct[i]) for i in (start, end))
        told = f"{column.name} = {one}" if one == two else f"{column.name} from {one} to {two}"
        yield int(churned[start : end + 1].sum()), told


def _word(column: Column, value: float) -> str:
    return str(np.datetime64(int(value), "D")) if column.kind is Kind.DATE else f"{value:g}"


Index = npt.NDArray[np.int64]

FOLDS = 5
BINS = 20
SMOOTHING = 20.0  # rows of the base rate added to each bin
MOST_ROWS = 50_000  # more say nothing more about an echo
REPEATS = 0.9  # rank correlation within the labels from which on one column repeats another
TIED = 0.1  # correlation within a label with what the others predict; below it a column is as good as free
CLEAR = 3.0  # standard errors
PRECISE = 0.25  # a larger standard error of `by_label` says nothing
FEWEST = 100  # churned or kept customers; with fewer, whether others explain a column cannot be told
SOME = 0.005  # a share of missing values below it is no pattern


@dataclass(frozen=True)
class Echo:
    """Whether a quantity comes from the label alone.

    `roc_auc` of the quantity alone, at least 0.5. `tied`: its correlation with what all other columns
    predict of it out of fold, among the churned or among the kept, whichever is clearer; `tied_by_chance`:
    up to where it may be noise. `by_label`: what
    predicts the label predicts of it, as a share of what it would predict of a copy of the label;
    `by_label_error` is its standard error, infinite if the others do not predict the label.
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
class Alone:
    """What one column shows by itself: `pr_auc_lift` 0 (base rate) to 1 (perfect), `isolated_share` of
    the churners, `isolated_by` in words, and its values and its gaps as echoes (None: nothing missing).
    `repeats` are columns that say the same; they do not count as others."""

    column: str
    pr_auc_lift: float
    isolated_share: float
    isolated_by: str
    values: Echo
    gaps: Echo | None
    repeats: tuple[str, ...]


def look_at_columns(
    contract: Contract,
    columns: Columns,
    matrix: Matrix,
    specs: Sequence[FeatureSpec],
    churned: Labels,
    rows: Index,
    seed: int = 42,
) -> dict[str, Alone]:
    """Every column the model is made of, looked at alone on `rows` (training and validation rows)."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(rows)[:MOST_ROWS]
    label, fold = churned[rows], np.arange(len(rows)) % FOLDS
    others = Others(matrix[rows], specs, label, fold)
    cells = {c.name: _numbers(c, columns[c.name][rows]) for c in contract.scoring_columns if c.kind is not Kind.TEXT}
    reads = features_of(contract, specs)
    repeats = _repeats(cells, label)
    return {
        name: _alone(contract.column(name), values, label, fold, others, reads, repeats[name])
        for name, values in cells.items()
    }


def _alone(
    column: Column,
    values: Floats,
    label: Labels,
    fold: Index,
    others: Others,
    reads: Mapping[str, Sequence[int]],
    repeats: tuple[str, ...],
) -> Alone:
    keep = others.without([index for name in (column.name, *repeats) for index in reads[name]])
    score = _cross_fitted(_bins(values, bool(column.choices)), label, fold)
    base = float(label.mean())
    strength = max(roc_auc(label, score), 0.5)
    if not column.choices:  # a number that rises or falls with churn loses nothing to bins
        by_rank = roc_auc(label, ranked(values))
        strength = max(strength, by_rank, 1.0 - by_rank)
    gone = np.isnan(values).astype(np.float64)
    gaps = None
    if SOME <= gone.mean() <= 1.0 - SOME:
        by_gap = roc_auc(label, gone)
        gaps = _echo(gone, max(by_gap, 1.0 - by_gap), label, others, keep)
    share, words = isolated(values, label, column)
    return Alone(
        column.name,
        (pr_auc(label, score) - base) / (1.0 - base),
        share,
        words,
        _echo(score, strength, label, others, keep),
        gaps,
        repeats,
    )


def _echo(score: Floats, strength: float, label: Labels, others: Others, keep: npt.NDArray[np.bool_]) -> Echo:
    fewest = min(int(label.sum()), int((1 - label).sum()))
    if keep.sum() <= 1 or fewest < FEWEST:  # the intercept alone, or too few customers: nobody can tell
        return Echo(strength, 0.0, 0.0, 0.0, np.inf)
    means = np.array([score[label == c].mean() for c in (0, 1)])
    left, apart = score - means[label], means[1] - means[0]
    if abs(apart) < 1e-9 or not left.any():
        # Nothing varies within the labels: either no signal at all, or the label itself.
        return Echo(strength, 0.0, 0.0, 1.0, 0.0 if abs(apart) > 1e-9 else np.inf)
    leaning = others.predict(label.astype(np.float64), keep)
    leaning = leaning - leaning.mean()
    known = float(np.mean(leaning * (label - label.mean()))) * apart
    noise = float(np.std(leaning * left)) / np.sqrt(len(label))
    by_label = 1.0 + float(np.mean(leaning * left)) / known if known else 0.0
    error = noise / abs(known) if known else np.inf
    tied, by_chance = _tied(left, label, others, keep)
    return Echo(strength, tied, by_chance, by_label, error)


def _tied(left: Floats, label: Labels, others: Others, keep: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Correlation of what the label leaves of a column with what the others predict of that, in the label
    where it stands out most, and the correlation that chance gives there."""
    found = []
    for c in (0, 1):
        own = label == c
        rest, said = left[own] - left[own].mean(), others.predict(left, keep, (c,))[own]
        said = said - said.mean()
        spread = float(np.sqrt(np.sum(rest**2) * np.sum(said**2)))
        found.append((float(np.sum(rest * said)) / spread if spread > 0 else 0.0, CLEAR / float(np.sqrt(own.sum()))))
    return max(found, key=lambda pair: pair[0] - max(TIED, pair[1]))


def _numbers(column: Column, values: npt.NDArray[np.float64]) -> Floats:
    """A column as numbers with NaN for missing; categories as their codes."""
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(numbers < 0, np.nan, numbers) if column.choices else numbers


def _bins(values: Floats, category: bool) -> Index:
    """Bin 0 for missing, then quantile bins or a category's choices."""
    known = ~np.isnan(values)
    found = np.zeros(len(values), dtype=np.int64)
    if category:
        found[known] = values[known].astype(np.int64) + 1
    elif known.any():
        edges = np.unique(np.quantile(values[known], np.arange(1, BINS) / BINS, method="lower"))
        found[known] = 1 + np.searchsorted(edges, values[known])
    return found


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
    """For each column the others that rank customers alike among churned and kept: they are one column twice."""
    names = list(cells)
    if len(names) < 2:
        return dict.fromkeys(names, ())
    close = np.ones((len(names), len(names)), dtype=bool)
    for c in (0, 1):
        ranks = np.column_stack([ranked(cells[name][label == c]) for name in names])
        ranks = ranks - ranks.mean(axis=0)
        spread = np.sqrt((ranks**2).sum(axis=0))
        close &= (
            np.abs((ranks / np.where(spread > 0, spread, 1.0)).T @ (ranks / np.where(spread > 0, spread, 1.0)))
            >= REPEATS
        )
    return {
        name: tuple(other for j, other in enumerate(names) if close[i, j] and j != i) for i, name in enumerate(names)
    }
