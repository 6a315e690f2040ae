"""When a person may renew the frozen holdout, and with which customers. The rules are pure; the service holds the lock.

Customers who were frozen years ago say little about those of today, and a gate that weighs them refuses for their sake.
The rolling holdout takes their place: recent final labels of customers that are set apart, so that no model of the home
has learned from these labels. Verdicts of the past stay as they are: each says on which customers it was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from churn_assets.contract.model import Contract
from churn_assets.data.customers import AS_OF
from churn_assets.promotion.gate.comparison import FEWEST
from churn_assets.promotion.holdout import Holdout

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class RenewalFacts:
    """What a renewal depends on. `champion` is its version, None before the first; `waiting` names challengers that
    nobody has decided on, `in_flight` a retraining under way, `broken` is the message on the newest window's data; ''
    or None where there is nothing. `rows` are the rolling holdout, None where no label was reported."""

    champion: str | None
    holdout: Holdout | None
    waiting: str
    in_flight: str
    broken: str | None
    rows: pa.Table | None


def renewal_problem(facts: RenewalFacts, contract: Contract) -> str | None:
    """Why the holdout cannot be renewed, with what was expected and what to do; None if it can."""
    if facts.champion is None or facts.holdout is None:
        return "this home has no frozen holdout, expected one; the first champion freezes it: churn run"
    if facts.waiting:
        return (
            f"challenger {facts.waiting} is not decided on, expected none: it would be judged on other customers than "
            "it was registered for; wait for the gate, or churn approve or reject it"
        )
    if facts.in_flight:
        return (
            f"retraining {facts.in_flight} is under way, expected none: it may train on the customers that would be "
            "frozen; wait for its end"
        )
    if facts.broken is not None:
        return f"{facts.broken}; expected complete data before its labels are frozen: repair the feed, then run monitor"
    return _rows_problem(facts, contract)


def _rows_problem(facts: RenewalFacts, contract: Contract) -> str | None:
    floor = contract.monitoring.label_floor
    label = np.empty(0) if facts.rows is None else facts.rows["churned"].to_numpy()
    churned, rows = int(np.sum(label)), len(label)
    if rows < floor or min(churned, rows - churned) < FEWEST:
        return (
            f"{rows:,} customers that are set apart have a recent final label, {churned:,} of them churned; expected "
            f"at least {floor:,} (monitoring.label_floor), {FEWEST} churned and as many kept; wait for more, then run "
            "monitor"
        )
    present = facts.holdout.rows if facts.holdout else None
    if facts.rows is not None and present is not None and _pairs(facts.rows, contract) <= _pairs(present, contract):
        return "these customers are frozen already, expected newer labels; wait for them, then run monitor"
    return None


def _pairs(rows: pa.Table, contract: Contract) -> frozenset[tuple[object, ...]]:
    """Who was seen when; a table without the day of each row has none."""
    names = [name for name in (contract.key.name, AS_OF) if name in rows.column_names]
    return frozenset(zip(*(rows[name].to_pylist() for name in names), strict=True)) if len(names) > 1 else frozenset()
