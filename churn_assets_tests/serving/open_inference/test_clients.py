"""Clients that are not ours against a real service."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest

from churn_assets_tests.scoring.tiny import AS_OF
from churn_assets_tests.serving.client import ROOT, free_port, home_with_champion, served, wait_for
from churn_assets_tests.serving.open_inference.test_rest import ROWS


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    port = free_port()
    with served(folder, home_with_champion(folder / "home"), environ={"CHURN_GRPC_PORT": str(port)}) as (url, process):
        wait_for(f"{url}/readyz", process, folder / "log")
        yield url, {"http": url.removeprefix("http://"), "grpc": f"127.0.0.1:{port}"}


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_tritonclient_reads_the_answer_of_predict_to_the_last_bit(service, kind):
    url, addresses = service
    customers = [{**row, "id": f"C{number}"} for number, row in enumerate(ROWS)]
    body = {"customers": customers, "as_of": AS_OF}
    predictions = httpx.post(f"{url}/predict_batch", json=body).raise_for_status().json()["predictions"]
    program = [sys.executable, "-m", "churn_assets_tests.serving.open_inference.triton_client", kind, addresses[kind]]
    done = subprocess.run(program, input=json.dumps(body), capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["live"], found["ready"]) == (True, True)
    outputs = found["outputs"]
    for name in ("customer_id", "churn_probability", "churn", "threshold", "risk_band", "as_of"):
        assert outputs[name] == [prediction[name] for prediction in predictions], name
    assert [json.loads(text) for text in outputs["warnings"]] == [each["warnings"] for each in predictions]
    assert len(set(outputs["prediction_id"])) == len(ROWS)
    assert "the model is 'risk', expected churn" in found["error"]
