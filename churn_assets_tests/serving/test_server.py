"""The real server over real HTTP: BentoML, two workers, signals, faults."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from churn_assets.prediction_log.segment import OPEN, adopt_orphans
from churn_assets.prediction_log.warehouse.read import count, verify
from churn_assets_tests.disks import fill, small_disk
from churn_assets_tests.scoring.tiny import AS_OF
from churn_assets_tests.serving.client import (
    ASKED,
    CUSTOMERS,
    SCORER,
    assert_refusal,
    home_with_champion,
    make_bundle,
    promote,
    served,
    wait_for,
)
from churn_assets_tests.serving.load import Load

POST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BARRED = ("dagster", "mlflow", "sklearn", "torch", "pandas", "evidently", "xgboost", "duckdb", "matplotlib", "scipy")


def workers_of(server: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Living workers; who was killed is a zombie until the supervisor looks."""
    living = [c for c in psutil.Process(server.pid).children() if c.status() != psutil.STATUS_ZOMBIE]
    return [child for child in living if "_bentoml_impl.worker" in " ".join(child.cmdline())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(folder):
    with served(folder, home_with_champion(folder / "home"), workers=2) as (url, process):
        wait_for(f"{url}/readyz", process, folder / "log")
        yield url, process, folder / "home"


def test_bentoml_serves_the_scorers_answer(server):
    url, _, _ = server
    payload = httpx.post(f"{url}/predict", json=ASKED).json()
    assert payload["churn_probability"] == pytest.approx(SCORER.score_table(CUSTOMERS, AS_OF).probability[0], abs=1e-9)
    assert httpx.get(f"{url}/livez").text == "\n"
    assert httpx.get(f"{url}/readyz").json()["ready"] is True
    assert httpx.get(f"{url}/static_content/swagger-ui.css").status_code == 200
    assert_refusal(httpx.get(f"{url}/static_content/none.css"), 404)
    assert_refusal(httpx.post(f"{url}/livez"), 405)
    assert_refusal(httpx.get(f"{url}/none"), 404)
    assert_refusal(httpx.post(f"{url}/predict", json={**ASKED, "city": "Paris"}), 422)


@pytest.mark.parametrize(
    "asked", ["bytes=0-9", "bytes=9-", "bytes=-0", "lines=1-2", "bytes=9-1,,x", "bytes=" + "0-0," * 900]
)
def test_a_file_is_sent_whole_whatever_the_range(server, asked):
    url = f"{server[0]}/static_content/swagger-ui.css"
    whole, response = httpx.get(url), httpx.get(url, headers={"range": asked, "if-range": '"x"'})
    assert (response.status_code, response.content) == (200, whole.content)
    assert response.headers["accept-ranges"] == "none"
    assert "content-range" not in response.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/static_content/swagger-ui.css", "/static_content/none.css", "/assets/x"])
def test_a_file_is_only_read(server, method, path):
    response = httpx.request(method, f"{server[0]}{path}")
    assert_refusal(response, 405)
    assert response.headers["allow"] == "GET, HEAD"


def test_the_head_and_the_tag_of_a_file(server):
    url = f"{server[0]}/static_content/swagger-ui.css"
    whole, head = httpx.get(url), httpx.head(url)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(whole.content)))
    assert httpx.get(url, headers={"if-none-match": whole.headers["etag"]}).status_code == 304


def test_a_body_that_is_too_long_is_refused_before_it_is_sent(server):
    host, port = server[0].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(POST + b"Content-Length: 900000000\r\n\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 413")


def test_nothing_of_a_refused_request_is_kept(server):
    url, process, _ = server
    long = "0" * 800_000
    bodies = [
        ("/predict", {**ASKED, "as_of": f"2014-01-20T00:00:00.{long}"}),
        ("/predict", {**ASKED, "id": long}),
        ("/predict_batch", {"customers": [ASKED], "as_of": long}),
        ("/predict_batch", {"customers": [], long: 1}),
        ("/feedback", {"customer_id": long, "churned": True, "observed_at": "2014-01-20"}),
    ]

    def flood(times: int) -> int:
        for path, body in bodies * times:
            assert httpx.post(f"{url}{path}", json=body, timeout=30).status_code == 422
        return sum(worker.memory_info().rss for worker in workers_of(process))

    before = flood(4)
    assert flood(10) - before < 20 * 2**20  # of 40 MB


def test_metrics_add_up_over_the_workers(server):
    url, process, _ = server
    pattern = re.compile(r'churn_predictions_total\{.*status="ok"\} (\S+)')

    def total() -> float:
        return sum(map(float, pattern.findall(httpx.get(f"{url}/metrics").text)))

    before, seen = total(), set()
    for _ in range(60):  # a connection each, so that both workers get some
        seen.add(httpx.post(f"{url}/predict", json=ASKED).status_code)
    assert seen == {200}
    assert [total() for _ in range(4)] == [before + 60] * 4
    assert len(workers_of(process)) == 2


RAW = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "nothing of http": b"\x00\xff\x16\x03\x01 hello\r\n\r\n",
    "no host": b"POST /predict HTTP/1.1\r\n\r\n",
    "bad length": POST + b"Content-Length: -5\r\n\r\n",
    "bad chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "odd path": b"GET /\xc3\x28%00%ff?a=%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    "long header": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(3000)) + b"\r\n",
    "http 1.0": b"GET /model HTTP/1.0\r\n\r\n",
    "upgrade": b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "two at once": b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /none HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", RAW.values(), ids=RAW)
def test_raw_bytes_break_nothing(server, sent):
    url, process, _ = server
    host, port = url.removeprefix("http://").split(":")
    pids = {child.pid for child in workers_of(process)}
    with socket.create_connection((host, int(port)), timeout=2) as line:
        payload = b""
        try:
            line.sendall(sent)
            while not re.fullmatch(rb".*?\r\n\r\n.+", payload, re.S) and (more := line.recv(65_536)):
                payload += more
        except (TimeoutError, ConnectionError):
            pass
    if re.match(rb"HTTP/1\.1 4\d\d", payload):
        head, _, body = payload.partition(b"\r\n\r\n")
        assert json.loads(body).keys() == {"error", "detail"}, payload[:200]
        assert b"content-type: application/json" in head
    else:
        assert re.match(rb"HTTP/1\.[01] 200|\Z", payload), payload[:200]
    assert httpx.get(f"{url}/livez").status_code == 200
    assert {child.pid for child in workers_of(process)} == pids


def test_both_workers_take_another_champion(server):
    url, _, home = server
    bundle = make_bundle(home, "logistic")
    with Load(f"{url}/predict", ASKED) as load:
        promote(home, bundle)
        deadline = time.monotonic() + 30
        fresh = 0
        while fresh < 20 and time.monotonic() < deadline:
            version = httpx.post(f"{url}/predict", json=ASKED).json()["model_version"]
            fresh = fresh + 1 if version == bundle.name else 0
    assert fresh == 20
    assert set(load.statuses) == {200}
    assert load.broken == 0
    assert verify(home / "predlog", load.acknowledged).kept


def test_kill_9_of_a_worker_loses_nothing_and_bentoml_replaces_it(server):
    url, process, home = server
    first = workers_of(process)
    with Load(f"{url}/predict", ASKED) as load:
        time.sleep(0.7)
        first[0].kill()
        time.sleep(0.7)
        assert httpx.get(f"{url}/livez", timeout=5).status_code == 200, "the other worker answers"
        deadline = time.monotonic() + 45
        while len(workers_of(process)) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
    assert len(workers_of(process)) == 2
    verdict = verify(home / "predlog", load.acknowledged)
    assert verdict.kept, str(verdict)
    assert len(load.acknowledged) > 50


def test_in_a_container_too_a_dead_worker_is_replaced_and_a_dead_supervisor_stops_its_workers(tmp_path):
    """BentoML's own images set BENTOML_CONTAINERIZED, and it then lets dead workers lie."""
    home = home_with_champion(tmp_path / "home")
    with served(tmp_path, home, environ={"BENTOML_CONTAINERIZED": "true"}) as (url, process):
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        (first,) = workers_of(process)
        first.kill()
        deadline = time.monotonic() + 45
        while not (there := [w for w in workers_of(process) if w.pid != first.pid]) and time.monotonic() < deadline:
            time.sleep(0.2)
        (second,) = there
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        with Load(f"{url}/predict", ASKED) as load:
            time.sleep(0.5)
            process.kill()
            process.wait(20)
            psutil.wait_procs([second], timeout=20)
            assert not second.is_running()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/livez")
    assert set(load.statuses) == {200}
    verdict = verify(home / "predlog", load.acknowledged)
    assert verdict.kept, str(verdict)
    assert not list((home / "predlog").glob(f"*{OPEN}")), "it stopped as on SIGTERM: the segment is handed over"
    assert "the supervisor has died" in (tmp_path / "log").read_text()


def test_kill_9_of_the_whole_service_and_a_sigterm_lose_nothing(tmp_path):
    home, acknowledged = home_with_champion(tmp_path / "home"), []
    for ending in (signal.SIGKILL, signal.SIGTERM):
        with served(tmp_path, home, workers=2) as (url, process):
            wait_for(f"{url}/readyz", process, tmp_path / "log")
            pids = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
            with Load(f"{url}/predict", ASKED) as load:
                time.sleep(0.8)
                if ending is signal.SIGKILL:
                    for pid in pids:
                        os.kill(pid, signal.SIGKILL)
                else:
                    process.terminate()
                process.wait(20)
                time.sleep(0.2)
            assert len(load.acknowledged) > 50
            acknowledged += load.acknowledged
        if ending is signal.SIGTERM:
            assert not list((home / "predlog").glob(f"*{OPEN}")), "the second start handed over, SIGTERM closed"
    verdict = verify(home / "predlog", acknowledged)
    assert verdict.kept, str(verdict)
    adopt_orphans(home / "predlog")
    assert count(home / "predlog").torn == 0


def test_a_disk_that_fills_up_is_answered_with_503_and_nothing_is_lost(tmp_path):
    home = home_with_champion(tmp_path / "home")
    with small_disk(home / "predlog", 512) as disk, served(tmp_path, home) as (url, process):
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        with Load(f"{url}/predict", ASKED) as load:
            deadline = time.monotonic() + 30
            while load.statuses.get(503, 0) < 20 and time.monotonic() < deadline:
                time.sleep(0.05)
        assert set(load.statuses) == {200, 503}
        assert_refusal(httpx.post(f"{url}/predict", json=ASKED), 503)
        verdict = verify(disk, load.acknowledged)
        assert verdict.kept, str(verdict)
        assert count(disk).kinds["prediction"] == len(load.acknowledged)
        for path in disk.iterdir():
            path.unlink()
        assert httpx.post(f"{url}/predict", json=ASKED).status_code == 200


def test_a_worker_starts_and_stays_up_on_a_full_home_and_goes_on_by_itself(tmp_path):
    """Prometheus maps the files of its metrics: a page that the disk cannot hold would end the worker (SIGBUS)."""
    with small_disk(tmp_path / "home", 2048) as home:
        home_with_champion(home)
        filler = fill(home)
        with served(tmp_path, home, environ={"BENTOML_HOME": str(home / "bentoml")}) as (url, process):
            wait_for(f"{url}/readyz", process, tmp_path / "log")
            before = {worker.pid for worker in workers_of(process)}
            for _ in range(3):
                assert_refusal(httpx.post(f"{url}/predict", json=ASKED), 503)
            assert "No space left" in httpx.get(f"{url}/readyz").json()["detail"]["log"]
            assert 'churn_request_rejected_total{cause="disk"} 3.0' in httpx.get(f"{url}/metrics").text
            filler.unlink()
            first = httpx.post(f"{url}/predict", json=ASKED)
            assert first.status_code == 200
            assert 'status="ok"} 1.0' in httpx.get(f"{url}/metrics").text

            shutil.rmtree(home / "predlog")
            assert_refusal(httpx.post(f"{url}/predict", json=ASKED), 503)
            assert "with 1 acknowledged rows" in httpx.get(f"{url}/readyz").json()["detail"]["log"]
            second = httpx.post(f"{url}/predict", json=ASKED).json()["prediction_id"]
            assert {worker.pid for worker in workers_of(process)} == before
        counts = count(home / "predlog")
        assert verify(home / "predlog", [second]).kept
        assert counts.kinds == {"prediction": 1, "rejections": 1, "lost_rows": 1}
    events = (tmp_path / "log").read_text()
    assert "No space left" in events
    assert "1 acknowledged rows" in events


def test_a_log_folder_made_read_only_is_answered_with_503_until_it_is_mended(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root may mount a folder read-only")
    home = home_with_champion(tmp_path / "home")
    folder = home / "predlog"
    with served(tmp_path, home, environ={"CHURN_LOG_SEGMENT_S": "1"}) as (url, process):
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        assert httpx.post(f"{url}/predict", json=ASKED).status_code == 200
        bound = subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True)
        if bound.returncode:
            pytest.skip(f"no bind mounts here: {bound.stderr.decode().strip()}")
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
            with Load(f"{url}/predict", ASKED, clients=2) as load:
                deadline = time.monotonic() + 30
                while load.statuses.get(503, 0) < 10 and time.monotonic() < deadline:
                    time.sleep(0.05)
            payload = assert_refusal(httpx.post(f"{url}/predict", json=ASKED), 503)
            assert str(folder) not in payload["error"]
            assert "cannot be written" in httpx.get(f"{url}/readyz").json()["detail"]["log"]
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        assert set(load.statuses) <= {200, 503}
        after = httpx.post(f"{url}/predict", json=ASKED)
        assert after.status_code == 200
    verdict = verify(folder, [*load.acknowledged, after.json()["prediction_id"]])
    assert verdict.kept, str(verdict)


def test_the_service_starts_within_three_seconds_of_cpu_and_loads_no_training_library(tmp_path):
    home = home_with_champion(tmp_path)
    code = (
        "import sys, os, json, asyncio, resource\n"
        "import churn_assets.serving.service as service\n"
        "worker = service.this_worker()\n"
        "from churn_assets.serving.routes import Handlers, RequestFacts\n"
        "async def go():\n"
        "    await worker.start()\n"
        "    facts = RequestFacts({'path': '/predict', 'headers': []})\n"
        "    reply = await Handlers(worker).predict(sys.argv[1].encode(), facts)\n"
        "    await worker.stop()\n"
        "    return json.loads(reply)['contract']\n"
        "contract = asyncio.run(go())\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        f"print(json.dumps([contract, [m for m in {BARRED!r} if m in sys.modules], used.ru_utime + used.ru_stime]))"
    )
    environ = {**os.environ, "CHURN_HOME": str(home), "BENTOML_HOME": str(tmp_path / "bentoml")}
    command = [sys.executable, "-c", code, json.dumps(ASKED)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    contract, loaded, seconds = json.loads(done.stdout.splitlines()[-1])
    assert (contract, loaded) == ("tiny", [])
    assert seconds < 3.0, "CPU seconds, not of the clock"
