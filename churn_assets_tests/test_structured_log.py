"""Lines of a log that a program reads."""

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys

import pytest

from churn_assets.structured_log import as_json_line, copy_as_json, log_event, make_logger
from churn_assets_tests.serving.client import wait_for
from churn_assets_tests.strategies import ROOT

NOW = 1_764_547_200.25
AT = "2025-12-01T00:00:00.250+00:00"


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("ready", {"at": AT, "level": "INFO", "event": "ready", "worker": 7}),
        ('"text"', {"at": AT, "level": "INFO", "event": '"text"', "worker": 7}),
        ('{"event": "a", "level": "warning", "timestamp": "2026-01-01T00:00:00Z", "logger": "dagster.daemon"}',
         {"at": "2026-01-01T00:00:00Z", "level": "WARNING", "event": "a", "worker": 7, "logger": "dagster.daemon"}),
        ('{"event": "a", "exception": "Traceback"}',
         {"at": AT, "level": "INFO", "event": "a", "worker": 7, "trace": "Traceback"}),
        ('{"at": "x", "level": "ERROR", "event": "b", "worker": 3, "reason": "c"}',
         {"at": "x", "level": "ERROR", "event": "b", "worker": 3, "reason": "c"}),
    ],
    ids=["text", "json text", "structlog", "traceback", "ours"],
)  # fmt: skip
def test_a_line_of_another_program_gets_our_form(line, fields):
    assert json.loads(as_json_line(line, 7, NOW)) == fields


def test_every_line_of_a_pipe_is_one_object():
    printed = io.BytesIO(b'first\n\nTraceback:\n  File "a"\n\xff\n')
    copied = io.StringIO()
    copy_as_json(printed, 5, copied)
    events = [json.loads(line)["event"] for line in copied.getvalue().splitlines()]
    assert events == ["first", "Traceback:", '  File "a"', "\ufffd"]


def test_an_event_has_its_facts_and_its_trace(capsys):
    logger = make_logger("INFO", "churn.test")
    log_event(logger, logging.INFO, "model", version="abc")
    try:
        raise ValueError("no")
    except ValueError as error:
        logger.error("failed", exc_info=error)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"], line["worker"]) for line in lines] == [
        ("model", "INFO", os.getpid()), ("failed", "ERROR", os.getpid()),
    ]  # fmt: skip
    assert lines[0]["version"] == "abc"
    assert lines[1]["trace"].endswith("ValueError: no")


def test_the_dashboard_prints_nothing_but_json(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "CHURN_HOME": str(tmp_path), "CHURN_LOG_FORMAT": "json", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "churn_assets.cli", "dashboard", "--port", str(port)]
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        wait_for(f"http://127.0.0.1:{port}/livez", process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"at", "level", "event", "worker"} <= set(lines[0])
    assert str(port) in lines[0]["event"]
