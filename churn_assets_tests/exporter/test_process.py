"""`churn metrics` as a user starts it, and who may read it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from churn_assets.access.keys import KeyStore
from churn_assets.errors import SettingsError
from churn_assets.exporter.collector import HomeCollector
from churn_assets.exporter.process import make_app, run_exporter
from churn_assets.settings import MetricsSettings, Settings
from churn_assets_tests.cli.test_main import churn
from churn_assets_tests.exporter.scraped import NOW, Scrape
from churn_assets_tests.serving.client import wait_for
from churn_assets_tests.strategies import ROOT
from churn_assets_tests.test_home_0_1 import CHAMPION, environ, unpack
from churn_assets_tests.test_imports import HEAVY


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return unpack(tmp_path_factory.mktemp("exporter"))


@pytest.fixture
def settings(tmp_path: Path, made: Settings) -> Settings:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copyfile(made.home / "champion.json", home / "champion.json")
    return Settings(root=tmp_path, home=home, contract_path=made.contract_path)


def ask(settings: Settings, path: str = "/metrics", host: str = "localhost:3005", **options: object) -> httpx.Response:
    own = MetricsSettings(settings.home, **options.pop("own", {}))  # type: ignore[arg-type]
    app = make_app(settings, own, HomeCollector(settings, {}, lambda: NOW))

    async def request() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{host}") as client:
            return await client.get(path, **options)  # type: ignore[arg-type]

    return asyncio.run(request())


@pytest.fixture
def process(made: Settings, tmp_path: Path) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "churn_assets.cli", "metrics", "--port", str(port), "--home", str(made.home)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environ(made.home.parent)}, stdout=log, stderr=log
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/livez", process, tmp_path / "log")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) in (0, -signal.SIGTERM)


def test_the_command_answers_prometheus_and_prints_the_same(process, made):
    response = httpx.get(f"http://127.0.0.1:{process}/metrics", timeout=30)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    served = Scrape.of(response.text)
    printed = churn("metrics", "--once", home=made.home, **environ(made.home.parent))
    assert printed.returncode == 0, printed.stderr
    once = Scrape.of(printed.stdout)
    assert once.keys() == served.keys()
    assert once.value("churn_champion_info", model_version=CHAMPION) == 1


def test_nothing_heavy_is_loaded_for_a_scrape(made):
    script = (
        "import json, os, sys\n"
        "from churn_assets.exporter.collector import HomeCollector, exposition\n"
        "from churn_assets.settings import Settings\n"
        "import churn_assets.exporter.process\n"
        "text = exposition(HomeCollector(Settings.from_environ(os.environ), {}))[0]\n"
        "assert b'churn_log_rows' in text and b'churn_labels' in text\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    own = {**os.environ, **environ(made.home.parent)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=own, cwd=ROOT)
    import json

    assert set(json.loads(done.stdout)) & HEAVY == set()


def test_a_home_without_keys_answers_this_machine_only(settings):
    assert ask(settings).status_code == 200
    refused = ask(settings, host="churn.example")
    assert refused.status_code == 400
    assert "expected localhost" in refused.text
    assert ask(settings, host="churn.example", own={"insecure": True}).status_code == 200


def test_a_home_with_keys_asks_for_one_with_the_scope_view(settings):
    import datetime as dt

    store, now = KeyStore(settings.home), dt.datetime.now(dt.UTC)
    viewer, other = (store.create("prometheus", (scope,), None, now)[1] for scope in ("view", "predict"))
    assert ask(settings).status_code == 401
    assert ask(settings, "/livez").status_code == 200
    assert ask(settings, headers={"authorization": f"Bearer {viewer}"}, host="churn.example").status_code == 200
    assert ask(settings, headers={"x-api-key": viewer}).status_code == 200
    refused = ask(settings, headers={"x-api-key": other})
    assert refused.status_code == 403
    assert "expected view" in refused.text
    assert ask(settings, headers={"x-api-key": "churn_nobody"}).status_code == 401


def test_on_another_address_there_must_be_a_key(settings):
    with pytest.raises(SettingsError, match="the metrics server would listen on"):
        run_exporter(settings, MetricsSettings(settings.home, host="0.0.0.0"))
