"""Rules, alerts and dashboards by the real tools: promtool, amtool, Alertmanager, and a Prometheus that scrapes a home
with service, dashboard and loop, and is asked every query of every panel."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from churn_assets.access.keys import KeyStore
from churn_assets.settings import Settings
from churn_assets_tests.deploy.tools import DEPLOY, need, need_module, output
from churn_assets_tests.serving.client import free_port, served, wait_for
from churn_assets_tests.strategies import ROOT
from churn_assets_tests.test_home_0_1 import CHAMPION, WAITING, WHO, customer, environ, run, run_job, unpack

PROMETHEUS, GRAFANA = DEPLOY / "prometheus", DEPLOY / "grafana"
RULES = sorted((PROMETHEUS / "rules").glob("*.yaml"))
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"
DASHBOARDS = sorted(GRAFANA.glob("*.json"))
RATE = "20s"  # in place of Grafana's $__rate_interval
AS_OF = "2024-12-30"
PATIENCE_S = 120.0


def expressions(path: Path) -> dict[str, str]:
    """Every expression of a file of rules or of a dashboard, by where it stands."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        panels = json.loads(text)["panels"]
        return {
            f"{path.stem}, {panel['title']}, {target['refId']}": target["expr"].replace("$__rate_interval", RATE)
            for panel in panels
            for target in panel.get("targets", ())
        }
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    return {f"{path.stem}, {rule.get('alert') or rule['record']}": rule["expr"] for rule in rules}


# -- checkers ------------------------------------------------------------------------------------------


def test_promtool_and_amtool_find_nothing_to_complain_about():
    output(need("promtool"), "check", "rules", *RULES)
    output(need("promtool"), "check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")
    output(need("amtool"), "check-config", ALERTMANAGER)


@pytest.mark.parametrize("path", sorted(PROMETHEUS.glob("*_test.yml")), ids=lambda path: path.name)
def test_every_alert_fires_and_is_silent_when_it_should(path):
    output(need("promtool"), "test", "rules", path)


def test_a_rule_that_is_wrong_fails_its_case(tmp_path):
    shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    rules = tmp_path / "prometheus" / "rules" / "alerts.yaml"
    rules.write_text(rules.read_text().replace("churn_ingest_lag_seconds > 7200", "churn_ingest_lag_seconds > 72000"))
    command = [need("promtool"), "test", "rules", tmp_path / "prometheus" / "alerts_test.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ChurnNoIngest" in done.stdout + done.stderr


PARSE = "import json, sys, promql_parser\nfor text in json.load(sys.stdin): promql_parser.parse(text)\n"


@pytest.mark.parametrize("path", [*RULES, *DASHBOARDS], ids=lambda path: path.name)
def test_every_expression_parses(path):
    texts = [*expressions(path).values()]
    assert texts
    done = subprocess.run(
        [need_module("promql_parser"), "-c", PARSE],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


READ = """
import json, sys
from grafana_foundation_sdk.models.dashboard import Dashboard
given = json.load(open(sys.argv[1]))
read = Dashboard.from_json(given)
assert read.uid == given["uid"] and len(read.panels) == len(given["panels"])
print(sum(len(panel.targets or ()) for panel in read.panels if hasattr(panel, "targets")))
"""


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_the_sdk_of_grafana_reads_a_dashboard(path):
    done = subprocess.run(
        [need_module("grafana_foundation_sdk"), "-c", READ, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(expressions(path))


# -- Alertmanager --------------------------------------------------------------------------------------


@dataclass
class Receiver:
    """A webhook that keeps what it is sent."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def told(self, status: str = "firing") -> set[str]:
        """Names of the alerts that came."""
        alerts = [alert for message in self.messages for alert in message["alerts"]]
        return {alert["labels"]["alertname"] for alert in alerts if alert["status"] == status}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    received = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.messages.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{server.server_address[1]}/alerts"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield received
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def started(log: Path, *command: object, environ: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process until the block ends."""
    words = [str(word) for word in command]
    with log.open("wb") as file:
        process = subprocess.Popen(
            words, cwd=ROOT, env={**os.environ, **(environ or {})}, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def alertmanager(tmp_path: Path, receiver: Receiver) -> Iterator[str]:
    """The address of one with our configuration, whose webhook is the receiver and whose waits are a second."""
    configuration = yaml.safe_load(ALERTMANAGER.read_text())
    (webhook,) = configuration["receivers"][0]["webhook_configs"]
    webhook["url"] = receiver.url
    for route in (configuration["route"], *configuration["route"]["routes"]):
        route |= {"group_wait": "1s", "group_interval": "1s"}
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    own = [f"--web.listen-address={address}", "--cluster.listen-address=", f"--storage.path={tmp_path / 'data'}"]
    program = shutil.which("prometheus-alertmanager") or need("alertmanager")
    with started(tmp_path / "log", program, f"--config.file={tmp_path / 'alertmanager.yml'}", *own) as process:
        wait_for(f"http://{address}/-/ready", process, tmp_path / "log")
        yield f"http://{address}"


def post(address: str, *alerts: dict[str, str], ends_at: dt.datetime | None = None) -> None:
    """Send alerts as Prometheus does, which begin now: one that began before the wait of its group is sent at once."""
    now = dt.datetime.now(dt.UTC)
    end = ends_at or now + dt.timedelta(minutes=5)
    instants = {"startsAt": min(now, end).isoformat(), "endsAt": end.isoformat()}
    body = [{"labels": labels, **instants} for labels in alerts]
    httpx.post(f"{address}/api/v2/alerts", json=body).raise_for_status()


def await_that(holds: Callable[[], bool], what: str, patience_s: float = 30.0) -> None:
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.2)


TOLD = {"alertname": "ChurnAlertTold", "severity": "none", "kind": "drift"}
DRIFT = {"alertname": "ChurnDrift", "severity": "ticket", "kind": "drift"}
BROKEN = {"alertname": "ChurnDataBroken", "severity": "page", "kind": "data_quality"}
DOWN = {"alertname": "ChurnServiceDown", "severity": "page"}
BURN = {"alertname": "ChurnAvailabilityBurn", "severity": "page"}


def test_alertmanager_tells_what_the_loop_has_not_told_and_nothing_else(alertmanager, receiver):
    post(alertmanager, TOLD)
    post(alertmanager, DRIFT, BROKEN, DOWN, BURN)
    await_that(lambda: {"ChurnDataBroken", "ChurnServiceDown"} <= receiver.told(), "the others are told")
    time.sleep(2)  # as long as a group waits twice
    assert receiver.told() == {"ChurnDataBroken", "ChurnServiceDown"}
    post(alertmanager, TOLD, ends_at=dt.datetime.now(dt.UTC))  # the loop cannot tell it any more
    await_that(lambda: "ChurnDrift" in receiver.told(), "what the loop does not tell is told")
    assert "ChurnAlertTold" not in receiver.told()


# -- Prometheus ----------------------------------------------------------------------------------------


@dataclass
class Traffic:
    """Requests of all kinds, one after the other, until it is stopped."""

    url: str
    token: str
    sent: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _ask(self) -> None:
        with httpx.Client(base_url=self.url, headers={"x-api-key": self.token}, timeout=30) as client:
            while not self._stop.is_set():
                row = {**customer(self.sent), "as_of": AS_OF}
                if self.sent % 10 == 0:
                    row["esent"] = 999  # beyond the training range
                body = b"{" if self.sent % 25 == 24 else json.dumps(row).encode()
                answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
                self.failed += answer.status_code not in (200, 400)
                self.sent += 1
                time.sleep(0.005)


@dataclass(frozen=True)
class Scraped:
    """A home with everything that is scraped, and the Prometheus that does."""

    settings: Settings
    address: str
    traffic: Traffic

    def query(self, expression: str) -> list[float]:
        """The newest values of an expression."""
        response = httpx.get(f"{self.address}/api/v1/query", params={"query": expression}, timeout=30)
        assert response.status_code == 200, f"{expression}: {response.text}"
        result = response.json()["data"]["result"]
        return [float(series["value"][1]) for series in result]

    def missing(self, paths: Sequence[Path]) -> list[str]:
        """Panels' queries that have no answer with a number."""
        return [
            f"{place}: {expression}"
            for path in paths
            for place, expression in expressions(path).items()
            if not any(math.isfinite(value) for value in self.query(expression))
        ]

    def await_panels(self, paths: Sequence[Path]) -> None:
        end = time.monotonic() + PATIENCE_S
        while missing := self.missing(paths):
            assert time.monotonic() < end, f"no answer after {self.traffic.sent} requests: " + "\n".join(missing)
            time.sleep(1)


def configure(folder: Path, targets: dict[str, str], key: str) -> Path:
    """Our configuration with the addresses of this test, and short intervals."""
    shutil.copytree(PROMETHEUS / "rules", folder / "rules")
    for path in (folder / "rules").iterdir():
        text = yaml.safe_load(path.read_text())
        for group in text["groups"]:
            group["interval"] = "1s"
        path.write_text(yaml.safe_dump(text))
    (folder / "view.key").write_text(key)
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
    del configuration["alerting"]
    jobs = [job for job in configuration["scrape_configs"] if job["job_name"] in targets]
    configuration["scrape_configs"] = jobs  # the relay needs a broker: test_events.py
    for job in jobs:
        job.pop("scrape_interval", None)
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
        if "authorization" in job:
            job["authorization"]["credentials_file"] = str(folder / "view.key")
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration))
    return path


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    program, folder = need("prometheus"), tmp_path_factory.mktemp("prometheus")
    settings = unpack(folder)
    store, now = KeyStore(settings.home), dt.datetime.now(dt.UTC)
    view, predict = (store.create(scope, (scope,), None, now)[1] for scope in ("view", "predict"))
    own = {**environ(folder), "CHURN_LOG_SEGMENT_S": "1"}
    ports = {name: free_port() for name in ("dashboard", "metrics", "prometheus")}
    churn = [sys.executable, "-m", "churn_assets.cli"]
    with contextlib.ExitStack() as stack:
        url, _ = stack.enter_context(served(folder, settings.home, environ=own))
        targets = {"churn-service": url.removeprefix("http://"), "prometheus": f"127.0.0.1:{ports['prometheus']}"}
        for name, job in (("dashboard", "churn-dashboard"), ("metrics", "churn-loop")):
            log = folder / f"{name}.log"
            process = stack.enter_context(started(log, *churn, name, "--port", ports[name], environ=own))
            wait_for(f"http://127.0.0.1:{ports[name]}/livez", process, log)
            targets[job] = f"127.0.0.1:{ports[name]}"
        address = targets["prometheus"]
        options = [f"--config.file={configure(folder, targets, view)}", f"--storage.tsdb.path={folder / 'tsdb'}"]
        log = folder / "prometheus.log"
        process = stack.enter_context(started(log, program, *options, f"--web.listen-address={address}"))
        wait_for(f"http://{address}/-/ready", process, log)
        traffic = stack.enter_context(Traffic(url, predict))
        yield Scraped(settings, f"http://{address}", traffic)
    assert traffic.failed == 0


def test_every_query_of_every_panel_has_an_answer(scraped):
    """Of the shadow's dashboard while a shadow runs, of the others while a canary does."""
    await_that(lambda: scraped.query("sum(up)") == [4.0], "every job is scraped", PATIENCE_S)
    run(scraped.settings, "log", "ingest")
    run_job(scraped.settings, "monitor")
    run(scraped.settings, "release", "shadow", WAITING, *WHO)
    shadow = [path for path in DASHBOARDS if path.stem == "churn-shadow"]
    scraped.await_panels(shadow)
    run(scraped.settings, "release", "canary", WAITING, *WHO)
    scraped.await_panels([path for path in DASHBOARDS if path not in shadow])


def test_prometheus_sees_the_home_as_it_is(scraped):
    assert scraped.query(f'churn_champion_info{{model_version="{CHAMPION}"}}') == [1.0]
    published = [
        "predictions_total",
        "prediction_latency_seconds_count",
        "drift_detected_total",
        "outliers_detected_total",
    ]
    for name in published:
        assert scraped.query(f"sum({name})")[0] > 0, name
    broken = 'ALERTS{alertname="ChurnDataBroken"}'
    assert bool(scraped.query(broken)) == (scraped.query('churn_window_quality{status="broken"}') == [1.0])


def test_every_rule_is_evaluated_without_an_error(scraped):
    groups = httpx.get(f"{scraped.address}/api/v1/rules").json()["data"]["groups"]
    states = {rule["name"]: (rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]}
    assert {name: state for name, state in states.items() if state != ("ok", "")} == {}
