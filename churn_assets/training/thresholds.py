"""Thresholds that turn a probability into a yes or no, learnt on validation rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.policy import Value

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]


def choose_thresholds(churned: Labels, probability: Floats, value: Value, customers: int) -> dict[str, float]:
    """`f1`, `profit` and, if the contract has a capacity, `capacity`.

    `customers` is the size of the table a call list is made from: capacity is a share of it.
    """
    found = {
        "f1": f1_threshold(churned, probability),
        "profit": profit_threshold(value),
    }
    if value.capacity is not None:
        found["capacity"] = capacity_threshold(probability, min(1.0, value.capacity / customers))
    return found


def f1_threshold(churned: Labels, probability: Floats) -> float:
    """The probability from which on F1 is largest."""
    cut, hits, said = _cumulative(churned, probability)
    return float(cut[np.argmax(2 * hits / (said + np.sum(churned)))])


def profit_threshold(value: Value) -> float:
    """The probability from which contacting is expected to earn: offer_cost over what a saved churner
    is worth, save_rate x customer_value (Elkan, 2001); 1 if no contact can pay.

    It is exact for calibrated probabilities and the same line that the call list draws. The best cut
    on validation rows would chase their noise instead; `profit_curve` shows it.
    """
    gain = value.save_rate * value.customer_value
    return min(1.0, value.offer_cost / gain) if gain > 0 else 1.0


def capacity_threshold(probability: Floats, share: float) -> float:
    """The probability that `share` of the customers reach."""
    return float(np.quantile(probability, 1.0 - share, method="higher"))


def profit_curve(churned: Labels, probability: Floats, value: Value) -> tuple[Floats, Floats]:
    """Share of customers contacted, best first, and the profit so far per customer in the table."""
    order = np.argsort(-probability, kind="stable")
    hits = np.cumsum(np.asarray(churned, dtype=np.float64)[order])
    said = np.arange(1.0, len(order) + 1)
    gain = value.save_rate * value.customer_value
    return said / len(order), (hits * gain - said * value.offer_cost) / len(order)


def _cumulative(churned: Labels, probability: Floats) -> tuple[Floats, Floats, Floats]:
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(np.asarray(churned, dtype=np.float64)[order])[ends]
    return ranked[ends], hits, ends + 1.0
