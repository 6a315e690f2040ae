"""One customer in, one answer out; no HTTP here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from churn_assets.errors import RowsRejected, Violation
from churn_assets.scoring.scorer import Scorer

AS_OF = "as_of"


def answer(scorer: Scorer, customer: Mapping[str, Any], today: dt.date) -> dict[str, Any]:
    """Score one customer: the contract's columns, optionally the key, and `as_of` (ISO; default `today`).

    Raises RowsRejected, which names column, found and expected.
    """
    key = scorer.contract.key.name
    row = {name: value for name, value in customer.items() if name not in (AS_OF, key)}
    as_of = _instant(customer.get(AS_OF), today)
    probability = scorer.score_rows([row], as_of).probability
    customer_id = customer.get(key)
    return {
        "customer_id": None if customer_id is None else str(customer_id),
        "churn_probability": float(probability[0]),
        "churn": bool(scorer.decide(probability)[0]),
        "threshold": scorer.thresholds.value,
        "risk_band": str(scorer.band(probability)[0]),
        "as_of": as_of.isoformat(),
        "model_version": scorer.version,
        "contract": scorer.contract.name,
    }


def _instant(value: object, today: dt.date) -> dt.date:
    if value is None:
        return today
    try:
        return dt.datetime.fromisoformat(str(value)).date()
    except ValueError:
        expected = "an ISO date such as 2026-01-31"
        raise RowsRejected([Violation(0, AS_OF, f"'{value}'", expected)]) from None
