"""What a budget buys: how long the list gets and what it is expected to bring, with an interval.

The interval is what chance leaves open if the probabilities and the contract's `save_rate` hold: each
contact saves a churner or does not, independently, so the number saved is Poisson-binomial. It says
nothing about a wrong save rate or a wrong model; `training.profit` varies those.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from churn_assets.contract.limits import Value
from churn_assets.contract.load import parse_contract
from churn_assets.errors import AssetMissing, SettingsError
from churn_assets.features.compile import Array
from churn_assets.scoring.bundle import CONTRACT
from churn_assets.scoring.call_list import expected_value

# Up to here the distribution is computed exactly; beyond, the normal one differs by less than a customer.
EXACT_UP_TO = 2000
_Z = 1.959963984540054


@dataclass(frozen=True)
class Plan:
    """The best list a budget pays for, out of `customers`.

    `contacts` customers for `cost`; `expected_churners` among them, `expected_saved` of whom stay;
    `net_value` is what they are worth less the cost, `low` and `high` its 95 % interval. `limit` says what ends the
    list: budget, capacity, value (further contacts cost more than they bring) or customers.
    """

    budget: float
    customers: int
    contacts: int
    cost: float
    expected_churners: float
    expected_saved: float
    net_value: float
    low: float
    high: float
    limit: str


def plan_call_list(bundle: Path, call_list: Path, budget: float, *, capacity: bool = True) -> tuple[Plan, Value]:
    """The best use of `budget` on `call_list` (Parquet with `churn_probability`), and its contract's values. Raises
    AssetMissing if there is no call list, and SettingsError for a negative budget."""
    import pyarrow.parquet as pq

    if not call_list.is_file():
        raise AssetMissing(f"{call_list}: does not exist; expected the call list of this home; make it: churn run")
    value = parse_contract((bundle / CONTRACT).read_text(encoding="utf-8"), CONTRACT).value
    probability = pq.read_table(call_list, columns=["churn_probability"])["churn_probability"].to_numpy()
    return plan(probability, value, budget, capacity=capacity), value


def plan(probability: Array, value: Value, budget: float, *, capacity: bool = True) -> Plan:
    """Spend `budget` on customers with these churn probabilities (n,), best first. `capacity=False` leaves the
    contract's capacity out. Raises SettingsError for a negative budget."""
    if not (budget >= 0.0 and np.isfinite(budget)):
        raise SettingsError(f"the budget is {budget}, expected an amount of at least 0 in the contract's currency")
    best = np.sort(np.asarray(probability, dtype=np.float64))[::-1]
    limits = {
        "customers": len(best),
        "value": int(np.sum(expected_value(best, value) > 0.0)),
        "budget": int(min(len(best), budget // value.offer_cost)) if value.offer_cost > 0.0 else len(best),
    }
    if capacity and value.capacity is not None:
        limits["capacity"] = value.capacity
    limit = min(limits, key=lambda name: limits[name])
    listed = best[: limits[limit]]
    low, high = saved_interval(listed * value.save_rate)
    cost = len(listed) * value.offer_cost
    saved = float(listed.sum()) * value.save_rate
    return Plan(
        budget=budget,
        customers=len(best),
        contacts=len(listed),
        cost=cost,
        expected_churners=float(listed.sum()),
        expected_saved=saved,
        net_value=saved * value.customer_value - cost,
        low=low * value.customer_value - cost,
        high=high * value.customer_value - cost,
        limit=limit,
    )


def saved_interval(chance: Array) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of how many of independent events with these chances (n,) happen.

    Exact by convolution (Hong, "On computing the distribution function for the Poisson binomial
    distribution", CSDA 2013) up to EXACT_UP_TO events, the normal approximation beyond.
    """
    if not len(chance):
        return 0.0, 0.0
    if len(chance) > EXACT_UP_TO:
        mean, spread = float(chance.sum()), _Z * float(np.sqrt(np.sum(chance * (1.0 - chance))))
        return max(0.0, mean - spread), min(float(len(chance)), mean + spread)
    mass = np.zeros(len(chance) + 1)
    mass[0] = 1.0
    for count, p in enumerate(chance, start=1):
        mass[1 : count + 1] = mass[1 : count + 1] * (1.0 - p) + mass[:count] * p
        mass[0] *= 1.0 - p
    reached = np.cumsum(mass)
    return float(np.searchsorted(reached, 0.025)), float(np.searchsorted(reached, 0.975))
