"""What a budget buys: how long the list gets and what it is expected to bring, with the interval of `list_money`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from churn_assets.contract.limits import Value
from churn_assets.contract.load import parse_contract
from churn_assets.errors import AssetMissing, SettingsError
from churn_assets.features.compile import Array
from churn_assets.scoring.bundle import CONTRACT, read_card
from churn_assets.scoring.call_list import value_of
from churn_assets.scoring.list_money import saved_value_interval
from churn_assets.scoring.scorer import Discount

if TYPE_CHECKING:
    import pyarrow as pa


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
    """The best use of `budget` on `call_list`, the Parquet file of the asset risk_list, and the `[value]` by which that
    was made. Raises AssetMissing if there is no list, and SettingsError for a negative budget."""
    import pyarrow.parquet as pq

    if not call_list.is_file():
        raise AssetMissing(f"{call_list}: does not exist; expected the call list of this home; make it: churn run")
    listed = pq.read_table(call_list)
    value = list_value(bundle, listed)
    return plan_listed(listed, value, list_discount(bundle), budget, capacity=capacity), value


def list_value(bundle: Path, listed: pa.Table) -> Value:
    """The `[value]` by which a list was made, else that of the bundle's contract. Raises BundleCorrupt."""
    return value_of(listed) or parse_contract((bundle / CONTRACT).read_text(encoding="utf-8"), CONTRACT).value


def list_discount(bundle: Path) -> Discount:
    """The share of predicted churners that count, from the card. Raises BundleCorrupt."""
    card = read_card(bundle)
    return card.profit.discount if card.profit else Discount()


def plan_listed(listed: pa.Table, value: Value, discount: Discount, budget: float, *, capacity: bool = True) -> Plan:
    """The best use of `budget` on a list (`call_list.SCHEMA`) that was made by `value`. The control group is left out.
    Raises SettingsError for a negative budget."""
    import pyarrow.compute as pc

    probability = listed["churn_probability"].to_numpy()
    if "customer_value" not in listed.column_names:  # a list of an earlier release: one value for everybody
        return plan(probability, value, budget, capacity=capacity)
    listed = listed.filter(pc.invert(listed["control"]))
    worth, bring = listed["customer_value"].to_numpy(), listed["expected_value"].to_numpy() + value.offer_cost
    saved = np.divide(bring, worth, out=np.zeros_like(bring), where=worth > 0.0)
    offers = Offers(listed["churn_probability"].to_numpy() * discount.share, saved, worth, discount)
    return plan(offers.churn, value, budget, capacity=capacity, offers=offers)


@dataclass(frozen=True)
class Offers:
    """Customers (n,): the chance that each churns, that an offer saves them, and their value then."""

    churn: Array
    saved: Array
    worth: Array
    discount: Discount

    def take(self, rows: npt.NDArray[np.int64]) -> Offers:
        """Some of them."""
        return Offers(self.churn[rows], self.saved[rows], self.worth[rows], self.discount)


def plan(
    probability: Array, value: Value, budget: float, *, capacity: bool = True, offers: Offers | None = None
) -> Plan:
    """Spend `budget` on customers with these churn probabilities (n,), or on `offers` where values differ, best first.
    `capacity=False` leaves the contract's capacity out. Raises SettingsError for a negative budget."""
    if not (budget >= 0.0 and np.isfinite(budget)):
        raise SettingsError(f"the budget is {budget}, expected an amount of at least 0 in the contract's currency")
    churn = np.asarray(probability, dtype=np.float64)
    if offers is None:
        offers = Offers(churn, churn * value.save_rate, np.full(len(churn), value.customer_value), Discount())
    expected = offers.saved * offers.worth - value.offer_cost
    order = np.lexsort((-offers.churn, -expected))
    limits = {
        "customers": len(order),
        "value": int(np.sum(expected > 0.0)),
        "budget": int(min(len(order), budget // value.offer_cost)) if value.offer_cost > 0.0 else len(order),
    }
    if capacity and value.capacity is not None:
        limits["capacity"] = value.capacity
    limit = min(limits, key=lambda name: limits[name])
    listed = offers.take(order[: limits[limit]])
    cost = len(listed.churn) * value.offer_cost
    low, high = saved_value_interval(listed.saved, listed.worth, offers.discount)
    return Plan(
        budget=budget,
        customers=len(order),
        contacts=len(listed.churn),
        cost=cost,
        expected_churners=float(listed.churn.sum()),
        expected_saved=float(listed.saved.sum()),
        net_value=float(listed.saved @ listed.worth) - cost,
        low=low - cost,
        high=high - cost,
        limit=limit,
    )
