"""KServe's Python client and `buf curl` against a real `churn serve`: the bits of `/predict`.

    python -m benchmarks.inference_clients

Neither program is one of our requirements. KSERVE_PYTHON names the Python of an environment with `kserve`, and BUF the
program `buf` (`pip install kserve buf-bin` in an environment of its own makes both). The champion is that of
CHURN_HOME, else one trained on 6,000 generated customers. Exits 1 if a client reads another probability. NVIDIA's
client is part of `make test`.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from benchmarks.protocol import FIELDS, tensors
from benchmarks.serving import OURS, ROW, Variant, home_with_champion, running
from benchmarks.two_checkouts import free_port

KSERVE_PYTHON, BUF = os.environ.get("KSERVE_PYTHON", "python"), os.environ.get("BUF", "buf")
METHOD = "inference.GRPCInferenceService/ModelInfer"

# Runs in the environment of KServe; its own schema of gRPC is what `buf` is given.
CLIENT = """
import asyncio, base64, json, sys
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2

url, address = sys.argv[1:]
asked = json.load(sys.stdin)

def request():
    inputs = [InferInput(each["name"], [1], each["datatype"], each["data"]) for each in asked["tensors"]]
    return InferRequest("churn", inputs, parameters={"as_of": asked["as_of"]})

def probability(answer):
    return {output.name: output.data for output in answer.outputs}["churn_probability"][0]

async def main():
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    ready = await rest.is_server_ready(url) and await rest.is_model_ready(url, "churn")
    found = {"KServe REST": probability(await rest.infer(url, request(), model_name="churn"))}
    await rest.close()
    async with InferenceGRPCClient(address) as client:
        ready = ready and await client.is_server_ready() and await client.is_model_ready("churn")
        found["KServe gRPC"] = probability(await client.infer(request()))
    file = FileDescriptorProto()
    grpc_predict_v2_pb2.DESCRIPTOR.CopyToProto(file)
    schema = base64.b64encode(FileDescriptorSet(file=[file]).SerializeToString()).decode()
    print(json.dumps({"found": found, "ready": ready, "schema": schema}))

asyncio.run(main())
"""


def ask_kserve(port: int, grpc_port: int, inputs: list[dict[str, Any]]) -> tuple[dict[str, float], bytes]:
    """The probability by REST and by gRPC, and the schema of gRPC."""
    command = [KSERVE_PYTHON, "-c", CLIENT, f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}"]
    asked = json.dumps({"tensors": inputs, "as_of": ROW["as_of"]})
    done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, check=True)
    answer = json.loads(done.stdout)
    if not answer["ready"]:
        raise SystemExit("KServe's client says that the server or the model is not ready, expected both; see its log")
    return answer["found"], base64.b64decode(answer["schema"])


def ask_buf(grpc_port: int, inputs: list[dict[str, Any]], schema: Path) -> float:
    """The probability by `buf curl`, which sends the JSON of protobuf."""
    body = {
        "modelName": "churn",
        "parameters": {"as_of": {"stringParam": ROW["as_of"]}},
        "inputs": [_tensor(each) for each in inputs],
        "outputs": [{"name": "churn_probability"}],
    }
    command = [BUF, "curl", "--schema", str(schema), "--protocol", "grpc", "--http2-prior-knowledge"]
    command += ["-d", json.dumps(body), f"http://127.0.0.1:{grpc_port}/{METHOD}"]
    answer = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return float(answer["outputs"][0]["contents"]["fp64Contents"][0])


def _tensor(tensor: dict[str, Any]) -> dict[str, Any]:
    head, _, tail = FIELDS[tensor["datatype"]].partition("_")
    data = tensor["data"]
    if tensor["datatype"] == "BYTES":
        data = [base64.b64encode(text.encode()).decode() for text in data]
    return {
        "name": tensor["name"],
        "datatype": tensor["datatype"],
        "shape": ["1"],
        "contents": {head + tail.title(): data},
    }


def main() -> int:
    """Ask, and compare with `/predict`."""
    with tempfile.TemporaryDirectory() as folder:
        home_with_champion(Path(folder))
        port, grpc_port = free_port(), free_port()
        command = [sys.executable, "-m", "bentoml", "serve", OURS, "--port", str(port), "--host", "127.0.0.1"]
        with running(Variant("service", command, {"CHURN_GRPC_PORT": str(grpc_port)}), port, Path(folder)):
            expected = httpx.post(f"http://127.0.0.1:{port}/predict", json=ROW).json()["churn_probability"]
            inputs = tensors(port)
            found, schema = ask_kserve(port, grpc_port, inputs)
            file = Path(folder, "schema.binpb")
            file.write_bytes(schema)
            found["buf curl"] = ask_buf(grpc_port, inputs, file)
    for name, probability in found.items():
        print(f"{name}: {probability!r}, {'the bits of' if probability == expected else 'OTHER than'} /predict")
    return 0 if set(found.values()) == {expected} else 1


if __name__ == "__main__":
    sys.exit(main())
