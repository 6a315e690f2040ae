"""The money of a call list: its contacts only, of customers who have not left, at the calibration that is worse.

The interval holds two things that a list cannot know, as independent: who of the contacts is saved (each with their own
chance, normal approximation), and the discount (its bootstrap interval). It does not hold a wrong save rate.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from churn_assets.contract.limits import Value
from churn_assets.scoring.scorer import Discount

if TYPE_CHECKING:
    import pyarrow as pa

_Z = 1.959963984540054
SPLITS = {"random": "test customers drawn at random", "out_of_time": "the newest customers, out of time"}


class ListMoney(msgspec.Struct, frozen=True):
    """What the contacts of a list are expected to bring, in the contract's currency.

    `customers` have not left; `left` are marked as churned in the table, and nobody's money. `contacts` cost `cost`;
    of `churners` expected among them, `saved` stay. `profit` is what those are worth less the cost, `low` and `high`
    its 95 % interval, and `undiscounted` what it would be if the probabilities held. `control` customers were left alone.
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


def list_money(listed: pa.Table, value: Value, discount: Discount, customers: int, left: int = 0) -> ListMoney:
    """The money of the rows of a call list (`call_list.SCHEMA`) with `contact`, out of `customers` who have not left."""
    contacted = listed.filter(listed["contact"])
    worth, bring = contacted["customer_value"].to_numpy(), contacted["expected_value"].to_numpy() + value.offer_cost
    chance = np.divide(bring, worth, out=np.zeros_like(bring), where=worth > 0.0)
    cost, gross = contacted.num_rows * value.offer_cost, float(bring.sum())
    by_chance = _Z * math.sqrt(float(np.sum(worth**2 * chance * (1.0 - chance))))
    share = discount.share or 1.0  # nothing is contacted at a share of 0
    below, above = (gross * abs(end / share - 1.0) for end in (min(discount.low, share), max(discount.high, share)))
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
        low=max(-cost, gross - cost - math.hypot(by_chance, below)),
        high=gross - cost + math.hypot(by_chance, above),
        undiscounted=gross / share - cost,
        discount=discount,
    )


def describe_list_money(money: ListMoney) -> list[str]:
    """The headline, what it counts and what it does not, as sentences."""
    left = f"; {money.left:,} marked as churned are left out" if money.left else ""
    out_of = f"{money.customers:,} customers who have not left{left}"
    if not money.contacts:
        return [f"Under the contract's values no contact is expected to pay, of {out_of}.", *_basis(money)]
    limit = f", capacity {money.capacity:,}" if money.capacity is not None else ""
    control = [f"{money.control:,} more are a control group: not contacted, not counted."] if money.control else []
    return [
        f"Contact {money.contacts:,} of {out_of}{limit}. Expected profit: {amount(money.profit)} (95 % interval "
        f"{amount(money.low)} to {amount(money.high)}), after {amount(money.cost)} for the offers.",
        *_basis(money),
        *control,
    ]


def _basis(money: ListMoney) -> list[str]:
    discount = money.discount
    if not discount.split:
        return []
    end = f"; if the probabilities held, it would be {amount(money.undiscounted)}" if money.contacts else ""
    return [
        f"This counts {discount.share:.0%} of the churners that the probabilities predict: of {SPLITS[discount.split]}, "
        f"only so many of those predicted churned (95 % interval {discount.low:.0%} to {discount.high:.0%}){end}."
    ]


def amount(money: float) -> str:
    """Money as people read it: without decimals from 10 on, three figures from 1,000 on.

    >>> [amount(x) for x in (-0.4, 8.126, 74.6, 3051.2, 204_518.0)]
    ['-0.40', '8.13', '75', '3,050', '205,000']
    """
    if abs(money) < 10.0:
        return f"{money:.2f}"
    digits = min(0, 2 - math.floor(math.log10(abs(money))))
    return f"{round(money, digits):,.0f}"
