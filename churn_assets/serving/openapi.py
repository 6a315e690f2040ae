"""The OpenAPI 3.0 document, its customer taken from the contract: enough to use the service by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.serving.describe import model_schema, ready_schema
from churn_assets.serving.feedback import MAX_ID, MAX_ITEMS
from churn_assets.serving.settings import ServingSettings

Schema = dict[str, Any]

_AS_OF: Schema = {
    "type": "string",
    "description": "Day at which the customer looked like this, ISO 8601. Default: today (UTC).",
    "example": "2014-01-20",
}
_STATUSES: Mapping[str, str] = {
    "400": "The body is no JSON in UTF-8, or holds NaN, an infinity or a number beyond float64.",
    "408": "The body took too long to come.",
    "413": "The body is longer than the limit; nothing of it was parsed.",
    "415": "The content type is not application/json, or the body is compressed.",
    "422": "The body breaks the contract: row, column, what was found and what is expected.",
    "503": "No model, a full or read-only disk, or too many rows waiting for it. Nothing was logged; ask again.",
}


def openapi(contract: Contract | None, settings: ServingSettings) -> Schema:
    """The document for the contract of the model that answers; without a model any object is a customer."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "churn" if contract is None else f"churn: {contract.title}",
            "version": "1" if contract is None else contract.fingerprint[:12],
            "description": "Churn probabilities. An answer is given only after it is on disk. Every error of every "
            "route has the shape of the schema Error.",
        },
        "servers": [{"url": "."}],
        "paths": _paths(settings),
        "components": {"schemas": _schemas(contract, settings)},
    }


def _paths(settings: ServingSettings) -> Schema:
    limit = f"{settings.body_bytes:,}"
    return {
        "/predict": _post(f"Score one customer. At most {limit} bytes.", "Customer", "Answer"),
        "/predict_batch": _post(
            f"Score 1 to {settings.batch_rows:,} customers in one order: all of them, or none if one is bad. "
            f"At most {settings.batch_bytes:,} bytes.",
            "Batch",
            "BatchAnswer",
        ),
        "/feedback": _post(f"Tell what became of customers. At most {limit} bytes.", "FeedbackBody", "FeedbackAnswer"),
        "/model": _get("The model that answers: figures, thresholds, columns, ladder.", "Model", busy=True),
        "/": _get("A page for people.", "text/html"),
        "/docs.json": _get("This document.", "application/json"),
        "/livez": _get("The process answers.", "text/plain"),
        "/healthz": _get("As /livez.", "text/plain"),
        "/readyz": _get("Whether a model can answer; what else is wrong.", "Ready", busy=True),
        "/metrics": _get("Metrics of all workers for Prometheus.", "text/plain"),
    }


def _post(summary: str, body: str, answer: str) -> Schema:
    return {
        "post": {
            "summary": summary,
            "parameters": [_ID],
            "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(body)}}},
            "responses": {
                "200": {"description": "Done.", "content": {"application/json": {"schema": _ref(answer)}}},
                **{status: _error(words) for status, words in _STATUSES.items()},
                "503": {**_error(_STATUSES["503"]), "headers": _RETRY},
            },
        }
    }


def _get(summary: str, media: str, busy: bool = False) -> Schema:
    """A GET whose answer has a media type, or the schema of that name."""
    schema: Schema = {"type": "object"} if media == "application/json" else {"type": "string"}
    if "/" not in media:
        media, schema = "application/json", _ref(media)
    responses = {"200": {"description": "Done.", "content": {media: {"schema": schema}}}}
    if busy:
        responses["503"] = _error("There is no model.")
    return {"get": {"summary": summary, "responses": responses}}


def _error(words: str) -> Schema:
    return {"description": words, "content": {"application/json": {"schema": _ref("Error")}}}


_RETRY = {"Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}}
_ID: Schema = {
    "name": "x-request-id",
    "in": "header",
    "description": "Comes back with the answer, and stands in the log. Default: a new one.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(contract: Contract | None, settings: ServingSettings) -> Schema:
    customer = {"type": "object"} if contract is None else customer_schema(contract, with_as_of=True)
    alone = {"type": "object"} if contract is None else customer_schema(contract, with_as_of=False)
    text, number, truth = {"type": "string"}, {"type": "number"}, {"type": "boolean"}
    warning = _object({"column": text, "found": text, "expected": text})
    fault = _object({"row": {"type": "integer"}, "column": text, "found": text, "expected": text})
    answer = _object(
        {
            "prediction_id": {**text, "description": "For feedback, and to find the row in the log."},
            "customer_id": {**text, "nullable": True},
            "churn_probability": {**number, "minimum": 0, "maximum": 1, "description": "Calibrated."},
            "churn": {**truth, "description": "Whether the probability reaches the threshold."},
            "threshold": number,
            "risk_band": {**text, "enum": ["low", "medium", "high"]},
            "model_version": text,
            "contract": text,
            "as_of": text,
            "scored_at": text,
            "warnings": {
                "type": "array",
                "items": warning,
                "description": "Values outside the training range, broken rules that only warn, a stale as_of.",
            },
        }
    )
    return {
        "Customer": customer,
        "Batch": _object(
            {
                "customers": {"type": "array", "items": alone, "minItems": 1, "maxItems": settings.batch_rows},
                "as_of": _AS_OF,
            },
            optional={"as_of"},
        ),
        "Answer": answer,
        "BatchAnswer": _object({"predictions": {"type": "array", "items": answer}}),
        "Feedback": _feedback(),
        "FeedbackBody": {
            "oneOf": [
                _ref("Feedback"),
                {"type": "array", "items": _ref("Feedback"), "minItems": 1, "maxItems": MAX_ITEMS},
            ]
        },
        "FeedbackAnswer": _object({"accepted": {"type": "integer"}, "feedback_ids": {"type": "array", "items": text}}),
        "Model": model_schema(),
        "Ready": ready_schema(),
        "Error": _object({"error": text, "detail": {"type": "array", "items": fault}}),
    }


def _feedback() -> Schema:
    name = {"type": "string", "minLength": 1, "maxLength": MAX_ID}
    return _object(
        {
            "prediction_id": {**name, "description": "This or customer_id."},
            "customer_id": name,
            "churned": {"type": "boolean"},
            "observed_at": {"type": "string", "description": "ISO 8601, not in the future.", "example": "2014-04-20"},
            "contacted": {"type": "boolean", "nullable": True, "description": "Whether an offer was made."},
        },
        optional={"prediction_id", "customer_id", "contacted"},
    )


def _object(properties: Schema, optional: set[str] | frozenset[str] = frozenset()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def customer_schema(contract: Contract, with_as_of: bool) -> Schema:
    """One customer as a flat object of the contract's columns."""
    key = contract.key
    properties = {column.name: column_schema(column) for column in (key, *contract.scoring_columns)}
    optional = {key.name}
    if with_as_of:
        properties["as_of"] = _AS_OF
        optional.add("as_of")
    return {**_object(properties, optional), "example": example(contract)}


def column_schema(column: Column) -> Schema:
    """A column's JSON type with its bounds, choices, words and example."""
    kinds: dict[Kind, Schema] = {
        Kind.NUMBER: {"type": "number"},
        Kind.INTEGER: {"type": "integer"},
        Kind.BOOLEAN: {"type": "boolean"},
        Kind.DATE: {"type": "string", "format": "date"},
        Kind.CATEGORY: {"type": "string", "enum": list(column.choices)},
    }
    schema = kinds.get(column.kind, {"type": "string", "minLength": 1})
    words = [column.doc, f"In {column.unit}." if column.unit else ""]
    if column.kind is Kind.DATE:
        bounds = (f"From {column.low}." if column.low else "", f"Until {column.high}." if column.high else "")
        words += bounds
    elif column.kind in (Kind.NUMBER, Kind.INTEGER):
        schema |= {
            name: value for name, value in (("minimum", column.low), ("maximum", column.high)) if value is not None
        }
    if column.nullable:
        schema["nullable"] = True
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return {**schema, "description": " ".join(filter(None, words)), "example": _example(column)}


def example(contract: Contract) -> dict[str, Any]:
    """A customer that keeps the contract's columns."""
    return {column.name: _example(column) for column in (contract.key, *contract.scoring_columns)}


def _example(column: Column) -> Any:
    match column.kind:
        case Kind.BOOLEAN:
            return True
        case Kind.CATEGORY:
            return column.choices[0]
        case Kind.DATE:
            # One day for all of them keeps rules such as first <= last.
            return str(column.low or column.high or "2012-06-15")
        case Kind.NUMBER | Kind.INTEGER:
            low, high = column.low, column.high
            value = float(low) if low is not None else min(0.0, float(high)) if high is not None else 1.0
            if low is not None and high is not None:
                value = float(low) + (float(high) - float(low)) // 10
            return int(value) if column.kind is Kind.INTEGER else value
        case _:
            return "C00042"
