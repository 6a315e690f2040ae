"""What deploy/deliver asks of a home and of a service: `delivery.py waiting | staging VERSION | released VERSION`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

START_S = 120.0


def asked(*command: str) -> Any:
    """What a command prints as JSON."""
    return json.loads(subprocess.run(["churn", *command, "--json"], check=True, capture_output=True, text=True).stdout)


def waiting() -> int:
    """Print the newest version that has passed the gate and waits for a person."""
    verdicts = asked("history")["verdicts"]
    passed = [entry for entry in verdicts if entry["status"] == "waiting_approval"]
    if not passed:
        last = verdicts[-1] if verdicts else None
        print(
            f"no challenger waits for approval, expected one that has passed the gate; the last: {last}",
            file=sys.stderr,
        )
        return 1
    print(f"version={passed[-1]['version']}")
    return 0


@contextlib.contextmanager
def service_of(bundle: Path) -> Iterator[str]:
    """The address of a service that answers with `bundle`, in a home of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="churn-staging-") as home:
        own = {"CHURN_HOME": home, "CHURN_BUNDLE": str(bundle), "CHURN_PORT": port, "CHURN_GRPC_PORT": "0"}
        own |= {"CHURN_HOST": "127.0.0.1", "CHURN_LOG": "0"}
        process = subprocess.Popen(["churn", "serve"], env={**os.environ, **own}, stdout=sys.stderr)
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
            while not is_ready(url):
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit("the service with the new model does not start; its lines above say why")
                time.sleep(0.5)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)


def is_ready(url: str) -> bool:
    """Whether a service answers."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def fetch(url: str, body: object = None) -> Any:
    """The JSON of a URL; with a body, of a POST."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def staging(version: str) -> int:
    """The new model answers the example of its own documentation."""
    with service_of(Path(os.environ["CHURN_HOME"]) / "bundles" / version) as url:
        schemas = fetch(f"{url}/docs.json")["components"]["schemas"]
        customer = schemas["Customer"]["example"]
        alone = fetch(f"{url}/predict", customer)
        print(json.dumps(alone))
        is_right = alone["model_version"] == version and 0 <= alone["churn_probability"] <= 1
        return 0 if is_right else 1


def released(version: str) -> int:
    """Whether the version answers: as champion, or as an arm of the release that runs."""
    text = json.dumps(asked("release", "status")["policy"])
    if version in text:
        return 0
    print(f"the policy is {text}, expected {version} in it; churn history says what became of it", file=sys.stderr)
    return 1


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    raise SystemExit({"waiting": waiting, "staging": staging, "released": released}[command](*arguments))
