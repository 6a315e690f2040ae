"""The model that answers, for people and programs: GET /model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from churn_assets.contract.model import Column, Role
from churn_assets.serving.model import Served


def describe_model(served: Served) -> dict[str, Any]:
    """Version, figures with their intervals, thresholds, and the columns a customer must have."""
    scorer, card = served.scorer, served.card
    return {
        "version": scorer.version,
        "kind": scorer.model.kind,
        "trained_at": served.provenance.get("made_at"),
        "as_of": card.get("as_of"),
        "generated": bool(served.provenance.get("generated")),
        "contract": scorer.contract.name,
        "fingerprint": scorer.contract.fingerprint,
        "title": scorer.contract.title,
        "label": scorer.contract.label.meaning,
        "columns": [describe_column(column) for column in columns_of(served)],
        "features": list(scorer.program.names),
        "training_ranges": {name: list(pair) for name, pair in scorer.ranges.items()},
        "thresholds": dict(scorer.thresholds.values),
        "threshold": scorer.thresholds.value,
        "decided_by": scorer.thresholds.chosen,
        "bands": {"medium": scorer.bands.medium, "high": scorer.bands.high},
        "metrics": card.get("metrics", {}),
        "ladder": _ladder(served.ladder),
    }


def _ladder(audit: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the headline rests on: figures under weaker assumptions, and by the customers' age."""
    if audit is None:
        return None
    return {name: audit.get(name) for name in ("recipe", "rungs", "bands", "suspects", "findings", "sentences")}


def columns_of(served: Served) -> list[Column]:
    """The columns of a request: the key, then what a score needs."""
    return [served.contract.key, *served.contract.scoring_columns]


def describe_column(column: Column) -> dict[str, Any]:
    """A column as a client must fill it."""
    described = {
        "name": column.name,
        "kind": str(column.kind),
        "required": column.role is not Role.KEY,
        "nullable": column.nullable or column.role is Role.KEY,
        "low": column.low,
        "high": column.high,
        "choices": list(column.choices) or None,
        "unit": column.unit or None,
        "doc": column.doc or None,
    }
    return {name: value for name, value in described.items() if value is not None}
