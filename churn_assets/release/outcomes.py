"""What final labels show of the models of a release: PR-AUC and log-loss by arm, and of both models on the same rows.

A row counts once its label is final; the last row of each customer. Customers who were contacted are left out, on every
side alike: an offer changes who leaves. Intervals are a percentile bootstrap over customers (Efron & Tibshirani, 1993),
paired where both models have scored the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.evaluation.bootstrap import Figure, interval, paired_difference, samples
from churn_assets.evaluation.metrics import FEWEST, Ranking, losses, shortage, summary

if TYPE_CHECKING:
    import pyarrow as pa

Floats = npt.NDArray[np.float64]

DRAWS, FEWER_DRAWS, MANY_ROWS = 1000, 200, 10_000  # with so many rows, fewer draws place the ends well enough
MOST_ROWS = 50_000  # the newest of them; more would fill the memory with draws and move no digit that is shown
_SEED = 42


@dataclass(frozen=True)
class MaturedMetrics:
    """Customers with a final label, how many of them churned, and the metrics of their scores. Both are None where
    fewer than 10 churned, or fewer than 10 stayed; `message` then says so, and is "" otherwise."""

    rows: int
    churned: int
    message: str
    pr_auc: Figure | None = None
    log_loss: Figure | None = None


@dataclass(frozen=True)
class MaturedPairs:
    """The metrics of challenger and champion on the same customers, and challenger minus champion; as
    `MaturedMetrics`."""

    champion: MaturedMetrics
    challenger: MaturedMetrics
    pr_auc_difference: Figure | None = None
    log_loss_difference: Figure | None = None


@dataclass(frozen=True)
class MaturedRows:
    """Rows with a final label in the order of the log, one of each customer: the place (n,) of each among the rows that
    were looked up, whether they churned (n,), when that was settled (n,), and the score of each model (n,) by its
    name."""

    places: npt.NDArray[np.int64]
    churned: npt.NDArray[np.bool_]
    settled: npt.NDArray[np.datetime64]
    scores: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.churned)


def mature(
    labelled: pa.Table, ids: pa.Array | pa.ChunkedArray, scores: dict[str, Floats], first: bool = False
) -> MaturedRows:
    """The rows of predictions `ids` (n,) whose label is final, with their `scores` (n,); of each customer the last, or
    the `first`. Of the last only the `MOST_ROWS` newest are taken; of the first all, as those of a figure that is
    looked at again and again must stay.

    `labelled` is the asset `labelled_predictions`: the prediction's id, its customer, `label_state`, `churned`,
    `contacted` and `control`, and the instants `matures_at` and `received_at`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    left_out = pc.and_(pc.fill_null(labelled["contacted"], False), pc.invert(pc.fill_null(labelled["control"], False)))
    final = labelled.filter(pc.and_(pc.equal(labelled["label_state"], "final"), pc.invert(left_out)))
    place = pc.index_in(ids, value_set=final["prediction_id"])
    known = np.flatnonzero(pc.is_valid(place).to_numpy(zero_copy_only=False))
    rows = final.take(pa.array(np.asarray(pc.fill_null(place, 0))[known], pa.int64()))
    who = np.asarray(pc.coalesce(rows["customer_id"], pc.binary_join_element_wise(" ", rows["prediction_id"], "")))
    order = reversed(range(len(who))) if first else range(len(who))
    chosen: dict[Any, int] = {who[at]: at for at in order}
    kept = np.array(sorted(chosen.values()), dtype=np.int64)
    kept = kept if first else kept[-MOST_ROWS:]
    churned = rows["churned"].to_numpy(zero_copy_only=False).astype(np.bool_)
    settled = pc.max_element_wise(rows["matures_at"], rows["received_at"]).to_numpy(zero_copy_only=False)
    own = {name: score[known[kept]] for name, score in scores.items()}
    return MaturedRows(known[kept], churned[kept], settled[kept], own)


def measure(rows: MaturedRows, name: str) -> MaturedMetrics:
    """The metrics of one model."""
    count, churned = len(rows), int(np.sum(rows.churned))
    if churned < FEWEST or count - churned < FEWEST:
        return MaturedMetrics(count, churned, shortage(churned, count) or "no customer has a final label yet")
    values = summary(rows.churned.astype(np.float64), rows.scores[name], 1.0, _draws(count))
    figures = {n: Figure(values[n], values[f"{n}_low"], values[f"{n}_high"]) for n in ("pr_auc", "log_loss")}
    return MaturedMetrics(count, churned, "", **figures)


def measure_pairs(rows: MaturedRows, champion: str, challenger: str) -> MaturedPairs:
    """The metrics of two models that have scored the same rows."""
    first, second = measure(rows, challenger), measure(rows, champion)
    if first.pr_auc is None:
        return MaturedPairs(second, first)
    rank = [Ranking(rows.churned, rows.scores[name]).pr_auc for name in (challenger, champion)]
    loss = [partial(np.average, losses(rows.churned, rows.scores[name])) for name in (challenger, champion)]
    weights = _draws(len(rows))
    differences = [paired_difference(weights, *rank), paired_difference(weights, *(_mean_under(each) for each in loss))]
    figures = [Figure(each.point, *interval(each.draws)) for each in differences]
    return MaturedPairs(second, first, *figures)


def _mean_under(average: Any) -> Any:
    return lambda weight: float(average(weights=weight))


def _draws(rows: int) -> Iterable[Floats]:
    return samples(rows, DRAWS if rows <= MANY_ROWS else FEWER_DRAWS, _SEED)
