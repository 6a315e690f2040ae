"""The real server, once with a model and once without."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from churn_assets.scoring.bundle import write_bundle
from churn_assets_tests.scoring.tiny import AS_OF, customers, json_rows, scorer_of

ROOT = Path(__file__).resolve().parents[2]
ROW = {**json_rows(customers(1, seed=3))[0], "as_of": AS_OF}


def serve(folder: Path, **environ: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"CHURN_HOME": str(folder / "home"), "BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    (folder / "bentoml").mkdir()
    command = [sys.executable, "-m", "bentoml", "serve", "churn_assets.serving.service:ChurnService"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, **told, **environ},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _await(f"http://127.0.0.1:{port}/livez", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(20)


def _await(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended by itself"
        try:
            if httpx.get(url, timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the server did not come up within 60 s")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    bundle = write_bundle(
        folder / "bundles",
        scorer_of("boosted"),
        card={},
        golden=customers(40, seed=8),
        as_of=AS_OF,
        reference=customers(50, seed=9),
        provenance={},
    )
    yield from serve(folder, CHURN_BUNDLE=str(bundle))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from serve(tmp_path_factory.mktemp("empty"))


def test_bentoml_serves_the_scorers_answer(serving):
    response = httpx.post(f"{serving}/predict", json=ROW)
    expected = scorer_of("boosted").score_table(customers(1, seed=3), AS_OF).probability[0]
    assert response.status_code == 200
    assert response.json()["churn_probability"] == pytest.approx(expected, abs=1e-12)
    assert httpx.get(f"{serving}/readyz").status_code == 200
    assert "bentoml_service" in httpx.get(f"{serving}/metrics").text


def test_bentoml_passes_our_refusals_through(serving):
    refused = httpx.post(f"{serving}/predict", json={**ROW, "city": "Paris"})
    assert refused.status_code == 422
    assert refused.json()["error"].startswith("row 0, column 'city': found 'Paris'")
    assert httpx.post(f"{serving}/predict", content=b"{").status_code == 400


def test_a_server_without_a_model_lives_and_is_not_ready(empty):
    assert httpx.get(f"{empty}/livez").status_code == 200
    assert httpx.get(f"{empty}/readyz").status_code == 503
    response = httpx.post(f"{empty}/predict", json=ROW)
    assert response.status_code == 503
    assert "run `make run`" in response.json()["error"]
