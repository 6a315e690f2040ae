"""The service's settings, and that the documentation tells what there is."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import re
from pathlib import Path

import pytest

from churn_assets.access.keys import KeyStore
from churn_assets.errors import SettingsError
from churn_assets.serving.metrics import CAUSES, MEANINGS
from churn_assets.serving.routes import Handlers, routes
from churn_assets.serving.server.connections import LONG_HEAD
from churn_assets.settings import ServingSettings
from churn_assets_tests.serving.client import ASKED, ROOT, ask, assert_refusal

PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
DEFAULTS = dict(re.findall(r"^\| `(CHURN_\w+)` \| (.*?) \|", (ROOT / "docs" / "settings.md").read_text(), re.M))


def test_an_empty_environment_gives_the_documented_defaults(tmp_path):
    settings = ServingSettings.from_environ({"CHURN_HOME": str(tmp_path)})
    assert settings == ServingSettings(home=tmp_path)
    named = {
        "host": "CHURN_HOST", "port": "CHURN_PORT", "workers": "CHURN_WORKERS", "timeout_s": "CHURN_TIMEOUT_S",
        "body_bytes": "CHURN_BODY_BYTES", "batch_bytes": "CHURN_BATCH_BYTES", "batch_rows": "CHURN_BATCH_ROWS",
        "poll_s": "CHURN_POLL_S", "stale_days": "CHURN_STALE_DAYS", "log": "CHURN_LOG",
        "log_segment_bytes": "CHURN_LOG_SEGMENT_BYTES", "log_segment_s": "CHURN_LOG_SEGMENT_S",
        "log_queue_rows": "CHURN_LOG_QUEUE", "level": "CHURN_LOG_LEVEL", "access_log": "CHURN_ACCESS_LOG",
        "insecure": "CHURN_INSECURE", "rate_per_s": "CHURN_RATE_PER_S", "connections": "CHURN_CONNECTIONS",
        "head_s": "CHURN_HEAD_S", "idle_s": "CHURN_IDLE_S", "send_s": "CHURN_SEND_S", "held_bytes": "CHURN_HELD_BYTES",
        "tls_cert": "CHURN_TLS_CERT", "tls_key": "CHURN_TLS_KEY", "grpc_port": "CHURN_GRPC_PORT",
        "explain_queue": "CHURN_EXPLAIN_QUEUE", "shadow_queue": "CHURN_SHADOW_QUEUE",
    }  # fmt: skip
    assert named.keys() | {"home", "rate_burst", "run_dir", "instance"} == {
        field.name for field in dataclasses.fields(settings)
    }
    for field, variable in named.items():
        value = getattr(settings, field)
        text = f"{value:g}" if isinstance(value, float) else str(int(value) if isinstance(value, bool) else value)
        assert DEFAULTS[variable] == (f"`{text}`" if text else "none: plain HTTP")
    assert (DEFAULTS["CHURN_RUN_DIR"], settings.run_dir) == ("the home", None)
    assert (DEFAULTS["CHURN_INSTANCE"], settings.instance) == ("none: one host has the home", "")


def test_the_burst_is_by_default_the_rate_as_documented():
    assert DEFAULTS["CHURN_RATE_BURST"] == "`CHURN_RATE_PER_S`, rounded, at least 1"
    for rate, burst in ((None, 1), ("0.2", 1), ("2.6", 3), ("40", 40)):
        environ = {} if rate is None else {"CHURN_RATE_PER_S": rate}
        assert ServingSettings.from_environ(environ).rate_burst == burst


@pytest.mark.parametrize("home", [None, "data/var", "INSIDE"])
def test_a_home_inside_of_a_bento_is_refused(tmp_path, monkeypatch, home):
    """What is logged there would go with the Bento."""
    source = tmp_path / "bento" / "src"
    source.mkdir(parents=True)
    monkeypatch.chdir(source)
    monkeypatch.setattr("churn_assets.settings.STARTER", source / "churn_assets" / "starter")
    environ = {} if home is None else {"CHURN_HOME": home.replace("INSIDE", str(source / "deep"))}
    ServingSettings.from_environ(environ, source)
    (source.parent / "bento.yaml").touch()
    with pytest.raises(SettingsError, match="expected an absolute path outside of the Bento"):
        ServingSettings.from_environ(environ, source)
    assert ServingSettings.from_environ({"CHURN_HOME": str(tmp_path / "home")}, source).log
    assert not ServingSettings.from_environ({**environ, "CHURN_LOG": "0"}, source).log


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHURN_PORT", "0"), ("CHURN_PORT", "http"), ("CHURN_WORKERS", "-1"), ("CHURN_WORKERS", "1.5"),
        ("CHURN_TIMEOUT_S", "soon"), ("CHURN_TIMEOUT_S", "nan"), ("CHURN_LOG", "yes"), ("CHURN_LOG_LEVEL", "loud"),
        ("CHURN_BATCH_ROWS", "9" * 30), ("CHURN_POLL_S", "0"),
    ],
)  # fmt: skip
def test_an_invalid_value_is_refused_by_name(tmp_path, name, value):
    with pytest.raises(SettingsError, match=name):
        ServingSettings.from_environ({"CHURN_HOME": str(tmp_path), name: value})


def test_every_route_metric_and_cause_is_documented(tmp_path):
    async def question(client, worker):
        all_routes = routes(Handlers(worker))
        return {f"`{method} {route.path}`" for route in all_routes for method in route.methods if method != "HEAD"}

    assert ask(tmp_path, question) == set(re.findall(r"^\| (`(?:GET|POST) /[^`]*`)", PAGE, re.M))
    assert set(MEANINGS) == set(re.findall(r"^\| `(churn_\w+)` \|", PAGE, re.M))
    row = next(line for line in PAGE.splitlines() if line.startswith("| `churn_request_rejected_total`"))
    assert set(CAUSES) <= set(re.findall(r"`(\w+)`", row))


BODIES = dict(re.findall(r"^\| (\d{3}) \| .* \| `+(.+?)`+ \|$", PAGE, re.M))
JSON = {"content-type": "application/json"}
PROVOKED = {
    "400": lambda client: client.post("/predict", content=b'{"sent":1', headers=JSON),
    "404": lambda client: client.get("/none"),
    "405": lambda client: client.put("/predict"),
    "409": lambda client: client.post("/predict", json={**ASKED, "created": "2013-08-12"}),
    "413": lambda client: client.post("/predict", content=b" " * 2_000_000, headers=JSON),
    "415": lambda client: client.post("/predict", content=b"{}", headers={"content-type": "text/plain"}),
    "422": lambda client: client.post("/predict", json={**ASKED, "sent": -1}),
}


@pytest.mark.parametrize("status", BODIES)
def test_the_documented_body_of_a_status_is_the_body_it_has(home, tmp_path, status):
    async def slow():
        yield b"{"
        await asyncio.sleep(30)

    if status == "431":  # over sockets, in hostile/test_connections.py
        assert LONG_HEAD.error == BODIES["431"]
        return
    key, token = KeyStore(tmp_path).create("test", ["view"], None, dt.datetime.now(dt.UTC))

    def provoke(client, worker):
        if status == "403":
            return client.post("/predict", headers={"x-api-key": token})
        if status == "401":
            return client.get("/model")
        if status in ("429", "503"):
            return client.post("/predict", json=ASKED)
        if status == "408":
            return client.post("/predict", content=slow(), headers=JSON)
        return PROVOKED[status](client)

    async def ask_twice(client, worker):
        await client.get("/model")
        return await provoke(client, worker)

    timeout_s = 0.05 if status == "408" else ServingSettings.timeout_s
    home = {"503": tmp_path / "empty", "401": tmp_path, "403": tmp_path}.get(status, home)
    limit = {"rate_per_s": 1.0, "rate_burst": 1} if status == "429" else {}
    response = ask(home, ask_twice if limit else provoke, timeout_s=timeout_s, **limit)
    expected = BODIES[status].replace("4 seconds", "0.04 seconds").replace("4f2a9c81d3e6", key.id)
    assert assert_refusal(response, int(status))["error"] == expected


def test_every_status_that_a_reply_may_have_is_documented():
    documented = set(re.findall(r"^\| (\d{3}) \|", PAGE, re.M))
    used = set()
    for path in (Path(ROOT) / "churn_assets" / "serving").rglob("*.py"):
        used |= set(re.findall(r"Refused\(\s*(\d{3})", path.read_text()))
    assert used - {"500"} == documented, "a 500 is a mistake of ours, not a part of the interface"
