"""NVIDIA's client against a service, by HTTP or gRPC, as a program of its own: gevent stays out of the tests' process.

    python -m churn_assets_tests.serving.open_inference.triton_client http|grpc ADDRESS < customers.json

Reads a list of customers, and prints what the client has found as one JSON object.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import numpy as np

NUMBERS = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}


def ask(kind: str, address: str, customers: list[dict[str, Any]], as_of: str) -> dict[str, Any]:
    """Readiness, the names of the tensors, the outputs of all customers, and the error of a wrong model."""
    triton = importlib.import_module(f"tritonclient.{kind}")
    options = {"as_json": True} if kind == "grpc" else {}
    with triton.InferenceServerClient(address) as client:
        metadata = client.get_model_metadata("churn", **options)
        inputs = [_input(triton, tensor, customers) for tensor in metadata["inputs"]]
        outputs = [triton.InferRequestedOutput(each["name"]) for each in metadata["outputs"]]
        result = client.infer("churn", inputs, outputs=outputs, parameters={"as_of": as_of})
        try:
            client.infer("risk", inputs)
            error = ""
        except triton.InferenceServerException as refused:
            error = str(refused)
        arrays = {each["name"]: result.as_numpy(each["name"]) for each in metadata["outputs"]}
        return {
            "live": client.is_server_live(),
            "ready": client.is_server_ready() and client.is_model_ready("churn"),
            "outputs": {name: [_plain(value) for value in array.tolist()] for name, array in arrays.items()},
            "error": error,
        }


def _input(triton: Any, tensor: dict[str, Any], customers: list[dict[str, Any]]) -> Any:
    values = np.array([customer.get(tensor["name"]) for customer in customers], dtype=object)
    if tensor["datatype"] == "BYTES":
        values[values == None] = ""  # noqa: E711  # an array
    elif tensor["datatype"] == "FP64":
        values[values == None] = np.nan  # noqa: E711
    made = triton.InferInput(tensor["name"], [len(customers)], tensor["datatype"])
    made.set_data_from_numpy(values.astype(NUMBERS.get(tensor["datatype"], object)))
    return made


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    print(json.dumps(ask(sys.argv[1], sys.argv[2], asked["customers"], asked["as_of"])))
