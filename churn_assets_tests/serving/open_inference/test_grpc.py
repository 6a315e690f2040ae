"""The Open Inference Protocol over gRPC: a server in this process, and calls to it over its port."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from churn_assets.access.keys import KeyStore
from churn_assets.errors import SettingsError
from churn_assets.promotion.pointer import champion_bundle, require_champion
from churn_assets.release.policy import share_of
from churn_assets.serving.open_inference.customers import OUTPUTS, describe_inputs
from churn_assets.serving.open_inference.grpc_messages import METHODS, SERVICE, message_class
from churn_assets.serving.open_inference.grpc_server import GrpcServer
from churn_assets.serving.routes import Handlers
from churn_assets.serving.server.process import check_grpc_port
from churn_assets.serving.worker import Worker
from churn_assets.settings import ServingSettings
from churn_assets_tests.prediction_log.rows import rows_of
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT
from churn_assets_tests.serving.client import ASKED, ROW, certificate, free_port, home_with_champion, make_bundle, post
from churn_assets_tests.serving.open_inference.test_rest import ROWS, raw
from churn_assets_tests.serving.policies import write_canary

FIELDS = {"BYTES": "bytes_contents", "FP64": "fp64_contents", "INT64": "int64_contents", "BOOL": "bool_contents"}


class Client:
    """Calls by the names of the methods."""

    def __init__(self, channel: Any, server: GrpcServer) -> None:
        self.channel, self.server = channel, server

    def __getattr__(self, name: str) -> Any:
        return self.channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=message_class(f"{name}Response").FromString,
        )


@asynccontextmanager
async def serving(home: Path, tls: tuple[str, str] = ("", ""), **settings: Any) -> AsyncIterator[tuple[Client, Worker]]:
    port = free_port()
    options = ServingSettings(home=home, grpc_port=port, tls_cert=tls[0], tls_key=tls[1], **settings)
    worker = Worker(options, {"CHURN_HOME": str(home)}, home)
    await worker.start()
    server = GrpcServer(worker, Handlers(worker))
    assert await server.start("127.0.0.1") == port
    if tls[0]:
        trusted = grpc.ssl_channel_credentials(Path(tls[0]).read_bytes())
        channel = grpc.aio.secure_channel(f"localhost:{port}", trusted)
    else:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    try:
        async with channel:
            yield Client(channel, server), worker
    finally:
        await server.stop()
        await worker.stop()


def call(home: Path, question: Any, **settings: Any) -> Any:
    async def go() -> Any:
        async with serving(home, **settings) as (client, worker):
            return await question(client, worker)

    return asyncio.run(go())


def infer_request(rows: list[dict[str, Any]], is_raw: bool = False, outputs: tuple[str, ...] = (), **more: Any) -> Any:
    request = message_class("ModelInferRequest")(model_name="churn", **more)
    request.parameters["as_of"].string_param = AS_OF
    for name in outputs:
        request.outputs.add(name=name)
    for tensor in describe_inputs(CONTRACT):
        data = [row[tensor.name] for row in rows]
        given = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=[len(rows)])
        if is_raw:
            request.raw_input_contents.append(raw({"datatype": tensor.datatype, "data": data}))
            continue
        if tensor.datatype == "BYTES":
            data = [(value or "").encode() for value in data]
        elif tensor.datatype == "FP64":
            data = [np.nan if value is None else value for value in data]
        getattr(given.contents, FIELDS[tensor.datatype]).extend(data)
    return request


def columns(response: Any) -> dict[str, list[Any]]:
    """The typed contents of a response."""
    table = {output.name: list(getattr(output.contents, FIELDS[output.datatype])) for output in response.outputs}
    return {name: [v.decode() if isinstance(v, bytes) else v for v in values] for name, values in table.items()}


def test_typed_contents_are_answered_typed_with_the_answer_and_the_row_of_predict(tmp_path):
    home = home_with_champion(tmp_path)
    same = post(home, "/predict", ASKED).json()
    headers = (("x-request-id", "r7"), ("x-churn-test", "1"))

    async def question(client, worker):
        asked = client.ModelInfer(infer_request([ROW], id="mine"), metadata=headers)
        return await asked, dict(await asked.trailing_metadata())

    response, trailing = call(home, question)
    assert (response.model_name, response.model_version, response.id) == (
        "churn",
        require_champion(home).version,
        "mine",
    )
    assert response.parameters["contract"].string_param == CONTRACT.name
    assert not response.raw_output_contents
    outputs = columns(response)
    assert list(outputs) == [output.name for output in OUTPUTS]
    for name in ("customer_id", "churn_probability", "churn", "threshold", "risk_band", "as_of"):
        assert outputs[name] == [same[name]]
    assert trailing["x-request-id"] == "r7"
    first, second = rows_of(home / "predlog")
    assert (second["prediction_id"], second["request_id"]) == (outputs["prediction_id"][0], "r7")
    own = ("prediction_id", "request_id", "scored_at", "latency_us", "test")
    assert {k: v for k, v in second.items() if k not in own} == {k: v for k, v in first.items() if k not in own}


def test_raw_contents_are_answered_raw_and_outputs_are_those_asked_for(home):
    same = post(home, "/predict_batch", {"customers": ROWS, "as_of": AS_OF}).json()["predictions"]
    request = infer_request(ROWS, is_raw=True, outputs=("risk_band", "churn_probability"))
    response = call(home, lambda client, worker: client.ModelInfer(request))
    assert [output.name for output in response.outputs] == ["risk_band", "churn_probability"]
    bands, probabilities = response.raw_output_contents
    assert np.frombuffer(probabilities, "<f8").tolist() == [p["churn_probability"] for p in same]
    assert bands == raw({"datatype": "BYTES", "data": [p["risk_band"] for p in same]})


def test_a_canary_routes_customers_of_grpc_as_those_of_rest(tmp_path):
    home = home_with_champion(tmp_path)
    champion, challenger = champion_bundle(home), make_bundle(home, "logistic")
    policy = write_canary(home, 1, champion, challenger, 0.5)
    same = post(home, "/predict_batch", {"customers": ROWS, "as_of": AS_OF}).json()["predictions"]

    async def question(client, worker):
        many = await client.ModelInfer(infer_request(ROWS))
        named = infer_request(ROWS[:3], model_version=challenger.name)
        return many, await client.ModelInfer(named), [await client.ModelInfer(infer_request([row])) for row in ROWS[:5]]

    many, named, alone = call(home, question)
    expected = [policy.choose(share_of(policy.salt, str(row["id"]))).version for row in ROWS]
    assert set(expected) == {champion.name, challenger.name}
    outputs = columns(many)
    assert outputs["model_version"] == expected == [p["model_version"] for p in same]
    assert outputs["churn_probability"] == [p["churn_probability"] for p in same]
    assert (many.model_version, [response.model_version for response in alone]) == ("", expected[:5])
    assert (named.model_version, columns(named)["model_version"]) == (challenger.name, [challenger.name] * 3)


def test_health_and_metadata_with_and_without_a_model(home, tmp_path):
    version = require_champion(home).version

    async def question(client, worker):
        named = {name: {"name": "churn"} if name.startswith("Model") else {} for name in METHODS[:5]}
        return {n: await getattr(client, n)(message_class(f"{n}Request")(**fields)) for n, fields in named.items()}

    answers = call(home, question)
    assert (answers["ServerLive"].live, answers["ServerReady"].ready, answers["ModelReady"].ready) == (True, True, True)
    assert list(answers["ModelMetadata"].versions) == [version]
    assert [(t.name, t.datatype) for t in answers["ModelMetadata"].inputs] == [
        (t.name, t.datatype) for t in describe_inputs(CONTRACT)
    ]
    assert list(answers["ServerMetadata"].extensions) == ["binary_tensor_data"]

    async def unready(client, worker):
        live = await client.ServerLive(b"")
        ready = await client.ServerReady(b"")
        model = await client.ModelReady(message_class("ModelReadyRequest")(name="churn"))
        return live.live, ready.ready, model.ready

    assert call(tmp_path, unready) == (True, False, False)


def refusal(home: Path, request: Any, method: str = "ModelInfer", metadata: Any = None, **settings: Any) -> Any:
    """(code, text, trailing metadata) of a call that is refused."""

    async def question(client, worker):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await getattr(client, method)(request, metadata=metadata)
        return raised.value.code().name, raised.value.details(), dict(raised.value.trailing_metadata())

    return call(home, question, **settings)


def changed(**change: Any) -> Any:
    request = infer_request([ROW])
    tensor = next(each for each in request.inputs if each.name == "sent")
    for name, value in change.items():
        if name == "contents":
            tensor.contents.Clear()
            for field, values in value.items():
                getattr(tensor.contents, field).extend(values)
        else:
            setattr(tensor, name, value)
    return request


REFUSED = [
    (b"\xff\xff", "INVALID_ARGUMENT", "is no ModelInferRequest"),
    (changed(contents={"int64_contents": [-1]}), "INVALID_ARGUMENT", "row 0, column 'sent': found -1, expected"),
    (changed(contents={"int_contents": [1]}), "INVALID_ARGUMENT", "it has int_contents, expected int64_contents"),
    (changed(contents={"int64_contents": [1, 2]}), "INVALID_ARGUMENT", "it has 2 elements, expected 1"),
    (changed(datatype="FP16"), "INVALID_ARGUMENT", "it has 0 elements, expected 1"),
    (changed(datatype="INT65"), "INVALID_ARGUMENT", "the datatype is 'INT65'"),
    (changed(name="spend"), "INVALID_ARGUMENT", "did you mean 'spent'?"),
    (infer_request([ROW], outputs=("churns",)), "INVALID_ARGUMENT", "did you mean 'churn'?"),
    (infer_request([ROW], model_version="0"), "NOT_FOUND", "version '0' is not loaded"),
    (message_class("ModelInferRequest")(model_name="other"), "NOT_FOUND", "the model is 'other'"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "code", "problem"), REFUSED)
def test_a_call_that_is_none_of_this_model_is_refused_and_counted(tmp_path, request_, code, problem):
    home = home_with_champion(tmp_path)
    given, text, trailing = refusal(home, request_)
    assert (given, "\n" in text, len(trailing["x-request-id"])) == (code, False, 16)
    assert problem in text
    (row,) = rows_of(home / "predlog")
    assert (row["kind"], sum(row["counts"].values())) == ("rejections", 1)


def test_typed_and_raw_contents_are_not_mixed(home):
    request = infer_request([ROW])
    request.raw_input_contents.append(b"x")
    assert "1 raw contents for 7 inputs" in refusal(home, request)[1]
    request.raw_input_contents.extend([b"x"] * 6)
    assert "typed and raw contents" in refusal(home, request)[1]


def test_without_a_model_a_call_is_unavailable_and_says_when_to_ask_again(tmp_path):
    code, text, trailing = refusal(tmp_path, infer_request([ROW]))
    assert (code, trailing["retry-after"]) == ("UNAVAILABLE", "5")
    assert "make run" in text


def test_keys_and_scopes_are_those_of_http(tmp_path):
    home, now = home_with_champion(tmp_path), dt.datetime.now(dt.UTC)
    (key, token), (_, viewer) = (KeyStore(home).create("test", [scope], None, now) for scope in ("predict", "view"))

    async def question(client, worker):
        live = await client.ServerLive(b"")
        ready = await client.ServerReady(b"")
        given = [await client.ModelInfer(infer_request([ROW]), metadata=(header,)) for header in headers]
        return live.live, ready.ready, len(given)

    headers = [("authorization", f"Bearer {token}"), ("x-api-key", token)]
    assert call(home, question) == (True, True, 2)
    assert {row["source"] for row in rows_of(home / "predlog")} == {key.id}
    code, text, trailing = refusal(home, infer_request([ROW]))
    assert (code, trailing["www-authenticate"]) == ("UNAUTHENTICATED", 'Bearer realm="churn"')
    assert "the request has no API key" in text
    code, text, _ = refusal(home, infer_request([ROW]), metadata=(("x-api-key", viewer),))
    assert (code, "expected predict" in text) == ("PERMISSION_DENIED", True)
    assert refusal(home, b"", "ServerMetadata")[0] == "UNAUTHENTICATED"


def test_the_limits_of_rate_rows_and_size_hold(home):
    async def twice(client, worker):
        await client.ModelInfer(infer_request([ROW]))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await client.ModelInfer(infer_request([ROW]))
        return raised.value.code().name, dict(raised.value.trailing_metadata())["retry-after"]

    assert call(home, twice, rate_per_s=0.5, rate_burst=1) == ("RESOURCE_EXHAUSTED", "2")
    assert "from 1 to 19 customers" in refusal(home, infer_request(ROWS), batch_rows=19)[1]
    code, text, _ = refusal(home, infer_request(ROWS), batch_bytes=2048)
    assert (code, "512" in text) == ("RESOURCE_EXHAUSTED", True)
    code, text, _ = refusal(home, infer_request(ROWS * 20), held_bytes=4096)
    assert (code, "hold all memory" in text) == ("UNAVAILABLE", True)


def test_a_message_that_does_not_arrive_is_refused_in_time(home):
    async def question(client, worker):
        async def never() -> AsyncIterator[bytes]:
            await asyncio.sleep(30)
            yield b""

        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await client.channel.stream_unary(f"/{SERVICE}/ModelInfer")(never())
        return raised.value.code().name, raised.value.details()

    code, text = call(home, question, timeout_s=0.1)
    assert (code, text) == (
        "DEADLINE_EXCEEDED",
        "the message took more than 0.08 seconds, expected it sooner; send it again",
    )


def test_with_a_certificate_it_speaks_tls(tmp_path):
    home = home_with_champion(tmp_path)
    response = call(home, lambda c, w: c.ModelInfer(infer_request([ROW])), tls=certificate(tmp_path))
    assert columns(response)["customer_id"] == [ROW["id"]]


def test_a_stop_answers_each_call_that_is_in_the_log_and_no_further_one(tmp_path):
    home = home_with_champion(tmp_path)

    async def question(client, worker):
        await client.ServerLive(b"")
        running = [asyncio.ensure_future(_answer(client)) for _ in range(20)]
        while not worker.log.waiting_rows:
            await asyncio.sleep(0.001)
        await client.server.stop()
        answers = await asyncio.gather(*running, return_exceptions=True)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await client.ModelInfer(infer_request([ROW]))
        return answers, raised.value.code().name

    answers, code = call(home, question)
    failed = [answer.code().name for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert set(failed) <= {"UNAVAILABLE", "CANCELLED"}  # sent, and not begun
    assert len(answers) - len(failed) == len(list(rows_of(home / "predlog"))) >= 1
    assert code == "UNAVAILABLE"


async def _answer(client: Client) -> Any:
    return await client.ModelInfer(infer_request([ROW]))


def test_a_taken_port_is_an_error_of_the_start():
    port = free_port()
    check_grpc_port("127.0.0.1", port, 0)
    with pytest.raises(SettingsError, match="as the port of HTTP"):
        check_grpc_port("127.0.0.1", port, port)
