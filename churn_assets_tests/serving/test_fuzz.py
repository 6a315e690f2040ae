"""Whatever is sent, the service answers in its one shape, and never with 5xx."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import json
import re

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets_tests.serving.client import ASKED, assert_refusal, home_with_champion, in_process

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats() | st.text(max_size=20)
    | st.sampled_from(["2012-02-30", "9999-12-31", "0001-01-01", "NaN", "", " ", "\x00", "1e400", "2014-W04-1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


class Service:
    """A service that lives as long as its event loop, so that thousands of requests share one start."""

    def __init__(self, home) -> None:
        self._loop = asyncio.new_event_loop()
        self._context = in_process(home, body_bytes=100_000, batch_bytes=100_000)
        self.client, self.worker = self._loop.run_until_complete(self._context.__aenter__())

    def send(self, method: str, path: str, content: bytes, headers: dict[str, str]) -> httpx.Response:
        return self._loop.run_until_complete(self.client.request(method, path, content=content, headers=headers))

    def close(self) -> None:
        self._loop.run_until_complete(self._context.__aexit__(None, None, None))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    made = Service(home_with_champion(tmp_path_factory.mktemp("fuzz")))
    yield made
    made.close()


@pytest.fixture(scope="module")
def document(service):
    return service.send("GET", "/docs.json", b"", {}).json()


def check(response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert_refusal(response, response.status_code)


def values(schema: dict, document: dict) -> st.SearchStrategy:
    """What an OpenAPI schema of the document allows, bounds and nulls included."""
    if "$ref" in schema:
        return values(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "anyOf" in schema:
        whole = {name: part for name, part in schema.items() if name != "anyOf"}
        return st.one_of([values(_both(whole, one), document) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    low, high = schema.get("minimum"), schema.get("maximum")
    kinds = {
        "null": st.none,
        "number": lambda: st.floats(low, high, allow_nan=False, allow_infinity=False),
        "integer": lambda: st.integers(None if low is None else int(low), None if high is None else int(high)),
        "boolean": st.booleans,
        "string": lambda: _texts(schema),
        "array": lambda: st.lists(values(schema["items"], document), min_size=schema.get("minItems", 0), max_size=5),
        "object": lambda: _objects(schema, document),
    }
    return st.one_of([kinds[kind]() for kind in _kinds(schema)])


def _texts(schema: dict) -> st.SearchStrategy[str]:
    """Texts and days that keep the schema's patterns, which are the bounds of a day."""
    patterns = [schema[key] for key in ("pattern",) if key in schema]
    patterns += [part["pattern"] for part in schema.get("allOf", ())]
    if schema.get("format") == "date":
        drawn = (st.dates() | st.dates(dt.date(2000, 1, 1), dt.datetime.now(dt.UTC).date())).map(str)
    else:
        drawn = st.text(min_size=schema.get("minLength", 0), max_size=9)
    return drawn.filter(lambda text: all(re.search(pattern, text) for pattern in patterns))


def _both(whole: dict, part: dict) -> dict:
    """A schema with what one of its alternatives adds."""
    properties = dict(whole.get("properties", {}))
    for name, one in part.get("properties", {}).items():
        known = properties.get(name, {})
        properties[name] = (
            {**known, "anyOf": [_both(each, one) for each in known["anyOf"]]} if "anyOf" in known else one
        )
    required = [*whole.get("required", []), *part.get("required", [])]
    added = {"properties": properties, "required": required} if properties else {}
    if "type" in whole and "type" in part:
        added["type"] = [kind for kind in _kinds(whole) if kind in _kinds(part)]
    return {**whole, **part, **added}


def _kinds(schema: dict) -> list[str]:
    return schema["type"] if isinstance(schema["type"], list) else [schema["type"]]


def _objects(schema: dict, document: dict) -> st.SearchStrategy:
    fields = {name: values(one, document) for name, one in schema["properties"].items()}
    needed = {name: fields.pop(name) for name in schema["required"]}
    return st.fixed_dictionaries(needed, optional=fields)


POSTS = ["/predict", "/predict_batch", "/feedback", "/counterfactual", "/anchor"]
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("path", POSTS)
@given(data=st.data())
def test_what_the_document_allows_is_answered_or_conflicts_with_the_contract(service, document, path, data):
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body = data.draw(values(schema, document))
    response = service.send("POST", path, json.dumps(body).encode(), JSON)
    check(response)
    allowed = (200,) if path == "/feedback" else (200, 409)
    assert response.status_code in allowed, f"a body that keeps its schema breaks a rule at most: {response.text}"


@pytest.mark.parametrize("path", POSTS)
@given(data=st.data())
def test_a_corrupted_body_is_never_a_5xx(service, path, data):
    right = {
        **dict.fromkeys(("/predict", "/counterfactual", "/anchor"), ASKED),
        "/predict_batch": {"customers": [{k: v for k, v in ASKED.items() if k != "as_of"}] * 2, "as_of": "2014-01-20"},
        "/feedback": {"prediction_id": "p", "churned": True, "observed_at": "2014-01-20"},
    }
    body = copy.deepcopy(right[path])
    target = data.draw(st.sampled_from([body, *(body.get("customers") or [])]))
    for _ in range(data.draw(st.integers(1, 3))):
        target[data.draw(st.sampled_from([*target]) | st.text(max_size=8))] = data.draw(JUNK)
    check(service.send("POST", path, json.dumps(body).encode(), JSON))


@pytest.mark.parametrize("path", POSTS)
@given(body=JUNK.map(lambda junk: json.dumps(junk).encode()) | st.binary(max_size=300))
def test_junk_is_never_a_5xx(service, path, body):
    check(service.send("POST", path, body, JSON))


@settings(max_examples=100)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"]),
    path=st.sampled_from([*POSTS, "/model", "/", "/docs", "/redoc", "/docs.json", "/metrics", "/livez", "/readyz"])
    | st.text("abc/.%?#~", max_size=12).map("/".__add__).filter(lambda path: path[1:2] != "/"),  # httpx: a host
    kind=st.sampled_from(
        ["application/json", "text/plain", "multipart/form-data", "application/json; charset=utf-16", ""]
    ),
    length=st.sampled_from([None, "0", "7", "99999999999999999999"]),
    body=st.binary(max_size=40),
)
def test_any_method_path_and_header_is_never_a_5xx(service, method, path, kind, length, body):
    headers = {"content-type": kind} | ({"content-length": length} if length else {})
    response = service.send(method, path, body, headers)
    assert response.status_code < 500
    if response.status_code >= 400 and method != "HEAD":
        assert_refusal(response, response.status_code)
