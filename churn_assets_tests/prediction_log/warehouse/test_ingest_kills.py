"""kill -9 between any two steps of an ingest: every row is in the warehouse once, every file is readable."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys

from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.prediction_log.warehouse.read import verify
from churn_assets_tests.prediction_log.home import STORE, ask, settings

# One process imports everything, then forks a child a kill: an import costs more than an ingest. Each child
# counts the lines of this package that it runs, and kills itself at one of them.
KILLER = """
import datetime as dt, json, os, pathlib, random, shutil, signal, sys
import duckdb, pyarrow.parquet
from churn_assets.prediction_log.segment import OPEN
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets_tests.prediction_log.home import STORE, feedback, prediction, settings, write

home, kills, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
draw = random.Random(seed)
of = settings(home, CHURN_LOG_ARCHIVE_HOURS="0")
clock = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)

def child(deadly):
    seen = 0
    def trace(frame, event, argument):
        nonlocal seen
        if "/prediction_log/" not in frame.f_code.co_filename or "churn_assets_tests" in frame.f_code.co_filename:
            return None
        if event == "line":
            seen += 1
            if seen == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    ingest(of, STORE, now=lambda: clock)
    sys.settrace(None)
    return seen

def forked(deadly):
    pid = os.fork()
    if pid == 0:
        try:
            lines = child(deadly)
            (home / "lines").write_text(str(lines))
            os._exit(0)
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            os._exit(1)
    return os.waitpid(pid, 0)[1]

ids, lines, killed = [], 2000, 0
for turn in range(kills):
    clock += dt.timedelta(hours=7)
    for name in (f"{turn:03}a", f"{turn:03}b"):
        own = [f"{name}-{number}" for number in range(3)]
        write(of, name, *map(prediction, own), feedback(f"f{name}"), *([b"{broken\\n"] if turn % 3 == 0 else []))
        ids += [*own, f"f{name}"]
    write(of, f"{turn:03}c", prediction(f"{turn:03}c"), b"{torn", suffix=OPEN)
    ids.append(f"{turn:03}c")
    status = forked(draw.randrange(1, int(lines * 1.02)))
    if status == 0:
        lines = int((home / "lines").read_text())
    elif status == signal.SIGKILL:
        killed += 1
    else:
        sys.exit(f"turn {turn} ended with {status}")
print(json.dumps({"ids": ids, "killed": killed}))
"""


def test_kills_between_any_two_lines_lose_and_repeat_nothing(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", KILLER, str(tmp_path), "30", "11"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["killed"] > 15
    of, later = settings(tmp_path, CHURN_LOG_ARCHIVE_HOURS="0"), dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
    ingest(of, STORE, now=lambda: later)
    assert ingest(of, STORE, now=lambda: later).segments == 0
    query = "SELECT prediction_id FROM predictions UNION ALL SELECT feedback_id FROM feedback"
    ids = [own_id for (own_id,) in ask(of, query)]
    assert sorted(ids) == sorted(result["ids"])
    assert verify(of.predlog_dir, result["ids"], of.archive_dir).kept
    assert ask(of, "SELECT count(*), count(DISTINCT number), max(number) FROM segments") == [(90, 90, 90)]
    assert ask(of, "SELECT count(*) - count(DISTINCT seq) FROM predictions") == [(0,)]
    assert ask(of, "SELECT count(*) FROM quarantine WHERE reason LIKE 'duplicate%'") == [(0,)]
