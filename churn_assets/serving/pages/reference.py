"""The page /redoc: the OpenAPI document as text to read, rendered here, without a script.

It has what Redoc shows, in the same order: routes with their parameters, bodies and answers, then the schemas with
examples. Redoc itself is a megabyte of JavaScript that no package brings without a web framework of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from churn_assets.html.templating import render

_TEMPLATE = "serving/pages/templates/reference.html.j2"
_BOUNDS = {
    "minimum": "at least {}", "exclusiveMinimum": "above {}", "maximum": "at most {}", "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters", "maxLength": "at most {} characters", "minItems": "at least {} items",
    "maxItems": "at most {} items", "minProperties": "at least {} names", "maxProperties": "at most {} names",
    "format": "{}", "default": "default {}", "pattern": "pattern {}",
}  # fmt: skip
_LONGEST = 120  # characters of a pattern that is shown; those of days fill lines

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class FieldView:
    """A parameter or a property; `links` are the schemas that its type names."""

    name: str
    type: str
    links: tuple[str, ...]
    required: bool
    bounds: str
    description: str


@dataclass(frozen=True)
class SchemaView:
    """A schema: its own type where it is no object, else its fields."""

    name: str
    type: str
    links: tuple[str, ...]
    description: str
    fields: tuple[FieldView, ...]
    example: str


@dataclass(frozen=True)
class ResponseView:
    """An answer by its status."""

    status: str
    description: str
    type: str
    links: tuple[str, ...]


@dataclass(frozen=True)
class OperationView:
    """A method of a route; `scope` is what a key needs."""

    method: str
    path: str
    anchor: str
    summary: str
    scope: str
    parameters: tuple[FieldView, ...]
    body: str
    links: tuple[str, ...]
    responses: tuple[ResponseView, ...]


@dataclass(frozen=True)
class Reference:
    """What the page shows of a document."""

    title: str
    version: str
    description: str
    operations: tuple[OperationView, ...]
    schemas: tuple[SchemaView, ...]


def describe_document(document: Schema) -> Reference:
    """The routes and schemas of an OpenAPI document, in its order."""
    info = document["info"]
    return Reference(
        title=info["title"],
        version=info["version"],
        description=info["description"],
        operations=tuple(
            _operation(path, method, operation)
            for path, item in document["paths"].items()
            for method, operation in item.items()
        ),
        schemas=tuple(_schema(name, schema) for name, schema in document["components"]["schemas"].items()),
    )


def reference_page(document: Schema) -> str:
    """The page as HTML."""
    return render(_TEMPLATE, reference=describe_document(document))


def _operation(path: str, method: str, operation: Schema) -> OperationView:
    _, body = _content(operation.get("requestBody", {}))
    scopes = [scope for one in operation.get("security", ()) for names in one.values() for scope in names]
    return OperationView(
        method=method.upper(),
        path=path,
        anchor=f"{method}{path}".translate(str.maketrans("/{}", "---")),
        summary=operation["summary"],
        scope=", ".join(scopes),
        parameters=tuple(
            _field(f"{each['name']} ({each['in']})", each["schema"], each.get("required", False), each)
            for each in operation.get("parameters", ())
        ),
        body=type_of(body) if body else "",
        links=tuple(_links(body)),
        responses=tuple(_response(status, answer) for status, answer in operation["responses"].items()),
    )


def _content(part: Schema) -> tuple[str, Schema]:
    """The media type and schema of a body or an answer, empty where it has none."""
    for kind, content in part.get("content", {}).items():
        return kind, content["schema"]
    return "", {}


def _response(status: str, answer: Schema) -> ResponseView:
    kind, schema = _content(answer)
    links = tuple(_links(schema))
    return ResponseView(status, answer["description"], type_of(schema) if links else kind, links)


def _schema(name: str, schema: Schema) -> SchemaView:
    required = schema.get("required", ())
    fields = tuple(_field(key, part, key in required, part) for key, part in schema.get("properties", {}).items())
    example = schema.get("example")
    return SchemaView(
        name=name,
        type="" if fields else type_of(schema),
        links=() if fields else tuple(_links(schema)),
        description=schema.get("description", ""),
        fields=fields,
        example="" if example is None else json.dumps(example, indent=1, ensure_ascii=False),
    )


def _field(name: str, schema: Schema, required: bool, described: Schema) -> FieldView:
    bounds = "; ".join(_bounds(schema))
    return FieldView(name, type_of(schema), tuple(_links(schema)), required, bounds, described.get("description", ""))


def type_of(schema: Schema) -> str:
    """The type of a schema in words.

    >>> type_of({"type": ["string", "null"]}), type_of({"type": "array", "items": {"$ref": "#/components/schemas/Row"}})
    ('string or null', 'list of Row')
    """
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    choices: Sequence[Schema] = schema.get("anyOf", schema.get("oneOf", ()))
    if choices and "properties" not in schema:
        return " or ".join(dict.fromkeys(map(type_of, choices)))
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'])}" if schema.get("items") else "list"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {type_of(schema['additionalProperties'])}"
    if "const" in schema:
        return json.dumps(schema["const"])
    kinds = schema.get("type", "any")
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def _links(schema: Schema) -> Iterator[str]:
    """The names of the schemas that a type refers to."""
    if "$ref" in schema:
        yield str(schema["$ref"]).rpartition("/")[2]
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _links(part)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), Mapping):
            yield from _links(schema[key])


def _bounds(schema: Schema) -> Iterator[str]:
    if "enum" in schema:
        yield f"one of {', '.join(map(json.dumps, schema['enum']))}"
    for key, text in _BOUNDS.items():
        shown = schema.get(key)
        if key in schema and len(str(shown)) <= _LONGEST:
            yield text.format(shown if isinstance(shown, str) else json.dumps(shown))
    for part in schema.get("anyOf", ()):
        yield from _bounds(part)
