"""Reads resources, one JSON object a line, and writes what is wrong with each ("" for nothing), as JSON.

Run by the interpreter of .tools. Kinds of Kubernetes by the strict schemas of kubernetes-validate, whose own command a
test runs as well; the InferenceService by the classes of KServe's own package, read and not imported, in which pods
are those of Kubernetes; the pod of a Rollout as that of a Deployment.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import sys
from importlib.metadata import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
from referencing import Registry, Resource

Schema = dict[str, Any]
SCHEMAS = Path(kubernetes_validate.__file__).with_name("kubernetes-json-schema")
VERSION = "v1.37.0-local-strict"
FILE = json.loads((SCHEMAS / VERSION / "_definitions.json").read_text())
DEFINITIONS, PLACE = FILE["$defs"], f"{FILE['$id']}#/$defs/"
_SIMPLE = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_OF_KUBERNETES = ("io.k8s.api.core.v1.", "io.k8s.apimachinery.pkg.apis.meta.v1.")


def problem(resource: Schema) -> str:
    """What is wrong with a resource, "" for nothing."""
    version, kind = str(resource.get("apiVersion")), str(resource.get("kind"))
    if version.startswith("argoproj.io/"):
        return problem(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": _as_deployment(resource)}
        )
    try:
        validator = _inference_service() if kind == "InferenceService" else _validator(version, kind)
    except OSError:
        return f"no schema of {version} {kind}"
    error = jsonschema.exceptions.best_match(validator.iter_errors(resource))
    return "" if error is None else f"{'/'.join(map(str, error.path))}: {error.message}"[:400]


def _as_deployment(resource: Schema) -> Schema:
    spec = resource.get("spec")
    return {} if not isinstance(spec, dict) else {name: spec[name] for name in ("selector", "template") if name in spec}


@functools.cache
def _registry() -> Registry[Any]:
    return Resource.from_contents(FILE) @ Registry()


@functools.cache
def _validator(version: str, kind: str) -> jsonschema.Draft202012Validator:
    file = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", version)
    schema = json.loads((SCHEMAS / VERSION / f"{kind.lower()}-{file}.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _registry())


@functools.cache
def _inference_service() -> jsonschema.Draft202012Validator:
    definitions: dict[str, Schema] = {}
    _define("V1beta1InferenceService", definitions)
    definitions["V1beta1InferenceService"]["properties"]["apiVersion"] = {"const": "serving.kserve.io/v1beta1"}
    schema = {"$ref": "#/$defs/V1beta1InferenceService", "$defs": definitions}
    return jsonschema.Draft202012Validator(schema, registry=_registry())


def _define(name: str, definitions: dict[str, Schema]) -> None:
    """The schema of a class of KServe's package: its fields, their types, and which of them it refuses to be None."""
    module = ast.parse(_sources()[name])
    [cls] = (node for node in module.body if isinstance(node, ast.ClassDef))
    tables: dict[str, dict[str, str]] = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in cls.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    names, schema = tables["attribute_map"], Schema(type="object", additionalProperties=False)
    definitions[name] = schema
    schema["properties"] = {names[own]: _type(kind, definitions) for own, kind in tables["openapi_types"].items()}
    required = re.findall(r'"Invalid value for `(\w+)`, must not be `None`"', _sources()[name])
    schema["required"] = [names[own] for own in required]


def _type(kind: str, definitions: dict[str, Schema]) -> Schema:
    if kind in _SIMPLE:
        return {"type": _SIMPLE[kind]}
    if match := re.fullmatch(r"list\[(.*)\]", kind):
        return {"type": "array", "items": _type(match[1], definitions)}
    if match := re.fullmatch(r"dict\(str, (.*)\)", kind):
        return {"type": "object", "additionalProperties": _type(match[1], definitions)}
    if kind in _sources():
        if kind not in definitions:
            _define(kind, definitions)
        return {"$ref": f"#/$defs/{kind}"}
    return {"$ref": f"{PLACE}{_kubernetes_name(kind)}"}


def _kubernetes_name(kind: str) -> str:
    """`V1Container` is `io.k8s.api.core.v1.Container`, `K8sIoApiAppsV1X` is `io.k8s.api.apps.v1.X`."""
    known = {
        "ResourceQuantity": "io.k8s.apimachinery.pkg.api.resource.Quantity",
        "KnativeURL": "io.k8s.apimachinery.pkg.apis.meta.v1.Time",  # of the status, which no manifest has
        "KnativeVolatileTime": "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
    }
    bare = re.sub(r"^(K8sIoApi[A-Z][a-z]+)?V1", "", kind)
    names = [known.get(kind, ""), *(f"{prefix}{bare}" for prefix in _OF_KUBERNETES), f"io.k8s.api.apps.v1.{bare}"]
    return next((name for name in names if name in DEFINITIONS), f"there is no {kind}")


@functools.cache
def _sources() -> dict[str, str]:
    """The text of each model of KServe's package, by the name of its class."""
    texts = [
        Path(str(path.locate())).read_text() for path in files("kserve") or () if path.match("kserve/models/v1*.py")
    ]
    return {match[1]: text for text in texts if (match := re.search(r"^class (\w+)\(object\)", text, re.M))}


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(problem(json.loads(line))) + "\n")
