"""Requests a second, latencies and CPU a request of the service, beside what it could be compared with.

python -m benchmarks.serving [seconds] [clients,...]

In one run, one after another on the same machine: our service (log on, log off, two workers), a constant
through the same HTTP, BentoML's `@api` with defaults, and a FastAPI app as the seed's. Load by wrk if it is
installed, else by our own clients in a process of their own. It needs a champion: CHURN_HOME, else one
trained on 6,000 made-up customers. CPU is that of the server's processes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ROW = {
    "custid": "C00042", "created": "2012-09-28", "firstorder": "2013-08-11", "lastorder": "2013-08-11", "esent": 29,
    "eopenrate": 100.0, "eclickrate": 3.4, "avgorder": 14.52, "ordfreq": 0.0, "paperless": False, "refill": False,
    "doorstep": False, "favday": "Monday", "city": "DEL", "as_of": "2014-01-20",
}  # fmt: skip
OURS, APPS = "churn_assets.serving.service:ChurnService", "benchmarks.serving_apps"


@dataclass(frozen=True)
class Variant:
    name: str
    command: list[str]
    environ: dict[str, str]
    body: object = None
    folder: Path | None = None
    key: str = ""


@dataclass(frozen=True)
class Figures:
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    failed: int


def variants(port: int, scratch: Path) -> list[Variant]:
    def bento(service: str) -> list[str]:
        serve = [sys.executable, "-m", "bentoml", "serve", service]
        return [*serve, "--port", str(port), "--host", "127.0.0.1"]

    seed = [sys.executable, "-m", "uvicorn", "benchmarks.seed_like:app", "--port", str(port), "--no-access-log"]
    return [
        Variant("ours, 1 worker", bento(OURS), {}),
        Variant("ours, 1 worker, log off", bento(OURS), {"CHURN_LOG": "0"}),
        Variant("ours, 2 workers", bento(OURS), {"CHURN_WORKERS": "2"}),
        Variant("ours by Starlette's router", bento(f"{APPS}:Routed"), {}),
        Variant("a constant, same HTTP", bento(f"{APPS}:Constant"), {"CHURN_LOG": "0"}),
        Variant("BentoML @api, defaults, no log", bento(f"{APPS}:Plain"), {}, {"customer": ROW}),
        Variant("FastAPI like the seed", seed, {"SEED_DATABASE": str(scratch / "seed.sqlite")}),
    ]


@contextmanager
def running(variant: Variant, port: int, scratch: Path) -> Iterator[psutil.Process]:
    environ = {**os.environ, "BENTOML_HOME": str(scratch / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    environ |= {"OMP_NUM_THREADS": "1", "CHURN_PORT": str(port), "CHURN_HOST": "127.0.0.1"}
    environ |= {"CHURN_GRPC_PORT": "0", **variant.environ}
    (scratch / "bentoml").mkdir(exist_ok=True)
    with (scratch / "log").open("wb") as log:
        server = subprocess.Popen(variant.command, env=environ, stdout=log, stderr=log, cwd=variant.folder)
        try:
            _await(f"http://127.0.0.1:{port}/predict", variant, server, scratch / "log")
            yield psutil.Process(server.pid)
        finally:
            server.terminate()
            server.wait(30)


def _await(url: str, variant: Variant, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            headers = {"authorization": f"Bearer {variant.key}"} if variant.key else {}
            if httpx.post(url, json=variant.body or ROW, headers=headers, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)  # between two attempts to reach a server that starts
    raise SystemExit(f"the server does not answer: {log.read_text(errors='replace')[-2000:]}")


def cpu_seconds(process: psutil.Process) -> float:
    family = [process, *process.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in family)


def measure(url: str, body: object, clients: int, seconds: int, process: psutil.Process, scratch: Path) -> Figures:
    before = cpu_seconds(process)
    if shutil.which("wrk"):
        asked, per_second, p50, p99, failed = _wrk(url, body, clients, seconds, scratch)
    else:
        told = [sys.executable, "-m", "benchmarks.clients", url, json.dumps(body), str(clients), str(seconds)]
        done = subprocess.run(told, capture_output=True, text=True, check=True)
        asked, per_second, p50, p99, failed = json.loads(done.stdout)
    return Figures(per_second, p50, p99, (cpu_seconds(process) - before) / max(asked, 1) * 1e6, failed)


def _wrk(url: str, body: object, clients: int, seconds: int, scratch: Path) -> tuple[int, float, float, float, int]:
    script = scratch / "wrk.lua"
    script.write_text(
        f"wrk.method='POST'\nwrk.body=[[{json.dumps(body)}]]\nwrk.headers['Content-Type']='application/json'\n"
    )
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    asked = int(re.search(r"(\d+) requests in", said)[1])
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    per_second = float(re.search(r"Requests/sec:\s+(\S+)", said)[1])
    return asked, per_second, _ms(said, 50), _ms(said, 99), int(refused[1]) if refused else 0


def _ms(said: str, percent: int) -> float:
    value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", said).groups()
    return float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def home_with_champion(scratch: Path) -> None:
    """Point CHURN_HOME at a champion; without one train it on made-up customers."""
    from churn_assets.promotion.pointer import read_champion
    from churn_assets.settings import Settings

    if read_champion(Settings.from_environ(os.environ).home) is None:
        os.environ.setdefault("CHURN_SOURCE", "generated://store?rows=6000&seed=7")
        os.environ["CHURN_HOME"] = str(scratch / "home")
        subprocess.run(
            [sys.executable, "-c", "from churn_assets.cli.main import main; main()", "run"],
            check=True,
            stdout=subprocess.DEVNULL,
        )


def main(seconds: int = 5, clients: tuple[int, ...] = (1, 16, 64)) -> str:
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        scratch = Path(folder)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        home_with_champion(scratch)
        found: dict[tuple[str, int], Figures] = {}
        for variant in variants(port, scratch):
            with running(variant, port, scratch) as process:
                url, body = f"http://127.0.0.1:{port}/predict", variant.body or ROW
                measure(url, body, clients[-1], 1, process, scratch)  # warm
                for count in clients:
                    figures = found[variant.name, count] = measure(url, body, count, seconds, process, scratch)
                    print(f"{variant.name}, {count} clients: {figures}", file=sys.stderr, flush=True)
    return table(found)


def table(found: dict[tuple[str, int], Figures]) -> str:
    lines = ["| service | clients | requests/s | p50 ms | p99 ms | CPU us | failed |", "|---|---|---|---|---|---|---|"]
    for (name, clients), f in found.items():
        facts = [
            name,
            clients,
            f"{f.per_second:,.0f}",
            f"{f.p50_ms:.2f}",
            f"{f.p99_ms:.1f}",
            f"{f.cpu_us:.0f}",
            f.failed,
        ]
        lines.append(f"| {' | '.join(map(str, facts))} |")
    if ("ours, 1 worker", 16) in found:
        ours, off = found["ours, 1 worker", 16], found["ours, 1 worker, log off", 16]
        constant, seed = found["a constant, same HTTP", 16], found["FastAPI like the seed", 16]
        lines += [
            "",
            f"At 16 clients: {ours.per_second / seed.per_second:.0f} times the seed-like app; of the constant "
            f"{off.per_second / constant.per_second:.0%} with the log off, {ours.per_second / constant.per_second:.0%} "
            "with it on.",
            f"By CPU a request, which a busy machine disturbs less: {constant.cpu_us / off.cpu_us:.0%} and "
            f"{constant.cpu_us / ours.cpu_us:.0%}.",
        ]
    if ("ours, 1 worker", 1) in found:
        ours, seed = found["ours, 1 worker", 1], found["FastAPI like the seed", 1]
        lines.append(f"At 1 client: p50 is 1/{seed.p50_ms / ours.p50_ms:.0f} of the seed-like app's.")
    return "\n".join(lines)


if __name__ == "__main__":
    given = sys.argv[1:]
    counts = tuple(map(int, given[1].split(","))) if len(given) > 1 else (1, 16, 64)
    print(main(int(given[0]) if given else 5, counts))
