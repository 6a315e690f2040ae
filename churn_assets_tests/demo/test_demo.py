"""The demo: its contract, its processes, its traffic, and how it fails."""

from __future__ import annotations

import datetime as dt
import http.server
import io
import itertools
import os
import subprocess
import sys
import threading
import time

import pytest

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import UNSCORED
from churn_assets.settings import Settings
from churn_assets_tests.strategies import CONTRACTS, ROOT, STORE
from examples.demo.progress import Progress
from examples.demo.scenes import BROKEN, CAMPAIGN, Demo
from examples.demo.stage import DemoFailed, Stage
from examples.demo.traffic import Client, Customers, draw


def stage_in(folder, contract=None, **options):
    environ = {"CHURN_HOME": str(folder), **({"CHURN_CONTRACT": str(contract)} if contract else {})}
    return Stage(Settings.from_environ(environ, ROOT), folder / "demo", Progress(io.StringIO()), **options)


@pytest.fixture(params=CONTRACTS, ids=lambda contract: contract.name)
def stage(request, tmp_path):
    with stage_in(tmp_path, request.param.path) as entered:
        yield entered


def test_the_demos_contract_differs_in_the_window_and_the_cooldown_alone(stage):
    used = load_contract(stage.settings.contract_path)
    original = next(contract for contract in CONTRACTS if contract.name == used.name)
    assert used.fingerprint == original.fingerprint
    assert {name for name in UNSCORED if getattr(used, name) != getattr(original, name)} == {"monitoring"}
    assert used.release.approval == "automatic"
    limits, usual = vars(used.monitoring), vars(original.monitoring)
    assert {name for name in limits if limits[name] != usual[name]} == {"window", "cooldown_days"}


def test_a_demo_has_a_home_of_its_own_and_no_port_of_another(stage, tmp_path):
    assert stage.settings.home == tmp_path / "demo" / "home"
    assert "DAGSTER_HOME" not in stage.environ
    assert not stage.ready()


def test_what_was_left_by_an_earlier_demo_is_gone(tmp_path):
    left = tmp_path / "demo" / "home" / "champion.json"
    left.parent.mkdir(parents=True)
    left.write_text("{}")
    with stage_in(tmp_path):
        assert not left.exists()


def test_a_command_that_fails_ends_the_demo_with_the_log_to_read(stage):
    with pytest.raises(DemoFailed, match=r"`churn approve nobody .*` ended with 2, expected 0; read .*wrong\.log"):
        stage.run("wrong", "approve", "nobody", "--by", "a test", "--why", "to see it fail")


def test_a_process_that_dies_ends_the_demo(stage):
    stage.start("mayfly", "this")
    with pytest.raises(DemoFailed, match=r"the mayfly ended with 0, expected it to go on; read .*mayfly\.log"):
        stage.wait_for("nothing", lambda: None)


def test_a_demo_that_takes_too_long_ends_with_what_it_waited_for(tmp_path):
    minutes = itertools.count()
    with stage_in(tmp_path, limit_s=120, clock=lambda: 60.0 * next(minutes), sleep=lambda seconds: None) as stage:
        with pytest.raises(DemoFailed, match=r"limit of 2 minutes is over while waiting for a miracle; .* --limit"):
            stage.wait_for("a miracle", lambda: None)
        with pytest.raises(DemoFailed, match="limit of 2 minutes is over while waiting for `churn status`"):
            stage.run("slow", "status")


def test_every_process_ends_with_the_stage(tmp_path):
    with stage_in(tmp_path) as stage:
        stage.start("sleeper", "http.server", "0")
        process = stage._processes["sleeper"]
        assert process.poll() is None
    assert process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.parametrize("drifts", [(), CAMPAIGN], ids=["usual", "campaign"])
def test_customers_of_the_demo_keep_the_contract_and_have_ids_of_their_own(drifts):
    from churn_assets.features.encode import encode_rows

    one, two = draw(STORE, 30, 1, drifts), draw(STORE, 30, 2, drifts)
    assert len(one.rows) == len(one.churned) == 30
    assert not {row["custid"] for row in one.rows} & {row["custid"] for row in two.rows}
    assert len(encode_rows(STORE, one.rows)["esent"]) == 30


def test_a_broken_pipeline_sends_zeros():
    assert {row["esent"] for row in draw(STORE, 30, 1, faults=BROKEN).rows} == {0}


def test_customers_are_split_in_order():
    first, last = Customers([{"n": n} for n in range(5)], [True, False] * 2 + [True], dt.date(2026, 1, 1)).split(2)
    assert [row["n"] for row in (*first.rows, *last.rows)] == [0, 1, 2, 3, 4]
    assert (first.churned, last.churned) == ([True, False], [True, False, True])


def test_a_request_that_nobody_answers_is_counted(stage):
    client = Client(stage.port)
    assert client.post("/predict", {}) is None
    assert (client.requests, client.failed) == (1, 1)
    assert "ConnectionRefusedError" in client.failure


class ClosesAfterEachAnswer(http.server.BaseHTTPRequestHandler):
    """Keeps no connection open and does not say so, as a server whose time-out has passed."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
        self.close_connection = True

    def log_message(self, *args):
        pass


def test_a_connection_that_the_server_has_closed_is_no_failure():
    with http.server.HTTPServer(("127.0.0.1", 0), ClosesAfterEachAnswer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            client = Client(server.server_port)
            answers = []
            for _ in range(5):
                answers.append(client.post("/predict", {}))
                time.sleep(0.05)
            client.close()
        finally:
            server.shutdown()
            thread.join()
    assert answers == [{}] * 5
    assert (client.requests, client.failed) == (5, 0)


def test_traffic_that_is_not_answered_ends_the_demo(tmp_path):
    with stage_in(tmp_path) as stage:
        demo = Demo(stage, Progress(io.StringIO()))
        with pytest.raises(DemoFailed, match=r"1 requests were not answered, expected all: .*Refused"):
            demo.send("customers", draw(STORE, 10, 1))


def test_what_is_waited_for_is_printed_again_and_again():
    stream = io.StringIO()
    with Progress(stream, silence_s=0.1) as progress, progress.waiting("a window"):
        progress.detail("no run is at work")
        deadline = time.monotonic() + 30
        while stream.getvalue().count("waiting for a window") < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 2
    assert lines[0].endswith("s so far); no run is at work")


def test_the_demo_prints_its_options():
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "broken pipeline" in done.stdout
