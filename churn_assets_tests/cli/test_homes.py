"""Homes that can only be read, that cannot be read, that are damaged, and whose path is unusual: one line each."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.csv
import pytest

from churn_assets.access.keys import KeyStore
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.settings import Settings
from churn_assets_tests.prediction_log import home as logs
from churn_assets_tests.promotion.homes import champion, moves
from churn_assets_tests.scoring import tiny
from churn_assets_tests.serving.client import make_bundle
from churn_assets_tests.strategies import ROOT

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has neither fork nor these modes"),
    pytest.mark.skipif(
        hasattr(os, "getuid") and os.getuid() == 0 and shutil.which("setpriv") is None,
        reason="root ignores the modes of files, and there is no setpriv to take that right away",
    ),
]

UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.name != "nt" and os.getuid() == 0 else []


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of a mistake, and nothing else."""
        assert self.code == 2, self
        assert "Traceback" not in self.err
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self
        return lines[0]


def churn(home: Path, *commands: list[str]) -> list[Result]:
    """Each command on a home, without root's right to ignore the modes of files."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("CHURN_", "DAGSTER_"))}
    done = subprocess.run(
        [*UNPRIVILEGED, sys.executable, "-W", "ignore", "-m", "churn_assets_tests.cli.commands"],
        input=json.dumps([list(map(str, command)) for command in commands]),
        env={**environ, "CHURN_HOME": str(home), "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [Result(*result) for result in json.loads(done.stdout)]


def fill(home: Path) -> None:
    """A champion of a tiny contract, a log with one ingested prediction, a key, and a ledger."""
    home.mkdir(parents=True)
    own = Settings.from_environ({"CHURN_HOME": str(home)}, ROOT)
    contract = home / "tiny.toml"
    contract.write_text(tiny.TEXT)
    bundle = make_bundle(home)
    moves(own).move(champion(bundle.name, tiny.CONTRACT.fingerprint), "first", "test", "a reason")
    KeyStore(home).create("test", ["predict"], timedelta(days=1), datetime.now(UTC))
    logs.write(own, "0001", logs.prediction("a", tiny.CONTRACT))
    ingest(own, tiny.CONTRACT)
    pyarrow.csv.write_csv(tiny.customers(30), home / "customers.csv")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled home."""
    home = tmp_path_factory.mktemp("homes") / "home"
    fill(home)
    return home


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder whose content can be removed afterwards, whatever its modes are."""
    yield tmp_path
    for path in [tmp_path, *tmp_path.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


def seal(home: Path, files: int, folders: int) -> None:
    for path in sorted(home.rglob("*"), reverse=True):
        path.chmod(folders if path.is_dir() else files)
    home.chmod(folders)


def reads(home: Path, to: Path) -> list[list[str]]:
    return [
        ["status"],
        ["status", "--json"],
        ["history"],
        ["alerts"],
        ["log", "count"],
        ["log", "tail"],
        ["log", "query", "select count(*) as predictions from predictions", "--csv"],
        ["keys", "list"],
        ["contract", "check", str(home / "tiny.toml")],
        ["score", str(home / "customers.csv"), "-o", str(to / "scores.csv"), "--as-of", "2014-01-20"],
    ]


def writes(home: Path) -> list[list[str]]:
    customers, contract = str(home / "customers.csv"), str(home / "tiny.toml")
    return [
        ["run", "--contract", contract],
        ["serve", "--port", "39471"],
        ["ui", "--port", "39472"],
        ["log", "ingest", "--contract", contract],
        ["keys", "create", "mine", "--scope", "predict"],
        ["rollback", "--by", "me", "--why", "because"],
        ["score", customers, "-o", str(home / "scores.csv"), "--as-of", "2014-01-20"],
        ["score", customers, "-o", "/dev/null/scores.csv", "--as-of", "2014-01-20"],
        ["generate", "--contract", "store", "--rows", "10", "-o", str(home / "new.csv")],
        ["contract", "init", customers, "--label", "paperless", "--churned", "true", "-o", str(home / "mine.toml")],
        ["attest", "sent", "--by", "me", "--why", "because", "--contract", contract],
        ["exclude", "sent", "--contract", contract],
        ["init", str(home / "project")],
    ]


def test_a_home_that_can_only_be_read_is_read_and_each_change_is_refused_in_one_line(full, place):
    home = place / "home"
    shutil.copytree(full, home)
    seal(home, 0o444, 0o555)
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    results = churn(home, *reads(home, place))
    for command, result in zip(reads(home, place), results, strict=True):
        assert result.code == 0, (command, result)
        assert "Traceback" not in result.err
    assert "champion" in results[0].out
    assert results[6].out == "predictions\n1\n"
    assert (place / "scores.csv").is_file()
    for command, result in zip(writes(home), churn(home, *writes(home)), strict=True):
        assert re.search("cannot be (written|used)|Permission denied|Not a directory", result.line), command
    assert before == {path: path.stat().st_mtime_ns for path in home.rglob("*")}


def test_a_home_that_cannot_be_read_is_one_line_for_every_command(full, place):
    home = place / "home"
    shutil.copytree(full, home)
    commands = [command for command in [*reads(home, place), *writes(home)] if command[0] != "init"]
    seal(home, 0o000, 0o000)
    for command, result in zip(commands, churn(home, *commands), strict=True):
        assert str(home) in result.line, command


FILES = ("champion.json", "refusal.json", "ledger.db", "alerts.db", "bundle/card.json", "bundle/provenance.json")
DAMAGES = {
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 20),
    "another JSON value": lambda path: path.write_bytes(b"[1, 2]"),
    "a deep JSON value": lambda path: path.write_bytes(b"[" * 200_000),
    "fields of another type": lambda path: path.write_bytes(b'{"version": {}, "metrics": 3, "message": []}'),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


def test_status_of_a_damaged_home_is_an_answer_or_one_line(full, place):
    """Every file that `churn status` reads, in every state in which a crash or a person may leave it."""
    for number, name in enumerate(FILES):
        for case, damage in DAMAGES.items():
            home = place / f"{number} {case}"
            shutil.copytree(full, home)
            (home / "refusal.json").write_text('{"version": "1", "message": "refused"}')
            path = home / name.replace("bundle", f"bundles/{next((home / 'bundles').glob('*[0-9a-f]')).name}")
            path.exists() or path.write_bytes(b"")  # alerts.db: no alert was ever raised
            damage(path)
    homes = sorted(place.iterdir())
    results = churn(place, *(["status", "--home", str(home)] for home in homes))
    for home, result in zip(homes, results, strict=True):
        assert "Traceback" not in result.err, (home, result.err)
        if result.code:
            assert str(home) in result.line
        assert len(result.err.splitlines()) <= 1, (home, result.err)
    refused = {home.name for home, result in zip(homes, results, strict=True) if result.code}
    assert {f"{number} garbage" for number, name in enumerate(FILES) if name not in ("refusal.json", "alerts.db")} <= (
        refused
    )


@pytest.mark.parametrize("made", [False, True], ids=["not made", "empty"])
def test_status_of_a_new_home_says_what_to_do(place, made):
    home = place / "new"
    if made:
        home.mkdir()
    [result] = churn(place, ["status", "--home", str(home)])
    assert result == Result(0, "No model yet in this home. Make one: churn run\nno open alerts\n", "")


@pytest.mark.parametrize("name", ["50%41 o?f's #1", "[x]* k\u00fcnde\u65e5\u672c"])
def test_a_home_of_any_name_holds_everything(place, name):
    home = place / name
    fill(home)
    results = churn(home, *reads(home, place))
    for command, result in zip(reads(home, place), results, strict=True):
        assert result.code == 0, (command, result)
    assert results[6].out == "predictions\n1\n"
    assert [path.name for path in place.iterdir() if not path.name.startswith("scores")] == [name]
