"""Rows to log, and rows of a log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from churn_assets.prediction_log.records import Prediction, encode_line
from churn_assets.prediction_log.warehouse.read import read_lines


def prediction(number: int, worker: str = "w") -> Prediction:
    return Prediction(
        prediction_id=f"{worker}-{number}",
        request_id="r",
        customer_id=f"c{number}",
        as_of="2014-01-20",
        scored_at="2026-11-21T00:00:00+00:00",
        score=0.25,
        margin=-1.1,
        decision=False,
        threshold=0.3,
        risk_band="low",
        model_version="0" * 16,
        contract="tiny",
        fingerprint="f" * 64,
        arm="champion",
        policy="champion",
        status="ok",
        latency_us=120.0,
        warnings=[],
        features={"sent": number},
    )


def line(number: int, worker: str = "w") -> bytes:
    return encode_line(prediction(number, worker))


def rows_of(folder: Path, archive: Path | None = None) -> Iterator[dict[str, Any]]:
    """Every row of a log, decoded."""
    return (json.loads(line.json) for line in read_lines(folder, archive=archive))
