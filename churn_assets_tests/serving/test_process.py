"""The processes of a service: none is left behind, none takes what belongs to another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from churn_assets.serving.server import process
from churn_assets_tests.serving.client import ASKED, ROOT, SERVICE, free_port, home_with_champion, wait_for
from churn_assets_tests.serving.orphans import seconds_to_end


def test_no_worker_outlives_a_supervisor_that_is_killed_at_any_moment(tmp_path, home):
    """Also before the worker has asked who its parent is."""
    moments = (0.0, 0.3, 0.6, 1.0, 1.6)
    assert [moment for moment in moments if seconds_to_end(tmp_path, home, moment, after_worker=True) is None] == []


def test_a_worker_that_does_not_stop_in_time_is_ended():
    code = (
        "import threading\n"
        "from churn_assets.serving.server.process import end_within\n"
        "end_within(0.2)\n"
        "end_within(60)\n"
        "threading.Event().wait(30)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, cwd=ROOT)
    assert done.returncode == 1
    assert "stopping took too long" in done.stderr
    assert process.STOP_S < 30


@contextmanager
def churn_serve(folder, home, cwd, **environ):
    """`churn serve` in a working directory; its address."""
    folder.mkdir()
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if name not in ("BENTOML_HOME", "PYTHONPATH")}
    command = [sys.executable, "-m", "churn_assets.cli", "serve", "--port", str(port), "--home", str(home)]
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(
            command,
            cwd=cwd,
            env={**kept, "PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT), **environ},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz", server, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def predictions(url: str) -> float:
    found = re.findall(r'churn_predictions_total\{.*status="ok"\} (\S+)', httpx.get(f"{url}/metrics").text)
    return sum(map(float, found))


def test_two_services_on_one_home_keep_their_metrics_and_import_nothing_from_where_they_were_started(tmp_path):
    home, cwd = home_with_champion(tmp_path / "home"), tmp_path / "cwd"
    cwd.mkdir()
    for name in ("json", "numpy", "bentoml", "churn_assets", "sitecustomize", "uvloop"):
        (cwd / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write({name + ' '!r})\n")
    with ExitStack() as stack:
        first = stack.enter_context(churn_serve(tmp_path / "first", home, cwd))
        assert httpx.post(f"{first}/predict", json=ASKED).status_code == 200
        second = stack.enter_context(churn_serve(tmp_path / "second", home, cwd))
        assert httpx.post(f"{second}/predict", json=ASKED).status_code == 200
        assert httpx.post(f"{first}/predict", json=ASKED).status_code == 200
        assert (predictions(first), predictions(second)) == (2.0, 1.0)
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "is taken by another process, expected a free one"),
        ({"CHURN_WORKERS": "many"}, "CHURN_WORKERS is 'many', expected a whole number"),
    ],
)
def test_bentoml_serve_that_cannot_start_says_one_line(tmp_path, variables, message):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        environ = {"CHURN_HOME": str(tmp_path), "BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"}
        done = subprocess.run(
            [sys.executable, "-m", "bentoml", "serve", SERVICE, "--port", str(taken.getsockname()[1])],
            cwd=ROOT,
            env={**os.environ, **environ, **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
