"""What goes over the wire: the types of every response, and the OpenAPI document made of them.

msgspec generates the schemas of our types; that of a customer is made from the contract of the model that answers.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from churn_assets.contract.model import Column, Contract, Kind, Role
from churn_assets.contract.values import MAX_ID
from churn_assets.errors import CONTROLS, Violation
from churn_assets.features.encode import whole_choices
from churn_assets.scoring.explanations.anchor import Anchor
from churn_assets.scoring.explanations.contributions import Explanation
from churn_assets.scoring.explanations.counterfactual import Counterfactuals
from churn_assets.scoring.online import InputWarning
from churn_assets.scoring.scorer import Bands
from churn_assets.serving.open_inference import messages as v2
from churn_assets.serving.releases import messages as releases
from churn_assets.settings import ServingSettings

MAX_REPORTS = 10_000  # of one POST /feedback
ID_PATTERN = rf"^[^{CONTROLS}]*[^{CONTROLS}\s][^{CONTROLS}]*$"  # not blank
TEXT_PATTERN = r"[^\s\x1c-\x1f\x85]"  # not blank
_REF = "#/components/schemas/{name}"

# What a key needs for each route, in a home that has keys.
ROUTE_SCOPES = {"/predict": "predict", "/predict_batch": "predict", "/feedback": "feedback"}
ROUTE_SCOPES |= dict.fromkeys(("/model", "/", "/docs", "/redoc", "/docs.json", "/healthz", "/metrics"), "view")
EXPLANATIONS = ("/explain", "/counterfactual", "/anchor")
ROUTE_SCOPES |= dict.fromkeys(EXPLANATIONS, "explain")
ROUTE_SCOPES |= dict.fromkeys((v2.PREFIX, *v2.MODEL_ROUTES, *v2.MODEL_READY_ROUTES, *v2.INFER_ROUTES), "predict")
RELEASE, RETRAIN = "/release", "/retrain"
ROUTE_SCOPES |= dict.fromkeys((RELEASE, RETRAIN), "release")
READ_SCOPES = {RELEASE: "view"}  # this one will do for GET and HEAD as well
OPEN_ROUTES = ("/livez", "/readyz", v2.LIVE, v2.READY)

Schema = dict[str, Any]  # a piece of JSON Schema or OpenAPI, which is JSON of any shape
Example = dict[str, str | float | bool]  # a customer
Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID, pattern=ID_PATTERN)]
CustomerId = Annotated[Id | int | None, Meta(description="As in the table; a whole number is its digits.")]


class PredictionResponse(Struct, frozen=True, gc=False):
    """The prediction for one customer."""

    prediction_id: Annotated[str, Meta(description="For feedback, and to find the row in the log.")]
    customer_id: str | None
    churn_probability: Annotated[float, Meta(ge=0, le=1, description="Calibrated.")]
    churn: Annotated[bool, Meta(description="Whether the probability reaches the threshold.")]
    threshold: float
    risk_band: Annotated[str, Meta(extra_json_schema={"enum": ["low", "medium", "high"]})]
    model_version: str
    contract: str
    as_of: str
    scored_at: str
    warnings: Annotated[
        list[InputWarning],
        Meta(description="Values outside the training range, broken rules that only warn, an unusual as_of."),
    ]


class BatchResponse(Struct, frozen=True):
    """The predictions for many customers, in their order."""

    predictions: list[PredictionResponse]


class FeedbackReport(Struct, frozen=True, forbid_unknown_fields=True):
    """The outcome of one customer, named by prediction_id or customer_id."""

    churned: bool
    observed_at: Annotated[
        str, Meta(description="ISO 8601, not in the future.", extra_json_schema={"example": "2014-04-20"})
    ]
    prediction_id: Annotated[Id, Meta(description="This or customer_id.")] | None = None
    customer_id: CustomerId = None
    contacted: Annotated[bool | None, Meta(description="Whether an offer was made.")] = None


FeedbackBody = FeedbackReport | Annotated[list[FeedbackReport], Meta(min_length=1, max_length=MAX_REPORTS)]


class FeedbackResponse(Struct, frozen=True):
    """The reports that are on disk now."""

    accepted: int
    feedback_ids: list[str]


class ColumnDescription(Struct, frozen=True, omit_defaults=True):
    """A column of a customer, with its bounds."""

    name: str
    kind: str
    required: bool
    nullable: bool
    low: float | int | str | None = None
    high: float | int | str | None = None
    choices: list[str] | None = None
    unit: str | None = None
    doc: str | None = None


class ModelDescription(Struct, frozen=True):
    """The model that answers."""

    version: Annotated[str, Meta(description="Of the bundle: a hash of its content.")]
    kind: Annotated[str, Meta(description="logistic, boosted, network or blend.")]
    trained_at: str | None
    as_of: Annotated[str | None, Meta(description="Day at which the training customers had their values.")]
    generated: Annotated[bool, Meta(description="Whether it was trained on generated customers.")]
    contract: str
    fingerprint: Annotated[str, Meta(description="Hash of everything in the contract but its prose.")]
    title: str
    label: Annotated[str, Meta(description="What churn means here.")]
    columns: Annotated[list[ColumnDescription], Meta(description="Of a request, with their bounds.")]
    features: list[str]
    training_ranges: Annotated[
        dict[str, tuple[float, float]], Meta(description="[low, high] of each feature; a value outside is warned of.")
    ]
    thresholds: Annotated[dict[str, float], Meta(description="By purpose.")]
    threshold: Annotated[float, Meta(description="The one that decides.")]
    decided_by: Annotated[str, Meta(description="Which of the thresholds that is.")]
    bands: Bands
    metrics: Annotated[
        dict[str, float | None],
        Meta(
            description="On test rows, with 95 % intervals. Where fewer than 10 of them churned, or fewer than 10 "
            "stayed, there are only `test_rows` and `test_churn_rate`."
        ),
    ]
    ladder: Annotated[
        dict[str, Any] | None,
        Meta(
            description="The metrics under weaker assumptions (rungs), by the customers' age (bands), the columns "
            "that somebody must attest (suspects, findings) or that the model leaves out (left_out), and a summary of "
            "two sentences; a part that the audit did not write is absent."
        ),
    ]


class ReadyDetail(Struct, frozen=True, omit_defaults=True):
    """What is wrong although the service answers."""

    model_refused: Annotated[str, Meta(description="Why the newest bundle or policy does not answer.")] = ""
    log: Annotated[str, Meta(description="Why the prediction log cannot be written, or off.")] = ""
    loop: Annotated[str, Meta(description="Which parts of the loop are stuck, by the kinds of their alerts.")] = ""
    shadow: Annotated[str, Meta(description="Why the shadow of the policy does not score, or what it cannot.")] = ""


class ReadyResponse(Struct, frozen=True):
    """A model can answer."""

    ready: bool
    model_version: str
    detail: ReadyDetail


class ErrorResponse(Struct, frozen=True):
    """Every error of every route."""

    error: Annotated[str, Meta(description="What is wrong, what was expected, what to do.")]
    detail: Annotated[list[Violation], Meta(description="The violations of a 409 or 422, at most 100; else empty.")]


_TYPES = (
    PredictionResponse,
    BatchResponse,
    FeedbackBody,
    FeedbackResponse,
    Explanation,
    Counterfactuals,
    Anchor,
    ModelDescription,
    ReadyResponse,
    ErrorResponse,
    *releases.TYPES,
    *v2.TYPES,
)
_ANY_MONTH, _ANY_DAY = "(0[1-9]|1[0-2])", "(0[1-9]|[12][0-9]|3[01])"
_EITHER_ID: Schema = {
    "anyOf": [
        {"required": [name], "properties": {name: {"type": kinds}}}
        for name, kinds in (("prediction_id", ["string"]), ("customer_id", ["string", "integer"]))
    ]
}
_STATUSES = {
    "400": "The body is not JSON in UTF-8, or has NaN, an infinity or a number beyond float64.",
    "408": "The body took too long.",
    "413": "The body is longer than the limit, nothing of it was parsed; or it has more rows than the log ever takes.",
    "415": "The content type is not application/json, or the body is compressed.",
    "422": "The body breaks its schema: row, column, what was found and what is expected.",
    "429": "The key has made more requests than it may; `Retry-After` says when to ask again.",
    "503": "No model, a full or read-only disk, or too many rows waiting for it. Nothing was logged; ask again.",
}
_KEPT = "The body keeps its schema, and conflicts with the contract of the model: its values with each other or "
_CONFLICTS = {
    "Customer": f"{_KEPT}with as_of, by a rule of the contract.",
    "CustomerBatch": f"{_KEPT}with as_of, by a rule of the contract.",
    "V2InferRequest": f"{_KEPT}with as_of, or its tensors with those of the model.",
    **dict.fromkeys(
        ("ReleaseMove", "RetrainRequest"),
        "The rules of releases refuse it as things are now; the message says why, and who moved last.",
    ),
}
_MISSING = {"404": "This home has no such version."}
_MOVE_EXAMPLES = [
    {"move": "canary", "version": "0123456789abcdef", "why": "the shadow agreed", "by": "ana"},
    {"move": "rollback", "why": "complaints since noon", "by": "ana"},
]
_RETRY = {"Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}}
_TRIAL: Schema = {
    "name": "x-churn-test",
    "in": "header",
    "description": "1: a trial, which is logged, and left out of monitoring, labels and training. Default: none.",
    "schema": {"type": "string", "default": "0"},
}
_REQUEST_ID: Schema = {
    "name": "x-request-id",
    "in": "header",
    "description": "1 to 64 letters, digits and ._:- come back with the answer, and are in the log; else a new one.",
    "schema": {"type": "string"},
}

_PATH_PARAMETERS: tuple[Schema, ...] = (
    {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "enum": ["churn"]}},
    {
        "name": "version",
        "in": "path",
        "required": True,
        "description": "Of a bundle that answers.",
        "schema": {"type": "string"},
    },
)


def openapi(contract: Contract | None, settings: ServingSettings, example: Example | None = None) -> Schema:
    """The OpenAPI document for the contract of the model that answers; without a model any object is a customer.
    `example` is a customer with its `as_of`, that of the contract if there is none."""
    customer = example if example is not None or contract is None else example_customer(contract)
    schemas, components = msgspec.json.schema_components(_TYPES, ref_template=_REF)
    report = components["FeedbackReport"]
    report |= _EITHER_ID
    report["properties"]["observed_at"] |= {"format": "date"} | date_bounds(None, dt.datetime.now(dt.UTC).date())
    feedback_body = schemas[_TYPES.index(FeedbackBody)]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "churn" if contract is None else f"churn: {contract.title}",
            "version": "1" if contract is None else contract.fingerprint[:12],
            "description": "Churn probabilities. An answer is given only after it is on disk. Every error has the "
            "shape of the schema ErrorResponse, and below /v2 that of V2Error.",
        },
        "servers": [{"url": "."}],
        "paths": _paths(settings),
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "Of `churn keys create`."}},
            "schemas": {
                "Customer": _customer_schema(contract, customer or {}, with_as_of=True),
                "CustomerBatch": _batch_schema(contract, customer or {}, settings.batch_rows),
                "FeedbackBody": feedback_body,
                "ReleaseMove": {**schemas[_TYPES.index(releases.ReleaseMove)], "examples": _MOVE_EXAMPLES},
                **components,
            },
        },
    }


def _paths(settings: ServingSettings) -> Schema:
    limit = f"{settings.body_bytes:,}"
    paths = {
        "/predict": _post(f"Score one customer. At most {limit} bytes.", "Customer", "PredictionResponse", _TRIAL),
        "/predict_batch": _post(
            f"Score 1 to {settings.batch_rows:,} customers in one order: all of them, or none if one is bad. "
            f"At most {settings.batch_bytes:,} bytes.",
            "CustomerBatch",
            "BatchResponse",
            _TRIAL,
        ),
        "/feedback": _post(f"Report outcomes of customers. At most {limit} bytes.", "FeedbackBody", "FeedbackResponse"),
        "/explain": _post(
            "What each feature adds to the log-odds of one customer, and the reasons in words. Nothing is logged.",
            "Customer",
            "Explanation",
        ),
        "/counterfactual": _post(
            "The smallest changes of columns that may change which bring one customer under the threshold. Nothing is "
            "logged.",
            "Customer",
            "Counterfactuals",
        ),
        "/anchor": _post(
            "A rule of few conditions that nearly always means this customer's decision. Nothing is logged.",
            "Customer",
            "Anchor",
        ),
        RELEASE: {
            **_get("How the release stands: policy, arms, guardrails, report, last moves.", "ReleaseResponse"),
            **_post("Move the release, as `churn release` does.", "ReleaseMove", "MoveResponse", errors=_MISSING),
        },
        RETRAIN: _post("Open a request to retrain, as `churn retrain` does.", "RetrainRequest", "RetrainResponse"),
        "/model": _get("The model that answers: metrics, thresholds, columns, ladder.", "ModelDescription"),
        "/": _get("A page for people.", "text/html"),
        "/docs.json": _get("This document.", "application/json"),
        "/livez": _get("The process answers.", "text/plain"),
        "/healthz": _get("As /livez.", "text/plain"),
        "/readyz": _get("Whether a model can answer; what else is wrong.", "ReadyResponse"),
        "/metrics": _get("Metrics of all workers for Prometheus.", "text/plain"),
        **_inference_paths(settings),
    }
    for path, item in paths.items():
        for method, operation in item.items() if path in ROUTE_SCOPES else ():
            scopes = [ROUTE_SCOPES[path]]
            if method == "get" and path in READ_SCOPES:
                scopes.insert(0, READ_SCOPES[path])
            # {}: a home without keys asks for none; of several scopes one will do
            operation["security"] = [{}, *({"key": [scope]} for scope in scopes)]
            error = _error_type(path)
            operation["responses"]["401"] = _json("No API key, or an unknown, expired or revoked one.", error)
            operation["responses"]["403"] = _json("The API key lacks the scope of this route.", error)
    return paths


def _inference_paths(settings: ServingSettings) -> Schema:
    """The Open Inference Protocol. Its requests may also be JSON and raw bytes, application/octet-stream."""
    limits = f"1 to {settings.batch_rows:,} customers, at most {settings.batch_bytes:,} bytes"
    infer = f"Score customers: the Open Inference Protocol. {limits}; all of them, or none if one is bad."
    ready = "Whether the model can answer."
    paths = {
        v2.PREFIX: _get("The server: its version and extensions.", "V2ServerMetadata"),
        v2.LIVE: _get("The process answers.", "V2Live"),
        v2.READY: _get("Whether a model can answer.", "V2Ready"),
    }
    paths |= {path: _get("The tensors of the model.", "V2ModelMetadata") for path in v2.MODEL_ROUTES}
    paths |= {path: _get(ready, "V2ModelReady") for path in v2.MODEL_READY_ROUTES}
    paths |= {path: _post(infer, "V2InferRequest", "V2InferResponse", _TRIAL) for path in v2.INFER_ROUTES}
    for path, item in paths.items():
        own = [parameter for parameter in _PATH_PARAMETERS if f"{{{parameter['name']}}}" in path]
        for operation in item.values() if own else ():
            operation["parameters"] = [*own, *operation.get("parameters", ())]
            operation["responses"]["404"] = _json("No such model, or its version is not loaded.", "V2Error")
    return paths


def _error_type(name: str) -> str:
    """The schema of the errors of a route, or of a route with this answer."""
    return "V2Error" if name.startswith((v2.PREFIX, "V2")) else "ErrorResponse"


def _post(summary: str, body: str, answer: str, *headers: Schema, errors: Mapping[str, str] = {}) -> Schema:
    statuses = {**_STATUSES, **errors, **({"409": _CONFLICTS[body]} if body in _CONFLICTS else {})}
    errors_by_status = {status: _json(text, _error_type(answer)) for status, text in sorted(statuses.items())}
    return {
        "post": {
            "summary": summary,
            "parameters": [_REQUEST_ID, *headers],
            "requestBody": {"required": True, "content": _content(body)},
            "responses": {
                "200": _json("Done.", answer),
                **errors_by_status,
                "503": {**errors_by_status["503"], "headers": _RETRY},
            },
        }
    }


def _get(summary: str, answer: str) -> Schema:
    """A GET whose answer is of a media type, or has the schema of that name once there is a model."""
    if "/" in answer:
        schema = {"type": "object" if answer == "application/json" else "string"}
        responses = {"200": {"description": "Done.", "content": {answer: {"schema": schema}}}}
    else:
        responses = {"200": _json("Done.", answer), "503": _json("There is no model.", _error_type(answer))}
    return {"get": {"summary": summary, "responses": responses}}


def _json(description: str, name: str) -> Schema:
    return {"description": description, "content": _content(name)}


def _content(name: str) -> Schema:
    return {"application/json": {"schema": {"$ref": _REF.format(name=name)}}}


def _batch_schema(contract: Contract | None, example: Example, limit: int) -> Schema:
    items = _customer_schema(contract, example, with_as_of=False)
    customers = {"type": "array", "items": items, "minItems": 1, "maxItems": limit}
    properties = {"customers": customers, "as_of": _as_of_schema(example)}
    return {"type": "object", "properties": properties, "required": ["customers"], "additionalProperties": False}


def _as_of_schema(example: Example) -> Schema:
    """Of the first and the last day a column says "none"."""
    day = dt.timedelta(days=1)
    return {
        "type": ["string", "null"],
        "format": "date",
        **date_bounds(dt.date.min + day, dt.date.max - day),
        "description": "Day at which the customer had these values, ISO 8601. Default: today (UTC).",
        "example": example.get("as_of", "2014-01-20"),
    }


def _customer_schema(contract: Contract | None, example: Example, with_as_of: bool) -> Schema:
    """One customer as a flat object of the contract's columns; the key and `as_of` may be left out."""
    if contract is None:
        return {"type": "object"}
    columns = (contract.key, *contract.scoring_columns)
    properties = {column.name: _column_schema(column, example[column.name]) for column in columns}
    properties |= {c.name: {"description": f"Not used, optional. {c.doc}".strip()} for c in contract.excluded_columns}
    return {
        "type": "object",
        "properties": {**properties, "as_of": _as_of_schema(example)} if with_as_of else properties,
        "required": [column.name for column in contract.scoring_columns],
        "additionalProperties": False,
        "example": example if with_as_of else {name: example[name] for name in example if name != "as_of"},
    }


def _column_schema(column: Column, example: str | float | bool) -> Schema:
    """A column's JSON type with its bounds, choices, description and example."""
    types: dict[Kind, Schema] = {
        Kind.NUMBER: {"type": "number"},
        Kind.INTEGER: {"type": "integer"},
        Kind.BOOLEAN: {"type": ["boolean", "integer"], "minimum": 0, "maximum": 1},
        Kind.DATE: {"type": "string", "format": "date"},
        Kind.CATEGORY: {"type": "string", "enum": list(column.choices)},
        Kind.ID: {"type": "string", "minLength": 1, "maxLength": MAX_ID, "pattern": ID_PATTERN},
    }
    schema = types.get(column.kind, {"type": "string", "minLength": 1, "pattern": TEXT_PATTERN})
    numbers = whole_choices(column)
    if numbers:
        schema["enum"] = [*schema["enum"], *numbers]
    if column.role is Role.KEY or numbers:
        schema["type"] = ["string", "integer"]
    description = [column.doc, f"In {column.unit}." if column.unit else ""]
    if column.kind is Kind.DATE:
        description += [f"From {column.low}." if column.low else "", f"Until {column.high}." if column.high else ""]
        low, high = (
            None if bound is None else dt.date.fromisoformat(str(bound)) for bound in (column.low, column.high)
        )
        schema |= date_bounds(low, high)
    elif column.kind in (Kind.NUMBER, Kind.INTEGER):
        bounds = (("minimum", column.low), ("maximum", column.high))
        schema |= {name: value for name, value in bounds if value is not None}
    if column.nullable or column.role is Role.KEY:
        schema["type"] = [*([schema["type"]] if isinstance(schema["type"], str) else schema["type"]), "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return {**schema, "description": " ".join(filter(None, description)), "example": example}


def date_bounds(low: dt.date | None, high: dt.date | None) -> Schema:
    """That a day is between these, which JSON Schema can only say as patterns of its text."""
    patterns = [_pattern(bound, step) for bound, step in ((low, 1), (high, -1)) if bound is not None]
    if len(patterns) == 2:
        return {"allOf": [{"pattern": text} for text in patterns]}
    return {"pattern": patterns[0]} if patterns else {}


def _pattern(bound: dt.date, step: int) -> str:
    """Days from `bound` on, or up to it where `step` is -1."""

    def beyond(value: int, last: int, width: int) -> list[str]:
        return [f"{number:0{width}}" for number in range(value + step, last + step, step)]

    year, month, day = f"{bound.year:04}", f"{bound.month:02}", f"{bound.day:02}"
    years = [
        f"{year[:i]}[{f'{int(year[i]) + 1}-9' if step > 0 else f'0-{int(year[i]) - 1}'}]{'[0-9]' * (3 - i)}"
        for i in range(4)
        if year[i] != ("9" if step > 0 else "0")
    ]
    months, days = beyond(bound.month, 12 if step > 0 else 1, 2), beyond(bound.day, 31 if step > 0 else 1, 2)
    parts = [f"{year}-{month}-({'|'.join([day, *days])})"]
    parts += [f"{year}-({'|'.join(months)})-{_ANY_DAY}"] if months else []
    parts += [f"({'|'.join(years)})-{_ANY_MONTH}-{_ANY_DAY}"] if years else []
    return f"^({'|'.join(parts)})$"


def example_customer(contract: Contract) -> Example:
    """A customer that keeps the contract's columns."""
    return {column.name: _example(column) for column in (contract.key, *contract.scoring_columns)}


def _example(column: Column) -> str | float | bool:
    match column.kind:
        case Kind.BOOLEAN:
            return True
        case Kind.CATEGORY:
            return column.choices[0]
        case Kind.DATE:
            # One day for all of them keeps rules such as first <= last.
            return str(column.low or column.high or "2012-06-15")
        case Kind.NUMBER | Kind.INTEGER:
            low, high = (None if bound is None else float(bound) for bound in (column.low, column.high))
            value = low if low is not None else 1.0 if high is None else min(0.0, high)
            if low is not None and high is not None:
                value = low + (high - low) // 10
            return int(value) if column.kind is Kind.INTEGER else value
        case _:
            return "C00042"
