"""The money of a call list: its contacts only, of customers who have not left, at the calibration that is worse.

The interval holds two things that a list cannot know, as independent. One is who of the contacts is saved: each is, or
is not, with their own chance, so that the number is Poisson-binomial. The other is the discount, by its bootstrap
interval. A wrong save rate is not in it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from churn_assets.contract.limits import Value
from churn_assets.features.compile import Array
from churn_assets.scoring.scorer import Discount

if TYPE_CHECKING:
    import pyarrow as pa

# Up to here the distribution is computed exactly; beyond, the normal one differs by less than a customer.
EXACT_UP_TO = 2000
_Z = 1.959963984540054
SPLITS = {
    "random": "test customers, drawn at random",
    "out_of_time": "the newest customers, by a model trained on older ones",
}


class ListMoney(msgspec.Struct, frozen=True):
    """What the contacts of a list are expected to bring, in the contract's currency.

    `customers` have not left; `left` are marked as churned in the table, and nobody's money. `contacts` cost `cost`;
    of `churners` expected among them, `saved` stay. `profit` is what those are worth less the cost, `low` and `high`
    its 95 % interval, and `undiscounted` what it would be if the probabilities held. `control` are left alone. With
    `is_cut` more contacts would pay than a list without a capacity holds.
    """

    customers: int
    left: int
    contacts: int
    control: int
    capacity: int | None
    cost: float
    churners: float
    saved: float
    profit: float
    low: float
    high: float
    undiscounted: float
    discount: Discount
    is_cut: bool = False


def list_money(
    listed: pa.Table, value: Value, discount: Discount, customers: int, left: int = 0, *, is_cut: bool = False
) -> ListMoney:
    """The money of the contacts of a list (`call_list.SCHEMA`), out of `customers` who have not left."""
    contacted = listed.filter(listed["contact"])
    worth, bring = contacted["customer_value"].to_numpy(), contacted["expected_value"].to_numpy() + value.offer_cost
    chance = np.divide(bring, worth, out=np.zeros_like(bring), where=worth > 0.0)
    cost, gross = contacted.num_rows * value.offer_cost, float(bring.sum())
    low, high = saved_value_interval(chance, worth, discount)
    return ListMoney(
        customers=customers,
        left=left,
        contacts=contacted.num_rows,
        control=int(np.sum(listed["control"].to_numpy(zero_copy_only=False))),
        capacity=value.capacity,
        cost=cost,
        churners=float(contacted["churn_probability"].to_numpy().sum()) * discount.share,
        saved=float(chance.sum()),
        profit=gross - cost,
        low=low - cost,
        high=high - cost,
        undiscounted=gross / (discount.share or 1.0) - cost,  # nothing is contacted at a share of 0
        discount=discount,
        is_cut=is_cut,
    )


def saved_value_interval(chance: Array, worth: Array, discount: Discount) -> tuple[float, float]:
    """The 95 % interval of what saved customers are worth: each with this chance (n,), and worth (n,), in 0 and up."""
    gross, share = float(chance @ worth), discount.share or 1.0
    if len(worth) and np.ptp(worth) == 0.0:
        low, high = (float(worth[0]) * count for count in saved_interval(chance))
    else:
        spread = _Z * math.sqrt(float(np.sum(worth**2 * chance * (1.0 - chance))))
        low, high = gross - spread, gross + spread
    below, above = gross * (1.0 - min(discount.low / share, 1.0)), gross * (max(discount.high / share, 1.0) - 1.0)
    return (
        max(0.0, gross - math.hypot(max(0.0, gross - low), below)),
        gross + math.hypot(max(0.0, high - gross), above),
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


def describe_list_money(money: ListMoney) -> list[str]:
    """The headline, what it counts and what it does not, as sentences."""
    left = f"; {money.left:,} marked as churned are left out" if money.left else ""
    out_of = f"{money.customers:,} customers who have not left"
    if money.capacity == 0:
        return [f"The model is no better than random: nobody is to be contacted, of {out_of}{left}."]
    if not money.contacts:
        return [f"Under the contract's values no contact is expected to pay, of {out_of}{left}.", *_basis(money)]
    limit = f", within a capacity of {money.capacity:,}" if money.capacity is not None else ""
    if money.is_cut:
        limit = ", the longest list without a capacity in the contract"
    control = [f"{money.control:,} more are a control group: not contacted, not counted."] if money.control else []
    return [
        f"Contact {money.contacts:,} of {out_of}{limit}{left}. Expected profit: {amount(money.profit)} (95 % interval "
        f"{amount(money.low)} to {amount(money.high)}), after {amount(money.cost)} for the offers.",
        *_basis(money),
        *control,
    ]


def describe_discount(discount: Discount) -> str:
    """The share of the predicted churners that money counts, and where it is from; '' if it was not measured."""
    if not discount.split:
        return ""
    if discount.share == 1.0:
        among = SPLITS[discount.split]
        measured = (
            f"of those predicted among {among}, {discount.low:.0%} to {discount.high:.0%} churned (95 % interval)"
        )
        if discount.low == 1.0:
            measured = f"no fewer churned among {among}"
        return f"It counts all churners that the probabilities predict: {measured}."
    return (
        f"It counts {discount.share:.0%} of the churners that the probabilities predict: so many of those predicted "
        f"among {SPLITS[discount.split]}, churned (95 % interval {discount.low:.0%} to {discount.high:.0%})."
    )


def _basis(money: ListMoney) -> list[str]:
    basis = describe_discount(money.discount)
    if money.discount.share < 1.0 and money.contacts:
        basis += f" If the probabilities held, it would be {amount(money.undiscounted)}."
    return [basis] if basis else []


def amount(money: float) -> str:
    """Money as people read it: without decimals from 10 on, three figures from 1,000 on.

    >>> [amount(x) for x in (-0.4, 8.126, 74.6, 3051.2, 204_518.0)]
    ['-0.40', '8.13', '75', '3,050', '205,000']
    """
    if abs(money) < 10.0:
        return f"{money:.2f}"
    digits = min(0, 2 - math.floor(math.log10(abs(money))))
    return f"{round(money, digits):,.0f}"
