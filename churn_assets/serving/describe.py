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


def model_schema() -> dict[str, Any]:
    """What `describe_model` gives, as JSON Schema."""
    text, number, several = {"type": "string"}, {"type": "number"}, {"type": "array", "items": {"type": "string"}}
    words = {
        "version": {**text, "description": "Of the bundle: a hash of its content."},
        "kind": {**text, "description": "logistic, boosted, network or blend."},
        "trained_at": {**text, "nullable": True},
        "as_of": {**text, "nullable": True, "description": "Day at which the training customers looked as they did."},
        "generated": {"type": "boolean", "description": "Whether it learnt from made-up customers."},
        "contract": text,
        "fingerprint": {**text, "description": "Hash of everything in the contract but its prose."},
        "title": text,
        "label": {**text, "description": "What churn means here."},
        "columns": {"type": "array", "items": {"type": "object"}, "description": "Of a request, with their bounds."},
        "features": several,
        "training_ranges": {"type": "object", "description": "[low, high] of each feature; outside it answers warn."},
        "thresholds": {"type": "object", "additionalProperties": number, "description": "By purpose."},
        "threshold": {**number, "description": "The one that decides."},
        "decided_by": {**text, "description": "Which of the thresholds that is."},
        "bands": {"type": "object", "additionalProperties": number},
        "metrics": {"type": "object", "description": "Figures on test rows, with 95 % intervals."},
        "ladder": {
            "type": "object",
            "nullable": True,
            "description": "The figures under weaker assumptions (rungs), by the customers' age (bands), the columns "
            "that must be vouched for (suspects, findings), and all of it in two sentences.",
        },
    }
    return {"type": "object", "properties": words, "required": list(words)}


def ready_schema() -> dict[str, Any]:
    """What `GET /readyz` answers when it is 200."""
    reasons = {
        "model_refused": {"type": "string", "description": "Why the bundle that should answer does not."},
        "log": {"type": "string", "description": "Why the prediction log cannot be written."},
    }
    properties = {
        "ready": {"type": "boolean"},
        "model_version": {"type": "string"},
        "detail": {"type": "object", "properties": reasons},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}
