"""`churn data`, typed by a user."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.data.versions.store import TableStore
from churn_assets_tests.strategies import ROOT

BEFORE = pa.table({"id": [f"c{n}" for n in range(30)], "n": list(range(30))}).replace_schema_metadata({"churn_a": "b"})
AFTER = BEFORE.slice(1)


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """The commands in turn, each as (exit code, standard output, standard error), and the home."""
    home = tmp_path_factory.mktemp("home")
    store, at = TableStore(home / "tables"), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for number, table in enumerate((BEFORE, AFTER)):
        store.keep("raw", table, key="id", source=f"file {number}", now=at + dt.timedelta(days=number))
    old, new = store.versions()
    commands = {
        "log": ["log"],
        "json": ["log", "--json", "--table", "raw"],
        "diff": ["diff", old[:6], "raw"],
        "checkout": ["checkout", old, "--output", str(home / "old.parquet"), "--dvc"],
        "csv": ["checkout", old, "-o", str(home / "old.csv")],
        "unknown": ["checkout", "zzzz"],
        "dry": ["prune", "--keep", "1", "--dry-run"],
        "nobody": ["erase", "nobody", "--by", "ana", "--why", "asked"],
        "erase": ["erase", "c0", "--by", "ana", "--why", "asked"],
        "prune": ["prune", "--keep", "0"],
        "empty": ["log"],
    }
    words = [["data", *command, "--home", str(home)] for command in commands.values()]
    module = [sys.executable, "-W", "ignore", "-m", "churn_assets_tests.cli.commands"]
    done = subprocess.run(module, input=json.dumps(words), cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(zip(commands, json.loads(done.stdout), strict=True)), home, (old, new)


def test_versions_are_listed_the_newest_first(typed):
    done, _, (old, new) = typed
    code, text, _ = done["log"]
    assert code == 0
    assert text.index(new) < text.index(old)
    listed = json.loads(done["json"][1])
    assert [entry["version"] for entry in listed["versions"]] == [new, old]
    assert listed["versions"][1] | {"rows": 30, "source": "file 0", "table": "raw"} == listed["versions"][1]
    assert listed["stored_bytes"] > listed["versions"][0]["stored_bytes"] > 0
    assert "no table is kept yet" in done["empty"][1]


def test_two_versions_are_compared(typed):
    assert typed[0]["diff"][1] == "30 rows before, 29 after: 0 added, 1 removed, 0 changed\nremoved: c0\n"


def test_a_version_is_written_as_a_file(typed):
    done, home, _ = typed
    assert done["checkout"][0] == 0
    assert pq.read_table(home / "old.parquet").equals(BEFORE, check_metadata=True)
    assert (home / "old.parquet.dvc").read_text().startswith("outs:\n- md5: ")
    assert "A CSV has texts alone" in done["csv"][2]
    code, _, message = done["unknown"]
    assert code == 2
    assert message.startswith("error: version zzzz is not kept in ")


def test_old_versions_and_those_with_a_customer_go(typed):
    done, home, (old, new) = typed
    assert done["dry"][1].splitlines()[0].startswith(f"{old}  raw, 30 rows")
    assert "1 versions would be removed, about " in done["dry"][1]
    assert done["nobody"][1] == "no kept table has customer 'nobody'\n"
    assert f"1 versions removed, {done['erase'][1].split(', ')[1].split(' ')[0]} bytes freed: {old}" in done["erase"][1]
    (line,) = (home / "audit.jsonl").read_text().splitlines()
    assert json.loads(line) | {"action": "data erase", "versions": [old], "by": "ana"} == json.loads(line)
    assert "c0" not in line
    assert done["prune"][1].splitlines()[0].startswith(new)
