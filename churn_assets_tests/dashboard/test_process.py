"""`churn dashboard` as a user starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import httpx

from churn_assets_tests.cli.test_main import churn, refused
from churn_assets_tests.serving.client import wait_for
from churn_assets_tests.strategies import ROOT


def test_the_command_answers_on_its_port_and_stops_on_a_signal(made, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "churn_assets.cli", "dashboard", "--port", str(port), "--home", str(made.home)]
    environ = {**os.environ, "CHURN_CONTRACT": str(made.contract_path)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/livez", process, tmp_path / "log")
        response = httpx.get(f"http://127.0.0.1:{port}/")
        assert response.status_code == 200
        assert "Overview" in response.text
        taken = churn("dashboard", "--port", str(port), home=made.home)
        assert f"port {port} of 127.0.0.1 is taken" in refused(taken)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) in (0, -signal.SIGTERM)
    assert f"http://localhost:{port}" in (tmp_path / "log").read_text().replace("\n", "")
