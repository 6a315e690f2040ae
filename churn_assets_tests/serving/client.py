"""The service in this process, and the real one in another; requests to both."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from churn_assets.contract.model import Contract
from churn_assets.promotion.pointer import Champion, write_champion
from churn_assets.scoring.bundle import write_bundle
from churn_assets.serving.routes import ServiceApp
from churn_assets.serving.worker import Worker
from churn_assets.settings import ServingSettings
from churn_assets_tests.scoring.tiny import AS_OF, customers, json_rows, scorer_of

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "churn_assets.serving.service:ChurnService"
SCORER = scorer_of("boosted")
CUSTOMERS = customers(20, seed=3)
ROW: dict[str, Any] = json_rows(CUSTOMERS)[0]
ASKED = {**ROW, "as_of": AS_OF}

T = TypeVar("T")


def make_bundle(home: Path, kind: str = "boosted") -> Path:
    return write_bundle(
        home / "bundles",
        scorer_of(kind),
        card={"metrics": {"test_pr_auc": 0.9}, "as_of": AS_OF},
        golden=customers(40, seed=8),
        as_of=AS_OF,
        reference=customers(50, seed=9),
        provenance={"made_at": "2026-11-21T00:00:00+00:00"},
    )


def promote(home: Path, bundle: Path, contract: Contract = SCORER.contract) -> None:
    import datetime as dt

    version, now = bundle.name, dt.datetime.now(dt.UTC)
    write_champion(home, Champion(version, f"bundles/{version}", contract.fingerprint, 1, now, "a test", "to answer"))


def home_with_champion(home: Path, kind: str = "boosted") -> Path:
    promote(home, make_bundle(home, kind))
    return home


@asynccontextmanager
async def in_process(home: Path, **settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Worker]]:
    """A client of a worker that has started on `home`."""
    worker = Worker(ServingSettings(home=home, poll_s=0.05, **settings), {"CHURN_HOME": str(home)}, home)

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("BentoML's application was asked")

    await worker.start()
    transport = httpx.ASGITransport(ServiceApp(nothing, worker))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://churn") as client:
            yield client, worker
    finally:
        await worker.stop()


def ask(home: Path, question: Callable[[httpx.AsyncClient, Worker], Awaitable[T]], **settings: Any) -> T:
    """What `question` finds out from a service on `home`."""

    async def go() -> T:
        async with in_process(home, **settings) as (client, worker):
            return await question(client, worker)

    return asyncio.run(go())


def post(home: Path, path: str, body: object, **options: Any) -> httpx.Response:
    """One POST to a service on `home`; bytes go as they are."""
    headers = {"content-type": "application/json", **options.pop("headers", {})}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def question(client: httpx.AsyncClient, worker: Worker) -> httpx.Response:
        return await client.post(path, content=content, headers={k: v for k, v in headers.items() if v is not None})

    return ask(home, question, **options)


def assert_refusal(response: httpx.Response, status: int) -> dict[str, Any]:
    """The body of an error, which has the one shape, and below `/v2` that of the protocol."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    payload: dict[str, Any] = response.json()
    of_protocol = response.request.url.path.startswith("/v2")
    assert payload.keys() == ({"error"} if of_protocol else {"error", "detail"})
    assert payload["error"]
    assert "\n" not in payload["error"]
    for fault in payload.get("detail", ()):
        assert fault.keys() == {"row", "column", "found", "expected"}
    return payload


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate of this machine that nobody has signed, and its key: paths of PEM files."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-days", "2"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names, *subject], check=True, capture_output=True)
    return str(folder / "cert.pem"), str(folder / "key.pem")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextmanager
def served(folder: Path, home: Path, workers: int = 1, **options: Any) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`bentoml serve` on a free port: its address and process."""
    port = free_port()
    variables = {
        "CHURN_HOME": str(home),
        "CHURN_WORKERS": str(workers),
        "CHURN_HOST": "127.0.0.1",
        "CHURN_PORT": str(port),
        "CHURN_POLL_S": "0.1",
        "CHURN_GRPC_PORT": "0",
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        **options.pop("environ", {}),
    }
    (folder / "bentoml").mkdir(exist_ok=True)
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "bentoml", "serve", options.pop("service", SERVICE)],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
        try:
            scheme = "https" if "CHURN_TLS_CERT" in variables else "http"
            wait_for(f"{scheme}://127.0.0.1:{port}/livez", server, folder / "log")
            yield f"{scheme}://127.0.0.1:{port}", server
        finally:
            server.terminate()
            server.wait(20)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path, status: int = 200) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert server.poll() is None, f"the server ended by itself: {log.read_text()[-2000:]}"
        try:
            if httpx.get(url, timeout=2, verify=False).status_code == status:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{url} did not answer {status} within 90 s: {log.read_text()[-2000:]}")
