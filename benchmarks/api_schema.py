"""Schemathesis against a real `churn serve`: whether the service does what its OpenAPI document says.

    python -m benchmarks.api_schema [examples a route] [seeds...]

Every check of Schemathesis (`--checks all`) on the champion of CHURN_HOME (else one trained on 6,000 generated
customers), on a copy of its home without keys and on one with a key. The program `schemathesis` is none of our
requirements: install it in an environment of its own (`pipx install schemathesis`), or name it in SCHEMATHESIS. Nothing
is set beside its defaults. Exits 1 if a check failed.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.serving import home_with_champion
from benchmarks.two_checkouts import free_port
from churn_assets.access.keys import KeyStore
from churn_assets.settings import Settings
from churn_assets_tests.serving.client import wait_for

PROGRAM = os.environ.get("SCHEMATHESIS", "schemathesis")


def check(home: Path, key: str, examples: int, seed: int) -> tuple[str, bool]:
    """A service on `home`, and a run against it: its summary, and whether all held."""
    port = free_port()
    environ = {**os.environ, "CHURN_HOME": str(home), "CHURN_GRPC_PORT": "0"}
    serve = [sys.executable, "-c", "from churn_assets.cli.main import main; main()", "serve", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with (home / "log").open("wb") as log:
        service = subprocess.Popen(serve, env=environ, stdout=log, stderr=log)
        try:
            wait_for(f"{url}/readyz", service, home / "log")
            command = [PROGRAM, "run", "--checks", "all", "--seed", str(seed)]
            command += ["--max-examples", str(examples), "--continue-on-failure", f"{url}/docs.json"]
            command += ["-H", f"Authorization: Bearer {key}"] if key else []
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=home)
        finally:
            service.terminate()
            service.wait(40)
    if done.returncode:
        print(done.stdout, file=sys.stderr)
    cases = re.search(r"(\d+) generated.*", done.stdout)
    return f"{cases[0] if cases else done.stderr.strip()[-200:]}, exit {done.returncode}", done.returncode == 0


def main(examples: int = 50, *seeds: int) -> int:
    """Both homes, each seed."""
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        home_with_champion(Path(folder))
        for name in ("without keys", "with a key"):
            home = Path(folder, name.replace(" ", "-"))
            shutil.copytree(Settings.from_environ(os.environ).home, home, symlinks=True)
            key = ""
            if name == "with a key":
                now = dt.datetime.now(dt.UTC)
                key = KeyStore(home).create("benchmark", ["admin"], dt.timedelta(days=1), now)[1]
            for seed in seeds or (1, 2, 3):
                line, held = check(home, key, examples, seed)
                ok &= held
                print(f"{name}, seed {seed}, {examples} examples a route: {line}", flush=True)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
