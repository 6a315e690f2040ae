"""What the log shows of a release: each arm by itself, and champion against challenger on the rows that both scored.

Two scores of the same values are a pair: an answer's, and what the other model says. A shadow logs such rows; `replay`
makes them of any part of the log for any model: "what if it had answered". Trials are left out of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from churn_assets.release.comparison import ArmComparison, ArmDifference, compare_arms
from churn_assets.release.counts import SCORE_BINS, ReleaseCounts, sum_counts
from churn_assets.release.outcomes import MaturedMetrics, MaturedPairs, mature, measure, measure_pairs
from churn_assets.release.policy import CHALLENGER, CHAMPION, FALLBACK, Policy
from churn_assets.release.replay import answered_id_sql

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
DIFFERENCE_BINS = 40  # of the histogram of score differences

_OF_POLICIES = "policy IN (SELECT unnest($policies::VARCHAR[])) AND test IS NOT TRUE"
_ARMS = f"""
    SELECT arm, model_version, coalesce(shadow, false) AS shadow, count(*) AS rows,
        count(DISTINCT coalesce(customer_id, ' ' || prediction_id)) AS customers,
        count(*) FILTER (status = '{FALLBACK}') AS fallbacks, avg(CAST(decision AS DOUBLE)) AS called_share,
        avg(score) AS mean_score, avg(CAST(len(warnings) > 0 AS DOUBLE)) AS warned_share,
        quantile_cont(latency_us, 0.5) / 1000 AS latency_p50_ms,
        quantile_cont(latency_us, 0.99) / 1000 AS latency_p99_ms,
        strftime(min(scored_at), '%Y-%m-%dT%H:%M:%SZ') AS first, strftime(max(scored_at), '%Y-%m-%dT%H:%M:%SZ') AS last
    FROM predictions WHERE {_OF_POLICIES} GROUP BY ALL ORDER BY shadow, arm, rows DESC
"""
_SCORES = f"""
    SELECT arm, model_version, coalesce(shadow, false) AS shadow,
        least(CAST(floor(score * {SCORE_BINS}) AS INTEGER), {SCORE_BINS - 1}) AS bin, count(*) AS rows
    FROM predictions WHERE {_OF_POLICIES} GROUP BY ALL
"""
_PAIRS = f"""
    WITH shadows AS (
        SELECT {answered_id_sql("prediction_id")} AS answered_id, score, decision FROM predictions
        WHERE {_OF_POLICIES} AND shadow
    )
    SELECT a.prediction_id, a.score AS champion_score, a.decision AS champion_calls, s.score AS challenger_score,
        s.decision AS challenger_calls
    FROM shadows s JOIN predictions a ON a.prediction_id = s.answered_id WHERE a.shadow IS NOT TRUE
"""
_FIRST = "row_number() OVER (PARTITION BY coalesce(a.customer_id, ' ' || a.prediction_id) ORDER BY a.seq) = 1"
_ANSWERS = f"""
    SELECT prediction_id, arm, score FROM predictions WHERE {_OF_POLICIES} AND shadow IS NOT TRUE ORDER BY seq
"""


@dataclass(frozen=True)
class ArmAnalysis:
    """The rows of one arm and version. A `shadow`'s are scores that nobody got.

    `fallbacks` are its answers to rows that the challenger could not score. Shares are of its rows; latencies, in
    milliseconds, are None for rows that have none. `scores` counts scores in 20 equal bins of 0 to 1. `first` and
    `last` are instants of the answers, in UTC. `errors` and `refused` are rows that the arm could not score, and that
    broke its contract, as the processes have counted them: such rows are in no log. `matured` are its figures on final
    labels, None where they were not asked for.
    """

    arm: str
    model_version: str
    shadow: bool
    rows: int
    customers: int
    fallbacks: int
    called_share: float
    mean_score: float
    warned_share: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    first: str
    last: str
    scores: tuple[int, ...]
    errors: int = 0
    refused: int = 0
    matured: MaturedMetrics | None = None


@dataclass(frozen=True)
class Pairs:
    """Pairs in the order of the log: the id of each answer, and of both models its score and whether it calls (n,)."""

    ids: pa.ChunkedArray
    champion: Floats
    challenger: Floats
    champion_calls: Booleans
    challenger_calls: Booleans

    def __len__(self) -> int:
        return len(self.champion)


@dataclass(frozen=True)
class PairAnalysis:
    """Champion and challenger on the same rows; differences are challenger minus champion.

    `agreement` is the share of rows that both decide alike, each at its own threshold; `flips_to_call` are rows that
    the challenger alone calls, `flips_to_keep` those that the champion alone calls. `quantiles` of the differences are
    by share; `edges` and `counts` are their histogram. `rank_correlation` is Spearman's (1904), ties getting their mean
    rank, None where a model gives one score to all rows.
    """

    rows: int
    agreement: float
    flips_to_call: int
    flips_to_keep: int
    mean_difference: float
    sd_difference: float
    quantiles: dict[str, float]
    rank_correlation: float | None
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    matured: MaturedPairs | None = None


@dataclass(frozen=True)
class ReleaseAnalysis:
    """A release as the log has it: its policies, oldest first, the newest one's kind and models, arms and pairs.
    `comparison` is None where no other arm than the champion's answered."""

    policies: tuple[str, ...]
    kind: str
    champion: str
    challengers: tuple[str, ...]
    arms: tuple[ArmAnalysis, ...]
    pairs: PairAnalysis | None
    comparison: ArmComparison | None = None

    def to_json(self) -> dict[str, Any]:
        """As the report and the command give it."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return {"version": 1, **values}


def rollout(policies: Sequence[Policy], policy_id: str | None = None, version: str | None = None) -> list[Policy]:
    """The policies (oldest first) of one release: the last run of them that let the same versions in.

    The last release of all, or the one that `policy_id` belongs to, or the last that let `version` in. A policy of kind
    champion lets nobody in, and ends a release. Empty where there is none.
    """
    runs: list[list[Policy]] = []
    for before, policy in zip([None, *policies], policies, strict=False):
        if (
            before is None
            or challengers(before) != challengers(policy)
            or before.champion.version != policy.champion.version
        ):
            runs.append([])
        runs[-1].append(policy)
    wanted = [
        run
        for run in runs
        if challengers(run[0])
        and (policy_id is None or any(policy.id == policy_id for policy in run))
        and (version is None or version in challengers(run[0]))
    ]
    return wanted[-1] if wanted else []


def challengers(policy: Policy) -> tuple[str, ...]:
    """The versions that a policy lets in beside the champion."""
    return tuple(sorted({arm.version for arm in policy.arms} - {policy.champion.version}))


def analyse(
    connection: duckdb.DuckDBPyConnection,
    policies: Sequence[Policy],
    counts: Mapping[str, ReleaseCounts] | None = None,
    labelled: pa.Table | None = None,
) -> ReleaseAnalysis:
    """A release from the ingested log; `policies` are those of `rollout`, at least one.

    `counts` are what its processes counted, by the id of the policy, `labelled` is the asset `labelled_predictions`:
    without it nothing is matured.
    """
    ids = {"policies": [policy.id for policy in policies]}
    arms = read_arms(connection, ids["policies"])
    if counts is not None:
        shadows = {policy.id for policy in policies if policy.kind == "shadow"}
        scored, answered = (
            sum_counts(own for policy_id, own in counts.items() if (policy_id in shadows) is shadow)
            for shadow in (True, False)
        )
        arms = [_with_counts(arm, scored if arm.shadow else answered) for arm in arms]
    if labelled is not None:
        answers = _table(connection, _ANSWERS, ids)
        arms = [_with_outcomes(arm, answers, labelled) for arm in arms]
    pairs = read_pairs(connection, ids["policies"])
    newest, split = policies[-1], [policy for policy in policies if policy.kind in ("canary", "ab")]
    return ReleaseAnalysis(
        policies=tuple(ids["policies"]),
        kind=newest.kind,
        champion=newest.champion.version,
        challengers=challengers(newest),
        arms=tuple(arms),
        pairs=analyse_pairs(pairs, labelled) if len(pairs) else None,
        comparison=compare_arms(connection, split, labelled) if split else None,
    )


def read_arms(connection: duckdb.DuckDBPyConnection, policies: Sequence[str]) -> list[ArmAnalysis]:
    """Each arm and version of these policies (ids), the answers first."""
    values = {"policies": list(policies)}
    scores: dict[tuple[str, str, bool], list[int]] = {}
    for arm, version, shadow, place, rows in connection.execute(_SCORES, values).fetchall():
        scores.setdefault((arm, version, shadow), [0] * SCORE_BINS)[place] = rows
    stored = _table(connection, _ARMS, values).to_pylist()
    return [ArmAnalysis(**row, scores=tuple(scores[row["arm"], row["model_version"], row["shadow"]])) for row in stored]


def read_pairs(connection: duckdb.DuckDBPyConnection, policies: Sequence[str], first: bool = False) -> Pairs:
    """The rows that a shadow of these policies (ids) has scored, beside their answers; of each customer all, or the
    `first`."""
    query = f"{_PAIRS} {f'QUALIFY {_FIRST}' if first else ''} ORDER BY a.seq"
    return pairs_of(_table(connection, query, {"policies": list(policies)}))


def pairs_of(table: pa.Table) -> Pairs:
    """Pairs from a table of prediction_id, champion_score, champion_calls, challenger_score and challenger_calls."""
    names = ("champion_score", "challenger_score", "champion_calls", "challenger_calls")
    return Pairs(table["prediction_id"], *(table[name].to_numpy() for name in names))


def analyse_pairs(pairs: Pairs, labelled: pa.Table | None = None) -> PairAnalysis:
    """Champion against challenger on at least one pair; matured with `labelled`, as in `analyse`."""
    difference = pairs.challenger - pairs.champion
    counts, edges = np.histogram(difference, bins=DIFFERENCE_BINS, range=_range_of(difference))
    alike = pairs.challenger_calls == pairs.champion_calls
    matured = None
    if labelled is not None:
        rows = mature(labelled, pairs.ids, {CHAMPION: pairs.champion, CHALLENGER: pairs.challenger})
        matured = measure_pairs(rows, CHAMPION, CHALLENGER)
    return PairAnalysis(
        rows=len(pairs),
        agreement=float(np.mean(alike)),
        flips_to_call=int(np.sum(pairs.challenger_calls & ~pairs.champion_calls)),
        flips_to_keep=int(np.sum(pairs.champion_calls & ~pairs.challenger_calls)),
        mean_difference=float(np.mean(difference)),
        sd_difference=float(np.std(difference)),
        quantiles=dict(zip(map(str, QUANTILES), map(float, np.quantile(difference, QUANTILES)), strict=True)),
        rank_correlation=rank_correlation(pairs.champion, pairs.challenger),
        edges=tuple(map(float, edges)),
        counts=tuple(map(int, counts)),
        matured=matured,
    )


def rank_correlation(first: Floats, second: Floats) -> float | None:
    """Spearman's correlation of scores (n,); equal scores have the mean of their ranks. None if one has no spread.

    >>> rank_correlation(np.array([0.1, 0.2, 0.4]), np.array([0.5, 0.6, 0.9]))
    1.0
    """
    ranks = [_ranks(values) for values in (first, second)]
    centred = [rank - np.mean(rank) for rank in ranks]
    squares = [float(np.dot(each, each)) for each in centred]
    if 0.0 in squares:
        return None
    return float(np.dot(*centred) / np.sqrt(squares[0] * squares[1]))


def _table(connection: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, object]) -> pa.Table:
    """The rows of a query, which DuckDB then need not copy."""
    return connection.sql(query, params=dict(values)).to_arrow_table()


def _ranks(values: Floats) -> Floats:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    return np.asarray((ends - (count - 1) / 2)[place])


def _range_of(difference: Floats) -> tuple[float, float]:
    """The ends of the histogram: as far below 0 as above, so that a bin has an edge at 0."""
    reach = max(float(np.max(np.abs(difference))), 1e-6)
    return -reach, reach


def _with_counts(arm: ArmAnalysis, counts: ReleaseCounts) -> ArmAnalysis:
    own = counts.arms.get(arm.arm)
    return arm if own is None else replace(arm, errors=own.errors, refused=own.refused)


def _with_outcomes(arm: ArmAnalysis, answers: pa.Table, labelled: pa.Table) -> ArmAnalysis:
    """The answers of an arm with their labels; those of a shadow are matured as pairs."""
    import pyarrow.compute as pc

    if arm.shadow:
        return arm
    own = answers.filter(pc.equal(answers["arm"], arm.arm))
    rows = mature(labelled, own["prediction_id"], {arm.arm: own["score"].to_numpy()})
    return replace(arm, matured=measure(rows, arm.arm))


def describe(analysis: ReleaseAnalysis) -> list[str]:
    """What a person should know first, a line each."""
    lines = [_describe_arm(arm) for arm in analysis.arms]
    if not lines:
        lines.append(f"no row of {', '.join(analysis.policies)} has been ingested yet: churn log ingest")
    lines += [] if analysis.pairs is None else describe_pairs(analysis.pairs)
    return lines + ([] if analysis.comparison is None else _describe_comparison(analysis.comparison))


def _describe_arm(arm: ArmAnalysis) -> str:
    name = f"{arm.arm} {arm.model_version}" + (" (shadow)" if arm.shadow else "")
    parts = [f"{arm.rows:,} rows of {arm.customers:,} customers", f"mean score {arm.mean_score:.3f}"]
    parts += [f"{arm.called_share:.1%} called", f"{arm.warned_share:.1%} with a warning"]
    if arm.latency_p50_ms is not None and arm.latency_p99_ms is not None:
        parts.append(f"p50 {arm.latency_p50_ms:.2f} ms, p99 {arm.latency_p99_ms:.2f} ms")
    events: Mapping[str, int] = {"errors": arm.errors, "refused": arm.refused, "fallbacks": arm.fallbacks}
    parts += [f"{count:,} {event}" for event, count in events.items() if count]
    if arm.matured is not None:
        parts.append(_describe_matured(arm.matured))
    return f"{name}: {', '.join(parts)}"


def _describe_matured(matured: MaturedMetrics) -> str:
    if matured.pr_auc is None:
        return f"final labels: {matured.message}"
    return f"PR-AUC {matured.pr_auc} and log-loss {matured.log_loss} on {matured.rows:,} final labels"


def _describe_comparison(comparison: ArmComparison) -> list[str]:
    lines = [
        f"customers do not come to the arms by their weights in {ratio.policy} (e-value {ratio.e_value:,.0f}): look "
        "for the cause first, no difference below can be trusted"
        for ratio in comparison.ratios
        if ratio.mismatch
    ]
    return lines + [_describe_difference(each) for each in comparison.differences]


_MEASURES = {"called": "share called", "score": "mean score", "churned": "share churned", "log_loss": "log-loss"}


def _describe_difference(each: ArmDifference) -> str:
    name = f"{each.arm} against the champion, {_MEASURES[each.measure]}"
    if each.difference is None:
        return f"{name}: {each.rows:,} customers are too few to compare"
    verdict = "decided" if each.is_decided else "not decided"
    ends = f"{each.low:+.4f} to {each.high:+.4f} at any look"
    return f"{name}: {each.difference:+.4f} ({ends}, {each.rows:,} customers): {verdict}"


def describe_pairs(pairs: PairAnalysis) -> list[str]:
    """Champion and challenger on the same rows, a line each."""
    correlation = "not known" if pairs.rank_correlation is None else f"{pairs.rank_correlation:.4f}"
    low, high = pairs.quantiles["0.05"], pairs.quantiles["0.95"]
    lines = [
        f"on the same {pairs.rows:,} rows: {pairs.agreement:.2%} decided alike, {pairs.flips_to_call:,} called by the "
        f"challenger alone, {pairs.flips_to_keep:,} by the champion alone",
        f"score difference: mean {pairs.mean_difference:+.4f}, 90 % of rows between {low:+.4f} and {high:+.4f}; rank "
        f"correlation {correlation}",
    ]
    matured = pairs.matured
    if matured is not None and matured.pr_auc_difference is not None:
        lines.append(
            f"on {matured.champion.rows:,} final labels: PR-AUC {matured.pr_auc_difference.value:+.4f} "
            f"({matured.pr_auc_difference.low:+.4f} to {matured.pr_auc_difference.high:+.4f}), log-loss "
            f"{matured.log_loss_difference.value:+.4f} "  # type: ignore[union-attr]  # both or none
            f"({matured.log_loss_difference.low:+.4f} to {matured.log_loss_difference.high:+.4f})"  # type: ignore[union-attr]
        )
    elif matured is not None:
        lines.append(f"final labels: {matured.champion.message}")
    return lines
