"""Thresholds from which on a customer is predicted to churn, set on validation rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.policy import Value
from churn_assets.evaluation.metrics import Ranking

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]


def choose_thresholds(churned: Labels, probability: Floats, value: Value, customers: int) -> dict[str, float]:
    """`f1`, `profit` and, if the contract has a capacity, `capacity`.

    `customers` is the size of the table a call list is made from: capacity is a share of it.
    """
    thresholds = {"f1": f1_threshold(churned, probability), "profit": profit_threshold(value)}
    if value.capacity is not None:
        thresholds["capacity"] = capacity_threshold(probability, min(1.0, value.capacity / customers))
    return thresholds


def f1_threshold(churned: Labels, probability: Floats) -> float:
    """The threshold with the largest F1; customers of equal probability are predicted alike."""
    ranking = Ranking(churned, probability)
    predicted, true_positives = ranking.counts()
    return float(ranking.cuts[np.argmax(2 * true_positives / (predicted + np.sum(churned)))])


def profit_threshold(value: Value) -> float:
    """The probability from which on a contact is expected to pay: offer_cost over save_rate x customer_value
    (Elkan, 2001); 1 if no contact can pay.

    It is exact for calibrated probabilities and the threshold of the call list. The best cut on validation rows
    would follow their noise instead.
    """
    gain = value.save_rate * value.customer_value
    return min(1.0, value.offer_cost / gain) if gain > 0 else 1.0


def capacity_threshold(probability: Floats, share: float) -> float:
    """The probability that `share` of the customers reach."""
    return float(np.quantile(probability, 1.0 - share, method="higher"))
