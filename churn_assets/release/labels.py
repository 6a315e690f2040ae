"""What final labels show of each arm against the champion, for the guardrails: figures that may be looked at again and
again.

Log-loss is a mean, so it has a confidence sequence (`sequential`). PR-AUC is none: its interval is made at 200 labels,
400, 800 and so on, each once and each at its part of the level (`alpha_at_look`), from the labels that were settled up
to the instant at which the arm with fewer had so many; between two looks nothing changes. Its ends are normal, with the
standard deviation of a bootstrap (Efron & Tibshirani, 1993), because the tails that these levels need are beyond what
draws can show.

Of each customer the first row of the whole release counts, labelled or not yet: that stays the same as time goes on,
and a customer who keeps his arm is no new evidence in the next step. Rows are compared within a policy, in which the
share of the arms is constant; the differences are averaged by n0 n1 / (n0 + n1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from churn_assets.evaluation.bootstrap import samples, statistics_under
from churn_assets.evaluation.metrics import FEWEST, Ranking, losses
from churn_assets.release.analysis import Pairs, read_pairs
from churn_assets.release.guardrails import LabelFigures, alpha_of
from churn_assets.release.outcomes import MaturedRows, mature
from churn_assets.release.policy import CHALLENGER, CHAMPION, Policy
from churn_assets.release.sequential import Sums, alpha_at_look, look_sizes, mean_interval, mean_shift

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Floats = npt.NDArray[np.float64]
Instants = npt.NDArray[np.datetime64]

FIRST_LOOK = 200  # labels of the arm that has fewer
_DRAWS = 200  # a standard deviation is known to a twentieth
_SEED = 42
LEAST_VARIANCE = 1e-3  # of a difference of losses: equal scores are no proof
_FAR = 1.0  # beyond any PR-AUC difference: nothing is known yet
_ANSWERS = """
    SELECT arg_min(prediction_id, seq) AS prediction_id, arg_min(arm, seq) AS arm, arg_min(policy, seq) AS policy,
        arg_min(score, seq) AS score
    FROM predictions
    WHERE policy IN (SELECT unnest($policies::VARCHAR[])) AND test IS NOT TRUE AND shadow IS NOT TRUE
    GROUP BY coalesce(customer_id, ' ' || prediction_id) HAVING arg_min(status, seq) = 'ok' ORDER BY min(seq)
"""


@dataclass(frozen=True)
class Arms:
    """Final labels of two arms in one policy, each in the order in which they were settled."""

    own: MaturedRows
    base: MaturedRows

    @property
    def weight(self) -> float:
        """Of the policy among all of the release."""
        own, base = len(self.own), len(self.base)
        return own * base / max(1, own + base)


def label_figures(
    connection: duckdb.DuckDBPyConnection, policies: Sequence[Policy], labelled: pa.Table
) -> dict[str, LabelFigures]:
    """The figures of each arm other than the champion's that has final labels; `policies` are those of one release,
    oldest first, `labelled` the asset `labelled_predictions`."""
    newest = policies[-1]
    alpha, ids = alpha_of(newest), [policy.id for policy in policies]
    if newest.kind == "shadow":
        figures = figures_of_pairs(read_pairs(connection, ids, first=True), labelled, alpha)
        return {} if figures is None else {CHALLENGER: figures}
    answers = connection.sql(_ANSWERS, params={"policies": ids}).to_arrow_table()
    by_arm = {
        arm.name: figures_of_arms(_by_policy(answers, labelled, arm.name), alpha)
        for arm in newest.arms
        if arm.name != CHAMPION
    }
    return {name: figures for name, figures in by_arm.items() if figures is not None}


def figures_of_pairs(pairs: Pairs, labelled: pa.Table, alpha: float) -> LabelFigures | None:
    """Of a shadow, on the rows that the champion answered: None without a label."""
    scores = {CHAMPION: pairs.champion, CHALLENGER: pairs.challenger}
    rows = _in_order(mature(labelled, pairs.ids, scores, first=True))
    return figures_of_rows(rows, alpha) if len(rows) else None


def figures_of_rows(rows: MaturedRows, alpha: float) -> LabelFigures:
    """Of both models on the same rows, at least one, in the order in which their labels were settled."""
    own, base = (losses(rows.churned, rows.scores[name]) for name in (CHALLENGER, CHAMPION))
    loss, loss_interval = mean_interval(_sums(own - base), alpha, LEAST_VARIANCE)
    size, level = _last_look(len(rows), alpha)
    seen = _take(rows, np.arange(size))
    difference, spread = (0.0, None) if not _enough(seen) else _paired(seen)
    low, high = _ends(difference, spread, level)
    return LabelFigures(
        len(rows), difference, low, high, float(loss), float(loss_interval.low), float(loss_interval.high)
    )


def figures_of_arms(parts: Sequence[Arms], alpha: float) -> LabelFigures | None:
    """Of an arm that answers, policy by policy; None where one of the two arms has no label."""
    parts = [part for part in parts if part.weight]
    if not parts:
        return None
    sides = _comparable_since(parts)
    rows = min(map(len, sides))
    own, base = (
        [losses(each.churned, each.scores["score"]) for each in arms]
        for arms in ([part.own for part in parts], [part.base for part in parts])
    )
    loss, loss_interval = mean_shift(_stacked(own), _stacked(base), alpha, LEAST_VARIANCE)
    size, level = _last_look(rows, alpha)
    looked_at = max(side[size - 1] for side in sides) if size else None
    difference, spread = _apart([] if looked_at is None else [_settled_by(part, looked_at) for part in parts])
    low, high = _ends(difference, spread, level)
    return LabelFigures(rows, difference, low, high, float(loss), float(loss_interval.low), float(loss_interval.high))


def _by_policy(answers: pa.Table, labelled: pa.Table, arm: str) -> list[Arms]:
    """Final labels of an arm and of the champion, by the policy under which they were answered."""
    import pyarrow.compute as pc

    parts = []
    for policy in pc.unique(answers["policy"]).to_pylist():
        rows = []
        for name in (arm, CHAMPION):
            own = answers.filter(pc.and_(pc.equal(answers["policy"], policy), pc.equal(answers["arm"], name)))
            scores = {"score": own["score"].to_numpy()}
            rows.append(_in_order(mature(labelled, own["prediction_id"], scores, first=True)))
        parts.append(Arms(*rows))
    return parts


def _in_order(rows: MaturedRows) -> MaturedRows:
    return _take(rows, np.argsort(rows.settled, kind="stable"))


def _take(rows: MaturedRows, places: npt.NDArray[np.int64]) -> MaturedRows:
    scores = {name: score[places] for name, score in rows.scores.items()}
    return MaturedRows(rows.places[places], rows.churned[places], rows.settled[places], scores)


def _last_look(labels: int, alpha: float) -> tuple[int, float]:
    """The labels of the last look, and its level; no label before the first."""
    sizes = look_sizes(FIRST_LOOK, labels)
    return (sizes[-1], alpha_at_look(alpha, len(sizes))) if sizes else (0, alpha)


def _comparable_since(parts: Sequence[Arms]) -> tuple[Instants, Instants]:
    """When each label of either side could be compared, sorted: it was settled, and so was one of the other side in its
    policy. What comes later changes no instant, so that the size-th is always the same."""
    since = [np.maximum(part.own.settled[0], part.base.settled[0]) for part in parts]
    own, base = (
        np.sort(np.concatenate([np.maximum(each.settled, start) for each, start in zip(side, since, strict=True)]))
        for side in ([part.own for part in parts], [part.base for part in parts])
    )
    return own, base


def _settled_by(part: Arms, instant: np.datetime64) -> Arms:
    """The labels of a policy that were settled by then."""
    return Arms(*(_take(each, np.flatnonzero(each.settled <= instant)) for each in (part.own, part.base)))


def _enough(rows: MaturedRows) -> bool:
    churned = int(np.sum(rows.churned))
    return min(churned, len(rows) - churned) >= FEWEST


def _paired(rows: MaturedRows) -> tuple[float, float]:
    """PR-AUC of the challenger minus the champion's on the same rows, and its standard deviation."""
    rank = [Ranking(rows.churned, rows.scores[name]).pr_auc for name in (CHALLENGER, CHAMPION)]
    own, base = statistics_under(_draws(len(rows)), *rank)
    return rank[0]() - rank[1](), float(np.nanstd(own - base))


def _apart(parts: Sequence[Arms]) -> tuple[float, float | None]:
    """The difference of the arms' PR-AUC over policies with enough labels, and its standard deviation; None without
    one."""
    known = [part for part in parts if _enough(part.own) and _enough(part.base)]
    if not known:
        return 0.0, None
    weights = np.array([part.weight for part in known])
    shares = weights / weights.sum()
    figures = [[_alone(rows) for rows in (part.own, part.base)] for part in known]
    differences = np.array([own[0] - base[0] for own, base in figures])
    variances = np.array([own[1] ** 2 + base[1] ** 2 for own, base in figures])
    return float(shares @ differences), float(np.sqrt(shares**2 @ variances))


def _alone(rows: MaturedRows) -> tuple[float, float]:
    """PR-AUC of an arm and its standard deviation."""
    rank = Ranking(rows.churned, rows.scores["score"]).pr_auc
    (draws,) = statistics_under(_draws(len(rows)), rank)
    return rank(), float(np.nanstd(draws))


def _draws(rows: int) -> Iterator[Floats]:
    """One sample (rows,) at a time: all of a long release would fill the memory."""
    return (samples(rows, 1, _SEED + number)[0] for number in range(_DRAWS))


def _ends(difference: float, spread: float | None, level: float) -> tuple[float, float]:
    if spread is None:
        return -_FAR, _FAR
    reach = NormalDist().inv_cdf(1.0 - level / 2) * spread
    return difference - reach, difference + reach


def _sums(values: Floats) -> Sums:
    return Sums(len(values), np.sum(values), np.sum(values**2))


def _stacked(parts: Sequence[Floats]) -> Sums:
    """The sums of each policy (K,)."""
    return Sums(*(np.array([call(part) for part in parts], dtype=np.float64) for call in (len, np.sum, _squares)))


def _squares(values: Floats) -> float:
    return float(np.sum(values**2))
