"""The Open Inference Protocol over REST, in this process: the same answers, log and refusals as `/predict`."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx
import numpy as np
import pytest

from churn_assets.promotion.pointer import require_champion
from churn_assets.serving.open_inference.customers import OUTPUTS, describe_inputs
from churn_assets.serving.open_inference.messages import find_route
from churn_assets_tests.prediction_log.rows import rows_of
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, json_rows
from churn_assets_tests.serving.client import ASKED, CUSTOMERS, ROW, ask, home_with_champion, post

ROWS = json_rows(CUSTOMERS)
INFER = "/v2/models/churn/infer"
NULLABLE = {column.name for column in CONTRACT.columns if column.nullable}
MADE = ("prediction_id", "scored_at")  # of each prediction its own


def tensors(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as one JSON tensor a column, with the datatypes of the metadata."""
    return [
        {"name": t.name, "datatype": t.datatype, "shape": [len(rows)], "data": [row[t.name] for row in rows]}
        for t in describe_inputs(CONTRACT)
    ]


def request(rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"inputs": tensors(rows), "parameters": {"as_of": AS_OF}, **more}


def columns(answer: dict[str, Any]) -> dict[str, list[Any]]:
    return {output["name"]: output["data"] for output in answer["outputs"]}


def assert_v2_error(response: httpx.Response, status: int) -> str:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json"), response.text
    assert response.json().keys() == {"error"}
    return str(response.json()["error"])


def as_columns(predictions: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Predictions of `/predict` as the output tensors of V2."""
    table = {name: [p[name] for p in predictions] for name in (output.name for output in OUTPUTS) if name not in MADE}
    return table | {"warnings": [json.dumps(own, separators=(",", ":")) for own in table["warnings"]]}


def test_one_customer_has_the_answer_of_predict_and_its_row_in_the_log(tmp_path):
    home = home_with_champion(tmp_path)
    same = post(home, "/predict", ASKED).json()
    answer = post(home, INFER, request([ROW], id="my-1"), headers={"x-request-id": "r1", "x-churn-test": "1"}).json()
    version = require_champion(home).version
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("churn", version, "my-1")
    assert answer["parameters"] == {"contract": CONTRACT.name}
    outputs = columns(answer)
    assert {name: values for name, values in outputs.items() if name not in MADE} == as_columns([same])
    assert all(output["shape"] == [1] for output in answer["outputs"])
    first, second = rows_of(home / "predlog")
    assert second["prediction_id"] == outputs["prediction_id"][0]
    assert (second["request_id"], second["test"]) == ("r1", True)
    own = ("prediction_id", "request_id", "scored_at", "latency_us", "test")
    assert {k: v for k, v in second.items() if k not in own} == {k: v for k, v in first.items() if k not in own}


def test_many_customers_have_the_answers_of_predict_batch(home):
    same = post(home, "/predict_batch", {"customers": ROWS, "as_of": AS_OF}).json()["predictions"]
    outputs = columns(post(home, INFER, request(ROWS)).json())
    assert {name: values for name, values in outputs.items() if name not in MADE} == as_columns(same)
    assert len(set(outputs["prediction_id"])) == len(ROWS)


def row_wise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = [t.name for t in describe_inputs(CONTRACT)]
    data = [["" if row[name] is None else str(row[name]).removesuffix(".0") for name in names] for row in rows]
    data = [[{"True": "true", "False": "false"}.get(cell, cell) for cell in cells] for cells in data]
    return {"name": "rows", "datatype": "BYTES", "shape": [len(rows), len(names)], "data": data}


def test_a_row_wise_tensor_has_the_columns_of_the_metadata_in_their_order(home):
    by_column = columns(post(home, INFER, request(ROWS)).json())
    tensor = row_wise(ROWS)
    for data in (tensor["data"], [cell for row in tensor["data"] for cell in row]):
        body = {"inputs": [{**tensor, "data": data}], "parameters": {"as_of": AS_OF}}
        outputs = columns(post(home, INFER, body).json())
        assert outputs["churn_probability"] == by_column["churn_probability"]
        assert outputs["customer_id"] == by_column["customer_id"]


def raw(tensor: dict[str, Any]) -> bytes:
    """The bytes of a JSON tensor, written here once more."""
    match tensor["datatype"]:
        case "BYTES":
            texts = [(text or "").encode() for text in tensor["data"]]
            return b"".join(struct.pack("<I", len(text)) + text for text in texts)
        case "BOOL":
            return np.array(tensor["data"], dtype="?").tobytes()
        case "INT64":
            return np.array(tensor["data"], dtype="<i8").tobytes()
    return np.array([np.nan if value is None else value for value in tensor["data"]], dtype="<f8").tobytes()


def binary(rows: list[dict[str, Any]], **parameters: Any) -> tuple[bytes, int]:
    """The body of the binary extension, and the length of its JSON."""
    inputs, parts = [], []
    for tensor in tensors(rows):
        parts.append(raw(tensor))
        inputs.append(
            {k: v for k, v in tensor.items() if k != "data"} | {"parameters": {"binary_data_size": len(parts[-1])}}
        )
    head = json.dumps({"inputs": inputs, "parameters": {"as_of": AS_OF, **parameters}}).encode()
    return head + b"".join(parts), len(head)


def post_binary(home, body: bytes, length: object) -> httpx.Response:
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(length)}
    return post(home, INFER, body, headers=headers)


def test_raw_inputs_are_the_same_customers_and_raw_outputs_the_same_bits(home):
    expected = columns(post(home, INFER, request(ROWS)).json())
    typed = post_binary(home, *binary(ROWS))
    assert typed.headers["content-type"] == "application/json"
    assert columns(typed.json())["churn_probability"] == expected["churn_probability"]
    response = post_binary(home, *binary(ROWS, binary_data_output=True))
    assert response.headers["content-type"] == "application/octet-stream"
    length, place = int(response.headers["inference-header-content-length"]), 0
    rest = response.content[length:]
    for output in json.loads(response.content[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        if output["name"] == "churn_probability":
            assert np.frombuffer(rest[place : place + size], "<f8").tolist() == expected["churn_probability"]
        if output["name"] == "churn":
            assert np.frombuffer(rest[place : place + size], "?").tolist() == expected["churn"]
        if output["name"] == "risk_band":
            assert rest[place : place + size] == raw({"datatype": "BYTES", "data": expected["risk_band"]})
        place += size
    assert place == len(rest)


def test_outputs_are_those_asked_for_in_their_order_raw_where_asked(home):
    names = [{"name": "churn"}, {"name": "churn_probability", "parameters": {"binary_data": True}}]
    response = post(home, INFER, request([ROW], outputs=names))
    length = int(response.headers["inference-header-content-length"])
    first, second = json.loads(response.content[:length])["outputs"]
    assert (first["name"], first["datatype"], type(first["data"][0])) == ("churn", "BOOL", bool)
    assert second == {
        "name": "churn_probability", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8},
    }  # fmt: skip
    assert len(response.content) == length + 8


def get(home, path, method="GET", **options) -> httpx.Response:
    return ask(home, lambda client, worker: client.request(method, path), **options)


def test_health_and_metadata(home):
    version = require_champion(home).version
    assert get(home, "/v2/health/live").json() == {"live": True}
    assert get(home, "/v2/health/ready").json() == {"ready": True}
    assert get(home, "/v2").json().keys() == {"name", "version", "extensions"}
    for path in ("/v2/models/churn", f"/v2/models/churn/versions/{version}"):
        payload = get(home, path).json()
        assert (payload["name"], payload["versions"]) == ("churn", [version])
        datatypes = {tensor["name"]: tensor["datatype"] for tensor in payload["inputs"]}
        assert datatypes == {
            "id": "BYTES", "created": "BYTES", "lastorder": "BYTES", "sent": "INT64", "spent": "FP64",
            "paperless": "BOOL", "city": "BYTES",
        }  # fmt: skip
        assert [tensor["name"] for tensor in payload["outputs"]] == [output.name for output in OUTPUTS]
        assert get(home, f"{path}/ready").json() == {"name": "churn", "ready": True}
        assert post(home, f"{path}/infer", request([ROW])).json()["model_version"] == version


def test_without_a_model_it_lives_and_is_not_ready(tmp_path):
    assert get(tmp_path, "/v2/health/live").status_code == 200
    for path in ("/v2/health/ready", "/v2/models/churn/ready", "/v2/models/churn"):
        assert "make run" in assert_v2_error(get(tmp_path, path), 503)
    assert "make run" in assert_v2_error(post(tmp_path, INFER, request([ROW])), 503)


def changed(name: str, /, **change: Any) -> dict[str, Any]:
    """A request with one input changed."""
    inputs = [tensor | change if tensor["name"] == name else tensor for tensor in tensors([ROW])]
    return {"inputs": inputs}


REFUSED = [
    ({}, 422, "missing required field `inputs`"),
    ([], 422, "Expected `object`"),
    ({"inputs": []}, 409, "no tensor"),
    (changed("sent", data=[-1]), 409, "row 0, column 'sent': found -1, expected a whole number from 0 to 1000"),
    (changed("sent", data=[None]), 409, "column 'sent': found null"),
    (changed("city", data=["Paris"]), 409, "column 'city'"),
    (changed("created", data=[""]), 409, "column 'created': found null"),
    (changed("sent", datatype="INT65"), 409, "the datatype is 'INT65'"),
    (changed("sent", datatype="FP64", data=["1"]), 409, "element 0 is of another type"),
    (changed("sent", data=[True]), 409, "element 0 is of another type"),
    (changed("sent", shape=[2]), 409, "it has 1 elements, expected 2"),
    (changed("sent", shape=[-1]), 409, "the shape is [-1]"),
    (changed("sent", shape=[1, 1, 1]), 409, "the shape is [1, 1, 1]"),
    (changed("sent", shape=[2**62, 2**62]), 409, "the shape is"),
    (changed("sent", shape=[1, 2], data=[1, 2]), 409, "the shape [1, 2], expected [1] or [1, 1]"),
    (changed("sent", name="spend"), 409, "did you mean 'spent'?"),
    (changed("sent", name="spent"), 409, "two inputs of this name"),
    (changed("sent", data=None), 409, "it has no data"),
    (changed("sent", parameters={"binary_data_size": 8}), 409, "binary_data_size is 8"),
    ({"inputs": [t for t in tensors([ROW]) if t["name"] != "sent"]}, 409, "column 'sent': found no such field"),
    ({**request([ROW]), "parameters": {"as_of": 3}}, 409, "column 'as_of': found 3"),
    (request([ROW], outputs=[{"name": "churns"}]), 409, "did you mean 'churn'?"),
    (request([ROW], outputs=[{"name": "churn"}] * 2), 409, "an output twice"),
    ({"inputs": [{"name": "rows", "datatype": "BYTES", "shape": [1, 3], "data": ["a", "b", "c"]}]}, 409, "[rows, 7]"),
    (b'{"inputs": [', 400, "not JSON"),
    (b'{"inputs": [{"name": "sent", "datatype": "FP64", "shape": [1], "data": [NaN]}]}', 400, "not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "problem"), REFUSED)
def test_a_request_that_is_none_of_this_model_is_refused_and_not_logged(tmp_path, body, status, problem):
    home = home_with_champion(tmp_path)
    assert problem in assert_v2_error(post(home, INFER, body), status)
    (row,) = rows_of(home / "predlog")
    assert (row["kind"], sum(row["counts"].values())) == ("rejections", 1)


@pytest.mark.parametrize(
    ("change", "length", "status", "problem"),
    [
        (lambda body, length: (body, length + 10_000), None, 400, "Inference-Header-Content-Length says"),
        (lambda body, length: (body, "x"), None, 400, "expected a whole number"),
        (lambda body, length: (body[:-1], length), None, 409, "binary_data_size"),
        (lambda body, length: (body + b"x", length), None, 409, "1 bytes belong to no input"),
    ],
)
def test_raw_bytes_that_do_not_fit_are_refused(home, change, length, status, problem):
    assert problem in assert_v2_error(post_binary(home, *change(*binary(ROWS))), status)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": None}, 200),  # as tritonclient sends JSON
        ({"content-type": "application/octet-stream"}, 200),
        ({"content-type": None, "origin": "http://elsewhere"}, 415),
        ({"content-type": None, "sec-fetch-site": "cross-site"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-encoding": "gzip"}, 415),
    ],
)
def test_a_page_of_another_origin_cannot_send_a_request(home, headers, status):
    assert post(home, INFER, request([ROW]), headers=headers).status_code == status


def test_limits_of_rows_and_values(home):
    assert "21 customers" not in post(home, INFER, request(ROWS), batch_rows=20).text
    assert "20 customers" in assert_v2_error(post(home, INFER, request(ROWS), batch_rows=19), 409)
    long = changed("sent", data=[1] * 5000)
    assert "values, expected at most" in assert_v2_error(post(home, INFER, long, batch_rows=10), 413)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404), ("GET", "/v2/models/churn/versions/0", 404), ("GET", "/v2/none", 404),
        ("GET", "/v2/", 404), ("GET", "/v2/models/churn%0A", 404), ("GET", "/v2/models/churn/infer%0A", 404),
        ("POST", "/v2/models/other/infer", 404), ("POST", "/v2/models/churn/versions/0/infer", 404),
        ("GET", "/v2/models/churn/infer", 405), ("POST", "/v2", 405), ("PUT", "/v2/models/churn/ready", 405),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_refused_in_the_form_of_the_protocol(home, method, path, status):
    asks = method == "POST" and status == 404
    response = post(home, path, request([ROW])) if asks else get(home, path, method)
    assert_v2_error(response, status)
    assert ("allow" in response.headers) == (status == 405)


def test_a_path_is_read_as_it_is_written():
    assert find_route("/v2/models/a/versions/b/ready")[1].version == "b"
    assert find_route("/v2/models/a/ready")[1].version is None
    for path in ("/v2", "/v2/models", "/v2/models/", "/v2/models/a/b", "/v2/models/a/versions", "/v2/models//infer"):
        assert find_route(path) == (path, None)
