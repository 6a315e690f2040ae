"""`mlflow models serve` of the registered model against `churn serve`: the same numbers on the golden rows.

    python -m benchmarks.mlflow_serve

The champion of CHURN_HOME (else one trained on 6,000 generated customers), registered by `churn run`; `--env-manager
local`, so that nothing is installed. Exits 1 if a number differs: from `/predict_batch` at all, from `/predict` by more
than 1e-12 (one row adds the same terms in its order). The suite asks MLflow's application in its own process.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serving import home_with_champion
from churn_assets.contract.model import Kind
from churn_assets.mlflow_registry.registry import MODEL_NAME
from churn_assets.promotion.pointer import require_champion
from churn_assets.scoring.bundle import load_bundle
from churn_assets.settings import Settings
from churn_assets_tests.serving.client import free_port, wait_for

CHURN = "from churn_assets.cli.main import main; main()"


@contextmanager
def running(command: list[str], url: str, log: Path, **environ: str) -> Iterator[float]:
    """A server until the block ends; the seconds until it answered."""
    start = time.perf_counter()
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, env={**os.environ, **environ}, stdout=out, stderr=out, start_new_session=True
        )
        try:
            wait_for(url, server, log)
            yield time.perf_counter() - start
        finally:
            os.killpg(server.pid, 15)  # `mlflow models serve` does not end the uvicorn that it started
            server.wait(40)


def golden_rows(bundle: Path) -> tuple[list[dict[str, Any]], str]:
    """The bundle's golden rows as a client sends them, and their day."""
    contract, golden = load_bundle(bundle).contract, json.loads((bundle / "golden.json").read_text())
    names = [column.name for column in contract.scoring_columns]
    floats = {column.name for column in contract.scoring_columns if column.kind in (Kind.NUMBER, Kind.INTEGER)}
    rows = [
        {name: float(row[name]) if name in floats and row[name] is not None else row[name] for name in names}
        for row in golden["rows"]
    ]
    return rows, str(dt.date(1970, 1, 1) + dt.timedelta(days=int(golden["as_of_days"])))


def main() -> int:
    """Both servers, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        home_with_champion(scratch)
        settings = Settings.from_environ(os.environ)
        champion = require_champion(settings.home)
        rows, as_of = golden_rows(champion.path(settings.home))
        url = f"http://127.0.0.1:{free_port()}"
        model, port = f"models:/{MODEL_NAME}/{champion.registered_version}", url.rpartition(":")[2]
        serve = [
            "-m",
            "mlflow",
            "models",
            "serve",
            "-m",
            model,
            "--env-manager",
            "local",
            "-h",
            "127.0.0.1",
            "-p",
            port,
        ]
        environ = {"MLFLOW_TRACKING_URI": settings.mlflow_uri}
        with running([sys.executable, *serve], f"{url}/ping", scratch / "mlflow.log", **environ) as seconds:
            body = {"dataframe_records": rows, "params": {"as_of": as_of}}
            response = httpx.post(f"{url}/invocations", json=body, timeout=60).raise_for_status()
        theirs = response.json()["predictions"]
        url = f"http://127.0.0.1:{free_port()}"
        command = [sys.executable, "-c", CHURN, "serve", "--port", url.rpartition(":")[2]]
        with running(command, f"{url}/readyz", scratch / "churn.log", CHURN_GRPC_PORT="0"):
            answer = httpx.post(f"{url}/predict_batch", json={"customers": rows, "as_of": as_of}, timeout=60)
            batch = [each["churn_probability"] for each in answer.raise_for_status().json()["predictions"]]
            alone = [
                httpx.post(f"{url}/predict", json={**row, "as_of": as_of}).raise_for_status().json() for row in rows
            ]
    equal = sum(a == b for a, b in zip(theirs, batch, strict=True))
    largest = max(abs(a - b["churn_probability"]) for a, b in zip(theirs, alone, strict=True))
    print(
        f"{model} by mlflow models serve, up after {seconds:.1f} s: {equal} of {len(rows)} golden rows as "
        f"/predict_batch bit for bit, largest difference to /predict {largest:.1e}"
    )
    return 0 if equal == len(rows) and largest <= 1e-12 else 1


if __name__ == "__main__":
    sys.exit(main())
