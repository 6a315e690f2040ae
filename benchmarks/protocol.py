"""The Open Inference Protocol beside `/predict`: p50 and p99 of one customer, by REST and gRPC.

    python -m benchmarks.protocol [rounds] [seconds a round]

One service with one worker, the champion of CHURN_HOME (else one trained on 6,000 generated customers). A client asks
all variants in turns, so that they work in the same seconds. Clients of HTTP are sockets with a finished request; those
of gRPC are grpc.aio with a finished message, whose own work is part of what is measured.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import httpx

from benchmarks.serving import OURS, ROW, Variant, home_with_champion, running
from benchmarks.two_checkouts import CLIENTS, free_port
from churn_assets.serving.open_inference.grpc_messages import SERVICE, message_class

PREDICT, JSON, BINARY, TYPED, RAW = "/predict", "/v2 JSON", "/v2 binary", "gRPC typed", "gRPC raw"
FIELDS = {"BYTES": "bytes_contents", "FP64": "fp64_contents", "INT64": "int64_contents", "BOOL": "bool_contents"}


def tensors(port: int) -> list[dict[str, Any]]:
    """The customer as JSON tensors of the service's metadata."""
    inputs = httpx.get(f"http://127.0.0.1:{port}/v2/models/churn").json()["inputs"]
    given = [each for each in inputs if each["name"] in ROW]
    return [{**each, "shape": [1], "data": [_as_type(each["datatype"], ROW[each["name"]])]} for each in given]


def _as_type(datatype: str, value: Any) -> Any:
    return float(value) if datatype == "FP64" else value


def http_requests(port: int) -> dict[str, bytes]:
    own, parameters = tensors(port), {"as_of": ROW["as_of"]}
    raw = [raw_bytes(tensor) for tensor in own]
    sized = [
        {**{k: v for k, v in tensor.items() if k != "data"}, "parameters": {"binary_data_size": len(part)}}
        for tensor, part in zip(own, raw, strict=True)
    ]
    head = json.dumps({"inputs": sized, "parameters": {**parameters, "binary_data_output": True}}).encode()
    body = json.dumps({"inputs": own, "parameters": parameters}).encode()
    path, octets = "/v2/models/churn/infer", "application/octet-stream"
    length = f"Inference-Header-Content-Length: {len(head)}\r\n"
    return {
        PREDICT: _post(port, "/predict", json.dumps(ROW).encode()),
        JSON: _post(port, path, body),
        BINARY: _post(port, path, head + b"".join(raw), octets, length),
    }


def _post(port: int, path: str, body: bytes, kind: str = "application/json", more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def raw_bytes(tensor: dict[str, Any]) -> bytes:
    from churn_assets.serving.open_inference import tensors as v2

    if tensor["datatype"] == "INT64":
        return int(tensor["data"][0]).to_bytes(8, "little", signed=True)
    return v2.raw_bytes(v2.Tensor(tensor["name"], tensor["datatype"], [1], tensor["data"]))


def grpc_requests(port: int) -> dict[str, bytes]:
    requests = {name: message_class("ModelInferRequest")(model_name="churn") for name in (TYPED, RAW)}
    for tensor in tensors(port):
        head = {name: tensor[name] for name in ("name", "datatype", "shape")}
        requests[RAW].inputs.add(**head)
        requests[RAW].raw_input_contents.append(raw_bytes(tensor))
        values = [text.encode() for text in tensor["data"]] if tensor["datatype"] == "BYTES" else tensor["data"]
        getattr(requests[TYPED].inputs.add(**head).contents, FIELDS[tensor["datatype"]]).extend(values)
    for request in requests.values():
        request.parameters["as_of"].string_param = ROW["as_of"]
    return {name: request.SerializeToString() for name, request in requests.items()}


async def client(port: int, grpc_port: int, until: float, taken: dict[str, list[float]]) -> None:
    """Ask each variant in turns until then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")

        async def ask_http(request: bytes) -> None:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            await reader.readexactly(next(int(line[15:]) for line in lines if line.startswith(b"content-length:")))
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"the answer is {head.splitlines()[0]!r}, expected 200")

        asks: list[tuple[str, Callable[[bytes], Awaitable[Any]], bytes]] = [
            *((name, ask_http, request) for name, request in HTTP.items()),
            *((name, infer, request) for name, request in GRPC.items()),
        ]
        while time.perf_counter() < until:
            for name, ask, request in asks:
                start = time.perf_counter()
                await ask(request)
                taken[name].append(time.perf_counter() - start)
    writer.close()


HTTP: dict[str, bytes] = {}
GRPC: dict[str, bytes] = {}


async def one_round(port: int, grpc_port: int, clients: int, seconds: float) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in (*HTTP, *GRPC)}
    until = time.perf_counter() + seconds
    await asyncio.gather(*(client(port, grpc_port, until, taken) for _ in range(clients)))
    return taken


def main(rounds: int = 10, seconds: int = 3) -> str:
    lines = ["| variant | clients | p50 ms | p99 ms | p50 / p50 of /predict (quartiles) |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        home_with_champion(Path(folder))
        port, grpc_port = free_port(), free_port()
        command = [sys.executable, "-m", "bentoml", "serve", OURS, "--port", str(port), "--host", "127.0.0.1"]
        with running(Variant("service", command, {"CHURN_GRPC_PORT": str(grpc_port)}), port, Path(folder)):
            HTTP.update(http_requests(port))
            GRPC.update(grpc_requests(port))
            asyncio.run(one_round(port, grpc_port, CLIENTS[-1], 1))  # warm
            for clients in CLIENTS:
                taken = [asyncio.run(one_round(port, grpc_port, clients, seconds)) for _ in range(rounds)]
                lines += [line(name, clients, taken) for name in (*HTTP, *GRPC)]
    return "\n".join(lines)


def line(name: str, clients: int, rounds: list[dict[str, list[float]]]) -> str:
    """One row of the table; the ratio is the median over the rounds."""
    times = sorted(seconds for taken in rounds for seconds in taken[name])
    ratios = [statistics.median(taken[name]) / statistics.median(taken[PREDICT]) for taken in rounds]
    low, middle, high = statistics.quantiles(ratios, n=4)
    p50, p99 = times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3
    return f"| {name} | {clients} | {p50:.2f} | {p99:.2f} | {middle:.2f} ({low:.2f} to {high:.2f}) |"


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
