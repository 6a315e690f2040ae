"""Rows of the log as the service writes them."""

from __future__ import annotations

from datetime import UTC, datetime

from churn_assets.prediction_log.records import Prediction


def prediction(number: int, **changes: object) -> Prediction:
    """The prediction of this number, one of fifty customers."""
    values: dict[str, object] = {
        "prediction_id": f"p{number:08d}",
        "request_id": f"r{number:08d}",
        "customer_id": f"c{number % 50}",
        "as_of": "2026-01-01",
        "scored_at": datetime.now(UTC).isoformat(),
        "score": 0.25,
        "margin": -1.1,
        "decision": False,
        "threshold": 0.3,
        "risk_band": "medium",
        "model_version": "0123456789abcdef",
        "contract": "store",
        "fingerprint": "f" * 64,
        "arm": "champion",
        "policy": "p1",
        "status": "ok",
        "latency_us": 250.0,
        "warnings": [],
        "features": {"avgorder": 54.0, "city": "DEL", "note": "Ä"},
    }
    return Prediction(**{**values, **changes})
