"""`churn log`: what people and scripts ask of the log."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from churn_assets.errors import LogUnreadable
from churn_assets.prediction_log.segment import READY, Segment
from churn_assets.prediction_log.warehouse.read import read_ids, segment_names
from churn_assets_tests.prediction_log.rows import line


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    segment = Segment(home / "predlog", max_bytes=1)
    for number in (1, 2, 3, 3):
        segment.append(line(number))
    return home


def churn(home, *arguments):
    command = [
        sys.executable,
        "-c",
        "from churn_assets.cli.main import main; main()",
        "log",
        *arguments,
        "--home",
        str(home),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("ids", "code", "messages"),
    [
        ("w-1\nw-2\n\n", 0, ["2 of 2 ids are in the log exactly once"]),
        ("w-1\nw-3\nw-9\n", 1, ["missing: w-9", "more than once: w-3", "1 of 3 ids", "1 are missing"]),
    ],
)
def test_verify_names_ids_that_are_not_in_the_log_once(home, tmp_path, ids, code, messages):
    (tmp_path / "ids").write_text(ids)
    done = churn(home, "verify", "--ids", str(tmp_path / "ids"))
    assert done.returncode == code
    for message in messages:
        assert message in done.stdout + done.stderr


def test_verify_without_its_file_is_an_error(home, tmp_path):
    done = churn(home, "verify", "--ids", str(tmp_path / "none"))
    assert done.returncode == 2
    assert done.stderr.startswith("error:")
    with pytest.raises(LogUnreadable, match="one id a line"):
        read_ids(tmp_path / "none")


def test_a_log_that_is_not_a_folder_is_unreadable(tmp_path):
    (tmp_path / "log").write_text("")
    with pytest.raises(LogUnreadable, match="cannot be listed"):
        segment_names(tmp_path / "log")


def test_tail_and_count_of_a_log(home):
    rows = [json.loads(line) for line in churn(home, "tail", "-n", "2").stdout.splitlines()]
    assert [row["prediction_id"] for row in rows] == ["w-3", "w-3"]
    assert "4 segments" in churn(home, "count").stdout
    assert "4 prediction" in churn(home, "count").stdout


def test_count_reports_torn_and_broken_lines(tmp_path):
    (tmp_path / "predlog").mkdir()
    (tmp_path / "predlog" / f"a{READY}").write_bytes(line(1) + b"{half\n[]\n" + line(2)[:40])
    assert "1 torn tails, 2 broken lines" in churn(tmp_path, "count").stdout
