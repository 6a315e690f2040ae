"""The service's writers, two ingests and readers at once: no lock error, no row lost or doubled."""

from __future__ import annotations

import subprocess
import sys
import time

from churn_assets_tests.prediction_log.home import ask, settings

WRITER = """
import pathlib, sys, time
from churn_assets.prediction_log.records import encode_line
from churn_assets.prediction_log.segment import Segment
from churn_assets_tests.prediction_log.home import prediction, settings
name, folder = sys.argv[2], settings(pathlib.Path(sys.argv[1])).predlog_dir
segment = Segment(folder, max_bytes=20_000)
for number in range(400):
    segment.append(encode_line(prediction(f"{name}-{number}")))
    time.sleep(0.002)
segment.hand_over()
"""

INGESTER = """
import pathlib, sys
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets_tests.prediction_log.home import STORE, settings
of, stop = settings(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2])
while True:
    last = stop.exists()
    ingest(of, STORE, patience_s=60)
    if last:
        break
"""


def test_writers_ingests_and_readers_at_once(tmp_path):
    of = settings(tmp_path / "home")
    stop = tmp_path / "stop"

    def started(code, *arguments):
        command = [sys.executable, "-c", code, str(of.home), *arguments]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    writers = [started(WRITER, name) for name in ("v", "w")]
    ingests = [started(INGESTER, str(stop)) for _ in range(2)]
    sizes = []
    while any(process.poll() is None for process in writers):
        if (of.warehouse_dir / "published.duckdb").exists():
            query = "SELECT count(*), count(DISTINCT prediction_id), max(seq) FROM predictions"
            sizes += ask(of, query)
        time.sleep(0.05)
    stop.touch()
    for process in (*writers, *ingests):
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
    assert all(rows == different for rows, different, _ in sizes)
    assert sizes == sorted(sizes)
    assert ask(of, "SELECT count(*), count(DISTINCT prediction_id), max(seq) FROM predictions") == [(800, 800, 800)]
    assert ask(of, "SELECT count(*) FROM quarantine") == [(0,)]
