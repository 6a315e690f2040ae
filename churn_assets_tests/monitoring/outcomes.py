"""Scores and labels of a population that is known: calibrated, of any share of churners."""

from __future__ import annotations

from typing import Any

import numpy as np

from churn_assets.monitoring.performance.realized import Outcomes


def calibrated(rows: int, seed: int = 0, middle: float = -2.0, spread: float = 1.6) -> tuple[np.ndarray, np.ndarray]:
    """(score, churned): scores are the true probabilities; `middle` is their mean in log-odds."""
    generator = np.random.default_rng(seed)
    score = 1.0 / (1.0 + np.exp(-(middle + spread * generator.standard_normal(rows))))
    return score, generator.random(rows) < score


def outcomes(score: np.ndarray, churned: np.ndarray, **columns: object) -> Outcomes:
    """One row a customer, scored by v1 in one month."""
    rows = len(score)
    usual: dict[str, Any] = {
        "seq": np.arange(1, rows + 1),
        "who": np.arange(rows),
        "score": np.asarray(score, dtype=np.float64),
        "churned": np.asarray(churned, dtype=np.bool_),
        "contacted": np.zeros(rows, dtype=np.bool_),
        "control": np.zeros(rows, dtype=np.bool_),
        "version": np.full(rows, "v1", dtype=object),
        "month": np.full(rows, "2026-01", dtype=object),
        "settled": np.full(rows, np.datetime64("2026-02-09T12:00:00", "us")),
        "spell": np.zeros(rows, dtype=np.int64),
    }
    return Outcomes(**(usual | columns))
