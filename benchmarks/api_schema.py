"""Schemathesis against a real `churn serve`: whether the service does what its OpenAPI document says.

    python -m benchmarks.api_schema [examples a route] [seeds...]

Every check of Schemathesis (`--checks all`) on a copy of the champion of CHURN_HOME (else of one trained on 6,000
generated customers): a home without keys, and one with keys, asked with a key of every scope, with one of `view` alone,
and with none. The service's own log of requests says what was answered: no 5xx, and nothing without the scope of its
route. The program `schemathesis` is none of our requirements: install it in an environment of its own (`pipx install
schemathesis`), or name it in SCHEMATHESIS. Nothing is set beside its defaults. Exits 1 if a check failed.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.serving import home_with_champion
from benchmarks.two_checkouts import free_port
from churn_assets.access.keys import KeyStore
from churn_assets.promotion.pointer import require_champion, write_champion
from churn_assets.serving.authorization import scopes_of
from churn_assets.serving.open_inference.messages import PREFIX, find_route
from churn_assets.settings import Settings
from churn_assets_tests.serving.client import wait_for

PROGRAM = os.environ.get("SCHEMATHESIS", "schemathesis")
MODES: dict[str, tuple[str, ...] | None] = {  # the scopes of the key that is sent; None: a home without keys
    "without keys": None,
    "with a key of every scope": ("admin",),
    "with a key of view alone": ("view",),
    "with keys, and none sent": (),
}


def check(home: Path, key: str, examples: int, seed: int) -> tuple[str, bool]:
    """A service on `home`, and a run against it: its summary, and whether all held."""
    port = free_port()
    environ = {**os.environ, "CHURN_HOME": str(home), "CHURN_GRPC_PORT": "0", "CHURN_ACCESS_LOG": "1"}
    environ.pop("CHURN_BUNDLE", None)
    serve = [sys.executable, "-c", "from churn_assets.cli.main import main; main()", "serve", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with (home / "log").open("wb") as log:
        service = subprocess.Popen(serve, env=environ, stdout=log, stderr=log)
        try:
            wait_for(f"{url}/readyz", service, home / "log")
            command = [PROGRAM, "run", "--checks", "all", "--seed", str(seed)]
            command += ["--max-examples", str(examples), "--continue-on-failure", str(home / "docs.json")]
            command += ["--url", url, *(["-H", f"Authorization: Bearer {key}"] if key else [])]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=home)
        finally:
            service.terminate()
            service.wait(40)
    if done.returncode:
        print(done.stdout, file=sys.stderr)
    cases = re.search(r"(\d+) generated.*", done.stdout)
    return f"{cases[0] if cases else done.stderr.strip()[-200:]}, exit {done.returncode}", done.returncode == 0


def read_answers(home: Path, scopes: tuple[str, ...] | None) -> tuple[str, bool]:
    """The statuses that the service has given by its log of requests, and whether none was a 5xx or a success without
    the scope."""
    statuses: Counter[int] = Counter()
    wrong = []
    for line in (home / "log").read_text().splitlines():
        if '"event": "request"' not in line:
            continue
        entry = json.loads(line)
        statuses[entry["status"]] += 1
        path = find_route(entry["path"])[0] if entry["path"].startswith(PREFIX) else entry["path"]
        needed = scopes_of(path, entry["method"])
        is_allowed = not needed or scopes is None or "admin" in scopes or bool({*needed} & {*scopes})
        if entry["status"] >= 500 or (entry["status"] < 400 and not is_allowed):
            wrong.append(f"{entry['status']} for {entry['method']} {entry['path'][:80]}")
    for each in wrong[:10]:
        print(each, file=sys.stderr)
    text = ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))
    return f"{statuses.total():,} requests, {text}; {len(wrong)} that must not be", not wrong


def copy_champion(home: Path) -> None:
    """A home with the champion of CHURN_HOME, and nothing else."""
    source = Settings.from_environ(os.environ).home
    champion = require_champion(source)
    shutil.copytree(champion.path(source), home / champion.bundle)
    write_champion(home, champion)


def write_document(home: Path) -> None:
    """What `/docs.json` has: it needs a key in a home with keys, and Schemathesis reads it first."""
    from churn_assets.serving.routing.models import load_served_model
    from churn_assets.serving.schemas import openapi
    from churn_assets.settings import ServingSettings

    model = load_served_model(require_champion(home).path(home))
    document = openapi(model.contract, ServingSettings.from_environ({"CHURN_HOME": str(home)}))
    (home / "docs.json").write_text(json.dumps(document))


def main(examples: int = 50, *seeds: int) -> int:
    """Each mode, each seed."""
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        home_with_champion(Path(folder))
        for number, (name, scopes) in enumerate(MODES.items()):
            for seed in seeds or (1, 2, 3):
                home = Path(folder, f"{number}-{seed}")
                home.mkdir()
                copy_champion(home)
                write_document(home)
                key = ""
                if scopes is not None:
                    store, now = KeyStore(home), dt.datetime.now(dt.UTC)
                    token = store.create("benchmark", scopes or ["admin"], dt.timedelta(days=1), now)[1]
                    key = token if scopes else ""
                for line, held in (check(home, key, examples, seed), read_answers(home, scopes)):
                    ok &= held
                    print(f"{name}, seed {seed}, {examples} examples a route: {line}", flush=True)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
