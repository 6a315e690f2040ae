"""`churn log copy` that is killed, and several at once, against a real PostgreSQL: each row once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.prediction_log.warehouse.postgresql import copy_log
from churn_assets.settings import Settings
from churn_assets_tests.postgresql import serving
from churn_assets_tests.prediction_log.home import STORE, settings
from churn_assets_tests.prediction_log.warehouse.test_copy_to_postgresql import NOW, copied, expect_the_same, log_some


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Settings]:
    with serving(durable=True) as server, server.database() as url:
        yield settings(tmp_path, CHURN_DATABASE_URL=url)


# One process for several copies, each in a fork that kills itself at a row; prints how each ended.
_COPIES = """
import os, signal, sys
from pathlib import Path
import duckdb, psycopg, sqlalchemy
from churn_assets.prediction_log.warehouse import postgresql as copying
from churn_assets_tests.prediction_log.home import settings
copying._BATCH_ROWS, copying._READ_ROWS, rows = 3, 1, copying._rows
home = settings(Path(sys.argv[1]), CHURN_DATABASE_URL=sys.argv[2])
def copy(deadly):
    seen = 0
    def counted(*arguments):
        nonlocal seen
        for row in rows(*arguments):
            seen += 1
            if seen == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            yield row
    copying._rows = counted
    copying.copy_log(home)
    os._exit(0)
children = []
for deadly in map(int, sys.argv[4:]):
    child = os.fork() or copy(deadly)
    children.append(child)
    if sys.argv[3] == "in turn":
        print(os.waitpid(children.pop(), 0)[1])
for child in children:
    print(os.waitpid(child, 0)[1])
"""


def copies(home: Settings, how: str, *deadly: int) -> list[int]:
    """How copies ended that kill themselves at these rows, 0 for none; 'in turn' or 'at once'."""
    command = [sys.executable, "-c", _COPIES, str(home.home), home.database_url, how, *map(str, deadly)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def test_a_copy_that_is_killed_between_any_two_rows_loses_and_doubles_none(home):
    log_some(home, "a")
    ingest(home, STORE, now=lambda: NOW)
    assert copies(home, "in turn", 1, 4) == [signal.SIGKILL, signal.SIGKILL]
    assert copied(home.database_url, "segments") == [], "a first copy is there as a whole or not at all"
    copy_log(home)
    for part in "bcdefgh":
        log_some(home, part)
    ingest(home, STORE, now=lambda: NOW)
    # A segment has 6 rows with its own and is a transaction; so these copy 0, 1, 0, 2 and 1 of the 7.
    assert copies(home, "in turn", 5, 8, 1, 14, 12) == [signal.SIGKILL] * 5
    assert len(copied(home.database_url, "segments")) == 1 + 4
    copy_log(home)
    expect_the_same(home)


def test_copies_at_once_copy_each_row_once(home):
    for part in "abcd":
        log_some(home, part)
    ingest(home, STORE, now=lambda: NOW)
    assert copies(home, "at once", 0, 0, 0) == [0, 0, 0]
    expect_the_same(home)
