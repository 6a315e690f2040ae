"""Labelled predictions as a table, without a log."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from churn_assets.monitoring.performance.labels import label_schema
from churn_assets_tests.monitoring.log import AS_OF, MATURE
from churn_assets_tests.scoring.tiny import CONTRACT


def labelled_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows are given by what differs from a final row of the fingerprint 'f'."""
    usual = {
        "as_of": AS_OF,
        "scored_at": AS_OF,
        "matures_at": MATURE,
        "observed_at": MATURE,
        "received_at": MATURE,
        "score": 0.25,
        "model_version": "v1",
        "fingerprint": "f",
        "arm": "champion",
        "label_state": "final",
        "churned": False,
        "part": "train",
    }
    made = [usual | {"prediction_id": f"p{row['seq']}"} | row for row in rows]
    return pa.Table.from_pylist(made, schema=label_schema(CONTRACT))
