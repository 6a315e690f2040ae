"""The arms of a canary or A/B against the champion's, by tests that stay valid however often they are looked at.

A customer is one draw: his first row of the whole release counts, and its label. Arms are sticky, so his rows under the
next policy repeat what the first has shown. Rows are compared within a policy, in which the shares of the arms are
constant (`sequential`). The sample ratio is checked first: if customers do not come to the arms by their weights, who
comes depends on something else, and no difference holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from churn_assets.evaluation.metrics import losses
from churn_assets.release.outcomes import MaturedRows, mature
from churn_assets.release.policy import CHAMPION, FALLBACK, Policy, share_of
from churn_assets.release.sequential import Sums, mean_shift, sample_ratio

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Floats = npt.NDArray[np.float64]
Measure = Literal["called", "score", "churned", "log_loss"]

ALPHA = 0.05  # of each interval, at all looks together
RATIO_ALPHA = 0.001  # a mismatch is a fault to look for, and is seldom a doubt
FEWEST_ROWS = 200  # of each arm: below, an asymptotic interval is not read
_LEAST_VARIANCE = 1e-4
_OF_POLICIES = "policy IN (SELECT unnest($policies::VARCHAR[])) AND test IS NOT TRUE AND shadow IS NOT TRUE"
_CUSTOMER = "coalesce(customer_id, ' ' || prediction_id)"
_FIRST_ROWS = f"""
    SELECT arg_min(policy, seq) AS policy, arg_min(arm, seq) AS arm, arg_min(prediction_id, seq) AS prediction_id,
        arg_min(score, seq) AS score, arg_min(decision, seq) AS decision, arg_min(status, seq) AS status
    FROM predictions WHERE {_OF_POLICIES} GROUP BY {_CUSTOMER} ORDER BY min(seq)
"""
_CUSTOMERS = f"""
    WITH customers AS (
        SELECT policy, arg_min(arm, seq) AS arm, arg_min(status, seq) = '{FALLBACK}' AS fell_back,
            arg_min(coalesce(customer_id, prediction_id), seq) AS hashed
        FROM predictions WHERE {_OF_POLICIES} GROUP BY policy, {_CUSTOMER}
    )
    SELECT policy, arm, fell_back, count(*), list(hashed) FILTER (fell_back) FROM customers GROUP BY ALL
"""


@dataclass(frozen=True)
class SampleRatio:
    """Distinct customers by arm in one policy, also those of earlier policies, beside their weights. An `e_value` of
    1,000 or more is a mismatch at .001, at any look."""

    policy: str
    customers: dict[str, int]
    weights: dict[str, float]
    e_value: float
    mismatch: bool


@dataclass(frozen=True)
class ArmDifference:
    """An arm against the champion's: the difference of a mean, arm minus champion, with an interval that holds at 95 %
    at all looks together; None below 200 rows of either. `rows` are those of the arm that has fewer."""

    arm: str
    measure: Measure
    rows: int
    difference: float | None
    low: float | None
    high: float | None

    @property
    def is_decided(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and not self.low <= 0.0 <= self.high


@dataclass(frozen=True)
class ArmComparison:
    """The checks of the sample ratio by policy, and every difference."""

    ratios: tuple[SampleRatio, ...]
    differences: tuple[ArmDifference, ...]


def compare_arms(
    connection: duckdb.DuckDBPyConnection, policies: Sequence[Policy], labelled: pa.Table | None = None
) -> ArmComparison:
    """Compare the arms of one release; `policies` are its canaries or A/Bs, oldest first. `labelled` is the asset
    `labelled_predictions`; without it nothing is said of churn and log-loss."""
    import pyarrow.compute as pc

    values = {"policies": [policy.id for policy in policies]}
    ratios = _check_ratios(connection, policies)
    rows = connection.sql(_FIRST_ROWS, params=values).to_arrow_table()
    parts = []
    for policy in policies:
        own = rows.filter(pc.equal(rows["policy"], policy.id))
        # A row that the champion answered in place of another arm is a customer of that arm: none of the champion's.
        answered = own.filter(pc.equal(own["status"], "ok"))
        arms = {arm.name: answered.filter(pc.equal(answered["arm"], arm.name)) for arm in policy.arms}
        parts.append({name: _values_of(arm, labelled) for name, arm in arms.items()})
    names = [arm.name for arm in policies[-1].arms if arm.name != CHAMPION]
    measures: tuple[Measure, ...] = ("called", "score", "churned", "log_loss")
    differences = [_difference(parts, name, measure) for name in names for measure in measures]
    return ArmComparison(ratios, tuple(each for each in differences if each.rows))


def _check_ratios(connection: duckdb.DuckDBPyConnection, policies: Sequence[Policy]) -> tuple[SampleRatio, ...]:
    """Of each policy that has customers and shares them out."""
    ids = [policy.id for policy in policies]
    counts: dict[str, Counter[str]] = {policy.id: Counter() for policy in policies}
    by_id = {policy.id: policy for policy in policies}
    rows = connection.execute(_CUSTOMERS, {"policies": ids}).fetchall()
    for policy_id, arm, fell_back, customers, hashed in rows:
        if fell_back:  # the row says that the champion answered, the hash whose customer it is
            policy = by_id[policy_id]
            counts[policy_id].update(policy.choose(share_of(policy.salt, who)).name for who in hashed)
        else:
            counts[policy_id][arm] += customers
    ratios = (_ratio_of(policy, counts[policy.id]) for policy in policies if counts[policy.id])
    return tuple(ratio for ratio in ratios if ratio is not None)


def _ratio_of(policy: Policy, counts: Mapping[str, int]) -> SampleRatio | None:
    """None where one arm has all customers."""
    weights = {arm.name: arm.weight for arm in policy.arms if arm.weight > 0.0}
    if len(weights) < 2:
        return None
    customers = {name: counts.get(name, 0) for name in weights}
    e_value = float(sample_ratio(list(customers.values()), list(weights.values())))
    return SampleRatio(policy.id, customers, weights, e_value, e_value >= 1.0 / RATIO_ALPHA)


def _values_of(rows: pa.Table, labelled: pa.Table | None) -> Mapping[Measure, Floats]:
    """The values (n,) of each measure of one arm in one policy."""
    score = rows["score"].to_numpy()
    called = rows["decision"].to_numpy().astype(np.float64)
    nothing = np.empty(0)
    if labelled is None:
        return {"called": called, "score": score, "churned": nothing, "log_loss": nothing}
    matured: MaturedRows = mature(labelled, rows["prediction_id"], {"score": score}, first=True)
    churned = matured.churned.astype(np.float64)
    return {"called": called, "score": score, "churned": churned, "log_loss": losses(churned, matured.scores["score"])}


def _difference(parts: Sequence[Mapping[str, Mapping[Measure, Floats]]], arm: str, measure: Measure) -> ArmDifference:
    own, base = ([part[name][measure] for part in parts if name in part] for name in (arm, CHAMPION))
    rows = min(sum(map(len, own)), sum(map(len, base)))
    if rows < FEWEST_ROWS:
        return ArmDifference(arm, measure, rows, None, None, None)
    shift, interval = mean_shift(_sums(own), _sums(base), ALPHA, _LEAST_VARIANCE)
    return ArmDifference(arm, measure, rows, float(shift), float(interval.low), float(interval.high))


def _sums(parts: Sequence[Floats]) -> Sums:
    """The sums of each policy (K,)."""
    counts = np.array([len(part) for part in parts], dtype=np.float64)
    return Sums(counts, np.array([part.sum() for part in parts]), np.array([(part**2).sum() for part in parts]))
