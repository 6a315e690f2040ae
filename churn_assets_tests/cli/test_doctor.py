"""`churn doctor`: each fault that a deployment can have is named in one line, with what is expected and what to do."""

import datetime as dt
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from churn_assets.access.keys import KeyStore
from churn_assets.doctor import CHECKS, Check, Deployment, check_deployment
from churn_assets.promotion.heartbeat import beat
from churn_assets.promotion.ledger import Ledger
from churn_assets.settings import Settings
from churn_assets_tests.cli.test_main import churn
from churn_assets_tests.scoring.tiny import TEXT
from churn_assets_tests.serving.client import home_with_champion
from churn_assets_tests.strategies import ROOT

NOW = dt.datetime.now(dt.UTC)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A home with a champion, a key and a daemon that lives, and its contract beside it: all is well."""
    folder = tmp_path_factory.mktemp("doctor") / "home"
    folder.mkdir(mode=0o750)
    home_with_champion(folder)
    KeyStore(folder).create("test", ["predict"], None, NOW, lambda key: None)
    (folder.parent / "tiny.toml").write_text(TEXT)
    return folder


@pytest.fixture
def home(made, tmp_path) -> Path:
    folder = shutil.copytree(made.parent, tmp_path / "copy") / "home"
    beat(Settings.from_environ({"CHURN_HOME": str(folder)}, ROOT), dt.datetime.now(dt.UTC))
    return folder


def checks(home: Path, after: dt.timedelta = dt.timedelta(), **variables: str) -> list[Check]:
    ports = {"CHURN_PORT": str(free_port()), "CHURN_DASHBOARD_PORT": str(free_port())}
    environ = {"CHURN_HOME": str(home), "CHURN_CONTRACT": str(home.parent / "tiny.toml"), **ports, **variables}
    now = dt.datetime.now(dt.UTC) + after
    return check_deployment(Deployment(Settings.from_environ(environ, ROOT), environ, now, free_port()))


def faults(home: Path, **options) -> list[Check]:
    return [check for check in checks(home, **options) if check.status != "ok"]


def test_a_deployment_in_order_has_no_fault_and_is_not_changed(home):
    before = sorted(path.name for path in home.rglob("*"))
    found = checks(home)
    assert [check for check in found if check.status != "ok"] == []
    assert {check.name for check in found} == set(CHECKS)
    assert sorted(path.name for path in home.rglob("*")) == before


def test_a_database_is_looked_at_and_files_that_were_not_copied_to_it_are_named(home, database_url):
    found = {
        check.status: check.message
        for check in checks(home, CHURN_DATABASE_URL=database_url)
        if "Postg" in check.message
    }
    assert found["ok"].startswith("PostgreSQL 1")
    Ledger(home / "ledger.db").add_challenger("v2", "bundles/v2", "aa", None, None, NOW)
    (missing,) = faults(home, CHURN_DATABASE_URL=database_url)
    assert "ledger.db has rows that were not copied to postgresql://…@127.0.0.1:" in missing.line
    assert "s3cret" not in missing.line
    assert missing.remedy.endswith("then: churn database copy")
    assert churn("database", "copy", home=home, CHURN_DATABASE_URL=database_url).returncode == 0
    assert faults(home, CHURN_DATABASE_URL=database_url) == []


def test_a_database_that_is_away_is_one_line_without_its_password(home):
    url = f"postgresql://churn:s3cret@127.0.0.1:{free_port()}/churn"
    found = [check for check in faults(home, CHURN_DATABASE_URL=url) if check.name == "databases"]
    assert ["refused" in check.line for check in found] == [True]
    assert "s3cret" not in found[0].line


def _open_to_all(home):
    home.chmod(0o755)


def _readable_keys(home):
    (home / "keys.db").chmod(0o644)


def _damaged_bundle(home):
    largest = max(
        (path for path in (home / "bundles").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    largest.write_bytes(largest.read_bytes() + b" ")


def _no_champion(home):
    (home / "champion.json").unlink()


def _damaged_ledger(home):
    (home / "ledger.db").write_bytes(b"not a database, but long enough to be read as one" * 100)


def _future(home):
    later = NOW.timestamp() + 3600
    os.utime(home / "champion.json", (later, later))


def _silent_log(home):
    segment = home / "predlog" / "20260101T000000-1-abc.done"
    segment.parent.mkdir(exist_ok=True)
    segment.write_text("{}\n")
    os.utime(segment, (NOW.timestamp() - 60 * 3600,) * 2)


def _dead_daemon(home):
    os.utime(home / "daemon.json", (NOW.timestamp() - 3600,) * 2)


def _other_contract(home):
    (home.parent / "tiny.toml").write_text((ROOT / "contracts" / "store.toml").read_text())


def _no_contract(home):
    (home.parent / "tiny.toml").unlink()


@pytest.mark.parametrize(
    ("damage", "name", "message"),
    [
        (_open_to_all, "permissions", "every user of this machine may list and enter"),
        (_readable_keys, "permissions", "keys.db can be read by others, expected mode 0600; chmod 600 "),
        (_damaged_bundle, "champion", "bundles"),
        (
            _no_champion,
            "champion",
            "no model has been promoted in this home, expected a champion; train one: churn run",
        ),
        (_damaged_ledger, "databases", "ledger.db"),
        (_future, "clock", " s in the future, expected nothing of the future: deadlines and windows go by the clock"),
        (
            _silent_log,
            "log",
            "the last row was written 60 h ago, expected one within 48 h (stale_hours); is the service ",
        ),
        (_dead_daemon, "loop", "daemon_down: its sensors were evaluated last"),
        (_other_contract, "folders", "is another contract than that of the champion, expected the one that the "),
        (_no_contract, "folders", "tiny.toml does not exist, expected the contract of the customer table; set "),
    ],
)
def test_each_fault_of_a_home_is_one_line(home, damage, name, message):
    damage(home)
    found = [check for check in faults(home) if check.name == name]
    assert len(found) == 1
    assert message in found[0].line
    assert "\n" not in found[0].line


@pytest.mark.parametrize(
    ("variables", "name", "message"),
    [
        ({"CHURN_HOME": "/nowhere"}, "folders", "/nowhere does not exist, expected the home of this deployment"),
        ({"CHURN_WORKERS": "many"}, "settings", "CHURN_WORKERS is 'many', expected"),
        ({"CHURN_MLFLOW_URI": "http://me:secret@127.0.0.1:9"}, "databases", "http://…@127.0.0.1:9 does not answer "),
        ({"CHURN_SERVICE_URL": "http://127.0.0.1:9"}, "ports", "http://127.0.0.1:9 does not answer /livez, expected"),
    ],
)
def test_each_wrong_setting_is_named(home, variables, name, message):
    lines = [check.line for check in faults(home, **variables) if check.name == name]
    assert any(message in line for line in lines), lines


def test_an_address_of_the_network_needs_a_key(home):
    assert faults(home, CHURN_HOST="0.0.0.0") == []
    (home / "keys.db").unlink()
    assert [check.name for check in faults(home, CHURN_HOST="0.0.0.0")] == ["access"]
    opened = faults(home, CHURN_HOST="0.0.0.0", CHURN_INSECURE="1")
    assert [(check.name, check.message) for check in opened] == [("access", "0.0.0.0 is open to everyone")]


class _Server(HTTPServer):
    answered = "/"  # the path that it knows


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        assert isinstance(self.server, _Server)
        self.send_response(200 if self.path == self.server.answered else 404)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_port_has_its_server_or_another(home, server):
    port = str(server.server_port)
    other = [check for check in faults(home, CHURN_PORT=port) if check.name == "ports"]
    assert [check.message for check in other] == [f"what listens on {port} does not answer /livez"]
    server.answered = "/livez"
    assert faults(home, CHURN_PORT=port) == []


def test_the_command_prints_lines_or_json_and_fails_with_a_fault(home):
    environ = {"CHURN_CONTRACT": str(home.parent / "tiny.toml")}
    _open_to_all(home)
    done = churn("doctor", home=home, **environ)
    assert done.returncode == 1
    wrong = [line for line in done.stdout.splitlines() if line.startswith("wrong")]
    assert wrong[0].startswith("wrong   permissions: every user of this machine may list and enter ")
    as_json = churn("doctor", "--json", home=home, **environ)
    assert {check["name"] for check in json.loads(as_json.stdout)} == set(CHECKS)
